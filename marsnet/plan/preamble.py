"""The comment lines that keep a plan's header in line formats (ION, CSV) that have no place for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from marsnet.clock import format_utc, parse_utc
from marsnet.errors import InputError
from marsnet.plan.document import VERSION
from marsnet.plan.stream import PlanHeader
from marsnet.plan.types import Contact, Range


def preamble(header: PlanHeader) -> list[str]:
    """The header as comment lines."""
    return [
        f"# marsnet {VERSION}",
        f"# epoch {header.epoch}",
        f"# interval {header.start!r} {header.end!r}",
        *(f"# node {number} {name}" for name, number in header.nodes.items()),
        *(f"# meta {key} {_one_line(value)}" for key, value in header.meta.items()),
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())


@dataclass
class Preamble:
    """What the comment lines of an imported file say, so far.

    Attributes:
        epoch: UTC instant, ISO 8601; None when no line gives it.
        interval: first and last second; None when no line gives it.
        nodes: ipn node number to name.
        links: link name by source and target number.
        meta: where the plan comes from.
    """

    epoch: str | None = None
    interval: tuple[float, float] | None = None
    nodes: dict[int, str] = field(default_factory=dict)
    links: dict[tuple[int, int], str] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)

    def take(self, comment: str) -> None:
        """Take in one comment line; a comment of another kind is passed over.

        Raises:
            InputError: when a known word is followed by something else than it should be; without file and line.
        """
        word, _, rest = comment.lstrip("#").strip().partition(" ")
        parts = rest.split()
        try:
            match word, len(parts):
                case "marsnet", 1 if parts[0] != VERSION:
                    raise InputError(f"version {parts[0]!r}", remedy=f"this program reads {VERSION!r}")
                case "epoch", 1:
                    self.epoch = format_utc(parse_utc(parts[0]))
                case "interval", 2:
                    self.interval = _seconds(parts[0]), _seconds(parts[1])
                case "node", 2:
                    self.nodes[_node(parts[0])] = parts[1]
                case "link", 3:
                    self.links[_node(parts[1]), _node(parts[2])] = parts[0]
                case "meta", count if count >= 1:
                    self.meta[parts[0]] = " ".join(parts[1:])
        except ValueError as error:
            raise InputError(f"{comment!r}: {error}", remedy="mend the number") from None

    def name(self, number: int) -> str:
        """The name of a node; a node that no comment names is called by its number."""
        return self.nodes.setdefault(number, f"n{number}")

    def link(self, source: int, target: int) -> str:
        """The name of the link between two nodes; by default that of the two nodes, in the order first met."""
        name = self.links.get((source, target)) or self.links.get((target, source))
        if name is None:
            name = self.links[source, target] = f"{self.name(source)}--{self.name(target)}"
        return name

    def header(self, epoch: str, contacts: list[Contact], ranges: list[Range]) -> PlanHeader:
        """The plan's header; without an interval, from the first start to the last end."""
        rows: list[Contact | Range] = [*contacts, *ranges]
        start, end = self.interval or (
            min((row.start for row in rows), default=0.0),
            max((row.end for row in rows), default=0.0),
        )
        return PlanHeader(epoch, start, end, {name: number for number, name in self.nodes.items()}, self.meta)


def _seconds(word: str) -> float:
    seconds = float(word)
    if not abs(seconds) <= 1e10:
        raise ValueError(f"{word} is out of range")
    return seconds


def _node(word: str) -> int:
    number = int(word)
    if not 1 <= number <= 2**32 - 1:
        raise ValueError(f"{word} is no ipn node number")
    return number
