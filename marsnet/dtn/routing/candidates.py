"""Cached routes to one destination, in order of arrival, extended on demand.

The list serves bundles of one destination, size class and set of forbidden next hops. It is computed without backlog,
for the highest priority and the smallest size that was asked for, so each route's arrival in it is a lower bound for
every bundle of that size or more at any later time. A bundle's own projected arrival is computed per bundle; once it
is no later than the bound of all routes that follow, the route is the best there is, and nothing need be searched.

Routes beyond the first come from Lawler's partition ("A procedure for computing the K best solutions", 1972) applied
to paths (Yen 1971): each contact of a found route becomes an anchor in turn, what comes before it is kept, and the
best way on without it is a new route. The anchored sets are disjoint, so the order is complete: no route is skipped,
as happens when only the first-ending contact is suppressed.
"""

from __future__ import annotations

from heapq import heappop, heappush

from marsnet.dtn.routing.graph import CacheKey, ContactGraph, Slot
from marsnet.dtn.routing.search import NOTHING, Bundle
from marsnet.plan.types import Contact

_NEVER = float("inf")

_Branch = tuple[float, int, int, tuple[Slot, ...], int, frozenset[Slot] | None, Slot]
"""A route that leaves another: arrival, hops, serial number, slots, anchor, what is left out there, what else is."""


class Path:
    """A cached route.

    Attributes:
        slots: its contacts, with their bookkeeping.
        contacts: the same as the plan states them.
        hops: number of contacts.
        bound: (arrival, hops) that no bundle of the class is better with, on this route or on a later one of the list.
    """

    __slots__ = ("bound", "contacts", "hops", "slots")

    def __init__(self, slots: tuple[Slot, ...], bound: tuple[float, int]) -> None:
        self.slots = slots
        self.contacts: tuple[Contact, ...] = tuple([slot.contact for slot in slots])
        self.bound = bound
        self.hops = len(slots)

    def rank(self, graph: ContactGraph) -> tuple[float, float]:
        """What decides between routes of equal arrival and hops, the lower first (CCSDS 734.3-B-1 3.2.8.1.4).

        Latest end of the first-ending contact (termination time, 2.3.2.1), then lowest ipn number of the next hop.
        """
        return -min([contact.end for contact in self.contacts]), graph.numbers[self.slots[0].target]


class Candidates:
    """The list.

    Attributes:
        key: its key in the router's cache.
        bundle: what it was searched for.
        paths: found so far, in order of arrival.
        bound: (arrival, hops) that no route beyond the list is better than.
        second: (arrival, hops) that no route but the first of the list is better than.
        misses: bundles for which the list proved nothing and a search was made instead.
        horizon: contacts that were added later may improve on arrivals after this time, so the list proves nothing
            there.
    """

    __slots__ = (
        "_branch",
        "_frontier",
        "_graph",
        "_serial",
        "bound",
        "bundle",
        "horizon",
        "key",
        "misses",
        "paths",
        "second",
    )

    def __init__(self, graph: ContactGraph, source: int, now: float, bundle: Bundle, key: CacheKey) -> None:
        self.key, self.bundle = key, bundle
        self.paths: list[Path] = []
        self.horizon = _NEVER
        self.misses = 0
        self._graph = graph
        self._frontier: list[_Branch] = []
        self._branch: tuple[tuple[Slot, ...], int, frozenset[Slot]] | None = None
        self._serial = 0
        self.bound: tuple[float, int] = (_NEVER, 0)
        target, size, priority, shut = bundle
        passed: set[Slot] = set()
        found = graph.net.search(source, now, target, size, priority, False, _NEVER, (), shut, NOTHING, passed)
        self._block(passed)
        if found is not None:
            self._append(found[0], len(found[1]), found[1], 0, NOTHING)
        self.second = self.bound

    def _append(self, arrival: float, hops: int, slots: tuple[Slot, ...], kept: int, without: frozenset[Slot]) -> None:
        """Add a path to the list. What follows it is bounded by it until it is branched."""
        self.paths.append(Path(slots, (arrival, hops)))
        self._branch = (slots, kept, without)
        self.bound = (arrival, hops)

    def tighten(self, now: float) -> bool:
        """Branch the last path, if it is not yet. Returns: whether the bound may have risen."""
        if self._branch is None:
            return False
        slots, kept, without = self._branch
        self._branch = None
        target, size, priority, shut = self.bundle
        passed: set[Slot] = set()
        for branch in self._graph.net.branch(
            slots, now, target, size, priority, shut, without, kept, self._serial, passed
        ):
            heappush(self._frontier, branch)
        self._serial += len(slots)
        self._block(passed)
        self.bound = self._frontier[0][:2] if self._frontier else (_NEVER, 0)
        if len(self.paths) == 1:
            self.second = self.bound
        return True

    def drop_first(self, now: float) -> None:
        """Remove the first path, whose time is over, and have another in its place if there is one."""
        if len(self.paths) == 1:
            self.extend(now)
        del self.paths[0]
        self.misses = 0
        self.second = self.paths[1].bound if len(self.paths) > 1 else self.bound

    def extend(self, now: float) -> bool:
        """Append the next path. Returns: whether there is one."""
        self.tighten(now)
        if not self._frontier:
            return False
        arrival, hops, _, slots, kept, without, but = heappop(self._frontier)
        self._append(arrival, hops, slots, kept, (without or NOTHING) | {but})
        return True

    def _block(self, passed: set[Slot]) -> None:
        for slot in passed:
            slot.blocked.add(self.key)

    def uses(self, slots: set[Slot]) -> bool:
        """Whether a route that was found, listed or not, has one of the contacts."""
        listed = any(not slots.isdisjoint(path.slots) for path in self.paths)
        return listed or any(not slots.isdisjoint(item[3]) for item in self._frontier)
