"""Traffic of a scenario: flows of bundles, and traces that say when each leaves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from marsnet.errors import InputError
from marsnet.model.quantities import Octets, PositiveDuration, Strict, misplaced
from marsnet.model.times import When, WhenField
from marsnet.model.topology import Name, ServiceClassName
from marsnet.units import quantity

LONGEST_LIFETIME = 1000 * 365.25 * 86400.0
"""Seconds: far less than the 64 bits of milliseconds that a bundle has for it (RFC 9171 section 4.3.1)."""
_COLUMNS = ("time", "size", "class", "destination")


class Reply(Strict):
    """What the destination's application answers a bundle with: an acknowledgement, a result.

    Without a class or a lifetime, those of the request.
    """

    size: Octets
    service_class: ServiceClassName | None = Field(default=None, alias="class")
    lifetime: PositiveDuration | None = None


class Flow(Strict):
    """One source of traffic.

    It has one of `every` (a burst at that interval, or at that mean one when Poisson), `trace` (a CSV file of times and
    sizes), `volume` (so much to transfer, cut into bundles of `size`) and `file` (the content of a file, likewise).
    A volume or a file is a backlog: at most `window` of its bundles wait in the source's store at a time.
    """

    name: Name
    source: str
    destination: str | None = None
    service_class: ServiceClassName = Field(alias="class")
    tenant: Name | None = Field(default=None, description="whose traffic it is")
    size: Octets | None = None
    every: PositiveDuration | None = None
    arrivals: Literal["periodic", "poisson"] = "periodic"
    burst: int = Field(default=1, ge=1)
    trace: Path | None = Field(default=None, description="CSV with a header: time, size, and class or destination")
    volume: Octets | None = None
    file: Path | None = None
    window: int = Field(default=16, ge=1, le=10_000)
    reply: Reply | None = None
    lifetime: PositiveDuration
    start: WhenField = When("0 s", offset=0.0)
    stop: WhenField | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [key for key in ("every", "trace", "volume", "file") if getattr(self, key) is not None]
        if len(kinds) != 1:
            what = f"has {' and '.join(kinds)}" if kinds else "does not say when it sends"
            raise misplaced(
                f"flow {self.name!r} {what}",
                "give one of 'every', 'trace', 'volume' and 'file'",
                *((kinds[-1],) if kinds else ()),
            )
        (kind,) = kinds
        if self.destination is None and kind != "trace":
            raise misplaced(f"flow {self.name!r} has no destination", "add 'destination'", "destination")
        if (self.size is None) != (kind == "trace"):
            wrong = "its trace has the sizes" if kind == "trace" else f"flow {self.name!r} has no size"
            raise misplaced(wrong, "remove 'size'" if kind == "trace" else "add 'size', of a bundle", "size")
        if self.lifetime > LONGEST_LIFETIME:
            raise misplaced(
                f"flow {self.name!r} has a lifetime of {self.lifetime:g} s", "give a thousand years at most", "lifetime"
            )
        given = self.model_fields_set
        for key, fits in (
            ("arrivals", {"every"}),
            ("burst", {"every"}),
            ("window", {"volume", "file"}),
            ("stop", {"every", "trace"}),
            ("reply", {"every", "trace"}),
        ):
            if key in given and kind not in fits:
                raise misplaced(f"{key!r} does not go with {kind!r}", f"remove {key!r}", key)
        return self


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """A bundle of a trace.

    Attributes:
        time: seconds after the flow's start.
        size: bytes.
        service_class: its class, where the trace says.
        destination: node, where the trace says.
        line: of the file.
    """

    time: float
    size: float
    service_class: ServiceClassName | None
    destination: str | None
    line: int


def read_trace(path: Path) -> list[TraceEntry]:
    """The bundles of a trace: CSV with a header line that names `time` and `size`, and perhaps `class`, `destination`.

    Raises:
        InputError: with file, line, value and remedy.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return list(_entries(path, lines))
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", remedy="check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"it is no CSV: {error}", remedy="write 'time,size' lines", file=path) from None


def _entries(path: Path, lines: Iterable[str]) -> Iterator[TraceEntry]:
    reader = csv.reader(lines)
    header = [column.strip() for column in next(reader, [])]
    if not {"time", "size"} <= set(header) or not set(header) <= set(_COLUMNS) or len(set(header)) != len(header):
        raise InputError(
            f"the trace has the columns {', '.join(header) or 'none'}",
            remedy="begin with 'time,size', and perhaps ',class,destination'",
            file=path,
            line=1,
        )
    last = 0.0
    for row in reader:
        if not row:
            continue
        try:
            entry = _entry(header, row, last, reader.line_num)
        except InputError as error:
            raise error.at(path, reader.line_num) from None
        last = entry.time
        yield entry


def _entry(header: list[str], row: list[str], last: float, line: int) -> TraceEntry:
    if len(row) != len(header):
        raise InputError(f"{len(row)} values for {len(header)} columns", remedy="give one for each column")
    cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
    time, size = quantity(cells["time"], "time"), quantity(cells["size"], "size")
    if time < last:
        raise InputError(f"time {cells['time']!r} is earlier than the line before", remedy="order the lines by time")
    if size < 1:
        raise InputError(f"size {cells['size']!r} is less than a byte", remedy="give more")
    service_class = cells.get("class") or None
    if service_class is not None and service_class not in get_args(ServiceClassName):
        known = ", ".join(get_args(ServiceClassName))
        raise InputError(f"unknown class {service_class!r}", remedy=f"choose one of {known}")
    destination = cells.get("destination") or None
    return TraceEntry(time, size, service_class, destination, line)  # type: ignore[arg-type]
