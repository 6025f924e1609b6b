"""Schedule-aware bundle routing (CCSDS 734.3-B-1) at one node."""

from __future__ import annotations

from marsnet.dtn.routing.api import PRIORITIES, Booking, Decision, Forward, NoRoute, Reason, RouteRequest
from marsnet.dtn.routing.base import PlannedRouter
from marsnet.dtn.routing.candidates import Candidates, Path
from marsnet.dtn.routing.graph import SABR_MARGIN, CacheKey, Change, Margin, Slot
from marsnet.dtn.routing.native import depart, project
from marsnet.dtn.routing.search import NOTHING, Bundle, Origin, capacity, opportunity, search
from marsnet.plan.types import Contact, ContactPlan

_NEVER = float("inf")
_MAX_PATHS = 16
"""Cached routes examined for a bundle before one exact search is cheaper."""
_PATIENCE = 3
"""Searches made in place of branching a list's routes."""
_MAX_ENTRIES = 10_000
"""Cached lists of routes."""

_NO_TIMES = (_NEVER, _NEVER)

_Choice = tuple[tuple[float, float], tuple[Slot, ...], tuple[Contact, ...]]
"""Start and arrival, the route with and without its bookkeeping."""


class SabrRouter(PlannedRouter):
    """The route of the earliest projected arrival for every bundle, with its volume booked on every contact.

    Args:
        node: name of this node.
        plan: contacts and ranges.
        margin: added to the light time of every hop.
        copies: how many disjoint routes a critical bundle takes at most.

    Raises:
        InputError: when a contact of the plan has no range.
    """

    def __init__(self, node: str, plan: ContactPlan, *, margin: Margin = SABR_MARGIN, copies: int = 2) -> None:
        super().__init__(node, plan, margin)
        self._copies = copies
        # None marks a key that was asked for once: a list is worth building from the second time on.
        self._cache: dict[CacheKey, Candidates | None] = {}
        # Destination, previous hop, excluded: without any route until a contact is added, whatever is released.
        self._hopeless: set[tuple[str, str | None, frozenset[str]]] = set()
        self._latest = -_NEVER

    def route(self, bundle: RouteRequest, now: float) -> Decision:
        """Decide and book.

        Raises:
            InputError: when the size is not positive or the priority is none of 0..3.
        """
        destination, size, priority, expires, previous_hop, excluded, avoided, critical, key = bundle
        if key is not None:
            self._ledger.release_key(key)
        if self._ledger.freed:
            self._forget_freed()
        if now < self._latest:
            # Whatever is remembered holds from then on only.
            self._cache.clear()
            self._hopeless.clear()
        self._latest = now
        entry_key = (destination, size.bit_length() >> 2, previous_hop, excluded)
        entry = self._cache.get(entry_key)
        times = _NO_TIMES
        if entry is not None and entry.paths and 0 <= priority < PRIORITIES and not critical and not avoided:
            path = entry.paths[0]
            start, arrival = times = depart(path.slots, now, size, priority)
            if (
                size >= entry.bundle.size
                and arrival <= expires
                and arrival <= entry.horizon
                and (arrival, path.hops) <= entry.second
            ):
                route = path.contacts
                booking, displaced = self._ledger.book(key, size, priority, route, path.slots, now)
                return [Forward(route[0].target, route[0], start, arrival, route, booking, displaced)]
        # A destination that was asked for before has been looked at.
        asked = entry is not None or entry_key in self._cache
        if not asked or expires <= now or size <= 0 or not 0 <= priority < PRIORITIES:
            obstacle = self._admit(bundle, now)
            if obstacle is not None:
                return obstacle
        if self._hopeless and (destination, previous_hop, excluded) in self._hopeless:
            return NoRoute(Reason.UNREACHABLE)
        if critical:
            return self.routes_disjoint(bundle, self._copies, now) or self._explain(bundle, now)
        # Few bundles avoid anything, and each something else.
        choice = self._search(bundle, now) if avoided else self._choose(bundle, entry_key, asked, times, now)
        if choice is None or choice[0][1] > expires:
            return self._explain(bundle, now)
        (start, arrival), slots, route = choice
        booking, displaced = self._ledger.book(key, size, priority, route, slots, now)
        return [Forward(route[0].target, route[0], start, arrival, route, booking, displaced)]

    def routes_disjoint(self, bundle: RouteRequest, count: int, now: float) -> list[Forward]:
        """Book up to `count` routes that share neither a link nor, where possible, a node between the ends.

        Each is the earliest that avoids those before it (greedy: this need not find the largest set that exists).
        Routes that share nodes but no link are taken only when no route avoids the nodes. Routes that arrive too late
        are left out. Live bookings of the bundle's key are released first.
        """
        chosen: list[Forward] = []
        if self._admit(bundle, now) is not None:
            return chosen
        request = self._request(bundle, bundle.size)
        avoided = self._avoided(bundle)
        closed: set[int] = set()
        here = self._graph.index[self._node]
        while len(chosen) < count:
            found = search(self._graph, Origin(here, now, (*avoided, *closed)), request, loaded=True)
            if found is None or found.arrival > bundle.expires:
                if not closed:
                    break
                closed = set()
                continue
            route = tuple(slot.contact for slot in found.slots)
            times = (opportunity(found.slots[0], bundle.priority, now), found.arrival)
            chosen.append(self._book(bundle, route, found.slots, times, now))
            closed |= {slot.target for slot in found.slots[:-1]}
            request = request._replace(shut=request.shut | {(slot.source, slot.target) for slot in found.slots})
        return sorted(chosen, key=lambda forward: forward.arrival)

    def update(self, plan: ContactPlan, now: float) -> list[Booking]:
        """Take a new plan. Returns: live bookings with a contact that changed or vanished, void.

        Cached routes survive when none of their contacts vanished, and hold for arrivals before the first contact that
        is new or has a new light time.
        """
        numbers = self._graph.numbers
        change = self._graph.load(plan, now)
        if numbers != self._graph.numbers[: len(numbers)]:
            self._cache.clear()
        return self._apply(change)

    def _choose(
        self, bundle: RouteRequest, key: CacheKey, asked: bool, times: tuple[float, float], now: float
    ) -> _Choice | None:
        """The best route, regardless of expiry.

        Args:
            bundle: what.
            key: where its list is remembered.
            asked: whether it was asked for before.
            times: its start and arrival on the first route of the list; infinite when it does not fit or there is none.
            now: seconds.
        """
        if not asked:
            if len(self._cache) >= _MAX_ENTRIES:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = None
            return self._search(bundle, now)
        entry = self._cache[key]
        if entry is None or bundle.size < entry.bundle.size:
            entry = self._build(bundle, bundle.size, key, now)
            times = _NO_TIMES
        elif times[1] == _NEVER and entry.paths and self._over(entry, now):
            # When its first contact has ended the next of the list usually serves. But a contact that is full can be
            # part of very many routes, which a new search passes by at once.
            if entry.paths[0].slots[0].stop <= now:
                entry.drop_first(now)
            if entry.paths and self._over(entry, now):
                entry = self._build(bundle, entry.bundle.size, key, now)
        choice = self._select(entry, bundle, times, now)
        if entry.horizon < (_NEVER if choice is None else choice[0][1]):
            entry = self._build(bundle, entry.bundle.size, key, now)
            return self._select(entry, bundle, _NO_TIMES, now)
        return choice

    def _select(
        self, entry: Candidates, bundle: RouteRequest, first: tuple[float, float], now: float
    ) -> _Choice | None:
        """The best of a list for one bundle, extending the list until nothing beyond it can be better."""
        size, priority = bundle.size, bundle.priority
        best: Path | None = None
        times = top = (_NEVER, 0.0)
        position = 0
        while True:
            if position < len(entry.paths):
                if top <= entry.paths[position].bound:
                    break
            elif top <= entry.bound:
                break
            elif position >= _MAX_PATHS or (position and entry.misses < _PATIENCE):
                # Branching costs as many searches as the route has hops: worth it only if it is needed again and again.
                entry.misses += 1
                found = self._search(bundle, now, top[0])
                if found is not None:
                    return found
                break
            elif position and entry.tighten(now):
                continue
            elif not entry.extend(now):
                break
            path = entry.paths[position]
            these = first if not position and first[1] < _NEVER else depart(path.slots, now, size, priority)
            position += 1
            this = (these[1], path.hops)
            if this < top or (this == top and best and path.rank(self._graph) < best.rank(self._graph)):
                best, top, times = path, this, these
        return None if best is None else (times, best.slots, best.contacts)

    def _search(self, bundle: RouteRequest, now: float, goal: float = _NEVER) -> _Choice | None:
        """The best route, which arrives at `goal` or before, where there is such a route."""
        size, priority = bundle.size, bundle.priority
        index = self._graph.index
        here, target = index[self._node], index[bundle.destination]
        shut = self._shut(bundle) if bundle.excluded or bundle.previous_hop is not None else NOTHING
        closed = self._avoided(bundle) if bundle.avoided else ()
        found = self._graph.net.search(here, now, target, size, priority, True, goal, closed, shut, NOTHING, None)
        if found is None:
            return None
        arrival, slots, route = found
        return (opportunity(slots[0], priority, now), arrival), slots, route

    def _build(self, bundle: RouteRequest, size: float, key: CacheKey, now: float) -> Candidates:
        # The highest priority has the most volume left, so what holds for it bounds all others.
        request = Bundle(self._graph.index[bundle.destination], size, 0, self._shut(bundle))
        entry = Candidates(self._graph, self._graph.index[self._node], now, request, key)
        self._cache[key] = entry
        return entry

    def _over(self, entry: Candidates, now: float) -> bool:
        """Whether the first route of a list is over or full for every bundle that the list serves."""
        slots, size = entry.paths[0].slots, entry.bundle.size
        return project(slots, max(now, slots[0].start), size, entry.bundle.priority) is None

    def _request(self, bundle: RouteRequest, size: float) -> Bundle:
        """The request in node indices."""
        return Bundle(self._graph.index[bundle.destination], size, bundle.priority, self._shut(bundle))

    def _shut(self, bundle: RouteRequest) -> frozenset[tuple[int, int]]:
        """The neighbours that are no next hop, each with this node, as node indices."""
        index = self._graph.index
        here = index[self._node]
        barred = bundle.excluded if bundle.previous_hop is None else bundle.excluded | {bundle.previous_hop}
        return frozenset([(here, index[name]) for name in barred if name in index])

    def _avoided(self, bundle: RouteRequest) -> tuple[int, ...]:
        """The nodes in between that a route must not visit."""
        index = self._graph.index
        return tuple(index[name] for name in sorted(bundle.avoided - {bundle.destination}) if name in index)

    def _explain(self, bundle: RouteRequest, now: float) -> NoRoute:
        """Why nothing arrives in time, and how much would."""
        request = self._request(bundle, 0.0)
        origin = Origin(self._graph.index[self._node], now, self._avoided(bundle))
        passed: set[Slot] = set()
        empty = search(self._graph, origin, request, loaded=False, passed=passed)
        if empty is None and not passed and not bundle.avoided:
            if len(self._hopeless) >= _MAX_ENTRIES:
                self._hopeless.clear()
            self._hopeless.add((bundle.destination, bundle.previous_hop, bundle.excluded))
        if empty is None:
            return NoRoute(Reason.UNREACHABLE if all(slot.down for slot in passed) else Reason.VOLUME)
        if empty.arrival > bundle.expires:
            return NoRoute(Reason.LATE)
        reason = Reason.VOLUME if self._search(bundle, now) is None else Reason.LATE
        found = search(self._graph, origin, request._replace(size=1.0), loaded=True)
        if found is None or found.arrival > bundle.expires:
            return NoRoute(reason)
        start = opportunity(found.slots[0], bundle.priority, now)
        return NoRoute(reason, capacity(found.slots, start, bundle.size, bundle.priority, bundle.expires))

    def _apply(self, change: Change) -> list[Booking]:
        void = super()._apply(change)
        self._withdraw(set(change.gone))
        if change.opened < _NEVER:
            self._hopeless.clear()
        for entry in self._cache.values():
            if entry is not None:
                entry.horizon = min(entry.horizon, change.opened)
        return void

    def _withdraw(self, slots: set[Slot]) -> None:
        """Forget the cached lists in which a route uses one of the contacts."""
        if slots:
            for key in [key for key, entry in self._cache.items() if entry is not None and entry.uses(slots)]:
                del self._cache[key]

    def _forget_freed(self) -> None:
        for key in self._ledger.collect():
            self._cache.pop(key, None)
