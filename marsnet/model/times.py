"""Instants that a scenario file names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from marsnet.clock import format_utc, parse_utc
from marsnet.errors import InputError
from marsnet.units import quantity

_LOCAL = re.compile(
    r"sol\s+(\d+)\s+(\d{1,2}):([0-5]\d)(?::([0-5]\d))?\s+(LTST|LMST)\s+at\s+([a-z][a-z0-9_-]*)",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class When:
    """An instant of a run: an offset from its start, a UTC instant, or a local solar time at a site.

    Attributes:
        text: as written.
        offset: seconds after the start of the run, where it is an offset.
        utc: ISO 8601, where it is a UTC instant.
        sol: sol of the run, counted from 0 at the start, where it is a local time.
        hour: local hour on that sol, in hours.
        scale: `LTST` or `LMST`.
        site: the node whose local time it is.
    """

    text: str
    offset: float | None = None
    utc: str | None = None
    sol: int | None = None
    hour: float = 0.0
    scale: str = ""
    site: str = ""


def parse_when(value: object) -> When:
    """The instant that a scenario file names.

    Raises:
        ValueError: when it is none of the three forms.
    """
    if isinstance(value, When):
        return value
    text = str(value).strip()
    if match := _LOCAL.fullmatch(text):
        hour = int(match[2]) + int(match[3]) / 60 + int(match[4] or 0) / 3600
        if hour >= 24:
            raise ValueError(f"{text!r}: a sol has 24 local hours; give 00:00 to 23:59")
        return When(text, sol=int(match[1]), hour=hour, scale=match[5].upper(), site=match[6])
    try:
        return When(text, offset=quantity(text, "time"))
    except InputError:
        pass
    try:
        return When(text, utc=format_utc(parse_utc(text)))
    except InputError:
        raise ValueError(
            f"{text!r} is no instant; write '11 h' after the start, '2026-10-01T12:00:00Z', "
            "or 'sol 3 06:00 LTST at jezero'"
        ) from None


WhenField = Annotated[
    When,
    BeforeValidator(parse_when),
    WithJsonSchema({"type": "string", "examples": ["11 h", "2026-10-01T12:00:00Z", "sol 3 06:00 LTST at jezero"]}),
]
