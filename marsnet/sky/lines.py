"""Lines of sight: vectors, light times and angles between two nodes at the instants that belong together.

A direction is described by the time at its Mars end. There the node is taken at transmission (or reception), the other
end at reception (or transmission), one light time apart. Light travels straight at c: the delay in the Sun's gravity,
at most 0.13 ms one way when a signal grazes the Sun, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from marsnet.sky.earthframe import EARTH_SPIN, EarthRotation, GroundPoint
from marsnet.sky.ephemeris import LIGHT_SPEED, position, state
from marsnet.sky.timescale import Timeline

Array = NDArray[np.float64]
Sign = Literal[1, -1]

KNOT = 600.0
"""Seconds between knots of an Earth path. Four-point interpolation then errs by 0.6 m for a station."""


class Stencil:
    """Four-point interpolation of rows sampled at equal steps, for one set of instants.

    Args:
        origin: instant of the first sample.
        step: seconds between samples.
        count: number of samples, at least four.
        time: instants, shape (n,); beyond the ends the outermost cubic is continued.
    """

    __slots__ = ("_first", "_weights", "nearest")

    def __init__(self, origin: float, step: float, count: int, time: Array) -> None:
        place = (time - origin) * (1 / step)
        index = np.clip(place.astype(np.intp), 1, count - 3)
        p = place - index
        q, r, s = p + 1, p - 1, p - 2
        rp, qs = r * p, q * s
        self._first = index - 1
        self._weights = (-rp * s / 6, qs * r / 2, -qs * p / 2, rp * q / 6)
        self.nearest = np.where(p < 0.5, index, index + 1)

    def apply(self, values: Array) -> Array:
        """Rows of shape (k, count) at the instants, shape (k, n)."""
        total = np.take(values, self._first, axis=1) * self._weights[0]
        for offset in (1, 2, 3):
            total += np.take(values[:, offset:], self._first, axis=1) * self._weights[offset]
        return np.asarray(total)


def mars_light_time(timeline: Timeline, time: Array, sign: Sign) -> Array:
    """Light time between Mars and the geocentre, seconds, for the time at Mars; sign 1 receives on Earth, -1 sends."""
    tdb = timeline.tdb(time)
    mars = position("mars", tdb)
    delay = np.full(time.shape, 800.0)
    for _ in range(4):
        delay = np.linalg.norm(position("earth", tdb + sign * delay) - mars, axis=0) / LIGHT_SPEED
    return np.asarray(delay)


class Sight:
    """What a Mars node sees of an Earth node at n instants.

    Attributes:
        vector: from the Mars node to the Earth node, metres, shape (3, n).
        delay: light time, seconds, shape (n,).
    """

    __slots__ = ("_extra", "_path", "_stencil", "delay", "vector")

    def __init__(self, vector: Array, delay: Array, path: EarthPath, stencil: Stencil, extra: Array) -> None:
        self.vector, self.delay = vector, delay
        self._path, self._stencil, self._extra = path, stencil, extra

    @property
    def rise(self) -> Array:
        """Sine of the elevation at the Earth node, shape (n,)."""
        return self._path.rise(self, self._stencil, self._extra)


@dataclass(frozen=True)
class EarthPath:
    """An Earth station, or the geocentre, as seen from Mars over an interval of the time at Mars.

    The Earth end is taken one light time of the planets' own after (sign 1) or before (sign -1) each knot.

    Attributes:
        sign: 1 when Mars transmits and the Earth receives, -1 for the reverse.
        origin: mission seconds of the first knot.
        place: relative to Mars at the knot, metres, shape (3, m).
        speed: of the Earth end, m/s, shape (3, m).
        up: unit vector of the local vertical, shape (3, m); zero for the geocentre.
    """

    sign: Sign
    origin: float
    place: Array
    speed: Array
    up: Array

    @classmethod
    def of_geocentre(cls, timeline: Timeline, first: float, last: float, sign: Sign) -> EarthPath:
        """The geocentre's path for times at Mars between `first` and `last`, mission seconds."""
        origin = first - 2 * KNOT
        time = origin + KNOT * np.arange(np.ceil((last - first) / KNOT) + 5)
        tdb = timeline.tdb(time)
        delay = mars_light_time(timeline, time, sign)
        place, speed = state("earth", tdb + sign * delay)
        return cls(sign, origin, place - position("mars", tdb), speed, np.zeros(place.shape))

    def with_station(self, point: GroundPoint, rotation: EarthRotation) -> EarthPath:
        """The path of a station, from the geocentre's."""
        delay = np.linalg.norm(self.place, axis=0) / LIGHT_SPEED
        local, turning, up = rotation.carry(point, self.times + self.sign * delay)
        place, speed = self.place + local, self.speed + turning
        # The station is up to 21 ms nearer or farther than the geocentre.
        extra = _extra_delay(place, self.sign * speed, delay)
        return EarthPath(
            self.sign, self.origin, place + self.sign * speed * extra, speed, _turned(up, self.sign * extra)
        )

    @property
    def times(self) -> Array:
        """The knots' mission seconds at Mars, shape (m,)."""
        return np.asarray(self.origin + KNOT * np.arange(self.place.shape[1]))

    def sight(self, time: Array, place: Array) -> Sight:
        """The line from a Mars node to the station.

        Args:
            time: mission seconds at the Mars node, shape (n,).
            place: the node relative to Mars, metres, shape (3, n).
        """
        stencil = Stencil(self.origin, KNOT, self.place.shape[1], time)
        centre = stencil.apply(self.place)
        delay = np.sqrt(np.einsum("in,in->n", centre, centre)) / LIGHT_SPEED
        # The knots hold the station one light time from Mars' centre; the node is up to 0.1 s nearer or farther.
        vector = centre - place
        speed = self.sign * np.take(self.speed, stencil.nearest, axis=1)
        extra = _extra_delay(vector, speed, delay)
        return Sight(vector + speed * extra, delay + extra, self, stencil, extra)

    def rise(self, sight: Sight, stencil: Stencil, extra: Array) -> Array:
        """Sine of the elevation of a line at the station, shape (n,)."""
        up = _turned(stencil.apply(self.up), self.sign * extra)
        return np.asarray(-np.einsum("in,in->n", sight.vector, up) / (LIGHT_SPEED * sight.delay))


def _extra_delay(vector: Array, speed: Array, delay: Array) -> Array:
    """Seconds that light needs beyond `delay` to the end of a vector that moves on at `speed` meanwhile."""
    length = np.sqrt(np.einsum("in,in->n", vector, vector))
    closing = np.einsum("in,in->n", vector, speed) / length
    return np.asarray((length - LIGHT_SPEED * delay) / (LIGHT_SPEED - closing))


def _turned(up: Array, seconds: Array) -> Array:
    """A vertical carried on by the Earth's rotation; over 0.1 s its axis may be that of ICRF."""
    angle = EARTH_SPIN * seconds
    return np.stack([up[0] - angle * up[1], up[1] + angle * up[0], up[2]])


def sun_angles(timeline: Timeline, time: Array, sign: Sign) -> Array:
    """Sun-Earth-Mars angle in degrees seen from the geocentre, for the time at Mars, shape (n,).

    The directions are those in which light arrives at the Earth (sign 1), or the one in which it must leave to meet
    Mars and the one in which the Sun's light arrives (sign -1); aberration is common to both and left out.
    """
    tdb = timeline.tdb(time)
    delay = mars_light_time(timeline, time, sign)
    earth = position("earth", tdb + sign * delay)
    to_mars = position("mars", tdb) - earth
    return angle_to_sun(tdb + sign * delay, earth, to_mars)


def angle_to_sun(tdb: Array, earth: Array, direction: Array) -> Array:
    """Angle in degrees between a direction from the geocentre and the Sun, whose light left one light time earlier."""
    sun = to_sun(tdb, earth)
    # The half-angle form keeps small angles exact (Kahan 2006).
    one = sun * np.linalg.norm(direction, axis=0)
    two = direction * np.linalg.norm(sun, axis=0)
    half = np.arctan2(np.linalg.norm(one - two, axis=0), np.linalg.norm(one + two, axis=0))
    return np.asarray(np.degrees(2 * half))


def to_sun(tdb: Array, earth: Array) -> Array:
    """Vector from the geocentre to where the Sun was when its light left, metres, shape (3, n)."""
    vector = position("sun", tdb) - earth
    for _ in range(2):
        vector = position("sun", tdb - np.linalg.norm(vector, axis=0) / LIGHT_SPEED) - earth
    return vector
