"""Plans that flow: pieces in time order, so that a Mars year never sits in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from marsnet.plan.types import Contact, ContactPlan, Range


class Chunk(Protocol):
    """A piece of a plan. Pieces follow each other in time order."""

    @property
    def contacts(self) -> Sequence[Contact]:
        """Contacts, ordered by start."""

    @property
    def ranges(self) -> Sequence[Range]:
        """Ranges, ordered by start."""


@dataclass(frozen=True)
class PlanHeader:
    """What is known of a plan before its first contact; see `ContactPlan` for the fields."""

    epoch: str
    start: float
    end: float
    nodes: dict[str, int]
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlanStream:
    """A plan whose contacts and ranges can be read once.

    Attributes:
        header: epoch, interval and nodes.
        chunks: pieces in time order.
    """

    header: PlanHeader
    chunks: Iterable[Chunk]


def as_stream(plan: ContactPlan | PlanStream) -> PlanStream:
    """A plan in memory as a stream of one piece; a stream as it is."""
    if isinstance(plan, PlanStream):
        return plan
    return PlanStream(PlanHeader(plan.epoch, plan.start, plan.end, plan.nodes, plan.meta), (plan,))


def collect(header: PlanHeader, contacts: Iterable[Contact], ranges: Iterable[Range]) -> ContactPlan:
    """A plan in memory, with its contacts and ranges in order of their start."""
    return ContactPlan(
        header.epoch,
        header.start,
        header.end,
        dict(header.nodes),
        tuple(sorted(contacts, key=lambda contact: contact.start)),
        tuple(sorted(ranges, key=lambda piece: piece.start)),
        dict(header.meta),
    )
