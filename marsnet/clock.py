"""Mission time: UTC instants as text, seconds since an epoch, and the clock that maps them to the host's.

Mission time is a float of SI seconds since the run's epoch. Engines take it as an argument and never read a clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from marsnet.errors import InputError

DTN_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""RFC 9171 section 4.2.6: DTN time counts milliseconds since this instant, without leap seconds."""


def parse_utc(text: str) -> datetime:
    """The instant that an ISO 8601 UTC text names (`2026-10-01`, `2026-10-01T12:00`, with or without `Z`).

    Raises:
        InputError: when the text is no such instant.
    """
    try:
        instant = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError as error:
        raise InputError(f"{text!r} is not a UTC instant", remedy="write it as 2026-10-01T12:00:00Z") from error
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def format_utc(instant: datetime) -> str:
    """ISO 8601 UTC, rounded to milliseconds, ending in Z."""
    rounded = instant.astimezone(UTC) + timedelta(microseconds=500)
    return rounded.strftime("%Y-%m-%dT%H:%M:%S.") + f"{rounded.microsecond // 1000:03d}Z"


@lru_cache(64)
def _dtn_seconds(epoch: str) -> float:
    """DTN time, seconds, of an instant."""
    return (parse_utc(epoch) - DTN_EPOCH).total_seconds()


@dataclass(frozen=True, slots=True)
class MissionClock:
    """Maps mission time to the host's CLOCK_MONOTONIC. Every process of a run gets the same three numbers.

    Attributes:
        epoch: UTC instant of mission time 0, ISO 8601.
        rate: mission seconds per host second (k).
        origin: CLOCK_MONOTONIC, seconds, at mission time 0.
    """

    epoch: str
    rate: float
    origin: float

    def now(self) -> float:
        """Mission time now, seconds since the epoch."""
        return self.to_mission(time.monotonic())

    def to_mission(self, monotonic: float) -> float:
        """Mission time at a reading of CLOCK_MONOTONIC in seconds."""
        return (monotonic - self.origin) * self.rate

    def to_monotonic(self, mission: float) -> float:
        """The CLOCK_MONOTONIC reading, seconds, at a mission time."""
        return self.origin + mission / self.rate

    def utc(self, mission: float) -> str:
        """The UTC instant of a mission time, ISO 8601 with milliseconds."""
        return format_utc(parse_utc(self.epoch) + timedelta(seconds=mission))

    def dtn_time(self, mission: float) -> int:
        """DTN time in milliseconds of a mission time (RFC 9171 section 4.2.6)."""
        return round((_dtn_seconds(self.epoch) + mission) * 1000)

    def from_dtn_time(self, milliseconds: int) -> float:
        """Mission time of a DTN time in milliseconds."""
        return milliseconds / 1000 - _dtn_seconds(self.epoch)
