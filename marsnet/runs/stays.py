"""How long bundles lay in stores, and where the life of one ended or stood still."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from marsnet.dtn.node.identity import original
from marsnet.dtn.node.ledger import Record, Step
from marsnet.model.requirements import DeadlineRequirement, LatencyRequirement, Requirement
from marsnet.plan.types import ContactPlan
from marsnet.runs.lives import Life
from marsnet.worlds.contents import Contents


@dataclass(frozen=True, slots=True)
class Stay:
    """A bundle, or a fragment of one, in a store.

    Attributes:
        node: whose store.
        bundle: its id.
        neighbour: that took it from there; empty where it ended there, or stays.
        begin: mission seconds.
        end: mission seconds; infinite where it stays.
    """

    node: str
    bundle: str
    neighbour: str
    begin: float
    end: float

    @property
    def whole(self) -> str:
        """The id of the bundle that it is, or is a fragment of."""
        return original(self.bundle)[0]


def stays(records: Iterable[Record]) -> Iterator[Stay]:
    """Every stay of a bundle or a fragment in a store, in order of its end.

    A bundle that is cut ends where its fragments begin, and fragments end where their bundle is whole again.
    """
    contents = Contents()
    since: dict[tuple[str, str], float] = {}
    for record in sorted(records, key=lambda r: r.time):
        move = contents.note(record)
        if move is None:
            continue
        for name in move.gone:
            yield Stay(record.node, name, move.peer, since.pop((record.node, name)), record.time)
        if move.come:
            since[record.node, record.bundle] = record.time
    for (node, bundle), begin in since.items():
        yield Stay(node, bundle, "", begin, math.inf)


@dataclass(frozen=True, slots=True)
class Halt:
    """Where a bundle's life ended, or where it lost most time.

    Attributes:
        life: the bundle.
        node: where.
        time: mission seconds: of its end, or from which on it waited.
        reason: in words.
        waited: seconds, where it came late.
    """

    life: Life
    node: str
    time: float
    reason: str
    waited: float = 0.0


def deaths(lives: Mapping[str, Life], records: Iterable[Record]) -> list[Halt]:
    """Where each bundle is that was not delivered: the lost and dropped, then the expired, then those that wait."""
    missing = {name: life for name, life in lives.items() if life.delivered is None}
    last: dict[str, Record] = {}
    ends: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: r.time):
        if record.bundle in missing:
            last[record.bundle] = record
            if record.step in {Step.EXPIRED, Step.DROPPED}:
                ends[record.bundle] = record
    found = []
    for name, life in missing.items():
        if life.fate == "stored":
            node, time = (
                life.holders[0],
                max((at for holder, at in life.hops if holder == life.holders[0]), default=0.0),
            )
            found.append(Halt(life, node, time, "waits in the store at the end of the run"))
        else:
            record = ends.get(name, last[name])
            why = str(record.details.get("reason", "")) or f"last seen as {record.step}"
            found.append(Halt(life, record.node, record.time, f"{life.fate}: {why}"))
    order = {"lost": 0, "dropped": 0, "expired": 1, "stored": 2}
    return sorted(found, key=lambda halt: (order[halt.life.fate], halt.time))


def allowed(life: Life, requirements: Iterable[Requirement]) -> float:
    """Seconds beyond light time that the strictest deadline or latency requirement gives a bundle; infinite without."""
    least = math.inf
    for requirement in requirements:
        match requirement:
            case DeadlineRequirement(within=limit) | LatencyRequirement(beyond_light_time=limit):
                if (
                    requirement.service_class in (None, life.service_class)
                    and requirement.flow in (None, life.flow)
                    and requirement.tenant in (None, life.tenant)
                ):
                    least = min(least, limit)
    return least


def longest_wait(life: Life, plan: ContactPlan) -> Halt:
    """The store in which a bundle that was delivered waited longest."""
    best = Halt(life, life.source, life.created, "")
    for (node, begin), (following, end) in zip(life.hops, life.hops[1:], strict=False):
        try:
            waited = end - begin - plan.owlt(node, following, begin)
        except KeyError:
            # A fault may let a bundle appear where the plan has no direct way.
            waited = end - begin
        if waited > best.waited:
            best = Halt(life, node, begin, f"waited for {following}", waited)
    return best
