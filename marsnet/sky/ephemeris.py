"""Where the Sun, the Earth and Mars are: an excerpt of JPL's DE440 (Park et al. 2021), metres along ICRF.

Origin is the barycentre of the solar system. Mars is the barycentre of its system, which stays within 1 m of the
planet's centre.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import as_file, files
from typing import Any, Literal

import numpy as np
from jplephem.spk import SPK
from numpy.typing import NDArray

from marsnet.errors import InputError
from marsnet.sky.timescale import DAY, J2000, Timeline

Array = NDArray[np.float64]
Body = Literal["earth", "mars", "sun"]

LIGHT_SPEED = 299_792_458.0
"""m/s, exact."""
_CALENDAR = 1e11
"""Seconds from an epoch that still have a date, some three thousand years."""
KERNEL = "de440_2025_2041.bsp"
_CHAINS: dict[Body, tuple[tuple[int, int], ...]] = {
    "earth": ((0, 3), (3, 399)),
    "mars": ((0, 4),),
    "sun": ((0, 10),),
}


@lru_cache(maxsize=1)
def _kernel() -> Any:
    with as_file(files("marsnet.sky") / "data" / KERNEL) as path:
        return SPK.open(str(path))


def coverage() -> tuple[float, float]:
    """First and last TDB second since J2000 that the ephemeris covers."""
    segment = _kernel()[0, 4]
    return float(segment.start_second), float(segment.end_second)


def position(body: Body, tdb: Array) -> Array:
    """Barycentric positions, metres, shape (3, n), at TDB seconds since J2000, shape (n,).

    Raises:
        InputError: when an instant lies outside the ephemeris.
    """
    return _state(body, tdb, rates=False)[0]


def state(body: Body, tdb: Array) -> tuple[Array, Array]:
    """Barycentric positions in metres and velocities in m/s, each of shape (3, n).

    Raises:
        InputError: when an instant lies outside the ephemeris.
    """
    return _state(body, tdb, rates=True)


def require_covered(timeline: Timeline, start: float, end: float) -> None:
    """Refuse an interval of mission seconds that the ephemeris does not cover with its light times.

    Raises:
        InputError: naming the instant and the years that are covered.
    """
    first, last = coverage()
    margin = 3600.0
    tdb = timeline.tdb(np.array([start, end]))
    for instant, time in zip(tdb, (start, end), strict=True):
        if not first + margin <= instant <= last - margin:
            raise _outside(timeline.utc(time) if abs(time) < _CALENDAR else f"{time:g} s after {timeline.epoch}")


def _outside(what: str) -> InputError:
    begin, end = coverage()
    first, last = (Timeline("", second, 0.0).utc(0.0)[:10] for second in (begin + 3600.0, end - 3600.0))
    return InputError(
        f"{what} is outside the ephemeris",
        remedy=f"choose instants between {first} and {last}, or replace the excerpt as marsnet/sky/data/README.md says",
    )


def _state(body: Body, tdb: Array, *, rates: bool) -> tuple[Array, Array]:
    first, last = coverage()
    if tdb.size and not (first <= np.min(tdb) and np.max(tdb) <= last):
        worst = float(np.min(tdb) if np.min(tdb) < first else np.max(tdb))
        raise _outside(Timeline("", worst, 0.0).utc(0.0))
    # Whole days apart from fractions: 1e11 m then resolve to 1e-4 m.
    days = np.floor(tdb / DAY)
    fraction = tdb / DAY - days
    place, speed = np.zeros((3, tdb.size)), np.zeros((3, tdb.size))
    for pair in _CHAINS[body]:
        segment = _kernel()[pair]
        if rates:
            kilometres, per_day = segment.compute_and_differentiate(J2000 + days, fraction)
            speed += per_day * (1e3 / DAY)
        else:
            kilometres = segment.compute(J2000 + days, fraction)
        place += kilometres * 1e3
    return place, speed
