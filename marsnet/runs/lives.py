"""The life of every bundle, put together from the records that the nodes wrote."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from marsnet.dtn.node.identity import original
from marsnet.dtn.node.ledger import Record, Step
from marsnet.plan.types import ContactPlan


@dataclass
class Life:
    """One accepted bundle.

    Attributes:
        bundle: its id.
        flow: what sent it.
        service_class: class of service.
        source: node.
        destination: node.
        size: payload, bytes.
        created: mission seconds.
        delivered: mission seconds, or None.
        intact: whether the payload arrived as it was sent.
        deliveries: how often an application got it; of a group's bundle, the most at any one node.
        ends: other ends in one store or another, of the whole, a copy or a fragment: step and reason.
        holders: nodes whose store has it, a copy or fragments of it at the end of the run.
        hops: node and mission time of each store that took it, in order.
        tenant: whose it is; empty when nobody's.
        answers: id of the request that it is the reply to; empty when it is none.
        file: name of the file that it completed; empty when it did not.
        stored_parts: first octet and octet after the last of what each store has of its payload at the end.
        ended_parts: the same of what has ended otherwise, with the step.
    """

    bundle: str
    flow: str
    service_class: str
    source: str
    destination: str
    size: int
    created: float
    delivered: float | None = None
    intact: bool = True
    deliveries: int = 0
    ends: list[tuple[Step, str]] = field(default_factory=list)
    holders: list[str] = field(default_factory=list)
    hops: list[tuple[str, float]] = field(default_factory=list)
    tenant: str = ""
    answers: str = ""
    file: str = ""
    stored_parts: list[tuple[int, int]] = field(default_factory=list)
    ended_parts: list[tuple[Step, int, int]] = field(default_factory=list)

    @property
    def fate(self) -> str:
        """`delivered`, `stored`, `expired`, `dropped` or `lost`.

        Copies and fragments count for the octets that they carry: a bundle is stored when all of its octets are in one
        store or another, and lost when some are neither there nor known to have ended.
        """
        if self.delivered is not None:
            return "delivered"
        missing = _gaps(self.stored_parts, max(self.size, 1))
        if not missing:
            return "stored"
        parts = {
            step: [(first, last) for each, first, last in self.ended_parts if each is step]
            for step in (Step.DROPPED, Step.EXPIRED)
        }
        if _gaps([*self.stored_parts, *parts[Step.DROPPED], *parts[Step.EXPIRED]], max(self.size, 1)):
            return "lost"
        dropped = any(first < end and start < last for start, end in missing for first, last in parts[Step.DROPPED])
        return "dropped" if dropped else "expired"

    def part(self, name: str) -> tuple[int, int]:
        """First octet and octet after the last of the payload that a bundle, or one of its fragments, carries."""
        _, first, last = original(name)
        return first, max(self.size, 1) if last is None else last


def _gaps(parts: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What parts leave out of so many octets."""
    gaps: list[tuple[int, int]] = []
    at = 0
    for first, last in sorted(parts):
        if first > at:
            gaps.append((at, first))
        at = max(at, last)
    return [*gaps, (at, size)] if at < size else gaps


def lives(records: Iterable[Record], stored: Mapping[str, Iterable[str]]) -> dict[str, Life]:
    """The lives of all accepted bundles, by id, in order of acceptance.

    Args:
        records: of all nodes.
        stored: bundle ids in each node's store at the end.
    """
    found: dict[str, Life] = {}
    ordered = sorted(records, key=lambda r: r.time)
    for record in ordered:
        if record.step == Step.ACCEPTED:
            d = record.details
            life = Life(record.bundle, d["flow"], d["class"], d["source"], d["destination"], d["size"], record.time)
            life.hops.append((record.node, record.time))
            life.tenant, life.answers = d.get("tenant", ""), d.get("answers", "")
            found.setdefault(record.bundle, life)
    delivered: Counter[tuple[str, str]] = Counter()
    for record in ordered:
        life_or_none = found.get(original(record.bundle)[0])
        if life_or_none is None:
            continue
        life = life_or_none
        match record.step:
            case Step.RECEIVED:
                if record.bundle == life.bundle or all(node != record.node for node, _ in life.hops):
                    life.hops.append((record.node, record.time))
            case Step.DELIVERED:
                delivered[life.bundle, record.node] += 1
                life.deliveries = max(life.deliveries, delivered[life.bundle, record.node])
                life.file = life.file or str(record.details.get("file", ""))
                if life.delivered is None:
                    life.delivered, life.intact = record.time, bool(record.details["intact"])
            case Step.EXPIRED | Step.DROPPED:
                life.ends.append((record.step, str(record.details.get("reason", ""))))
                life.ended_parts.append((record.step, *life.part(record.bundle)))
    for node, bundles in stored.items():
        for bundle in bundles:
            holding = found.get(original(bundle)[0])
            if holding is not None:
                holding.stored_parts.append(holding.part(bundle))
                if node not in holding.holders:
                    holding.holders.append(node)
    return found


def ledger_hash(records: Iterable[Record]) -> str:
    """SHA-256 of all records as text, in order of time, node and content."""
    digest = hashlib.sha256()
    for line in sorted(record.line() for record in records):
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()


class LightTimes:
    """Least light time between any two nodes at any time: the bound that no latency can beat."""

    def __init__(self, plan: ContactPlan) -> None:
        self._plan = plan
        self._targets: dict[str, list[str]] = {}
        for source, target in dict.fromkeys((r.source, r.target) for r in plan.ranges):
            self._targets.setdefault(source, []).append(target)
        self._cache: dict[tuple[str, str, int], float] = {}

    def between(self, source: str, destination: str, time: float) -> float:
        """Seconds along the shortest chain of links, whether they are open or not; sampled every 10 s.

        Infinite where no chain of links that are ever open joins the two: nothing can be delivered there.
        """
        key = (source, destination, int(time // 10))
        if key not in self._cache:
            self._cache[key] = self._search(source, destination, 10.0 * key[2])
        return self._cache[key]

    def _search(self, source: str, destination: str, time: float) -> float:
        done: set[str] = set()
        heap = [(0.0, source)]
        while heap:
            light, node = heapq.heappop(heap)
            if node == destination:
                return light
            if node in done:
                continue
            done.add(node)
            for target in self._targets.get(node, []):
                if target not in done:
                    heapq.heappush(heap, (light + self._plan.owlt(node, target, time + light), target))
        return math.inf
