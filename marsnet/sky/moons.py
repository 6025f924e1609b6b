"""Phobos and Deimos, cheaply: enough to plan contacts of a site on them.

Both turn once an orbit, so their rotation elements (IAU WGCCRE 2015, Archinal et al. 2018) also say where they are: the
prime meridian points at Mars on average, and the pole is that of the orbit. An eccentricity is added for Phobos, whose
mean anomaly is the argument of its libration. Phobos then lies within 6 km of three published places of an integrated
orbit (Lainey et al. 2007), which is 3 s of a rise or set; Deimos within 100 km of JPL's mean elements in 2025-2041,
which is 75 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from marsnet.sky.intervals import Array
from marsnet.sky.marsframe import CENTURY, Rotation, equator_axes, spheroid_point
from marsnet.sky.places import Motion

MoonName = Literal["phobos", "deimos"]

_Series = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class _Moon:
    """Elements of one moon: metres, degrees, days, Julian centuries.

    Attributes:
        axis: semi-major axis.
        eccentricity: of the orbit.
        radii: largest, middle and smallest semi-axis.
        pole: right ascension and declination at J2000 with their rates per century.
        spin: W at J2000, per day, and per day squared.
        arguments: phase, rate per century and rate per century squared of each periodic argument.
        terms: amplitudes by argument for right ascension (sine), declination (cosine) and W (sine).
        anomaly: index of the argument that is the mean anomaly, the libration's; None where there is none.
    """

    axis: float
    eccentricity: float
    radii: tuple[float, float, float]
    pole: tuple[float, float, float, float]
    spin: tuple[float, float, float]
    arguments: _Series
    terms: _Series
    anomaly: int | None


# Semi-major axes, eccentricities: Jacobson & Lainey (2014). Radii: pck00011.
_PHOBOS = _Moon(
    9_375_000.0,
    0.01511,
    (13_000.0, 11_400.0, 9_100.0),
    (317.67071657, -0.10844326, 52.88627266, -0.06134706),
    (35.18774440, 1128.84475928, 9.536137031212154e-09),
    (
        (190.72646643, 15917.10818695, 0.0),
        (21.46892470, 31834.27934054, 0.0),
        (332.86082793, 19139.89694742, 0.0),
        (394.93256437, 38280.79631835, 0.0),
        (189.63271560, 41215158.18420050, 12.71192322),
    ),
    (
        (-1.78428399, -1.07516537, 1.42421769),
        (0.02212824, 0.00668626, -0.02273783),
        (-0.01028251, -0.00648740, 0.00410711),
        (-0.00475595, 0.00281576, 0.00631964),
        (0.0, 0.0, -1.143),
    ),
    4,
)
_DEIMOS = _Moon(
    23_457_000.0,
    0.00027,
    (7_800.0, 6_000.0, 5_100.0),
    (316.65705808, -0.10518014, 53.50992033, -0.05979094),
    (79.39932954, 285.16188899, 0.0),
    (
        (121.46893664, 660.22803474, 0.0),
        (231.05028581, 660.99123540, 0.0),
        (251.37314025, 1320.50145245, 0.0),
        (217.98635955, 38279.96125550, 0.0),
        (196.19729402, 19139.83628608, 0.0),
    ),
    (
        (3.09217726, 1.83936004, -2.73954829),
        (0.22980637, 0.14325320, -0.39968606),
        (0.06418655, 0.01911409, -0.06563259),
        (0.02533537, -0.01482590, -0.02912940),
        (0.00778695, 0.00192430, 0.01699160),
    ),
    None,
)
MOONS: dict[MoonName, _Moon] = {"phobos": _PHOBOS, "deimos": _DEIMOS}


def orbit_angles(moon: _Moon, tdb: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Pole, prime meridian without libration, libration and mean anomaly; degrees, shape (n,)."""
    century, day = tdb / CENTURY, tdb / 86400.0
    ascension = moon.pole[0] + moon.pole[1] * century
    declination = moon.pole[2] + moon.pole[3] * century
    meridian = moon.spin[0] + np.remainder(moon.spin[1] * day, 360.0) + moon.spin[2] * day**2
    libration, anomaly = np.zeros_like(day), np.zeros_like(day)
    for index, ((phase, rate, square), (by_a, by_d, by_w)) in enumerate(zip(moon.arguments, moon.terms, strict=True)):
        argument = np.radians(phase + np.remainder(rate * century, 360.0) + square * century**2)
        ascension = ascension + by_a * np.sin(argument)
        declination = declination + by_d * np.cos(argument)
        if index == moon.anomaly:
            libration, anomaly = by_w * np.sin(argument), np.degrees(argument)
        else:
            meridian = meridian + by_w * np.sin(argument)
    return ascension, declination, meridian, libration, anomaly


def moon_place(moon: _Moon, tdb: Array) -> Array:
    """Centre of a moon relative to Mars, metres along ICRF, shape (3, n)."""
    return _place(moon, orbit_angles(moon, tdb))


def _place(moon: _Moon, angles: tuple[Array, Array, Array, Array, Array]) -> Array:
    ascension, declination, meridian, _, anomaly = angles
    node, east, _ = equator_axes(ascension, declination)
    mean = np.radians(anomaly)
    # Equation of the centre and radius to first order in e: e^2 is 2 km.
    longitude = np.radians(meridian) + np.pi + 2 * moon.eccentricity * np.sin(mean)
    radius = moon.axis * (1 - moon.eccentricity * np.cos(mean))
    return np.asarray(radius * (node * np.cos(longitude) + east * np.sin(longitude)))


@dataclass(frozen=True)
class MoonPoint:
    """A site on Phobos or Deimos, on the spheroid of the mean equatorial and the polar radius."""

    moon: _Moon
    fixed: Array
    up: Array

    @classmethod
    def of(cls, name: MoonName, latitude: float, longitude: float, altitude: float) -> MoonPoint:
        """A place on a moon; degrees and metres."""
        moon = MOONS[name]
        equatorial = 0.5 * (moon.radii[0] + moon.radii[1])
        fixed, up, _, _ = spheroid_point(latitude, longitude, altitude, equatorial=equatorial, polar=moon.radii[2])
        return cls(moon, fixed, up)

    @property
    def fastest(self) -> float:
        """Angular speed of the orbit at periapsis, rad/s."""
        return math.radians(self.moon.spin[1]) / 86400.0 * (1 + 2 * self.moon.eccentricity)

    @property
    def lowest(self) -> float:
        """Radius of periapsis, metres."""
        return self.moon.axis * (1 - self.moon.eccentricity)

    @property
    def grounded(self) -> bool:
        """False: Mars can stand in the way."""
        return False

    def motion(self, tdb: Array, rotation: Rotation) -> Motion:
        """The site at TDB seconds since J2000, shape (n,)."""
        angles = orbit_angles(self.moon, tdb)
        ascension, declination, meridian, libration, _ = angles
        node, east, pole = equator_axes(ascension, declination)
        turned = np.radians(meridian + libration)
        x = node * np.cos(turned) + east * np.sin(turned)
        y = east * np.cos(turned) - node * np.sin(turned)
        spin = math.radians(self.moon.spin[1]) / 86400.0
        centre = _place(self.moon, angles)

        def still(vector: Array) -> Array:
            return np.asarray(x * vector[0] + y * vector[1] + pole * vector[2])

        def moving(vector: Array) -> Array:
            return np.asarray(spin * (y * vector[0] - x * vector[1]))

        speed = spin * np.cross(pole, centre, axis=0)
        return Motion(centre + still(self.fixed), speed + moving(self.fixed), still(self.up), moving(self.up))
