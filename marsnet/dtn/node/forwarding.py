"""When bundles leave a node: contacts, queues, and the convergence layers that carry them."""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.carriage import Carriage
from marsnet.dtn.node.contacts import Contacts
from marsnet.dtn.node.layer import Layer
from marsnet.dtn.node.queues import ClassQueue, Held, Leg
from marsnet.dtn.node.ways import BundleWays
from marsnet.dtn.recipe import Rope
from marsnet.dtn.routing import NoRoute, Router
from marsnet.plan.types import ContactPlan

log = logging.getLogger(__name__)
TRIALS = 64
"""Bundles that are asked whether they lead to a silent neighbour, when one is sought to try it with."""
Fetch = Callable[[Leg, float], bytes | Rope | None]
"""The octets of a bundle as they leave now for the leg's neighbour; None when it must not leave."""


class Forwarder(BundleWays):
    """The bundles of one node that are to go on: their ways, and when they leave.

    Attributes:
        contacts: when neighbours can be reached.
        carriage: what passed between this node and each neighbour; under an empty name, unknown senders.
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
        super().__init__(router, layers, expansion=expansion, keeps_copies=keeps_copies)
        self.contacts = contacts
        self.carriage = {name: Carriage() for name in ("", *self.layers)}
        self._fetch, self._rate = fetch, rate
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
