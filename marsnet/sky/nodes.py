"""The nodes of a topology as things that have a position, and an interval of time made ready for many evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from marsnet.errors import InputError
from marsnet.model.topology import Orbiter, Site, Station, Topology
from marsnet.sky.earthframe import EarthRotation, GroundPoint
from marsnet.sky.intervals import Array
from marsnet.sky.kepler import Kepler
from marsnet.sky.lines import EarthPath, Sign, Stencil, sun_angles
from marsnet.sky.marsframe import Rotation
from marsnet.sky.moons import MoonPoint
from marsnet.sky.orbitfiles import read_ephemeris
from marsnet.sky.places import Motion, OrbitingPoint, Place, SurfacePoint
from marsnet.sky.timescale import Timeline

BASE_STEP = 30.0
STRIDES = 32
"""Grids are the base grid, about BASE_STEP apart, taken every 1st, 2nd, 4th ... 32nd point."""
_SAMPLES_PER_TURN = 48
_SUN_KNOT = 10_800.0  # seconds
_LIGHT_MARGIN = 1500.0  # seconds; the longest light time to Mars is 1,340 s


@dataclass(frozen=True)
class Sky:
    """The nodes of a topology placed in the sky, with mission time counted from an epoch.

    Attributes:
        topology: where the nodes come from.
        timeline: mission time.
        places: nodes of the Mars side.
        grounds: Earth stations.
    """

    topology: Topology
    timeline: Timeline
    places: dict[str, Place]
    grounds: dict[str, GroundPoint]

    @classmethod
    def of(cls, topology: Topology, start: str, base_dir: Path | None = None) -> Sky:
        """Place every node that has a position.

        Args:
            topology: the nodes.
            start: UTC instant of mission time 0.
            base_dir: what paths of ephemeris files are relative to; the working directory by default.

        Raises:
            InputError: when a position or a file is unusable.
        """
        timeline = Timeline.at(start)
        places: dict[str, Place] = {}
        grounds: dict[str, GroundPoint] = {}
        for name, node in topology.nodes.items():
            if isinstance(node, Station):
                grounds[name] = GroundPoint.of(node)
            elif isinstance(node, Site):
                places[name] = _site(name, node)
            elif isinstance(node, Orbiter):
                places[name] = _orbiter(name, node, base_dir or Path())
        return cls(topology, timeline, places, grounds)

    def place(self, name: str) -> Place:
        """A node of the Mars side by name.

        Raises:
            InputError: when the topology has no such node there.
        """
        if name not in self.places:
            known = ", ".join(self.places) or "none"
            raise InputError(
                f"{name!r} is no node at Mars", remedy=f"name a site or an orbiter of the topology ({known})"
            )
        return self.places[name]


def _site(name: str, node: Site) -> Place:
    if node.body == "mars":
        return SurfacePoint.site(node.latitude, node.longitude, node.altitude)
    if node.terrain:
        raise InputError(
            f"site {name!r} on {node.body} has a terrain mask, which is known for Mars only", remedy="remove 'terrain'"
        )
    return MoonPoint.of(node.body, node.latitude, node.longitude, node.altitude)


def _orbiter(name: str, node: Orbiter, base_dir: Path) -> Place:
    if node.orbit is not None:
        epoch = Timeline.at(node.orbit.epoch)
        return OrbitingPoint(Kepler.of(node.orbit, float(epoch.tdb(0.0))))
    if node.areostationary is not None:
        return SurfacePoint.areostationary(node.areostationary)
    assert node.ephemeris is not None  # noqa: S101 - Orbiter validates that one motion is given
    return read_ephemeris(name, node.ephemeris, base_dir)


def step_for(place: Place, sine_of_mask: float | None = None) -> float:
    """Seconds between samples that show every turn of a node around Mars, and its passes over a site.

    A pass that only just clears a mask lasts no longer than the slant range takes to fly; two samples fall within it.
    """
    turn = 2 * np.pi / place.fastest / _SAMPLES_PER_TURN
    if sine_of_mask is None:
        return float(turn)
    radius, site = place.lowest, 3_376_200.0
    slant = -site * sine_of_mask + np.sqrt(max(radius**2 - site**2 * (1 - sine_of_mask**2), 1.0))
    return float(min(turn, 0.5 * slant / (radius * place.fastest)))


@dataclass
class Span:
    """A stretch of mission time with everything that is costly to compute once per stretch.

    Attributes:
        sky: the nodes.
        first: mission seconds at which it starts.
        last: mission seconds at which it ends.
        grid: base grid of mission seconds, shape (32 k + 1,).
        rotation: Mars' axes.
    """

    sky: Sky
    first: float
    last: float
    grid: Array
    rotation: Rotation
    _tdb0: float
    _tdb_rate: float
    _motions: dict[tuple[str, int], Motion] = field(default_factory=dict)
    _paths: dict[tuple[str | None, int], EarthPath] = field(default_factory=dict)
    _suns: dict[int, Array] = field(default_factory=dict)

    @classmethod
    def over(cls, sky: Sky, first: float, last: float) -> Span:
        """The stretch from `first` to `last` and a light time beyond, so that signals sent in it arrive in it."""
        beyond = last + _LIGHT_MARGIN
        count = STRIDES * int(np.ceil((beyond - first) / (STRIDES * BASE_STEP)))
        grid = np.linspace(first, beyond, max(count, STRIDES) + 1)
        low, high = (float(sky.timeline.tdb(time)) for time in (first, beyond))
        rotation = Rotation.over(low - 2 * _LIGHT_MARGIN, high + _LIGHT_MARGIN)
        return cls(sky, first, last, grid, rotation, low, (high - low) / (beyond - first))

    def tdb(self, time: Array) -> Array:
        """TDB seconds since J2000; between the ends TDB - TT is a line, within 70 microseconds for a month."""
        return self._tdb0 + self._tdb_rate * (time - self.first)

    def stride(self, step: float) -> int:
        """The coarsest stride of the grid whose step is at most `step` seconds (the base grid's if none is)."""
        base = float(self.grid[1] - self.grid[0])
        stride = 1
        while stride < STRIDES and 2 * stride * base <= step:
            stride *= 2
        return stride

    def motion(self, name: str, time: Array) -> Motion:
        """A Mars node at mission seconds `time`, shape (n,)."""
        return self.sky.places[name].motion(self.tdb(time), self.rotation)

    def on_grid(self, name: str, stride: int) -> Motion:
        """A Mars node at every `stride`-th point of the grid, computed once."""
        key = (name, stride)
        if key not in self._motions:
            self._motions[key] = self.motion(name, self.grid[::stride])
        return self._motions[key]

    def path(self, station: str | None, sign: Sign) -> EarthPath:
        """A station (None: the geocentre) as Mars sees it, computed once."""
        key = (station, sign)
        if key not in self._paths:
            if station is None:
                last = float(self.grid[-1])
                self._paths[key] = EarthPath.of_geocentre(self.sky.timeline, self.first, last, sign)
            else:
                centre = self.path(None, sign)
                self._paths[key] = centre.with_station(self.sky.grounds[station], self._earth)
        return self._paths[key]

    @cached_property
    def _earth(self) -> EarthRotation:
        return EarthRotation.over(
            self.sky.timeline, self.first - 2 * _LIGHT_MARGIN, float(self.grid[-1]) + 3 * _LIGHT_MARGIN
        )

    def sun(self, time: Array, sign: Sign) -> Array:
        """Sun-Earth-Mars angle in degrees for instants at Mars, shape (n,), interpolated to 1e-6 degrees."""
        origin = self.first - 2 * _SUN_KNOT
        if sign not in self._suns:
            count = int((self.grid[-1] + _LIGHT_MARGIN - origin) / _SUN_KNOT) + 4
            times = origin + _SUN_KNOT * np.arange(count, dtype=np.float64)
            self._suns[sign] = sun_angles(self.sky.timeline, times, sign)[None]
        rows = self._suns[sign]
        return np.asarray(Stencil(origin, _SUN_KNOT, rows.shape[1], time).apply(rows)[0])
