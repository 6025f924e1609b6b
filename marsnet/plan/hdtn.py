"""Contact plans for HDTN (nasa/HDTN, `module/router/contact_plans/*.json`).

HDTN reads whole seconds after its start (or Unix seconds, with its option for Unix timestamps), whole bits per second
and a whole-second light time for each contact. A contact is rounded inwards and one without a whole second is left out;
its light time is that at its middle, rounded to the nearest second. Bit errors and losses have no place in the format.
HDTN passes over keys that it does not know, so `marsnet` and `link` keep names and epoch for the way back.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from marsnet.clock import format_utc, parse_utc
from marsnet.errors import InputError
from marsnet.plan.document import VERSION, ContactRecord, HeaderRecord, RangeRecord, checked
from marsnet.plan.jsonplan import Scanner
from marsnet.plan.preamble import Preamble
from marsnet.plan.stream import PlanStream, collect
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.plan.whole import nearest


def write(stream: PlanStream, out: TextIO) -> None:
    """Write a plan as HDTN contacts. Times count from the first whole second of the plan's interval."""
    header = stream.header
    zero = math.floor(header.start)
    kept = {
        "marsnet": VERSION,
        "epoch": header.epoch,
        "start": header.start,
        "end": header.end,
        "nodes": header.nodes,
        "meta": header.meta | {"hdtn_zero": str(zero)},
    }
    out.write(f'{{\n "marsnet": {json.dumps(kept, ensure_ascii=False)},\n "contacts": [')
    count = 0
    for contact, owlt in _with_light_time(stream):
        low, high = math.ceil(contact.start - zero - 1e-6), math.floor(contact.end - zero + 1e-6)
        rate = math.floor(contact.rate)
        if high <= low or rate < 1:
            continue
        record = {
            "contact": count,
            "source": header.nodes[contact.source],
            "dest": header.nodes[contact.target],
            "startTime": low,
            "endTime": high,
            "rateBitsPerSec": rate,
            "owlt": nearest(owlt),
            "link": contact.link,
        }
        out.write((",\n  " if count else "\n  ") + json.dumps(record, ensure_ascii=False))
        count += 1
    out.write("\n ]\n}\n")


def _with_light_time(stream: PlanStream) -> Iterator[tuple[Contact, float]]:
    """Each contact with the light time at its middle, as soon as the ranges that came reach there."""
    waiting: deque[Contact] = deque()
    ranges: dict[tuple[str, str], deque[Range]] = {}
    for chunk in stream.chunks:
        waiting.extend(chunk.contacts)
        for piece in chunk.ranges:
            ranges.setdefault((piece.source, piece.target), deque()).append(piece)
        while waiting and _reached(waiting[0], ranges):
            yield waiting[0], _light_time(waiting[0], ranges)
            waiting.popleft()
        oldest = waiting[0].start if waiting else math.inf
        for pieces in ranges.values():
            while len(pieces) > 1 and pieces[0].end < oldest and pieces[1].start < oldest:
                pieces.popleft()
    for contact in waiting:
        yield contact, _light_time(contact, ranges)


def _reached(contact: Contact, ranges: dict[tuple[str, str], deque[Range]]) -> bool:
    pieces = ranges.get((contact.source, contact.target))
    return bool(pieces) and pieces is not None and pieces[-1].end >= (contact.start + contact.end) / 2


def _light_time(contact: Contact, ranges: dict[tuple[str, str], deque[Range]]) -> float:
    middle = (contact.start + contact.end) / 2
    pieces: Iterable[Range] = ranges.get((contact.source, contact.target), ())
    before = [piece for piece in pieces if piece.start <= middle]
    piece = before[-1] if before else next(iter(pieces), None)
    return max(piece.at(middle), 0.0) if piece is not None else 0.0


def read(text: str, path: str | Path, epoch: str | None = None) -> ContactPlan:
    """Read an HDTN contact plan; each contact's light time becomes a range.

    Args:
        text: the file's content.
        path: the file, for messages.
        epoch: UTC instant of HDTN's second 0; not needed for a file that this project wrote.

    Raises:
        InputError: with file, line, value and remedy.
    """
    rows: list[tuple[Any, int]] = []
    kept: Any = None
    scanner = Scanner(text, path)
    for key, value, line in scanner.members({"contacts"}):
        if key == "contacts":
            rows.append((value, line))
        elif key == "marsnet":
            kept = checked(HeaderRecord, value, None, path, line)
    if "contacts" not in scanner.keys:
        raise InputError("the file has no 'contacts'", remedy="add 'contacts': [...]", file=path, line=1)
    head, zero = Preamble(), 0.0
    if kept is not None:
        zero = _zero(kept.meta.get("hdtn_zero", "0"), path)
        head.meta = {key: value for key, value in kept.meta.items() if key != "hdtn_zero"}
        head.nodes = {number: name for name, number in kept.nodes.items()}
        head.epoch, head.interval = kept.epoch, (kept.start, kept.end)
    start = epoch or head.epoch
    if start is None:
        raise InputError(
            "the file does not say when its second 0 is", remedy="give the epoch, like 2026-10-01T00:00:00Z", file=path
        )
    contacts: list[Contact] = []
    ranges: list[Range] = []
    for row, line in rows:
        contact, piece = _contact(row, head, zero, path, line)
        contacts.append(contact)
        ranges.append(piece)
    return collect(head.header(format_utc(parse_utc(start)), contacts, ranges), contacts, ranges)


def _zero(text: str, path: str | Path) -> float:
    """Seconds of the plan at HDTN's second 0, as this project wrote them."""
    try:
        zero = float(text)
    except ValueError:
        zero = math.nan
    if not abs(zero) <= 1e15:
        raise InputError(f"hdtn_zero is {text!r}", remedy="give seconds as a number", file=path)
    return zero


def _contact(row: Any, head: Preamble, zero: float, path: str | Path, line: int) -> tuple[Contact, Range]:
    if not isinstance(row, dict):
        raise InputError(f"{row!r} is no contact", remedy="write a mapping of its fields", file=path, line=line)

    def field(name: str, default: float | None = None) -> float:
        value = row.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
            problem = f"the contact lacks {name!r}" if value is None else f"{name} is {value!r}"
            raise InputError(problem, remedy=f"give {name!r} as a number", file=path, line=line)
        return value

    source, target = int(field("source")), int(field("dest"))
    # "rate" in Mbit/s is HDTN's older key.
    rate = field("rateBitsPerSec") if "rateBitsPerSec" in row else 1e6 * field("rate")
    span = {
        "source": head.name(source),
        "target": head.name(target),
        "start": field("startTime") + zero,
        "end": field("endTime") + zero,
    }
    link = row.get("link") or head.link(source, target)
    contact = checked(ContactRecord, span | {"link": link, "rate": rate}, None, path, line).contact()
    return contact, checked(RangeRecord, span | {"owlt": field("owlt", 0.0)}, None, path, line).range()
