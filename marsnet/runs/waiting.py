"""How long bundles wait in stores while others pass, and how full the stores get, as the ledger tells."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping

from marsnet.dtn.node.identity import original
from marsnet.dtn.node.ledger import Record, Step
from marsnet.plan.types import ContactPlan
from marsnet.runs.lives import Life
from marsnet.worlds.availability import real_contacts, union
from marsnet.worlds.contents import Contents
from marsnet.worlds.spec import Outcome


def storage_peaks(records: Iterable[Record]) -> dict[str, int]:
    """The most payload bytes that each node's store held at a time; of a fragment, the octets that it carries."""
    contents = Contents()
    peak: dict[str, int] = defaultdict(int)
    for record in sorted(records, key=lambda r: r.time):
        if contents.note(record) is not None:
            peak[record.node] = max(peak[record.node], contents.payload[record.node])
    return dict(peak)


class _Departures:
    """When bundles for a destination left a store, by class, and over which neighbours."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self.peers: set[str] = set()

    def last_of_others(self, service_class: str, after: float, before: float) -> float | None:
        """The last departure of a bundle of another class in an interval."""
        found = None
        for other, times in self.times.items():
            index = bisect_left(times, before) - 1
            if other != service_class and index >= 0 and times[index] > after:
                found = times[index] if found is None else max(found, times[index])
        return found


class _OpenTime:
    """Seconds for which some contact was open, as a function of time."""

    def __init__(self, intervals: list[tuple[float, float]]) -> None:
        self._starts = [start for start, _ in intervals]
        self._intervals = intervals
        self._before = [0.0]
        for start, end in intervals:
            self._before.append(self._before[-1] + end - start)

    def until(self, time: float) -> float:
        """Open seconds before an instant."""
        index = bisect_right(self._starts, time)
        if not index:
            return 0.0
        _, end = self._intervals[index - 1]
        return self._before[index] - max(0.0, end - time)


def starvation(outcome: Outcome, plan: ContactPlan, lives: Mapping[str, Life], service_class: str) -> float | None:
    """The longest that a bundle of a class waited in a store while others passed it by.

    A bundle waits from its arrival in a store to its departure, which is its arrival at the next node less the light
    time. Others pass it by until the last of another class and for the same destination has left ahead of it. Counted
    is the time in which there was a contact to a neighbour that they went to. Fragments have waited since their bundle
    came.

    Returns:
        Seconds, 0 where nobody waited for others; None where there is no bundle of the class.
    """
    departures: dict[tuple[str, str], _Departures] = defaultdict(_Departures)
    waits: list[tuple[str, str, float, float]] = []
    present: dict[tuple[str, str], float] = {}
    came: dict[tuple[str, str], float] = {}
    for record in sorted(outcome.records, key=lambda r: r.time):
        whole = original(record.bundle)[0]
        life = lives.get(whole)
        if life is None:
            continue
        mine = life.service_class == service_class
        if record.step == Step.RECEIVED and (peer := str(record.details["peer"])):
            left = record.time - plan.owlt(peer, record.node, record.time)
            at = departures[peer, life.destination]
            at.times[life.service_class].append(left)
            at.peers.add(record.node)
            if (since := present.pop((peer, record.bundle), None)) is not None:
                waits.append((peer, life.destination, since, left))
        if mine and record.step in (Step.ACCEPTED, Step.RECEIVED):
            present[record.node, record.bundle] = came[record.node, record.bundle] = record.time
        elif mine and record.step == Step.FRAGMENTED:
            cut = record.node, str(record.details["of"])
            present.pop(cut, None)
            came[record.node, record.bundle] = present[record.node, record.bundle] = came.get(cut, record.time)
        elif record.step == Step.REASSEMBLED:
            for place in [p for p in present if p[0] == record.node and original(p[1])[0] == whole]:
                del present[place]
        elif record.step in (Step.DELIVERED, Step.EXPIRED, Step.DROPPED):
            since = present.pop((record.node, record.bundle), None)
            if since is not None and record.step != Step.DELIVERED:
                waits.append((record.node, life.destination, since, record.time))
    if not any(life.service_class == service_class for life in lives.values()):
        return None
    for (node, bundle), since in present.items():
        waits.append((node, lives[original(bundle)[0]].destination, since, outcome.elapsed))
    contacts = real_contacts(plan, outcome.incidents)
    opened = {}
    for key, at in departures.items():
        for times in at.times.values():
            times.sort()
        spans = [(c.start, c.end) for c in contacts if c.source == key[0] and c.target in at.peers]
        opened[key] = _OpenTime(union(spans))
    longest = 0.0
    for node, destination, since, until in waits:
        key = (node, destination)
        if key not in opened:
            continue
        last = departures[key].last_of_others(service_class, since, until)
        if last is not None:
            longest = max(longest, opened[key].until(last) - opened[key].until(since))
    return longest
