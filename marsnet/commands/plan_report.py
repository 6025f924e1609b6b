"""Contact plans and budgets as tables that a person reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from rich.table import Table

from marsnet.clock import parse_utc
from marsnet.commands.tables import columns
from marsnet.plan.stream import Chunk
from marsnet.plan.types import Contact, ContactPlan
from marsnet.sky.budget_explain import ExplainedDirection
from marsnet.units import format_duration, format_rate

_TOUCH = 1.0
"""Contacts of one direction that follow each other within so many seconds are one pass."""


@dataclass
class Pass:
    """Contacts of one direction without a break: one row of a table."""

    link: str
    source: str
    target: str
    start: float
    end: float
    slowest: float
    fastest: float
    volume: float

    @classmethod
    def of(cls, contact: Contact) -> Pass:
        """The pass that begins with a contact."""
        rate = contact.rate
        ends = contact.source, contact.target
        return cls(contact.link, *ends, contact.start, contact.end, rate, rate, contact.volume)

    def takes(self, contact: Contact) -> bool:
        """Add a contact, if it follows without a break."""
        if contact.start > self.end + _TOUCH:
            return False
        self.end = max(self.end, contact.end)
        self.slowest, self.fastest = min(self.slowest, contact.rate), max(self.fastest, contact.rate)
        self.volume += contact.volume
        return True


def passes_of(contacts: Iterable[Contact]) -> list[Pass]:
    """The passes that contacts, ordered by start, make up; ordered by start."""
    found: list[Pass] = []
    newest: dict[tuple[str, str], Pass] = {}
    for contact in contacts:
        key = contact.link, contact.source
        if key not in newest or not newest[key].takes(contact):
            newest[key] = Pass.of(contact)
            found.append(newest[key])
    return found


def passes_table(plan: ContactPlan, most: int) -> Table:
    """The passes of a plan in order of time; those that last all the time are left to the totals."""
    passes = [one for one in passes_of(plan.contacts) if one.start > plan.start or one.end < plan.end]
    names = ("start", "lasts", "from > to", "bit/s", "light", "volume")
    table = columns(f"Passes from {plan.epoch}, UTC at the sender", names, right=("lasts", "bit/s", "light", "volume"))
    epoch = parse_utc(plan.epoch)
    day = ""
    for number, one in enumerate(passes[: most or None]):
        start = epoch + timedelta(seconds=one.start)
        if f"{start:%Y-%m-%d}" != day:
            if number:
                table.add_section()
            day = f"{start:%Y-%m-%d}"
            table.add_row(day)
        table.add_row(
            f"{start:%H:%M:%S}",
            _clock(one.end - one.start),
            f"{one.source} > {one.target}",
            _rates(one.slowest, one.fastest),
            _light_time(plan, one),
            _short(one.volume, "B"),
        )
    left = len(passes[most:]) if most else 0
    if left:
        table.caption = f"{left} more; --rows 0 lists all"
        table.caption_justify = "left"
    return table


def _light_time(plan: ContactPlan, one: Pass) -> str:
    try:
        seconds = plan.owlt(one.source, one.target, one.start)
    except KeyError:
        return ""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


def _clock(seconds: float) -> str:
    """A duration as `1:02:18`; one below a minute as `31.7 s`."""
    if seconds < 59.95:
        return format_duration(seconds)
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _short(value: float, unit: str) -> str:
    """A number of three digits with a prefix."""
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {prefix}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def _rates(slowest: float, fastest: float) -> str:
    """The rate, or its least and largest value, as `128k-2.05M`."""
    least, most = (_short(rate, "").replace(" ", "") for rate in (slowest, fastest))
    return most if least == most else f"{least}-{most}"


class Totals:
    """What each direction of a plan adds up to; takes a plan in pieces."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _Total] = {}

    def add(self, piece: Chunk) -> None:
        """Count the contacts of a plan or of a piece of one."""
        for contact in piece.contacts:
            key = contact.link, contact.source
            if key not in self._rows:
                self._rows[key] = _Total(contact.source, contact.target)
            self._rows[key].take(contact)

    def table(self, length: float, order: Sequence[str] = ()) -> Table:
        """One row a direction.

        Args:
            length: seconds that the plan covers.
            order: links that come first, in this order; the others follow as they first appear.
        """
        links = list(dict.fromkeys([*order, *(link for link, _ in self._rows)]))
        ends = Counter((row.source, row.target) for row in self._rows.values())
        names = ("from > to", "passes", "open", "of all", "bit/s", "volume")
        table = columns(f"Totals of {format_duration(length)}", names, right=names[1:])
        for (link, _), row in sorted(self._rows.items(), key=lambda item: links.index(item[0][0])):
            shared = ends[row.source, row.target] > 1
            table.add_row(
                f"{row.source} > {row.target}" + (f" ({link})" if shared else ""),
                str(row.passes),
                _clock(row.seconds),
                f"{100 * row.seconds / length:.1f} %" if length > 0 else "",
                _rates(row.slowest, row.fastest),
                _short(row.volume, "B"),
            )
        return table


@dataclass
class _Total:
    source: str
    target: str
    passes: int = 0
    seconds: float = 0.0
    volume: float = 0.0
    slowest: float = float("inf")
    fastest: float = 0.0
    last: float = float("-inf")

    def take(self, contact: Contact) -> None:
        self.passes += contact.start > self.last + _TOUCH
        self.last = max(self.last, contact.end)
        self.seconds += contact.end - contact.start
        self.volume += contact.volume
        self.slowest, self.fastest = min(self.slowest, contact.rate), max(self.fastest, contact.rate)


def explanation(one: ExplainedDirection) -> tuple[str, Table]:
    """The budget of one direction: a heading, and a table line by line."""
    state = "open" if one.open else "not open"
    title = (
        f"{one.source} to {one.target} at {one.transmitted_at}: {state}, light time {format_duration(one.light_time)}"
    )
    table = columns("", ("item", "value", "unit"), right=("value",))
    for line in one.lines:
        if line.unit == "bit/s":
            value, unit = format_rate(line.value).split(" ")
        elif line.unit == "":
            value, unit = f"{line.value:.1e}" if line.value else "below 1e-15", ""
        else:
            value, unit = f"{line.value or 0.0:,.2f}", line.unit
        table.add_row(line.item, value, unit)
    return title, table
