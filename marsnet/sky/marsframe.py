"""The orientation of Mars, and places on its surface.

Orientation: IAU WGCCRE 2015 (Archinal et al. 2018) with all trigonometric terms. Surface: the IAU spheroid of 3396.19
and 3376.20 km; latitudes are geodetic, longitudes east.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

EQUATORIAL_RADIUS = 3_396_190.0
POLAR_RADIUS = 3_376_200.0
CENTURY = 36525.0 * 86400.0

# Amplitude in degrees, phase in degrees, degrees per Julian century of TDB.
_ASCENSION = (
    (0.000068, 198.991226, 19139.4819985),
    (0.000238, 226.292679, 38280.8511281),
    (0.000052, 249.663391, 57420.7251593),
    (0.000009, 266.183510, 76560.6367950),
    (0.419057, 79.398797, 0.5042615),
)
_DECLINATION = (
    (0.000051, 122.433576, 19139.9407476),
    (0.000141, 43.058401, 38280.8753272),
    (0.000031, 57.663379, 57420.7517205),
    (0.000005, 79.476401, 76560.6495004),
    (1.591274, 166.325722, 0.5042615),
)
_MERIDIAN = (
    (0.000145, 129.071773, 19140.0328244),
    (0.000157, 36.352167, 38281.0473591),
    (0.000040, 56.668646, 57420.9295360),
    (0.000001, 67.364003, 76560.2552215),
    (0.000001, 104.792680, 95700.4387578),
    (0.584542, 95.391654, 0.5042615),
)
_SPIN = 350.891982443297  # degrees per day


def orientation(tdb: ArrayLike) -> tuple[Array, Array, Array]:
    """Right ascension and declination of the pole, and the prime meridian angle W, in degrees.

    Args:
        tdb: TDB seconds since J2000, any shape.

    Returns:
        Three arrays of that shape; W is not reduced to 360 degrees.
    """
    seconds = np.asarray(tdb, dtype=np.float64)
    ascension, declination, slow = _slow_angles(seconds)
    return ascension, declination, slow + _SPIN * (seconds / 86400.0)


def _slow_angles(seconds: Array) -> tuple[Array, Array, Array]:
    """Pole and the part of W that is not uniform rotation, degrees."""
    century = seconds / CENTURY

    def terms(series: tuple[tuple[float, float, float], ...], *, sine: bool) -> Array:
        total = np.zeros_like(century)
        for amplitude, phase, speed in series:
            angle = np.radians(phase + speed * century)
            total += amplitude * (np.sin(angle) if sine else np.cos(angle))
        return total

    return (
        317.269202 - 0.10927547 * century + terms(_ASCENSION, sine=True),
        54.432516 - 0.05827105 * century + terms(_DECLINATION, sine=False),
        176.049863 + terms(_MERIDIAN, sine=True),
    )


def equator_axes(ascension: ArrayLike, declination: ArrayLike) -> tuple[Array, Array, Array]:
    """Unit vectors of a body's equator in ICRF: the ascending node, 90 degrees east of it, and the pole.

    Args:
        ascension: right ascension of the pole in degrees, shape (n,) or scalar.
        declination: its declination, same shape.

    Returns:
        Three arrays of shape (3, n) or (3,).
    """
    a, d = np.radians(ascension), np.radians(declination)
    sin_a, cos_a, sin_d, cos_d = np.sin(a), np.cos(a), np.sin(d), np.cos(d)
    node = np.stack([-sin_a, cos_a, np.zeros_like(sin_a)])
    east = np.stack([-sin_d * cos_a, -sin_d * sin_a, cos_d])
    pole = np.stack([cos_d * cos_a, cos_d * sin_a, sin_d])
    return node, east, pole


@lru_cache(maxsize=1)
def equator_j2000() -> Array:
    """The frame `mars-equator-j2000`: its x, y and z axes in ICRF as the columns of a (3, 3) matrix."""
    ascension, declination, _ = orientation(0.0)
    return np.stack(equator_axes(ascension, declination), axis=1)


@dataclass(frozen=True)
class Rotation:
    """Mars' body axes in ICRF over an interval, made cheap for many instants.

    The axes of the equator and the uneven part of W move by less than 1e-4 degrees a day. Over an interval of up to a
    month they are cubic polynomials of time, exact to 1e-8 degrees.

    Attributes:
        middle: TDB seconds since J2000 at the middle of the interval.
        equator: coefficients by falling power of the node, east and pole vectors, shape (4, 9, 1).
        slow: coefficients of the uneven part of W, radians, shape (4,).
    """

    middle: float
    equator: Array
    slow: Array

    @classmethod
    def over(cls, first: float, last: float) -> Rotation:
        """A rotation for TDB seconds since J2000 between `first` and `last`."""
        middle, half = 0.5 * (first + last), 0.5 * (last - first) + 1.0
        # Chebyshev's points keep the polynomial's error even.
        knots = half * np.cos(np.pi * (np.arange(8) + 0.5) / 8)
        ascension, declination, slow = _slow_angles(middle + knots)
        rows = np.concatenate([*equator_axes(ascension, declination), np.radians(slow)[None]])
        coefficients = np.polyfit(knots / half, rows.T, 3) / half ** np.arange(3, -1, -1.0)[:, None]
        return cls(middle, coefficients[:, :9, None], coefficients[:, 9])

    def pole(self, tdb: Array) -> Array:
        """Unit vector of the north pole in ICRF, shape (3, n)."""
        return self._along(tdb - self.middle, slice(6, 9))

    def axes(self, tdb: Array) -> tuple[Array, Array, Array]:
        """The body-fixed x, y and z axes in ICRF, each (3, n), at TDB seconds since J2000, shape (n,)."""
        elapsed = tdb - self.middle
        node, east, pole = (self._along(elapsed, slice(row, row + 3)) for row in (0, 3, 6))
        # Reduced before the product, so that 1e7 degrees of rotation keep 1e-9 degrees.
        turns = np.remainder(tdb / 86400.0 * (_SPIN / 360.0), 1.0)
        a, b, c, d = self.slow
        meridian = 2 * np.pi * turns + (((a * elapsed + b) * elapsed + c) * elapsed + d)
        cosine, sine = np.cos(meridian), np.sin(meridian)
        return node * cosine + east * sine, east * cosine - node * sine, pole

    def _along(self, elapsed: Array, rows: slice) -> Array:
        a, b, c, d = self.equator[:, rows]
        return np.asarray(((a * elapsed + b) * elapsed + c) * elapsed + d)


def spheroid_point(
    latitude: float,
    longitude: float,
    altitude: float,
    *,
    equatorial: float = EQUATORIAL_RADIUS,
    polar: float = POLAR_RADIUS,
) -> tuple[Array, Array, Array, Array]:
    """A geodetic place in body-fixed axes.

    Args:
        latitude: geodetic, degrees.
        longitude: east, degrees.
        altitude: metres above the spheroid.
        equatorial: radius of the spheroid's equator, metres.
        polar: its polar radius, metres.

    Returns:
        Position in metres and the unit vectors up, east and north, each of shape (3,).
    """
    lat, lon = np.radians(latitude), np.radians(longitude)
    squared = 1 - (polar / equatorial) ** 2
    normal = equatorial / np.sqrt(1 - squared * np.sin(lat) ** 2)
    up = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    flat = np.array([normal, normal, normal * (1 - squared)])
    return flat * up + altitude * up, up, east, np.cross(up, east)
