"""Where the nodes of the Mars side are: sites, orbiters and moons behind one interface.

Positions are relative to Mars along the axes of ICRF, in metres, as functions of TDB. Everything that moves also says
how fast, so that a receiver can be carried forward by a light time without a second evaluation: over 0.3 s the
acceleration of a low orbit contributes 0.2 m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from marsnet.model.topology import Areostationary
from marsnet.sky.kepler import Kepler
from marsnet.sky.marsframe import Rotation, spheroid_point

Array = NDArray[np.float64]

MARS_SPIN = math.radians(350.891982443297) / 86400.0
"""Rotation of Mars, rad/s (IAU 2015)."""


class Motion(NamedTuple):
    """A node at n instants.

    Attributes:
        place: metres relative to Mars, shape (3, n).
        speed: m/s, shape (3, n).
        up: unit vector of the local vertical, shape (3, n); None where a node has no horizon.
        turn: change of `up` per second, shape (3, n); None with `up`.
    """

    place: Array
    speed: Array
    up: Array | None = None
    turn: Array | None = None

    def after(self, delay: Array) -> Motion:
        """The node carried forward by `delay` seconds, shape (n,), along a line."""
        if self.up is None or self.turn is None:
            return Motion(self.place + self.speed * delay, self.speed)
        return Motion(self.place + self.speed * delay, self.speed, self.up + self.turn * delay, self.turn)


class Place(Protocol):
    """A node of the Mars side.

    Attributes:
        fastest: largest angular speed around Mars, rad/s, in an inertial frame.
        lowest: least distance from the centre of Mars, metres.
        grounded: whether the node stands on Mars itself, so that its horizon is the planet's.
    """

    @property
    def fastest(self) -> float: ...

    @property
    def lowest(self) -> float: ...

    @property
    def grounded(self) -> bool: ...

    def motion(self, tdb: Array, rotation: Rotation) -> Motion:
        """The node at TDB seconds since J2000, shape (n,)."""
        ...


@dataclass(frozen=True)
class SurfacePoint:
    """A point that turns with Mars: a site, or an areostationary orbiter, which has no horizon of its own."""

    fixed: Array
    up: Array | None
    east: Array | None = None
    north: Array | None = None

    @classmethod
    def site(cls, latitude: float, longitude: float, altitude: float) -> SurfacePoint:
        """A place on the surface; geodetic degrees and metres."""
        return cls(*spheroid_point(latitude, longitude, altitude))

    @classmethod
    def areostationary(cls, orbit: Areostationary) -> SurfacePoint:
        """A fixed longitude above the equator."""
        angle = math.radians(orbit.longitude)
        return cls(orbit.radius * np.array([math.cos(angle), math.sin(angle), 0.0]), None)

    @property
    def fastest(self) -> float:
        """Angular speed of Mars' rotation, rad/s."""
        return MARS_SPIN

    @property
    def lowest(self) -> float:
        """Distance from the centre, metres."""
        return float(np.linalg.norm(self.fixed))

    @property
    def grounded(self) -> bool:
        """True for a site."""
        return self.up is not None

    def motion(self, tdb: Array, rotation: Rotation) -> Motion:
        """The point at TDB seconds since J2000, shape (n,)."""
        x, y, z = rotation.axes(tdb)

        def still(vector: Array) -> Array:
            return np.asarray(x * vector[0] + y * vector[1] + z * vector[2])

        def moving(vector: Array) -> Array:
            return np.asarray(y * (MARS_SPIN * vector[0]) - x * (MARS_SPIN * vector[1]))

        if self.up is None:
            return Motion(still(self.fixed), moving(self.fixed))
        return Motion(still(self.fixed), moving(self.fixed), still(self.up), moving(self.up))

    def azimuth(self, towards: Array, tdb: Array, rotation: Rotation) -> Array:
        """Azimuth in degrees, clockwise from north, of directions in ICRF of shape (3, n)."""
        assert self.east is not None  # noqa: S101 - only sites have a terrain mask
        assert self.north is not None  # noqa: S101
        axes = np.stack(rotation.axes(tdb))
        body = np.einsum("ijn,jn->in", axes, towards)
        return np.asarray(np.degrees(np.arctan2(self.east @ body, self.north @ body)) % 360.0)


@dataclass(frozen=True)
class OrbitingPoint:
    """An orbiter on mean elements."""

    orbit: Kepler

    @property
    def fastest(self) -> float:
        """Angular speed at periapsis, rad/s."""
        return self.orbit.fastest

    @property
    def lowest(self) -> float:
        """Radius of periapsis, metres."""
        return self.orbit.lowest

    @property
    def grounded(self) -> bool:
        """False."""
        return False

    def motion(self, tdb: Array, rotation: Rotation) -> Motion:
        """The orbiter at TDB seconds since J2000, shape (n,)."""
        return Motion(*self.orbit.state(tdb))
