"""Time scales: from mission seconds to UTC, UT1, TT and TDB.

Mission time counts SI seconds (of TT) since a run's epoch in UTC. Leap seconds come from the IERS table in ERFA, UT1
- UTC from the table and the long-term prediction that Skyfield carries.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import erfa
import numpy as np
from numpy.typing import ArrayLike, NDArray
from skyfield.api import load

from marsnet.clock import parse_utc

Array = NDArray[np.float64]

J2000 = 2451545.0
DAY = 86400.0


@lru_cache(maxsize=1)
def _skyfield_scale() -> Any:
    return load.timescale(builtin=True)


@dataclass(frozen=True)
class Timeline:
    """The epoch of a run, and what other clocks show at a mission time.

    Attributes:
        epoch: UTC instant of mission time 0, ISO 8601.
        tt0: TT of mission time 0, seconds since J2000.
        residue: seconds that `tt0` lacks by rounding, below 1e-7.
    """

    epoch: str
    tt0: float
    residue: float

    @classmethod
    def at(cls, utc: str) -> Timeline:
        """The timeline that starts at a UTC instant (ISO 8601).

        Raises:
            InputError: when the text is no such instant.
        """
        day, fraction = _utc_to_tt(utc)
        tt0 = (day - J2000) * DAY + fraction * DAY
        return cls(utc, tt0, (fraction * DAY - tt0) + (day - J2000) * DAY)

    def tt(self, time: ArrayLike) -> Array:
        """TT in seconds since J2000 at mission seconds `time`, any shape."""
        return self.tt0 + np.asarray(time, dtype=np.float64)

    def tdb(self, time: ArrayLike) -> Array:
        """TDB in seconds since J2000 at mission seconds `time`, any shape.

        TDB - TT is the two largest terms of Fairhead & Bretagnon (1990), within 30 microseconds: the fastest target
        here moves 1 m in that time.
        """
        tt = self.tt(time)
        anomaly = 6.239996 + 1.99096871e-7 * tt
        shift: Array = tt + 0.001657 * np.sin(anomaly + 0.01671 * np.sin(anomaly))
        return shift

    def ut1(self, time: ArrayLike) -> Array:
        """UT1 in days since J2000 at mission seconds `time`, any shape."""
        tt = self.tt(time)
        scale = _skyfield_scale()
        # Delta T moves by milliseconds a day; the table is asked every half a day and read in between by a line.
        low, high = float(np.min(tt)) / DAY, float(np.max(tt)) / DAY
        days = np.arange(np.floor(2 * low), np.ceil(2 * high) + 2) / 2
        delta = scale.tt_jd(J2000 + days).delta_t
        result: Array = (tt - np.interp(tt / DAY, days, delta)) / DAY
        return result

    def utc(self, time: float) -> str:
        """The UTC instant of mission seconds `time`, ISO 8601 with milliseconds and Z."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", erfa.ErfaWarning)
            seconds = self.tt0 + time
            tai = erfa.tttai(J2000, seconds / DAY)
            year, month, day, clock = erfa.d2dtf("UTC", 3, *erfa.taiutc(*tai))
        hour, minute, second, thousandth = (int(clock[part]) for part in ("h", "m", "s", "f"))
        return f"{int(year):04d}-{int(month):02d}-{int(day):02d}T{hour:02d}:{minute:02d}:{second:02d}.{thousandth:03d}Z"

    def seconds(self, utc: str) -> float:
        """Mission seconds at a UTC instant, leap seconds counted.

        Raises:
            InputError: when the text is no such instant.
        """
        day, fraction = _utc_to_tt(utc)
        return ((day - J2000) * DAY - self.tt0) + fraction * DAY - self.residue


def _utc_to_tt(utc: str) -> tuple[float, float]:
    """TT of a UTC instant as a Julian date at noon or midnight and the fraction of a day after it."""
    instant = parse_utc(utc)
    second = instant.second + instant.microsecond * 1e-6
    with warnings.catch_warnings():
        # ERFA calls years beyond its release "dubious": a leap second could still be announced for them.
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        start = erfa.dtf2d("UTC", instant.year, instant.month, instant.day, instant.hour, instant.minute, second)
        day, fraction = erfa.taitt(*erfa.utctai(*start))
    return float(day), float(fraction)
