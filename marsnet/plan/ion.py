"""Contact plans as ION administration commands (ionrc(5) of ION-DTN 4).

ION counts in whole seconds and bytes per second. A contact is rounded inwards, so ION never transmits outside it; one
that holds no whole second is left out. A rate is rounded down. Light time is rounded to the nearest second, and a range
is split where that second changes, so a range is never wrong by more than half a second plus the rounding of its edges.
Bit errors and losses have no place in the format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from marsnet.clock import format_utc, parse_utc
from marsnet.errors import InputError
from marsnet.plan.document import ContactRecord, RangeRecord, checked
from marsnet.plan.preamble import Preamble, preamble
from marsnet.plan.stream import PlanStream, collect
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.plan.whole import WholeRanges

_STAMP = "%Y/%m/%d-%H:%M:%S"
_OTHER_COMMANDS = frozenset("1ehilmqrsvwx?^")
"""Commands of ionrc files that say nothing about contacts and ranges, and are passed over."""


def write(stream: PlanStream, out: TextIO, *, relative: bool = False) -> None:
    """Write a plan as `a contact` and `a range` commands.

    Args:
        stream: the plan.
        out: where to.
        relative: write `+s` after a reference time (`@`) in place of absolute times.
    """
    header = stream.header
    epoch = parse_utc(header.epoch)
    start = epoch + timedelta(seconds=header.start)
    reference = start.replace(microsecond=0)
    offset = (epoch - reference).total_seconds()
    number = header.nodes
    for line in preamble(header):
        out.write(line + "\n")
    if relative:
        out.write(f"@ {reference.strftime(_STAMP)}\n")

    def when(seconds: int) -> str:
        return f"+{seconds}" if relative else (reference + timedelta(seconds=seconds)).strftime(_STAMP)

    def ranges(pieces: Iterator[tuple[str, str, int, int, int]]) -> None:
        for source, target, low, high, owlt in pieces:
            out.write(f"a range {when(max(low, 0))} {when(high)} {number[source]} {number[target]} {owlt}\n")

    whole = WholeRanges(offset)
    named: set[tuple[str, str, str]] = set()
    for chunk in stream.chunks:
        for contact in chunk.contacts:
            low = max(math.ceil(contact.start + offset - 1e-6), 0)
            high = math.floor(contact.end + offset + 1e-6)
            rate = math.floor(contact.rate / 8)
            if high <= low or rate < 1:
                continue
            ends = f"{number[contact.source]} {number[contact.target]}"
            if (contact.link, contact.source, contact.target) not in named:
                named.add((contact.link, contact.source, contact.target))
                out.write(f"# link {contact.link} {ends}\n")
            out.write(f"a contact {when(low)} {when(high)} {ends} {rate}\n")
        for piece in chunk.ranges:
            ranges(whole.add(piece))
    ranges(whole.close())


def read(text: str, path: str | Path, epoch: str | None = None) -> ContactPlan:
    """Read the contacts and ranges of an ionrc file; other administration commands are passed over.

    A contact or range of a node with itself is passed over too. A range from a lower to a higher node number also holds
    for the way back, unless the file has ranges for the way back (ionrc(5)).

    Args:
        text: the commands.
        path: their file, for messages.
        epoch: UTC instant of time 0; by default what the file says, or its first time.

    Raises:
        InputError: with file, line, value and remedy.
    """
    reader = _Reader(path, Preamble(), parse_utc(epoch) if epoch else None)
    for line, content in enumerate(text.splitlines(), start=1):
        try:
            reader.take(content.strip(), line)
        except InputError as error:
            raise error if error.file else error.at(path, line) from None
    return reader.plan(epoch)


@dataclass
class _Reader:
    path: str | Path
    head: Preamble
    reference: datetime | None
    contacts: list[tuple[datetime, datetime, int, int, float, int]] = field(default_factory=list)
    ranges: list[tuple[datetime, datetime, int, int, float, int]] = field(default_factory=list)

    def take(self, content: str, line: int) -> None:
        words = content.split()
        if content.startswith("#"):
            self.head.take(content)
        elif words[:1] == ["@"] and len(words) == 2:
            self.reference = self._time(words[1])
        elif words[:2] in (["a", "contact"], ["a", "range"]):
            self._add(words[1], words[2:], line)
        elif words and words[0] not in _OTHER_COMMANDS:
            raise InputError(
                f"{content!r} is no command of a contact plan", remedy="write 'a contact', 'a range', '@' or '#'"
            )

    def _add(self, kind: str, words: list[str], line: int) -> None:
        what = "start stop source target " + ("bytes_per_second" if kind == "contact" else "seconds")
        if len(words) not in {5, 6 if kind == "contact" else 5}:
            raise InputError(f"'a {kind}' has {len(words)} fields", remedy=f"write 'a {kind} {what}'")
        if kind == "contact" and (words[0] == "-1" or words[1] == "0" or (len(words) == 6 and _number(words[5]) != 1)):
            raise InputError(
                f"'a contact {' '.join(words)}' is no scheduled contact",
                remedy="remove it: a plan holds scheduled contacts of confidence 1 only",
            )
        low, high = self._time(words[0]), self._time(words[1])
        source, target = (_node(word) for word in words[2:4])
        if source != target:
            row = (low, high, source, target, _number(words[4]), line)
            (self.contacts if kind == "contact" else self.ranges).append(row)

    def _time(self, word: str) -> datetime:
        if word.startswith("+"):
            start = self.reference or (parse_utc(self.head.epoch) if self.head.epoch else None)
            if start is None:
                raise InputError(
                    f"{word!r} counts from no reference time", remedy="add '@ 2026/10/01-00:00:00' or give an epoch"
                )
            try:
                return start + timedelta(seconds=_number(word[1:]))
            except OverflowError:
                raise InputError(f"{word!r} is beyond the calendar", remedy="write a smaller number") from None
        try:
            return datetime.strptime(word, _STAMP).replace(tzinfo=UTC)
        except ValueError:
            raise InputError(f"{word!r} is no time", remedy="write 2026/10/01-12:00:00 or +3600") from None

    def plan(self, given: str | None) -> ContactPlan:
        rows = [*self.contacts, *self.ranges]
        if given is None and self.head.epoch is None and self.reference is None and not rows:
            raise InputError("the file holds no contact and no range", remedy="add 'a contact' lines", file=self.path)
        epoch = given or self.head.epoch or format_utc(self.reference or min(row[0] for row in rows))
        zero = parse_utc(epoch)
        there = {(row[2], row[3]) for row in self.ranges}
        back = [
            (low, high, target, source, owlt, line)
            for low, high, source, target, owlt, line in self.ranges
            if source < target and (target, source) not in there
        ]
        contacts: list[Contact] = []
        ranges: list[Range] = []
        for low, high, source, target, rate, line in self.contacts:
            data = self._data(zero, low, high, source, target) | {
                "link": self.head.link(source, target),
                "rate": 8 * rate,
            }
            contacts.append(checked(ContactRecord, data, None, self.path, line).contact())
        for low, high, source, target, owlt, line in [*self.ranges, *back]:
            data = self._data(zero, low, high, source, target) | {"owlt": owlt}
            ranges.append(checked(RangeRecord, data, None, self.path, line).range())
        return collect(self.head.header(format_utc(zero), contacts, ranges), contacts, ranges)

    def _data(self, zero: datetime, low: datetime, high: datetime, source: int, target: int) -> dict[str, object]:
        return {
            "source": self.head.name(source),
            "target": self.head.name(target),
            "start": (low - zero).total_seconds(),
            "end": (high - zero).total_seconds(),
        }


def _number(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        raise InputError(f"{word!r} is no number", remedy="write a plain number") from None
    if not math.isfinite(number):
        raise InputError(f"{word!r} is not finite", remedy="write a plain number")
    return number


def _node(word: str) -> int:
    if not word.isdigit() or not 1 <= int(word) <= 2**32 - 1:
        raise InputError(f"{word!r} is no node number", remedy="write an ipn node number from 1 to 4294967295")
    return int(word)
