"""Contact plans and budgets as tables that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from rich.table import Table

from marsnet.clock import parse_utc
from marsnet.commands.tables import columns
from marsnet.plan.stream import Chunk
from marsnet.plan.types import Contact, ContactPlan
from marsnet.sky.budget_explain import ExplainedDirection
from marsnet.units import format_duration, format_rate, format_size

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

    @property
    def rates(self) -> str:
        """The rate, or its least and largest value."""
        if self.fastest < 1.001 * self.slowest:
            return format_rate(self.fastest)
        return f"{format_rate(self.slowest)} - {format_rate(self.fastest)}"


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
    names = ("start (UTC)", "lasts", "from", "to", "rate", "light time", "volume")
    table = columns(f"Passes from {plan.epoch}", names, right=("lasts", "rate", "light time", "volume"))
    epoch = parse_utc(plan.epoch)
    for one in passes[: most or None]:
        table.add_row(
            (epoch + timedelta(seconds=one.start)).strftime("%Y-%m-%d %H:%M:%S"),
            format_duration(one.end - one.start),
            one.source,
            one.target,
            one.rates,
            _light_time(plan, one),
            format_size(one.volume),
        )
    left = len(passes) - len(table.rows)
    if left:
        table.caption = f"{left} more; --rows 0 lists all"
        table.caption_justify = "left"
    return table


def _light_time(plan: ContactPlan, one: Pass) -> str:
    try:
        return format_duration(plan.owlt(one.source, one.target, one.start))
    except KeyError:
        return ""


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
        names = ("link", "from", "to", "passes", "open", "of the time", "rate", "volume")
        table = columns(
            f"Totals of {format_duration(length)}", names, right=("passes", "open", "of the time", "rate", "volume")
        )
        for (link, _), row in sorted(self._rows.items(), key=lambda item: links.index(item[0][0])):
            table.add_row(
                link,
                row.source,
                row.target,
                str(row.passes),
                format_duration(row.seconds),
                f"{100 * row.seconds / length:.1f} %" if length > 0 else "",
                row.rates,
                format_size(row.volume),
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

    @property
    def rates(self) -> str:
        if self.fastest < 1.001 * self.slowest:
            return format_rate(self.fastest)
        return f"{format_rate(self.slowest)} - {format_rate(self.fastest)}"


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
