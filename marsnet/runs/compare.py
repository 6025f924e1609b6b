"""Where two runs diverge: deliveries, latency, way and volume, bundle by bundle.

Two worlds give the same bundle different ids, because a bundle's id holds the millisecond of its creation. So bundles
are matched by flow and by their number in it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from marsnet.dtn.node.ledger import Record, Step
from marsnet.errors import InputError
from marsnet.plan.types import ContactPlan
from marsnet.runs.findings import percentile
from marsnet.runs.finished import FinishedRun
from marsnet.runs.lives import Life

CLASSES = ("critical", "expedited", "normal", "bulk")
SHARES = (0.5, 0.9, 0.99)
"""The percentiles of latency that are compared."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two runs may lie apart.

    Attributes:
        deliveries: bundles that only one of them delivered.
        median: difference of a class's median latency, as a share of its light time.
        p99: difference of its 99th percentile, likewise.
    """

    deliveries: int = 0
    median: float = 0.02
    p99: float = 0.05


@dataclass(frozen=True, slots=True)
class Pair:
    """A bundle in both runs; None where a run never accepted it.

    Attributes:
        flow: what sent it.
        number: in its flow, from 0, counting those that the source refused.
        lives: in the first and in the second run.
        some: the first of them that there is.
        light: light time from source to destination at its creation, seconds.
    """

    flow: str
    number: int
    lives: tuple[Life | None, Life | None]
    some: Life
    light: float

    @property
    def arrived(self) -> tuple[bool, bool]:
        """Whether it was delivered."""
        first, second = self.lives
        return (first is not None and first.delivered is not None, second is not None and second.delivered is not None)

    @property
    def latencies(self) -> tuple[float, float]:
        """Seconds from creation to delivery; infinite where it was not delivered."""
        first, second = self.lives
        return _latency(first), _latency(second)

    @property
    def ways(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The nodes whose stores took it, in order."""
        first, second = self.lives
        return _way(first), _way(second)


@dataclass(frozen=True, slots=True)
class Group:
    """A class or a flow in both runs.

    Attributes:
        name: of the class or flow.
        accepted: bundles.
        delivered: bundles.
        only: bundles that only this run delivered.
        light: mean light time, seconds.
        latency: 50th, 90th and 99th percentile of the latency of what was delivered, seconds; NaN of nothing.
        hops: mean number of hops of what was delivered.
        same_way: share of the bundles that took the same way in both, of those that both delivered.
        beyond: what lies beyond the tolerance, in words.
    """

    name: str
    accepted: tuple[int, int]
    delivered: tuple[int, int]
    only: tuple[int, int]
    light: float
    latency: tuple[tuple[float, float, float], tuple[float, float, float]]
    hops: tuple[float, float]
    same_way: float
    beyond: tuple[str, ...]

    def difference(self, index: int) -> float:
        """Second minus first of the percentile `SHARES[index]`, as a share of the light time."""
        return (self.latency[1][index] - self.latency[0][index]) / self.light if self.light else math.nan


@dataclass(frozen=True, slots=True)
class ContactVolume:
    """Payload that one contact carried in both runs.

    Attributes:
        source: transmitting node.
        target: receiving node.
        start: mission seconds.
        end: mission seconds.
        volume: bytes of bundles that the target took, by run.
    """

    source: str
    target: str
    start: float
    end: float
    volume: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        runs: the two.
        tolerance: what they were held to.
        classes: by class of service.
        flows: by flow.
        contacts: what each contact carried, where one of the runs used it.
        pairs: every bundle of both.
        divergent: bundles whose fate, or latency by more than the tolerance of the 99th percentile, differ; in order.
        beyond: everything that lies beyond the tolerance; empty when the comparison holds.
    """

    runs: tuple[FinishedRun, FinishedRun]
    tolerance: Tolerance
    classes: tuple[Group, ...]
    flows: tuple[Group, ...]
    contacts: tuple[ContactVolume, ...]
    pairs: tuple[Pair, ...]
    divergent: tuple[Pair, ...]
    beyond: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the runs lie within the tolerance."""
        return not self.beyond


def compare(first: FinishedRun, second: FinishedRun, tolerance: Tolerance | None = None) -> Comparison:
    """Put two runs side by side.

    Raises:
        InputError: when they have no flow in common.
    """
    tolerance = tolerance or Tolerance()
    pairs = tuple(_pairs(first, second))
    flows = list(dict.fromkeys(pair.flow for pair in pairs))
    common = {life.flow for life in first.lives.values()} & {life.flow for life in second.lives.values()}
    if not common:
        raise InputError(
            f"{str(first.folder)!r} and {str(second.folder)!r} have no flow in common",
            remedy="name two runs of one scenario",
        )
    classes = tuple(
        _group(name, chosen, tolerance)
        for name in CLASSES
        if (chosen := [pair for pair in pairs if pair.some.service_class == name])
    )
    by_flow = tuple(_group(name, [pair for pair in pairs if pair.flow == name], tolerance) for name in flows)
    only = [sum(group.only[run] for group in classes) for run in (0, 1)]
    beyond = [f"{name}: {what}" for name, what in _doubts(classes)]
    if sum(only) > tolerance.deliveries:
        beyond.insert(0, f"{only[0]} bundles were delivered only in the first run, {only[1]} only in the second")
    return Comparison(
        (first, second),
        tolerance,
        classes,
        by_flow,
        tuple(_volumes(first, second)),
        pairs,
        tuple(sorted(_divergent(pairs, tolerance), key=lambda pair: pair.some.created)),
        tuple(beyond),
    )


def _doubts(classes: Iterable[Group]) -> Iterator[tuple[str, str]]:
    for group in classes:
        for what in group.beyond:
            yield group.name, what


def _offered(run: FinishedRun) -> dict[str, list[str]]:
    """Bundle ids of each flow in order of creation, those that the source refused included."""
    found: dict[str, list[str]] = defaultdict(list)
    seen = set()
    for record in run.records:
        if record.step in {Step.ACCEPTED, Step.REFUSED} and "flow" in record.details and record.bundle not in seen:
            seen.add(record.bundle)
            found[record.details["flow"]].append(record.bundle)
    return found


def _pairs(first: FinishedRun, second: FinishedRun) -> Iterator[Pair]:
    offered = _offered(first), _offered(second)
    for flow in dict.fromkeys([*offered[0], *offered[1]]):
        ids = offered[0].get(flow, []), offered[1].get(flow, [])
        for number in range(max(map(len, ids))):
            one, other = (
                run.lives.get(mine[number]) if number < len(mine) else None
                for run, mine in zip((first, second), ids, strict=True)
            )
            life = one or other
            if life is not None:
                light = (first if one else second).light.between(life.source, life.destination, life.created)
                yield Pair(flow, number, (one, other), life, light)


def _latency(life: Life | None) -> float:
    return math.inf if life is None or life.delivered is None else life.delivered - life.created


def _way(life: Life | None) -> tuple[str, ...]:
    return () if life is None else tuple(node for node, _ in life.hops)


def _group(name: str, pairs: Sequence[Pair], tolerance: Tolerance) -> Group:
    arrived = [[pair for pair in pairs if pair.arrived[run]] for run in (0, 1)]
    latency = [
        tuple(percentile([pair.latencies[run] for pair in arrived[run]], share) for share in SHARES) for run in (0, 1)
    ]
    hops = [_mean(len(pair.ways[run]) - 1 for pair in arrived[run]) for run in (0, 1)]
    both = [pair for pair in pairs if all(pair.arrived)]
    light = _mean(pair.light for pair in pairs)
    beyond = []
    for index, allowed in ((0, tolerance.median), (2, tolerance.p99)):
        apart = abs(latency[1][index] - latency[0][index])
        if math.isfinite(apart) and apart > allowed * light:
            beyond.append(
                f"the {'median' if index == 0 else '99th percentile'} of latency differs by {apart:.3g} s, "
                f"{_share(apart, light)} of light time; {100 * allowed:g} % are allowed"
            )
    return Group(
        name,
        _both(sum(pair.lives[run] is not None for pair in pairs) for run in (0, 1)),
        (len(arrived[0]), len(arrived[1])),
        _both(sum(pair.arrived[run] and not pair.arrived[1 - run] for pair in pairs) for run in (0, 1)),
        light,
        (latency[0], latency[1]),  # type: ignore[arg-type]
        (hops[0], hops[1]),
        _mean(pair.ways[0] == pair.ways[1] for pair in both),
        tuple(beyond),
    )


def _share(seconds: float, light: float) -> str:
    return f"{100 * seconds / light:.3g} %" if light else "infinitely many times"


def _both(values: Iterable[int]) -> tuple[int, int]:
    first, second = values
    return first, second


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else math.nan


def _divergent(pairs: Iterable[Pair], tolerance: Tolerance) -> Iterator[Pair]:
    for pair in pairs:
        apart = abs(pair.latencies[1] - pair.latencies[0]) if all(pair.arrived) else 0.0
        if pair.arrived[0] != pair.arrived[1] or apart > tolerance.p99 * pair.light:
            yield pair


class _Passes:
    """The contacts of each direction, those that follow each other without a gap joined."""

    def __init__(self, plan: ContactPlan) -> None:
        self._plan = plan
        self.of: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for contact in plan.contacts:
            found = self.of.setdefault((contact.source, contact.target), [])
            if found and contact.start <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], contact.end))
            else:
                found.append((contact.start, contact.end))

    def carrying(self, source: str, target: str, received: float) -> tuple[float, float] | None:
        """The contact over which something came that was received at a time; None where the plan has none."""
        passes = self.of.get((source, target))
        if not passes:
            return None
        sent = received - self._plan.owlt(source, target, received)
        return passes[max(bisect_right(passes, (sent, math.inf)) - 1, 0)]


def _volumes(first: FinishedRun, second: FinishedRun) -> Iterator[ContactVolume]:
    """By the first run's plan, in order of direction and time."""
    passes = _Passes(first.plan)
    carried = [_carried(run, passes) for run in (first, second)]
    for (source, target), contacts in passes.of.items():
        for start, end in contacts:
            volume = _both(found[source, target, start] for found in carried)
            if any(volume):
                yield ContactVolume(source, target, start, end, volume)


def _carried(run: FinishedRun, passes: _Passes) -> Counter[tuple[str, str, float]]:
    """Bytes of payload by direction and start of the contact."""
    found: Counter[tuple[str, str, float]] = Counter()
    for record in run.records:
        life = run.lives.get(record.bundle)
        peer = _peer(record)
        if life is not None and peer:
            contact = passes.carrying(peer, record.node, record.time)
            if contact is not None:
                found[peer, record.node, contact[0]] += life.size
    return found


def _peer(record: Record) -> str:
    return str(record.details.get("peer", "")) if record.step == Step.RECEIVED else ""


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as one JSON object; what is no finite number is null."""
    return {
        "holds": comparison.holds,
        "beyond": list(comparison.beyond),
        "tolerance": {
            "deliveries": comparison.tolerance.deliveries,
            "median": comparison.tolerance.median,
            "p99": comparison.tolerance.p99,
        },
        "runs": [
            {"folder": str(run.folder)}
            | {name: run.verdict[name] for name in ("scenario", "world", "rate", "seed", "passed", "ledger_hash")}
            for run in comparison.runs
        ],
        "classes": {group.name: _group_json(group) for group in comparison.classes},
        "flows": {group.name: _group_json(group) for group in comparison.flows},
        "contacts": [
            {"source": c.source, "target": c.target, "start": c.start, "end": c.end, "bytes": list(c.volume)}
            for c in comparison.contacts
        ],
        "divergent": len(comparison.divergent),
        "first_divergent": pair_json(comparison.divergent[0]) if comparison.divergent else None,
    }


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "accepted": list(group.accepted),
        "delivered": list(group.delivered),
        "only_in": list(group.only),
        "light_time": _finite(group.light),
        "latency": {
            name: {
                "seconds": [_finite(group.latency[run][index]) for run in (0, 1)],
                "of_light_time": _finite(group.difference(index)),
            }
            for index, name in enumerate(("p50", "p90", "p99"))
        },
        "hops": [_finite(value) for value in group.hops],
        "same_way": _finite(group.same_way),
        "beyond": list(group.beyond),
    }


def pair_json(pair: Pair) -> dict[str, Any]:
    """One bundle in both runs."""
    return {
        "flow": pair.flow,
        "number": pair.number,
        "created": pair.some.created,
        "bundles": [life.bundle if life else None for life in pair.lives],
        "fates": [life.fate if life else None for life in pair.lives],
        "latency": [_finite(value) for value in pair.latencies],
        "ways": [list(way) for way in pair.ways],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
