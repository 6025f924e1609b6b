"""One direction of a radio link: when nothing stands in its way, and how far the light has to travel.

Inside, a direction is a function of one instant: the transmission for links around Mars, the instant at the Mars end
for links with the Earth.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from marsnet.model.topology import Mask, SepLimit, Site
from marsnet.sky.ephemeris import LIGHT_SPEED
from marsnet.sky.intervals import Array, intersect, nothing, union
from marsnet.sky.lines import Sign
from marsnet.sky.marsframe import EQUATORIAL_RADIUS, POLAR_RADIUS
from marsnet.sky.nodes import Span, step_for
from marsnet.sky.places import Motion
from marsnet.sky.search import positive_windows
from marsnet.sky.terrain import clear_of_terrain
from marsnet.sky.timescale import DAY

BLOCKING_RADIUS = 3_496_190.0
"""Sphere that a line between two orbiters must clear, metres: the equator of Mars and 100 km of air above it."""
_ROUNDING = 1e-6  # seconds; what is left of a span's end after a light time was added and taken away


class Sample(NamedTuple):
    """A direction at n instants.

    Attributes:
        delay: light time in seconds, shape (n,).
        elevation: degrees at the Earth station, shape (n,); None around Mars.
        sep: Sun-Earth-Mars angle in degrees, shape (n,); None around Mars or without a limit.
    """

    delay: Array
    elevation: Array | None = None
    sep: Array | None = None


@dataclass(frozen=True)
class Direction(ABC):
    """One direction of a link during a span."""

    span: Span
    source: str
    target: str

    @property
    @abstractmethod
    def step(self) -> float:
        """Seconds between samples that show its course."""

    @abstractmethod
    def windows(self) -> Array:
        """When bits can leave and will arrive, as instants of the direction's own time; shape (n, 2)."""

    @abstractmethod
    def sample(self, time: Array) -> Sample:
        """What the direction is like at instants of its own time, shape (n,)."""

    @abstractmethod
    def sent(self, time: Array, delay: Array) -> Array:
        """Transmission instants of instants of its own time."""

    def _mask(self, name: str) -> Mask | None:
        node = self.span.sky.topology.nodes[name]
        return getattr(node, "mask", None)

    def _site(self, name: str) -> Site | None:
        node = self.span.sky.topology.nodes[name]
        return node if isinstance(node, Site) else None


def _dot(one: Array, two: Array) -> Array:
    return np.asarray(np.einsum("in,in->n", one, two))


@dataclass(frozen=True)
class LocalDirection(Direction):
    """Between two nodes of the Mars side; its own time is the transmission."""

    blocking: float = BLOCKING_RADIUS

    @property
    def step(self) -> float:
        """The finer of what both ends need."""
        return min(self._need(self.source), self._need(self.target))

    def windows(self) -> Array:
        """Elevation masks of sites, terrain, and a line of sight past Mars for ends that do not stand on it."""
        stride = self.span.stride(self.step)
        grid = self.span.grid[::stride]
        ends = self.span.on_grid(self.source, stride), self.span.on_grid(self.target, stride)
        allowed = np.array([[self.span.first, self.span.last]])
        for rule in self._rules():

            def function(time: Array, rule: Callable[[Motion, Motion], Array] = rule) -> Array:
                return rule(self.span.motion(self.source, time), self.span.motion(self.target, time))

            allowed = intersect(allowed, positive_windows(function, grid, rule(*ends), within=allowed))
            if not len(allowed):
                return nothing()
        return self._above_terrain(allowed)

    def sample(self, time: Array) -> Sample:
        """Light time between transmission at `time` and reception."""
        line = _line(self.span.motion(self.source, time), self.span.motion(self.target, time))
        return Sample(line.length / LIGHT_SPEED)

    def sent(self, time: Array, delay: Array) -> Array:
        """The instants themselves."""
        return time

    def _need(self, name: str) -> float:
        other = self.target if name == self.source else self.source
        mask = self._mask(other)
        sine = None if mask is None else math.sin(math.radians(max(mask.receive, mask.transmit)))
        return step_for(self.span.sky.places[name], sine)

    def _rules(self) -> list[Callable[[Motion, Motion], Array]]:
        rules: list[Callable[[Motion, Motion], Array]] = []
        sender, hearer = self._mask(self.source), self._mask(self.target)
        if sender is not None:
            sine = math.sin(math.radians(sender.transmit))
            rules.append(lambda a, b, sine=sine: _rise_at_source(a, b, sine))  # type: ignore[misc]
        if hearer is not None:
            sine = math.sin(math.radians(hearer.receive))
            rules.append(lambda a, b, sine=sine: _rise_at_target(a, b, sine))  # type: ignore[misc]
        places = self.span.sky.places
        if not (places[self.source].grounded or places[self.target].grounded):
            rules.append(lambda a, b: _past_sphere(a, b, self.blocking))
        return rules

    def _above_terrain(self, allowed: Array) -> Array:
        for name, sign in ((self.source, 1.0), (self.target, -1.0)):
            site = self._site(name)
            if site is None or not site.terrain:
                continue

            def looking(time: Array, sign: float = sign) -> tuple[Array, Array]:
                line = _line(self.span.motion(self.source, time), self.span.motion(self.target, time))
                return sign * line.vector, time if sign > 0 else time + line.length / LIGHT_SPEED

            allowed = clear_of_terrain(self.span, name, site.terrain, looking, allowed, self.step)
        return allowed


class _Line(NamedTuple):
    vector: Array
    length: Array
    arrived: Motion


def _line(source: Motion, target: Motion) -> _Line:
    """From the source at transmission to the target at reception."""
    apart = target.place - source.place
    arrived = target.after(np.sqrt(_dot(apart, apart)) / LIGHT_SPEED)
    vector = arrived.place - source.place
    return _Line(vector, np.sqrt(_dot(vector, vector)), arrived)


def _rise_at_source(source: Motion, target: Motion, sine: float) -> Array:
    """Positive when the target is above the source's mask; metres."""
    line = _line(source, target)
    assert source.up is not None  # noqa: S101 - only nodes with a horizon have a mask
    return _dot(line.vector, source.up) - sine * line.length


def _rise_at_target(source: Motion, target: Motion, sine: float) -> Array:
    line = _line(source, target)
    assert line.arrived.up is not None  # noqa: S101 - only nodes with a horizon have a mask
    return -_dot(line.vector, line.arrived.up) - sine * line.length


def _past_sphere(source: Motion, target: Motion, radius: float) -> Array:
    """Positive when the line between two points outside a sphere around Mars clears it.

    With psi the angle between them at the centre, it clears when psi < acos(R/a) + acos(R/b). Comparing cosines,
    times a b, gives a function without kinks.
    """
    a, b = source.place, _line(source, target).arrived.place
    above_a, above_b = (np.maximum(_dot(point, point) - radius**2, 0.0) for point in (a, b))
    return np.asarray((_dot(a, b) - radius**2 + np.sqrt(above_a * above_b)) / radius)


@dataclass(frozen=True)
class EarthDirection(Direction):
    """Between a node of the Mars side and an Earth station; its own time is the instant at the Mars end."""

    sep: SepLimit | None = None

    @property
    def sign(self) -> Sign:
        """1 from Mars to the Earth, -1 from the Earth to Mars."""
        return 1 if self.target in self.span.sky.grounds else -1

    @property
    def station(self) -> str:
        """The Earth end."""
        return self.target if self.sign > 0 else self.source

    @property
    def probe(self) -> str:
        """The Mars end."""
        return self.source if self.sign > 0 else self.target

    @property
    def step(self) -> float:
        """What the Mars end needs, at most a quarter of an hour because the Earth turns."""
        return min(step_for(self.span.sky.places[self.probe]), 900.0)

    def windows(self) -> Array:
        """Tracks, masks at both ends, the Sun and Mars itself; clipped so that transmissions fall into the span."""
        first, last = self._own_time(np.array([self.span.first, self.span.last]))
        allowed = intersect(np.array([[first, last]]), self._away_from_sun())
        allowed = intersect(allowed, self._tracked(first, last), self._station_sees(allowed))
        if not len(allowed):
            return nothing()
        allowed = self._probe_sees(allowed)
        if not self.span.sky.places[self.probe].grounded:
            allowed = self._not_occulted(allowed)
        return allowed

    def sample(self, time: Array) -> Sample:
        """Light time, elevation at the station and the angle from the Sun."""
        sight = self.span.path(self.station, self.sign).sight(time, self.span.motion(self.probe, time).place)
        elevation = np.degrees(np.arcsin(np.clip(sight.rise, -1.0, 1.0)))
        return Sample(sight.delay, elevation, None if self.sep is None else self.span.sun(time, self.sign))

    def sent(self, time: Array, delay: Array) -> Array:
        """The instants at Mars, or a light time before them; the ends of the span exactly."""
        if self.sign > 0:
            return time
        sent = time - delay
        for end in (self.span.first, self.span.last):
            sent = np.where(np.abs(sent - end) < _ROUNDING, end, sent)
        return sent

    def _own_time(self, sent: Array) -> Array:
        """Instants at the Mars end of transmission instants."""
        return sent if self.sign > 0 else self._at_mars(sent)

    def _at_mars(self, at_earth: Array) -> Array:
        """Instants at the Mars end of instants at the station."""
        path = self.span.path(self.station, self.sign)
        time = at_earth - self.sign * path.sight(at_earth, np.zeros((3, len(at_earth)))).delay
        for _ in range(5):
            time = at_earth - self.sign * path.sight(time, self.span.motion(self.probe, time).place).delay
        return time

    def _station_sees(self, within: Array) -> Array:
        mask = self._mask(self.station)
        assert mask is not None  # noqa: S101 - every station has a mask
        sine = math.sin(math.radians(mask.receive if self.sign > 0 else mask.transmit))
        path = self.span.path(self.station, self.sign)

        def rise(time: Array) -> Array:
            return path.sight(time, self.span.motion(self.probe, time).place).rise - sine

        grid = path.times[(path.times >= self.span.first) & (path.times < self.span.grid[-1])]
        grid = np.append(grid, self.span.grid[-1])
        return positive_windows(rise, grid, rise(grid), within=within)

    def _probe_sees(self, within: Array) -> Array:
        mask = self._mask(self.probe)
        if mask is None:
            return within
        sine = math.sin(math.radians(mask.transmit if self.sign > 0 else mask.receive))
        path = self.span.path(self.station, self.sign)

        def rise(time: Array, motion: Motion | None = None) -> Array:
            motion = motion or self.span.motion(self.probe, time)
            assert motion.up is not None  # noqa: S101 - a node with a mask has a horizon
            sight = path.sight(time, motion.place)
            return _dot(sight.vector, motion.up) / (LIGHT_SPEED * sight.delay) - sine

        stride = self.span.stride(self.step)
        grid = self.span.grid[::stride]
        values = rise(grid, self.span.on_grid(self.probe, stride))
        allowed = intersect(within, positive_windows(rise, grid, values, within=within))
        site = self._site(self.probe)
        if site is None or not site.terrain:
            return allowed
        return clear_of_terrain(
            self.span,
            self.probe,
            site.terrain,
            lambda time: (path.sight(time, self.span.motion(self.probe, time).place).vector, time),
            allowed,
            self.step,
        )

    def _not_occulted(self, within: Array) -> Array:
        path = self.span.path(self.station, self.sign)
        centre = self.span.path(None, self.sign)

        def clear(time: Array) -> Array:
            place = self.span.motion(self.probe, time).place
            return past_spheroid(place, path.sight(time, place).vector, self.span.rotation.pole(self.span.tdb(time)))

        stride = self.span.stride(self.step)
        grid = self.span.grid[::stride]
        place = self.span.on_grid(self.probe, stride).place
        # The geocentre stands in for the station on the grid: 6,400 km at Mars' distance move an edge by a second.
        values = past_spheroid(place, centre.sight(grid, place).vector, self.span.rotation.pole(self.span.tdb(grid)))
        return intersect(within, positive_windows(clear, grid, values, within=within, coarse=True))

    def _away_from_sun(self) -> Array:
        ends = np.array([[self.span.first, self.span.grid[-1]]])
        if self.sep is None:
            return ends
        limit = self.sep.cut
        first, last = float(ends[0, 0]), float(ends[0, 1])
        grid = np.linspace(first, last, max(int((last - first) / (DAY / 4)), 4) + 1)

        def away(time: Array) -> Array:
            return self.span.sun(time, self.sign) - limit

        return positive_windows(away, grid, away(grid))

    def _tracked(self, first: float, last: float) -> Array:
        """Booked time of the station, as instants at the Mars end."""
        tracks = self.span.sky.topology.tracks
        if tracks is None:
            return np.array([[first, last]])
        seconds = self.span.sky.timeline.seconds
        booked = union(
            np.array(
                [
                    (seconds(track.start), seconds(track.end))
                    for track in tracks
                    if track.station == self.station and track.spacecraft in (None, self.probe)
                ]
            ).reshape(-1, 2)
        )
        ends = np.array([first, last])
        path = self.span.path(self.station, self.sign)
        delay = path.sight(ends, self.span.motion(self.probe, ends).place).delay
        # Only what lies in the span: beyond it the paths are not known.
        near = intersect(booked, (ends + self.sign * delay)[None])
        return self._at_mars(near.reshape(-1)).reshape(-1, 2)


def past_spheroid(place: Array, towards: Array, pole: Array) -> Array:
    """Positive when a ray leaves a point without meeting the spheroid of Mars; metres.

    Stretching space along the pole makes the spheroid a sphere and keeps lines straight. A ray clears a sphere when
    a . d > -sqrt(a^2 - R^2).

    Args:
        place: relative to Mars, metres, shape (3, n).
        towards: direction of the ray, any length, shape (3, n).
        pole: unit vector of the north pole, shape (3, n).
    """
    stretch = EQUATORIAL_RADIUS / POLAR_RADIUS - 1
    a = place + stretch * _dot(place, pole) * pole
    d = towards + stretch * _dot(towards, pole) * pole
    height = np.maximum(_dot(a, a) - EQUATORIAL_RADIUS**2, 0.0)
    return _dot(a, d) / np.sqrt(_dot(d, d)) + np.sqrt(height)
