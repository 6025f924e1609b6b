"""Which way bundles leave a node and when: routes, queues, and the convergence layers that carry them."""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.carriage import Carriage
from marsnet.dtn.node.contacts import FIRST_RETRY, Contacts
from marsnet.dtn.node.layer import Layer
from marsnet.dtn.node.limbo import Limbo
from marsnet.dtn.node.queues import ClassQueue, Held, Leg
from marsnet.dtn.node.returning import Ways, doubtful
from marsnet.dtn.recipe import Rope
from marsnet.dtn.routing import Booking, Decision, Forward, NoRoute, Reason, Router, RouteRequest
from marsnet.plan.types import ContactPlan

log = logging.getLogger(__name__)
LEAVING = 32
"""Octets that a bundle grows by at most when it leaves: previous node, hop count, age, copies."""
SMALL = 1024
"""Octets: parts are not told apart more finely when a size is sought that has a route."""
AT_ONCE = 500
"""Bundles whose way is decided again between two looks at what came in."""
TRIALS = 64
"""Bundles that are asked whether they lead to a silent neighbour, when one is sought to try it with."""
_WAITS = NoRoute(Reason.UNREACHABLE)
"""A bundle that came back, and has no other way for now."""
Fetch = Callable[[Leg, float], bytes | Rope | None]
"""The octets of a bundle as they leave now for the leg's neighbour; None when it must not leave."""


class Forwarder:
    """The bundles of one node that are to go on.

    Attributes:
        held: all of them, by their keys in the store.
        router: decides the next hops.
        contacts: when neighbours can be reached.
        layers: the convergence layer by neighbour.
        carriage: what passed between this node and each neighbour; under an empty name, unknown senders.
        stored: bundles and octets held, by class.
        cut: is called with a bundle of which no more than so many octets can go: True when fragments take its place.
        give_up: is called with a bundle that has no route, and why: True when it was deleted.
    """

    def __init__(
        self,
        router: Router,
        contacts: Contacts,
        layers: Mapping[str, Layer],
        fetch: Fetch,
        *,
        rate: float = 1.0,
        expansion: float = 1.0,
        keeps_copies: bool = False,
    ) -> None:
        """Prepare.

        Args:
            router: decides the next hops.
            contacts: when neighbours can be reached.
            layers: how, by neighbour.
            fetch: called when a bundle is about to leave.
            rate: mission seconds per host second.
            expansion: octets on the wire for each octet of a bundle, headers of the layers below included.
            keeps_copies: whether a bundle stays after neighbours have taken it, for others that come by.
        """
        self.held: dict[int, Held] = {}
        self.router, self.contacts = router, contacts
        self.layers: dict[str, Layer] = dict(layers)
        self.carriage = {name: Carriage() for name in ("", *self.layers)}
        self.stored = {service_class: [0, 0] for service_class in ServiceClass}
        self.keeps_copies = keeps_copies
        self.cut: Callable[[Held, int, float], bool] = lambda held, size, now: False
        self.give_up: Callable[[Held, Reason | None, float], bool] = lambda held, reason, now: False
        self._fetch, self._rate, self._expansion = fetch, rate, expansion
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
        self._rates: dict[str, float] = {}

    def begin(self, now: float) -> None:
        """Tell the layers which contacts are open."""
        for name, layer in self.layers.items():
            rate = self.contacts.planned_rate(name, now)
            if rate != self._rates.get(name, 0.0):
                if rate and not self._rates.get(name):
                    self.carriage[name].contact_opened()
                log.info("contact", extra={"neighbour": name, "rate": rate, "mission_time": now})
                self._rates[name] = rate
                layer.contact(name, rate, now)

    @property
    def unroutable(self) -> int:
        """Bundles that have no route."""
        return sum(not held.taken for held in self._limbo)

    def queues(self) -> Iterator[tuple[str, Layer, ClassQueue, int, int]]:
        """Each neighbour, its layer, what waits for it, and bundles and octets that the layer has in hand."""
        for name, queue in self._queues.items():
            yield name, self.layers[name], queue, len(self._flying[name]), self._unsent[name]

    def timers(self) -> dict[str, int]:
        """How many deadlines there are, by what they are for."""
        return {**self.contacts.timers(), "pardon": len(self._pardons)}

    def next_deadline(self, now: float) -> float | None:
        """Mission time of the next thing to do without input; None when there is none."""
        candidates = [self.contacts.next_deadline()]
        if self._pardons:
            candidates.append(self._pardons[0][0])
        if self._limbo.marked:
            candidates.append(now)
        return min((c for c in candidates if c is not None), default=None)

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

    # What the layers say

    def on_sent(self, leg: Leg) -> None:
        """All of a leg has left."""
        if not leg.sent:
            leg.sent = True
            self._unsent[leg.neighbour] -= leg.held.size
            self.carriage[leg.neighbour].leave(leg.held.size)
        self._unbook(leg, used=True)

    def on_taken(self, leg: Leg, now: float) -> None:
        """The neighbour has the bundle. Without effect on it when it has come back since: that copy counts."""
        self.on_sent(leg)
        self.carriage[leg.neighbour].take(leg.held.priority, leg.held.size, now - leg.held.since)
        if not leg.returned:
            leg.copies = 0
            leg.held.taken |= {leg.neighbour}
            leg.held.members -= leg.serves
            self._ways.went(leg.held.bundle, leg.neighbour, leg.relay)
        else:
            self._ways.fail(leg.held.bundle, leg.relay)
        self._drop(leg)

    def on_returned(self, leg: Leg, now: float, reason: str, *, refused: bool) -> None:
        """A leg comes back from its layer undelivered; `refused` when the neighbour does not want this bundle."""
        self.carriage[leg.neighbour].returned[reason] += 1
        self._drop(leg)
        if refused:
            self._decline(leg.held, leg.neighbour, now)

    def _decline(self, held: Held, neighbour: str, now: float) -> None:
        held.refused |= {neighbour}
        heapq.heappush(self._pardons, (now + FIRST_RETRY, held.key, neighbour))

    def came_back(self, bundle: str, peer: str | None) -> None:
        """A bundle has come again while a neighbour has yet to confirm it: whoever sent it deletes its own copy."""
        held = self._named.get(bundle)
        if held is None or held.members:
            return
        for leg in held.legs:
            if leg.handle is not None:
                leg.returned, held.previous_hop = True, peer

    # Neighbours that fail and come back

    def failed(self, neighbour: str, now: float, *, retries: bool) -> None:
        """A neighbour does not answer over a contact that should be open: avoid it."""
        log.info("neighbour does not answer", extra={"neighbour": neighbour, "mission_time": now})
        self.contacts.failed(neighbour, now, retries=retries)
        self.displace(self.router.contact_failed(neighbour, now), now)

    def heard(self, neighbour: str, now: float) -> bool:
        """A neighbour has sent something: it is there. Returns whether that is news."""
        if not self.contacts.heard(neighbour):
            return False
        self._restored(neighbour, now)
        return True

    def _restored(self, neighbour: str, now: float) -> None:
        """A neighbour is there again: what waits for others, perhaps for hours, because it was not, may go by it."""
        log.info("neighbour is used again", extra={"neighbour": neighbour, "mission_time": now})
        self.router.contact_restored(neighbour, now)
        self._limbo.mark(self._limbo)
        if not self.keeps_copies:
            self._limbo.mark(self._elsewhere(neighbour))
        self._reconsider(now)

    def _try(self, neighbour: str, now: float) -> None:
        """A silent neighbour is to be tried again: find a bundle for it, which is enough.

        One of each destination and class is asked, so that the cost does not grow with what waits.
        """
        self.router.contact_restored(neighbour, now)
        if self.keeps_copies:
            self.retry_limbo(now)
            return
        kinds: dict[tuple[ServiceClass, str], Held] = {}
        for held in chain(self._limbo, self._elsewhere(neighbour)):
            kind = held.priority, held.destination
            if kind not in kinds or held.key < kinds[kind].key:
                kinds[kind] = held
        for _, held in sorted(kinds.items())[:TRIALS]:
            if len(self._queues[neighbour]):
                return
            self.route(held, now)

    def _elsewhere(self, neighbour: str) -> Iterator[Held]:
        """What waits for other neighbours."""
        return (leg.held for name, queue in self._queues.items() if name != neighbour for leg in queue)

    # Contacts

    def update(self, plan: ContactPlan, now: float) -> None:
        """Take another plan: what it gives no way any more is routed again, and what had none may have one."""
        self._ways.changed(self.contacts.differences(plan) if len(self._ways) else ())
        void = self.router.update(plan, now)
        log.info("plan", extra={"contacts": len(plan.contacts), "rerouted": len(void), "mission_time": now})
        self.contacts.update(plan, now)
        self.displace(void, now)
        self.begin(now)
        self.retry_limbo(now)

    def meet(self, neighbour: str, layer: Layer, now: float) -> None:
        """A node can be reached that no plan has in contact now."""
        if neighbour not in self.layers:
            self.layers[neighbour] = layer
            self._queues[neighbour] = ClassQueue()
            self._unsent[neighbour] = 0
            self._flying[neighbour] = {}
            self.carriage[neighbour] = Carriage()
        self.carriage[neighbour].contact_opened()
        log.info("met", extra={"neighbour": neighbour, "layer": layer.name, "mission_time": now})
        contact, light = self.contacts.meet(neighbour, now)
        self.router.add_opportunistic(contact, light, now)
        self.offer(now)

    def part(self, neighbour: str, now: float) -> None:
        """Such a node is gone."""
        contact = self.contacts.part(neighbour)
        if contact is None:
            return
        log.info("parted", extra={"neighbour": neighbour, "mission_time": now})
        self.displace(self.router.remove_opportunistic(contact, now), now)
        if neighbour not in self.contacts.models:
            for leg in list(self._flying[neighbour]):
                self.on_returned(leg, now, "gone", refused=False)
                self.route(leg.held, now)
            for kept in (self.layers, self._queues, self._unsent, self._flying, self.carriage):
                del kept[neighbour]

    def offer(self, now: float) -> None:
        """There is a new way: what has none may take it, and what is copied to all takes it besides."""
        self.retry_limbo(now)
        if self.keeps_copies:
            for held in [held for held in self.held.values() if held.legs]:
                self.route(held, now)

    def advance(self, now: float) -> None:
        """Do what contacts ask for that have opened or closed by `now`."""
        passed = self.contacts.advance(now)
        for name in passed.answered:
            self._recall(name, now, lambda leg: leg.answered <= now or (leg.doubted <= now and self._sooner(leg, now)))
        for closed in passed.closed:
            self._recall(closed.neighbour, now, lambda leg: not leg.sent)
            for leg in self._flying[closed.neighbour]:
                if leg.sent and not now < leg.answered < math.inf:
                    leg.doubted, leg.answered = closed.doubted, closed.answered
        if passed.boundary:
            self.begin(now)
            self.displace(self.router.overdue(now), now)
            self.retry_limbo(now)
        for name in passed.silent:
            self.failed(name, now, retries=False)
            for leg in list(self._flying[name]):
                self.layers[name].cancel(leg.handle, now)
        for name in passed.again:
            self._try(name, now)
        self._reconsider(now)
        while self._pardons and self._pardons[0][0] <= now:
            _, key, name = heapq.heappop(self._pardons)
            held = self.held.get(key)
            if held is not None:
                held.refused -= {name}
                if key in self._limbo:
                    self.route(held, now)

    def _recall(self, neighbour: str, now: float, chosen: Callable[[Leg], bool]) -> None:
        """The contact is over: take back what has not wholly left, or what was not answered in time.

        It can go another way then. Where the neighbour has it after all, duplicates are recognised.
        """
        if self.contacts.is_open(neighbour, now):
            return
        layer = self.layers[neighbour]
        for leg in list(self._flying[neighbour]):
            if chosen(leg):
                layer.cancel(leg.handle, now)

    def _sooner(self, leg: Leg, now: float) -> bool:
        """Whether another way leads to the destination before the neighbour can answer."""
        held, leg.doubted = leg.held, math.inf
        if leg.serves:
            return False
        decision = self.router.route(self._request(held, held.destination), now)
        if isinstance(decision, NoRoute):
            return False
        for forward in decision:
            self.router.release(forward.booking)
        self.displace([booking for forward in decision for booking in forward.displaced], now)
        return min(forward.arrival for forward in decision) < leg.answered

    def fill(self, now: float) -> bool:
        """Hand bundles over for every open contact, a little ahead of the link's rate; whether there were any."""
        filled = False
        for name, queue in self._queues.items():
            if not len(queue) or not self.contacts.is_open(name, now):
                continue
            layer = self.layers[name]
            if not layer.ready(name):
                continue
            ahead = self.contacts.rate(name, now) / 8 * layer.ahead * self._rate
            while (urgent := queue.urgent()) is not None and (
                self._unsent[name] < ahead or urgent <= ServiceClass.EXPEDITED or not self._unsent[name]
            ):
                if not layer.room(name):
                    break
                filled |= self._send(queue.pop(), layer, now)
        return filled

    def _send(self, leg: Leg, layer: Layer, now: float) -> bool:
        kept = leg.held.kept
        if kept is not None and (kept.neighbour != leg.neighbour or not layer.resumes(leg.neighbour)):
            leg.held.kept = None
        octets = self._fetch(leg, now)
        if octets is None:
            return True
        held, name = leg.held, leg.neighbour
        self._unsent[name] += held.size
        self._flying[name][leg] = None
        self._named[held.bundle] = held
        self.carriage[name].hand_over(held.priority, again=held.handed)
        held.handed = True
        if leg.begins:
            leg.handle = layer.send_rest(name, bytes(octets), now, tag=leg, service_class=held.priority, base=leg.base)
        else:
            leg.handle = layer.send(name, octets, now, tag=leg, service_class=held.priority)
        if self.contacts.tries(name, held.size, now):
            # One bundle is enough to see whether a neighbour is there again; the others go round it until then.
            self.displace(self.router.contact_failed(name, now), now)
        return True
