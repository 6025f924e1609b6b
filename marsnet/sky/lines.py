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

from marsnet.sky.earthframe import EarthRotation, GroundPoint
from marsnet.sky.ephemeris import LIGHT_SPEED, position, state
from marsnet.sky.timescale import Timeline

Array = NDArray[np.float64]
Sign = Literal[1, -1]

KNOT = 600.0
"""Seconds between knots of an Earth path. Four-point interpolation then errs by 0.6 m for a station."""


def lagrange(values: Array, origin: float, step: float, time: Array) -> Array:
    """Four-point interpolation of rows sampled at equal steps.

    Args:
        values: shape (k, m), at `origin + step * i`.
        origin: instant of the first sample.
        step: seconds between samples.
        time: shape (n,).

    Returns:
        Shape (k, n).
    """
    position_in_grid = (time - origin) / step
    index = np.clip(np.floor(position_in_grid).astype(np.intp), 1, values.shape[1] - 3)
    p = position_in_grid - index
    q, r, s = p + 1, p - 1, p - 2
    weights = (-p * r * s / 6, q * r * s / 2, -q * p * s / 2, q * p * r / 6)
    total = weights[0] * values[:, index - 1]
    for offset, weight in enumerate(weights[1:]):
        total += weight * values[:, index + offset]
    return total


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
        rise: sine of the elevation at the Earth node, shape (n,).
    """

    __slots__ = ("delay", "rise", "vector")

    def __init__(self, vector: Array, delay: Array, rise: Array) -> None:
        self.vector, self.delay, self.rise = vector, delay, rise


@dataclass(frozen=True)
class EarthPath:
    """An Earth station, or the geocentre, as seen from Mars over an interval of the time at Mars.

    Attributes:
        sign: 1 when Mars transmits and the Earth receives, -1 for the reverse.
        origin: mission seconds of the first knot.
        knots: rows of place and velocity (3 each) relative to Mars, up (3) and light time, shape (10, m).
    """

    sign: Sign
    origin: float
    knots: Array

    @classmethod
    def over(
        cls,
        timeline: Timeline,
        point: GroundPoint | None,
        rotation: EarthRotation | None,
        first: float,
        last: float,
        sign: Sign,
    ) -> EarthPath:
        """The path of a station (None: the geocentre) for times at Mars between `first` and `last`, mission seconds."""
        origin = first - 2 * KNOT
        time = origin + KNOT * np.arange(np.ceil((last - first) / KNOT) + 5)
        tdb = timeline.tdb(time)
        mars = position("mars", tdb)
        delay = mars_light_time(timeline, time, sign)
        up = np.zeros((3, len(time)))
        for _ in range(2):
            place, speed = state("earth", tdb + sign * delay)
            if point is not None and rotation is not None:
                local, turning, up = rotation.carry(point, time + sign * delay)
                place, speed = place + local, speed + turning
            delay = np.linalg.norm(place - mars, axis=0) / LIGHT_SPEED
        return cls(sign, origin, np.concatenate([place - mars, speed, up, delay[None]]))

    @property
    def times(self) -> Array:
        """The knots' mission seconds at Mars, shape (m,)."""
        return np.asarray(self.origin + KNOT * np.arange(self.knots.shape[1]))

    def sight(self, time: Array, place: Array) -> Sight:
        """The line from a Mars node to the station.

        Args:
            time: mission seconds at the Mars node, shape (n,).
            place: the node relative to Mars, metres, shape (3, n).
        """
        rows = lagrange(self.knots, self.origin, KNOT, time)
        vector, speed, delay = rows[:3] - place, self.sign * rows[3:6], rows[9]
        length = np.sqrt(np.einsum("in,in->n", vector, vector))
        # The knots hold the station one light time from Mars; the node is up to 0.1 s nearer or farther.
        closing = np.einsum("in,in->n", vector, speed) / length
        extra = (length - LIGHT_SPEED * delay) / (LIGHT_SPEED - closing)
        vector = vector + speed * extra
        delay = delay + extra
        up = lagrange(self.knots[6:9], self.origin, KNOT, time + self.sign * extra)
        rise = -np.einsum("in,in->n", vector, up) / (LIGHT_SPEED * delay)
        return Sight(vector, delay, rise)

    def delay(self, time: Array, place: Array) -> Array:
        """Light time in seconds, shape (n,); arguments as for `sight`."""
        return self.sight(time, place).delay


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
