"""Earth stations: from ITRF to the axes of ICRF.

Precession and nutation are IAU 2006/2000A (ERFA `xy06`, `s06`), rotation follows UT1. Polar motion is neglected: it
moves a station by at most 20 m, which is 0.07 microseconds of light time and 0.05 s of rise or set.
"""

from __future__ import annotations

from dataclasses import dataclass

import erfa
import numpy as np
from numpy.typing import NDArray

from marsnet.model.topology import Station
from marsnet.sky.timescale import DAY, J2000, Timeline

Array = NDArray[np.float64]

EARTH_SPIN = 7.292115e-5
"""Rotation of the Earth, rad/s (GRS 80)."""


@dataclass(frozen=True)
class GroundPoint:
    """A station in the ITRF: position in metres and the unit vector along the WGS 84 normal, each of shape (3,)."""

    place: Array
    up: Array

    @classmethod
    def of(cls, station: Station) -> GroundPoint:
        """The point that a station of a topology names."""
        if station.itrf is not None:
            place = np.array(station.itrf)
        else:
            assert station.longitude is not None  # noqa: S101 - Station validates that one position is complete
            assert station.latitude is not None  # noqa: S101
            lon, lat = np.radians(station.longitude), np.radians(station.latitude)
            place = np.asarray(erfa.gd2gc(1, lon, lat, station.altitude))
        lon, lat, _ = erfa.gc2gd(1, place)
        return cls(place, np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]))


@dataclass(frozen=True)
class EarthRotation:
    """The celestial pole: X, Y and s (IERS Conventions 2010, 5.4.4) at knots a quarter of a day apart."""

    timeline: Timeline
    knots: Array
    pole: Array

    @classmethod
    def over(cls, timeline: Timeline, first: float, last: float) -> EarthRotation:
        """A rotation for mission seconds between `first` and `last`."""
        step = 0.25
        low, high = (float(timeline.tt(time)) / DAY for time in (first, last))
        knots = np.arange(np.floor(low / step), np.ceil(high / step) + 1.5) * step
        x, y = erfa.xy06(J2000, knots)
        return cls(timeline, knots, np.stack([x, y, erfa.s06(J2000, knots, x, y)]))

    def carry(self, point: GroundPoint, time: Array) -> tuple[Array, Array, Array]:
        """Position, velocity and up of a point relative to the geocentre along the axes of ICRF.

        Args:
            point: the station.
            time: mission seconds, shape (n,).

        Returns:
            Metres, m/s and a unit vector, each of shape (3, n).
        """
        day = self.timeline.tt(time) / DAY
        x, y, s = (np.interp(day, self.knots, angle) for angle in self.pole)
        angle = erfa.era00(J2000, self.timeline.ut1(time))
        matrix = erfa.rz(angle, erfa.c2ixys(x, y, s))
        place = np.einsum("nji,j->in", matrix, point.place)
        up = np.einsum("nji,j->in", matrix, point.up)
        pole = matrix[:, 2, :].T
        return place, EARTH_SPIN * np.cross(pole, place, axis=0), up
