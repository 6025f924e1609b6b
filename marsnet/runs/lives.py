"""The life of every bundle, put together from the records that the nodes wrote."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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
        deliveries: how often an application got it.
        ends: other ends in one store or another: step and reason.
        holders: nodes whose store has it at the end of the run.
        hops: node and mission time of each store that took it, in order.
        tenant: whose it is; empty when nobody's.
        answers: id of the request that it is the reply to; empty when it is none.
        file: name of the file that it completed; empty when it did not.
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

    @property
    def fate(self) -> str:
        """`delivered`, `stored`, `expired`, `dropped` or `lost`."""
        if self.delivered is not None:
            return "delivered"
        if self.holders:
            return "stored"
        steps = {step for step, _ in self.ends}
        if Step.DROPPED in steps:
            return "dropped"
        return "expired" if Step.EXPIRED in steps else "lost"


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
    for record in ordered:
        life_or_none = found.get(record.bundle)
        if life_or_none is None:
            continue
        life = life_or_none
        match record.step:
            case Step.RECEIVED:
                life.hops.append((record.node, record.time))
            case Step.DELIVERED:
                life.deliveries += 1
                life.file = life.file or str(record.details.get("file", ""))
                if life.delivered is None:
                    life.delivered, life.intact = record.time, bool(record.details["intact"])
            case Step.EXPIRED | Step.DROPPED:
                life.ends.append((record.step, str(record.details.get("reason", ""))))
    for node, bundles in stored.items():
        for bundle in bundles:
            if bundle in found:
                found[bundle].holders.append(node)
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

        Raises:
            KeyError: when no chain of links joins the two.
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
        raise KeyError(f"no chain of links from {source!r} to {destination!r}")
