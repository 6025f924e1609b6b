"""Which way bundles take from a node: routes, the legs that they are, and what has none."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.contacts import FIRST_RETRY
from marsnet.dtn.node.layer import Layer
from marsnet.dtn.node.limbo import Limbo
from marsnet.dtn.node.queues import ClassQueue, Held, Leg
from marsnet.dtn.node.returning import Ways, doubtful
from marsnet.dtn.routing import Booking, Decision, Forward, NoRoute, Reason, Router, RouteRequest

LEAVING = 32
"""Octets that a bundle grows by at most when it leaves: previous node, hop count, age, copies."""
SMALL = 1024
"""Octets: parts are not told apart more finely when a size is sought that has a route."""
AT_ONCE = 500
"""Bundles whose way is decided again between two looks at what came in."""
_WAITS = NoRoute(Reason.UNREACHABLE)
"""A bundle that came back, and has no other way for now."""


class BundleWays:
    """The bundles of one node that are to go on, and their ways.

    Attributes:
        held: all of them, by their keys in the store.
        router: decides the next hops.
        layers: the convergence layer by neighbour.
        keeps_copies: whether a bundle stays after neighbours have taken it, for others that come by.
        stored: bundles and octets held, by class.
        cut: is called with a bundle of which no more than so many octets can go: True when fragments take its place.
        give_up: is called with a bundle that has no route, and why: True when it was deleted.
    """

    def __init__(self, router: Router, layers: Mapping[str, Layer], *, expansion: float, keeps_copies: bool) -> None:
        """Prepare; see `Forwarder`."""
        self.held: dict[int, Held] = {}
        self.router = router
        self.layers: dict[str, Layer] = dict(layers)
        self.stored = {service_class: [0, 0] for service_class in ServiceClass}
        self.keeps_copies = keeps_copies
        self.cut: Callable[[Held, int, float], bool] = lambda held, size, now: False
        self.give_up: Callable[[Held, Reason | None, float], bool] = lambda held, reason, now: False
        self._expansion = expansion
        self._queues = {name: ClassQueue() for name in self.layers}
        self._unsent: dict[str, int] = dict.fromkeys(self.layers, 0)
        self._flying: dict[str, dict[Leg, None]] = {name: {} for name in self.layers}
        self._booked: dict[Booking, Leg] = {}
        self._named: dict[str, Held] = {}
        """Bundles that a layer has in hand, by their ids."""
        self._limbo = Limbo()
        self._ways = Ways()
        self._pardons: list[tuple[float, int, str]] = []
        """When a neighbour that declined a bundle is offered it again, or one that came back may go as it went."""

    @property
    def unroutable(self) -> int:
        """Bundles that have no route."""
        return sum(not held.taken for held in self._limbo)

    def hold(self, held: Held) -> None:
        """A bundle has come into the store."""
        if held.key not in self.held:
            self._account(held, 1)
        self.held[held.key] = held
        self._ways.came_back(held.bundle, held.previous_hop)

    def release(self, held: Held) -> None:
        """A bundle is here no more."""
        if self.held.pop(held.key, None) is not None:
            self._account(held, -1)
        self._limbo.discard(held)

    def _account(self, held: Held, sign: int) -> None:
        account = self.stored[held.priority]
        account[0] += sign
        account[1] += sign * held.size

    # Routes

    def route(self, held: Held, now: float) -> None:
        """Decide a bundle's ways and put it into queues, or aside where there is none."""
        self._limbo.discard(held)
        for leg in [leg for leg in held.legs if leg.handle is None]:
            self._drop(leg)
        if held.members:
            self._route_group(held, now)
            return
        if not held.copies:
            return
        decision = self._ask(held, held.destination, now)
        if isinstance(decision, NoRoute):
            if not held.legs:
                self._stuck(held, decision, now)
            return
        chosen = decision if self.keeps_copies else decision[: held.copies]
        for forward in decision[len(chosen) :]:
            self.router.release(forward.booking)
        displaced = [booking for forward in decision for booking in forward.displaced]
        if self._fit(held, chosen, now):
            share, extra = divmod(held.copies, len(chosen))
            for number, forward in enumerate(chosen):
                leg = self._lead(held, forward)
                if not self.keeps_copies:
                    leg.copies = share + (number < extra)
                    held.copies -= leg.copies
        self.displace(displaced, now)

    def _request(self, held: Held, destination: str, size: int = 0) -> RouteRequest:
        excluded = held.refused | {leg.neighbour for leg in held.legs} | held.taken
        return RouteRequest(
            destination,
            math.ceil((size or held.size) * self._expansion),
            int(held.priority),
            held.expires,
            previous_hop=held.previous_hop,
            excluded=frozenset(held.refused if held.members else excluded),
            critical=held.copies > 1 and not held.members,
            avoided=frozenset() if held.members else self._ways.avoided(held.bundle),
        )

    def _ask(self, held: Held, destination: str, now: float, size: int = 0) -> Decision:
        request = self._request(held, destination, size)
        if request.avoided:
            decision = self.router.route(request, now)
            if not isinstance(decision, NoRoute):
                return decision
            if not self._ways.pardon(held.bundle, now):
                until = self._ways.wait(held.bundle, now, held.expires)
                if until is not None:
                    heapq.heappush(self._pardons, (until, held.key, ""))
                return _WAITS
        return self.router.route(request._replace(avoided=frozenset()), now)

    def _lead(self, held: Held, forward: Forward) -> Leg:
        leg = Leg(held, forward.neighbour, forward.booking, doubtful(forward.route))
        held.legs += (leg,)
        self._booked[forward.booking] = leg
        self._queues[forward.neighbour].push(leg)
        return leg

    def _fit(self, held: Held, forwards: list[Forward], now: float) -> bool:
        """Whether every neighbour takes bundles of this size; otherwise the bundle is cut, or goes other ways."""
        for forward in forwards:
            limit = self.layers[forward.neighbour].max_bundle(forward.neighbour)
            if limit is None or held.size + LEAVING <= limit:
                continue
            for other in forwards:
                self.router.release(other.booking)
            if not self.cut(held, limit, now):
                held.too_large = True
                self._decline(held, forward.neighbour, now)
                self.route(held, now)
            return False
        return True

    def _stuck(self, held: Held, decision: NoRoute, now: float) -> None:
        """Nothing takes the bundle as it is: cut it, give it up, or keep it until something changes."""
        if decision is _WAITS:
            self._limbo.put(held)
            return
        if self._cut_to_fit(held, held.destination, decision, now):
            return
        if not self.give_up(held, decision.reason, now):
            self._limbo.put(held)

    def _cut_to_fit(self, held: Held, destination: str, decision: NoRoute, now: float) -> bool:
        """Put fragments in the place of a bundle that only its size keeps from a route; whether there are any."""
        if held.whole or held.taken or held.legs or decision.reason not in (Reason.VOLUME, Reason.LATE):
            return False
        size = int(decision.fits / self._expansion)
        if size and self.cut(held, size, now):
            return True
        size = self._largest(held, destination, now)
        return bool(size) and self.cut(held, size, now)

    def _largest(self, held: Held, destination: str, now: float) -> int:
        """About the largest part of a bundle that has a route; 0 when not even a small one has."""
        low, high = 0, held.size
        while high - low > max(SMALL, held.size // 64):
            middle = (low + high) // 2
            decision = self._ask(held, destination, now, middle)
            if isinstance(decision, NoRoute):
                high = middle
                continue
            low = middle
            for forward in decision:
                self.router.release(forward.booking)
            self.displace([booking for forward in decision for booking in forward.displaced], now)
        return low

    def _route_group(self, held: Held, now: float) -> None:
        """One copy to each neighbour that leads to nodes of the group; the neighbour is responsible for those then."""
        unreached = held.members.difference(*(leg.serves for leg in held.legs))
        displaced: list[Booking] = []
        for member in sorted(unreached):
            decision = self._ask(held, member, now)
            if isinstance(decision, NoRoute):
                if self._cut_to_fit(held, member, decision, now):
                    return
                self._limbo.put(held)
                continue
            forward = decision[0]
            for other in decision[1:]:
                self.router.release(other.booking)
            displaced += [booking for each in decision for booking in each.displaced]
            same = next((leg for leg in held.legs if leg.neighbour == forward.neighbour), None)
            if same is None and forward.neighbour not in held.taken:
                self._lead(held, forward).serves = frozenset((member,))
                continue
            self.router.release(forward.booking)
            if same is not None:
                same.serves |= {member}
            else:
                held.members -= {member}
        self.displace(displaced, now)

    def displace(self, bookings: Iterable[Booking], now: float) -> None:
        """Bookings came back void: route again what has not begun to leave."""
        for booking in bookings:
            leg = self._booked.pop(booking, None)
            if leg is None:
                continue
            leg.booking = None
            if leg.queued:
                self._drop(leg)
                self.route(leg.held, now)

    def park(self, held: Held) -> None:
        """A bundle is here again; it gets a route when something changes."""
        self.hold(held)
        self._limbo.put(held)

    def retry_limbo(self, now: float) -> None:
        """Something has changed: what has no route may have one."""
        self._limbo.mark(self._limbo)
        self._reconsider(now)

    def _reconsider(self, now: float) -> None:
        """Decide again the ways of some of the bundles that news may concern; `advance` goes on with the others."""
        for held in self._limbo.take(AT_ONCE):
            if self.held.get(held.key) is held:
                self.route(held, now)

    def remove(self, held: Held, now: float) -> None:
        """A bundle's life ends here: take it out of queues, bookings and layers."""
        self.release(held)
        for leg in list(held.legs):
            handle, layer = leg.handle, self.layers.get(leg.neighbour)
            self._drop(leg)
            if handle is not None and layer is not None:
                layer.cancel(handle, now)

    def _drop(self, leg: Leg) -> None:
        """A leg is over, whatever its layer still says of it."""
        leg.done = True
        self._unbook(leg, used=False)
        self._queues[leg.neighbour].remove(leg)
        held, flying = leg.held, self._flying[leg.neighbour]
        if leg in held.legs:
            held.legs = tuple(other for other in held.legs if other is not leg)
            if not self.keeps_copies:
                held.copies += leg.copies
        if leg in flying:
            del flying[leg]
            if not leg.sent:
                self._unsent[leg.neighbour] -= held.size
            if self._named.get(held.bundle) is held and all(other.handle is None for other in held.legs):
                del self._named[held.bundle]

    def _unbook(self, leg: Leg, *, used: bool) -> None:
        if leg.booking is not None:
            self._booked.pop(leg.booking, None)
            (self.router.consume if used else self.router.release)(leg.booking)
            leg.booking = None

    def _decline(self, held: Held, neighbour: str, now: float) -> None:
        held.refused |= {neighbour}
        heapq.heappush(self._pardons, (now + FIRST_RETRY, held.key, neighbour))
