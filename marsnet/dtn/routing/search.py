"""Earliest arrival over the contact graph, for a bundle of a given size.

Transmission, light time and waiting never let a later departure arrive earlier, so a label-setting search over nodes
is exact (Dijkstra; CCSDS 734.3-B-1 section 3.2.4 runs it over contacts, with the same result). Unlike the book's
search, which ignores size and checks volume afterwards, this one uses the time that the bundle itself needs on each
contact and passes by contacts that cannot take it. Labels are ordered by arrival, then by hops: a node keeps a later
label if it took fewer hops, because waiting for a common contact can make both arrive together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from marsnet.dtn.routing.graph import ContactGraph, Slot

_FAR = 1 << 30
_NEVER = float("inf")

Chain = tuple[Slot, "Chain | None"]
"""The contacts of a label, last first."""


class Bundle(NamedTuple):
    """What a search needs of a bundle.

    Attributes:
        target: node index of the destination.
        size: bytes.
        priority: 0..3.
        shut: (transmitter, receiver) pairs of node indices that it must not use.
    """

    target: int
    size: float
    priority: int
    shut: frozenset[tuple[int, int]] = frozenset()


class Origin(NamedTuple):
    """Where a search begins.

    Attributes:
        node: node index.
        time: when the bundle is there, seconds.
        closed: node indices that the route must not visit.
        without: contacts that must not be the next one.
    """

    node: int
    time: float
    closed: Sequence[int] = ()
    without: Collection[Slot] = ()


class Found(NamedTuple):
    """The best route.

    Attributes:
        arrival: of the last byte, margins included.
        hops: number of contacts.
        slots: the contacts, in order.
    """

    arrival: float
    hops: int
    slots: tuple[Slot, ...]


def search(
    graph: ContactGraph,
    origin: Origin,
    bundle: Bundle,
    *,
    loaded: bool,
    passed: set[Slot] | None = None,
    goal: float = _NEVER,
) -> Found | None:
    """The route of the earliest arrival, and among those of the fewest hops.

    Args:
        graph: the contacts.
        origin: where and when.
        bundle: what.
        loaded: whether bytes that wait for a contact of the origin go first (the backlog of CCSDS 734.3-B-1 3.2.6.2).
        passed: collects the contacts that were left out because they lack volume or are down.
        goal: an arrival that is known to be possible; what leads to later ones is not looked at.
    """
    node, time, closed, without = origin
    target, size, priority, shut = bundle
    lanes, count = graph.lanes, len(graph.names)
    settled = [_FAR] * count
    for closed_node in closed:
        settled[closed_node] = -1
    reached = [_NEVER] * count
    reached_hops = [_FAR] * count
    heap: list[tuple[float, int, int, int, Chain | None]] = []
    hops, serial = 0, 0
    chain: Chain | None = None
    while True:
        settled[node] = hops
        step = hops + 1
        for to, ends, slots in lanes[node]:
            if settled[to] <= step or (shut and (node, to) in shut):
                continue
            for position in range(bisect_right(ends, time), len(slots)):
                slot = slots[position]
                leaves = slot.start
                if leaves > goal:
                    break
                leaves = time if time > leaves else leaves
                if not hops:
                    if slot in without:
                        continue
                    if loaded:
                        leaves += slot.pending[priority] * slot.pace
                leaves += size * slot.pace
                if leaves > slot.stop:
                    continue
                if slot.down or slot.free[priority] < size:
                    if passed is not None:
                        passed.add(slot)
                    continue
                arrival = slot.base + slot.slope * leaves if slot.steps is None else slot.arrival(leaves)
                if arrival <= goal and (arrival < reached[to] or step < reached_hops[to]):
                    if arrival <= reached[to]:
                        reached[to], reached_hops[to] = arrival, step
                    if to == target:
                        goal = arrival
                    serial += 1
                    heappush(heap, (arrival, step, serial, to, (slot, chain)))
                break
        while heap:
            time, hops, _, node, chain = heappop(heap)
            if settled[node] > hops:
                break
        else:
            return None
        if node == target:
            return Found(time, hops, unwind(chain))


def unwind(chain: Chain | None) -> tuple[Slot, ...]:
    """The contacts of a chain in the order of travel."""
    slots = []
    while chain is not None:
        slot, chain = chain
        slots.append(slot)
    return tuple(reversed(slots))


def opportunity(first: Slot, priority: int, now: float) -> float:
    """Earliest transmission opportunity on a contact of this node (CCSDS 734.3-B-1 section 3.2.6.2).

    What waits for the contact itself is known booking by booking, so the book's estimate of the backlog that earlier
    contacts relieve is not needed.
    """
    return max(now, first.start) + first.pending[priority] * first.pace


def project(slots: Sequence[Slot], start: float, size: float, priority: int) -> float | None:
    """Projected arrival of the last byte (CCSDS 734.3-B-1 section 3.2.6.7); None when a contact cannot take it.

    Args:
        slots: the route.
        start: when the first byte leaves.
        size: bytes.
        priority: 0..3.
    """
    time = start
    for slot in slots:
        begin = slot.start
        time = (time if time > begin else begin) + size * slot.pace
        if time > slot.stop or slot.free[priority] < size:
            return None
        time = slot.base + slot.slope * time if slot.steps is None else slot.arrival(time)
    return time


def capacity(slots: Sequence[Slot], start: float, limit: int, priority: int, expires: float) -> int:
    """The most bytes, up to `limit`, that a route takes in one bundle before it expires."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        arrival = project(slots, start, middle, priority)
        if arrival is not None and arrival <= expires:
            low = middle
        else:
            high = middle - 1
    return low
