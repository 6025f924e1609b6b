"""Mars time: sol date, clock times, solar longitude, and the way back to UTC.

Formulas and constants: Allison & McEwen (2000), Planetary and Space Science 48, 215-235, as updated in NASA GISS
Mars24 (equations B-1 to C-4 are cited below). They hold within 2 s of solar time and 0.01 degrees of Ls in this
century.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from marsnet.errors import InputError
from marsnet.sky.ephemeris import LIGHT_SPEED, coverage, position, state
from marsnet.sky.intervals import Array
from marsnet.sky.marsframe import equator_axes, orientation
from marsnet.sky.timescale import DAY, Timeline

Clock = Literal["LTST", "LMST"]
CLOCKS = ("LTST", "LMST")

_DAYS_PER_SOL = 1.0274912517
# Amplitude in degrees, period in Julian years, phase in degrees: perturbations of Mars by the other planets.
_PERTURBERS = (
    (0.0071, 2.2353, 49.409),
    (0.0057, 2.7543, 168.173),
    (0.0039, 1.1177, 191.837),
    (0.0037, 15.7866, 21.736),
    (0.0021, 2.1354, 15.704),
    (0.0020, 2.4694, 95.528),
    (0.0018, 32.8493, 49.095),
)


def msd(utc: str) -> float:
    """Mars Sol Date at a UTC instant (ISO 8601): mean solar days at the prime meridian since 1873-12-29 (C-2).

    Raises:
        InputError: when the text is no such instant; so do all functions of this module that take one.
    """
    return _msd(_tt_days(utc))


def mtc(utc: str) -> float:
    """Coordinated Mars Time, the mean solar time at the prime meridian, in hours from 0 to 24."""
    return _hours(msd(utc))


def ls_deg(utc: str) -> float:
    """Areocentric solar longitude Ls of the apparent Sun, in degrees from 0 to 360.

    Within the ephemeris it follows from DE440 and the osculating orbit of Mars; elsewhere from the series B-5, which
    differs by less than 0.01 degrees.
    """
    timeline = Timeline.at(utc)
    tdb = timeline.tdb(np.zeros(1))
    first, last = coverage()
    if first + DAY < tdb[0] < last - DAY:
        return _apparent_season(tdb)
    return _season(timeline.tt0 / DAY)[0]


def equation_of_time_deg(utc: str) -> float:
    """True less mean solar time in degrees, 15 to the hour (C-1)."""
    return _season(_tt_days(utc))[1]


def lmst(utc: str, longitude_deg: float) -> float:
    """Local mean solar time in hours from 0 to 24 at an east longitude in degrees (C-3)."""
    return _hours(_local_day(_tt_days(utc), longitude_deg, "LMST"))


def ltst(utc: str, longitude_deg: float) -> float:
    """Local true solar time in hours from 0 to 24 at an east longitude in degrees (C-4)."""
    return _hours(_local_day(_tt_days(utc), longitude_deg, "LTST"))


def sol_number(utc: str, start: str, longitude_deg: float, clock: Clock = "LTST") -> int:
    """How many local midnights lie between a run's start and an instant: the sol in which the run starts is sol 0."""
    first = math.floor(_local_day(_tt_days(start), longitude_deg, clock))
    return math.floor(_local_day(_tt_days(utc), longitude_deg, clock)) - first


def local_time_instant(start: str, sol: int, hours: float, longitude_deg: float, clock: Clock | str = "LTST") -> float:
    """Seconds after a run's start of a local time on one of its sols; the sol in which the run starts is sol 0.

    Args:
        start: UTC instant at which the run starts, ISO 8601.
        sol: number of the sol, counted at local midnight of the same clock.
        hours: local time, 0 to 24 hours of 1/24 sol.
        longitude_deg: east longitude of the place, degrees.
        clock: true (LTST) or mean (LMST) solar time.

    Returns:
        Mission seconds; negative when that time of sol 0 had passed before the start.

    Raises:
        InputError: when `start` is no instant or the clock is neither of the two.
    """
    if clock not in CLOCKS:
        raise InputError(f"{clock!r} is no local solar time", remedy=f"write {' or '.join(CLOCKS)}")
    begin = _tt_days(start)
    wanted = math.floor(_local_day(begin, longitude_deg, clock)) + sol + hours / 24
    days = begin
    # The true sun gains or loses less than a thousandth on the mean one, so each round gains three digits.
    for _ in range(6):
        days += (wanted - _local_day(days, longitude_deg, clock)) * _DAYS_PER_SOL
    return (days - begin) * DAY


def clock_text(hours: float) -> str:
    """Hours of a Mars clock as `HH:MM:SS`, rounded to the second, 24:00:00 shown as 00:00:00."""
    seconds = round(hours * 3600) % 86400
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _tt_days(utc: str) -> float:
    """TT days since J2000."""
    return Timeline.at(utc).tt0 / DAY


def _msd(days: float) -> float:
    return (days - 4.5) / _DAYS_PER_SOL + 44796.0 - 0.0009626


def _hours(sols: float) -> float:
    return 24 * (sols - math.floor(sols))


def _season(days: float) -> tuple[float, float]:
    """Ls and the equation of time, degrees (B-1 to B-5 and C-1)."""
    anomaly = math.radians(19.3871 + 0.52402073 * days)
    fictitious_sun = 270.3871 + 0.524038496 * days
    perturbed = sum(a * math.cos(math.radians(0.985626 * days / period + phase)) for a, period, phase in _PERTURBERS)
    centre = (
        (10.691 + 3e-7 * days) * math.sin(anomaly)
        + 0.623 * math.sin(2 * anomaly)
        + 0.050 * math.sin(3 * anomaly)
        + 0.005 * math.sin(4 * anomaly)
        + 0.0005 * math.sin(5 * anomaly)
        + perturbed
    )
    season = (fictitious_sun + centre) % 360.0
    angle = math.radians(season)
    time = 2.861 * math.sin(2 * angle) - 0.071 * math.sin(4 * angle) + 0.002 * math.sin(6 * angle) - centre
    return season, time


def _apparent_season(tdb: Array) -> float:
    """Longitude of the apparent Sun along the orbit of Mars, from the ascending node of the Sun on Mars' equator."""
    place, speed = state("mars", tdb)
    sun, sun_speed = state("sun", tdb)
    normal = np.cross((place - sun)[:, 0], (speed - sun_speed)[:, 0])
    ascension, declination, _ = orientation(tdb)
    pole = equator_axes(ascension, declination)[2][:, 0]
    delay = np.linalg.norm(place - sun, axis=0) / LIGHT_SPEED
    towards = (position("sun", tdb - delay) - place)[:, 0]
    # Aberration of first order in v/c.
    apparent = towards / np.linalg.norm(towards) + speed[:, 0] / LIGHT_SPEED
    equinox = np.cross(pole, normal)
    ahead = np.cross(normal, equinox) / np.linalg.norm(normal)
    return float(np.degrees(np.arctan2(apparent @ ahead, apparent @ equinox)) % 360.0)


def _local_day(days: float, longitude_deg: float, clock: Clock | str) -> float:
    """Solar days at a longitude, such that whole numbers are local midnights."""
    mean = _msd(days) + longitude_deg / 360
    return mean if clock == "LMST" else mean + _season(days)[1] / 360
