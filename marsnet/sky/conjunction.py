"""Solar conjunctions of Mars: when the Sun stands between, and how close."""

from __future__ import annotations

from dataclasses import dataclass

import erfa
import numpy as np
from numpy.typing import NDArray

from marsnet.errors import InputError
from marsnet.sky.ephemeris import LIGHT_SPEED, position, require_covered
from marsnet.sky.lines import angle_to_sun, to_sun
from marsnet.sky.search import positive_windows, refine
from marsnet.sky.timescale import DAY, J2000, Timeline

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Conjunction:
    """One passage of Mars near the Sun as the geocentre sees it.

    Attributes:
        instant: UTC at which Mars and the Sun have the same apparent ecliptic longitude, which almanacs call the
            conjunction; None when that lies outside the interval.
        least_at: UTC of the least Sun-Earth-Mars angle, some hours away from it.
        least_deg: that angle, degrees.
        entry: UTC at which the angle falls below the limit; None when it is below at the interval's start.
        exit: UTC at which it rises above the limit; None when it is below at the interval's end.
    """

    instant: str | None
    least_at: str
    least_deg: float
    entry: str | None
    exit: str | None


def sep_deg(timeline: Timeline, time: Array) -> Array:
    """Sun-Earth-Mars angle in degrees as light arrives at the geocentre at mission seconds `time`, shape (n,).

    Astrometric: corrected for light time to each body; aberration shifts both alike and is left out.
    """
    tdb = timeline.tdb(time)
    earth, to_mars = _earth_and_mars(tdb)
    return angle_to_sun(tdb, earth, to_mars)


def _earth_and_mars(tdb: Array) -> tuple[Array, Array]:
    """The geocentre, and the vector from it to where Mars was when the light left it."""
    earth = position("earth", tdb)
    to_mars = position("mars", tdb) - earth
    for _ in range(3):
        delay = np.linalg.norm(to_mars, axis=0) / LIGHT_SPEED
        to_mars = position("mars", tdb - delay) - earth
    return earth, to_mars


def _longitude_ahead(timeline: Timeline, time: Array) -> Array:
    """Ecliptic longitude of date of Mars less the Sun's, radians in [-pi, pi), shape (n,)."""
    tdb = timeline.tdb(time)
    earth, to_mars = _earth_and_mars(tdb)
    matrix = erfa.ecm06(J2000, tdb / DAY)
    longitude = []
    for vector in (to_mars, to_sun(tdb, earth)):
        x, y, _ = np.einsum("nij,jn->in", matrix, vector)
        longitude.append(np.arctan2(y, x))
    return np.asarray(np.remainder(longitude[0] - longitude[1] + np.pi, 2 * np.pi) - np.pi)


def conjunctions(start: str, end: str, sep_limit_deg: float) -> list[Conjunction]:
    """Every passage of Mars within `sep_limit_deg` of the Sun between two UTC instants (ISO 8601).

    Raises:
        InputError: when the interval is empty or outside the ephemeris, or the limit is not between 0 and 90 degrees.
    """
    timeline = Timeline.at(start)
    last = timeline.seconds(end)
    if last <= 0:
        raise InputError(f"the interval from {start} to {end} is empty", remedy="give the earlier instant first")
    if not 0 < sep_limit_deg <= 90:
        raise InputError(
            f"{sep_limit_deg:g} deg is no limit for conjunctions", remedy="give more than 0 deg, at most 90 deg"
        )
    require_covered(timeline, 0.0, last)
    grid = np.linspace(0.0, last, max(int(last / DAY) + 2, 5))

    def below(time: Array) -> Array:
        return sep_limit_deg - sep_deg(timeline, time)

    found = []
    for entry, leave in positive_windows(below, grid, below(grid)):
        instant = _equal_longitude(timeline, entry, leave)
        least_at, least = _least(timeline, entry, leave)
        found.append(
            Conjunction(
                None if instant is None else timeline.utc(instant),
                timeline.utc(least_at),
                least,
                timeline.utc(entry) if entry > 0 else None,
                timeline.utc(leave) if leave < last else None,
            )
        )
    return found


def _equal_longitude(timeline: Timeline, first: float, last: float) -> float | None:
    ends = np.array([first, last])
    ahead = _longitude_ahead(timeline, ends)
    if ahead[0] * ahead[1] > 0:
        return None
    return float(
        refine(
            lambda time, _: _longitude_ahead(timeline, time), ends[:1], ends[1:], ahead[:1], ahead[1:], tolerance=0.1
        )[0]
    )


def _least(timeline: Timeline, first: float, last: float) -> tuple[float, float]:
    """Instant and value of the least angle, by ever finer samples around the best."""
    while last - first > 1.0:
        times = np.linspace(first, last, 41)
        best = int(np.argmin(sep_deg(timeline, times)))
        first, last = float(times[max(best - 1, 0)]), float(times[min(best + 1, 40)])
    middle = 0.5 * (first + last)
    return middle, float(sep_deg(timeline, np.array([middle]))[0])
