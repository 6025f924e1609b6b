"""Earliest arrival over the contact graph, for a bundle of a given size.

Transmission, light time and waiting never let a later departure arrive earlier, so a label-setting search over nodes
is exact (Dijkstra; CCSDS 734.3-B-1 section 3.2.4 runs it over contacts, with the same result). Unlike the book's
search, which ignores size and checks volume afterwards, this one uses the time that the bundle itself needs on each
contact and passes by contacts that cannot take it. Labels are ordered by arrival, then by hops: a node keeps a later
label if it took fewer hops, because waiting for a common contact can make both arrive together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Never

from marsnet.dtn.routing.graph import ContactGraph, Slot
from marsnet.dtn.routing.native import project

_NEVER = float("inf")
NOTHING: frozenset[Never] = frozenset()
"""Empty, where a search wants a set."""


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
    found = graph.net.search(
        node, time, target, size, priority, loaded, goal, tuple(closed), shut, frozenset(without), passed
    )
    return None if found is None else Found(found[0], len(found[1]), found[1])


def opportunity(first: Slot, priority: int, now: float) -> float:
    """Earliest transmission opportunity on a contact of this node (CCSDS 734.3-B-1 section 3.2.6.2).

    What waits for the contact itself is known booking by booking, so the book's estimate of the backlog that earlier
    contacts relieve is not needed.
    """
    return max(now, first.start) + first.pending[priority] * first.pace


def capacity(slots: tuple[Slot, ...], start: float, limit: int, priority: int, expires: float) -> int:
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
