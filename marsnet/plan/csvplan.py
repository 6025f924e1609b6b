"""Contact plans as CSV, for spreadsheets and data frames; nothing rounded.

One row a contact or a range. Comment lines starting with `#` carry the plan's header (pandas: `comment="#"`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from marsnet.clock import format_utc, parse_utc
from marsnet.errors import InputError
from marsnet.plan.document import ContactRecord, RangeRecord, checked
from marsnet.plan.preamble import Preamble, preamble
from marsnet.plan.stream import PlanStream, collect
from marsnet.plan.types import Contact, ContactPlan, Range

COLUMNS = ("kind", "link", "source", "target", "start", "end", "start_utc", "rate", "ber", "loss", "owlt", "slope")
_NUMBERS = {"contact": ("start", "end", "rate", "ber", "loss"), "range": ("start", "end", "owlt", "slope")}


def write(stream: PlanStream, out: TextIO) -> None:
    """Write a plan as CSV: comment lines, a row of column names, then contacts and ranges."""
    for line in preamble(stream.header):
        out.write(line + "\n")
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    epoch = parse_utc(stream.header.epoch)
    for chunk in stream.chunks:
        for c in chunk.contacts:
            utc = format_utc(epoch + timedelta(seconds=c.start))
            span = c.source, c.target, repr(c.start), repr(c.end), utc
            rows.writerow(("contact", c.link, *span, repr(c.rate), repr(c.ber), repr(c.loss), "", ""))
        for r in chunk.ranges:
            utc = format_utc(epoch + timedelta(seconds=r.start))
            span = r.source, r.target, repr(r.start), repr(r.end), utc
            rows.writerow(("range", "", *span, "", "", "", repr(r.owlt), repr(r.slope)))


def read(text: str, path: str | Path) -> ContactPlan:
    """Read a plan. `start_utc` is for people and is not read.

    Raises:
        InputError: with file, line, value and remedy.
    """
    head = Preamble()
    contacts: list[Contact] = []
    ranges: list[Range] = []
    columns: list[str] = []
    nodes: dict[str, int] = {}
    for line, row in _rows(text, head, path):
        if not columns:
            columns = row
            for name in ("kind", "source", "target", "start", "end"):
                if name not in columns:
                    raise InputError(
                        f"no column {name!r}", remedy=f"name the columns {','.join(COLUMNS)}", file=path, line=line
                    )
            nodes = {name: number for number, name in head.nodes.items()}
            continue
        if len(row) != len(columns):
            raise InputError(
                f"{len(row)} fields where there are {len(columns)} columns",
                remedy="give one field for each column",
                file=path,
                line=line,
            )
        values = dict(zip(columns, row, strict=True))
        if values["kind"] == "contact":
            contacts.append(checked(ContactRecord, _fields(values, path, line), nodes, path, line).contact())
        else:
            ranges.append(checked(RangeRecord, _fields(values, path, line), nodes, path, line).range())
    if head.epoch is None:
        raise InputError("no epoch", remedy="add the line '# epoch 2026-10-01T00:00:00Z'", file=path, line=1)
    return collect(head.header(head.epoch, contacts, ranges), contacts, ranges)


def _rows(text: str, head: Preamble, path: str | Path) -> Iterator[tuple[int, list[str]]]:
    for line, content in enumerate(text.splitlines(), start=1):
        if content.startswith("#"):
            try:
                head.take(content)
            except InputError as error:
                raise error.at(path, line) from None
        elif content.strip():
            try:
                yield line, next(csv.reader([content], strict=True))
            except csv.Error as error:
                raise InputError(f"malformed CSV: {error}", remedy="mend the line", file=path, line=line) from None


def _fields(values: dict[str, str], path: str | Path, line: int) -> dict[str, Any]:
    kind = values["kind"]
    if kind not in _NUMBERS:
        raise InputError(f"kind is {kind!r}", remedy="write 'contact' or 'range'", file=path, line=line)
    fields: dict[str, Any] = {"source": values["source"], "target": values["target"]}
    if kind == "contact":
        fields["link"] = values.get("link") or f"{values['source']}--{values['target']}"
    for name in _NUMBERS[kind]:
        if values.get(name):
            try:
                fields[name] = float(values[name])
            except ValueError:
                raise InputError(
                    f"{name} is {values[name]!r}", remedy="write a plain number", file=path, line=line
                ) from None
    return fields
