"""Which way bundles leave a node and when: routes, queues, contacts that open, close and fail, and LTP under them."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable, Iterator

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.ltp import LtpConfig, LtpCounters, LtpEngine, PlanPeer
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.queues import ClassQueue, Held
from marsnet.dtn.routing import RouteRequest, SabrRouter
from marsnet.plan.types import ContactPlan

_AHEAD = 0.05
"""Host seconds of a link's rate that are handed to LTP ahead of time."""
_CHECKPOINT_LIMIT = 5
"""Checkpoints without an answer before a neighbour counts as failed."""
_FIRST_RETRY, _LAST_RETRY = 60.0, 1800.0
"""Mission seconds before a failed neighbour is tried again: doubled each time, up to a limit."""

Fetch = Callable[[Held, float], bytes | None]
"""The octets of a bundle as they leave now; None when it must not leave."""


class Forwarder:
    """The bundles of one node that are to go on.

    Attributes:
        held: all of them, by their keys in the store.
        ltp: the engine that carries them.
        router: decides the next hop.
    """

    def __init__(
        self, config: NodeConfig, clock: MissionClock, plan: ContactPlan, now: float, boots: int, fetch: Fetch
    ) -> None:
        """Prepare for a plan.

        Args:
            config: who the node is and whom it can reach.
            clock: the mission clock.
            plan: contacts and ranges.
            now: mission seconds.
            boots: how often the node was started before: LTP's random numbers differ each time.
            fetch: called when a bundle is about to leave.
        """
        self.held: dict[int, Held] = {}
        self.router = SabrRouter(config.name, plan)
        self._config, self._clock, self._fetch = config, clock, fetch
        self._margin = max(2.0, config.hiccup * clock.rate)
        self.ltp = LtpEngine(
            config.number,
            LtpConfig(
                timer_margin=self._margin,
                checkpoint_limit=_CHECKPOINT_LIMIT,
                pacing_burst=max(0.05, 0.05 * clock.rate),
                datagram_overhead=config.overhead,
            ),
            random.Random(f"{config.seed}/{config.name}/ltp/{boots}"),
        )
        self.names = {config.numbers[name]: name for name in config.neighbours}
        self._models = {n: PlanPeer(plan, config.name, n, mtu=c.mtu) for n, c in config.neighbours.items()}
        for name, model in self._models.items():
            self.ltp.add_peer(config.numbers[name], model)
        self._now = now
        self._open = {name: model.can_send(now) for name, model in self._models.items()}
        self._queues = {name: ClassQueue() for name in config.neighbours}
        self._unsent: dict[str, int] = dict.fromkeys(config.neighbours, 0)
        self._limbo: dict[int, Held] = {}
        self._failed: dict[str, tuple[float, float]] = {}
        """Neighbours that do not answer: when to try again, and how long to wait after that."""
        self._answers: list[tuple[float, str]] = []
        """When the last answers over a contact that has closed must have come, and from whom."""
        boundaries = {t for c in plan.contacts if c.source == config.name for t in (c.start, c.end)}
        self._boundaries = sorted((t for t in boundaries if t > now), reverse=True)

    @property
    def unroutable(self) -> int:
        """Bundles that have no route."""
        return len(self._limbo)

    def neighbours(self) -> Iterator[tuple[str, ClassQueue, bool]]:
        """Each neighbour, what waits for it, and whether its contact was open when the node last acted."""
        for name, queue in self._queues.items():
            yield name, queue, self._models[name].can_send(self._now)

    def ltp_counters(self) -> Iterator[tuple[str, LtpCounters]]:
        """LTP's counters for each neighbour."""
        for number, name in self.names.items():
            yield name, self.ltp.counters(number)

    def next_deadline(self, now: float) -> float | None:
        """Mission time of the next thing to do without input; None when there is none."""
        candidates = [self.ltp.next_deadline(now), self._boundaries[-1] if self._boundaries else None]
        candidates += [at for at, _ in self._failed.values() if at < math.inf]
        if self._answers:
            candidates.append(self._answers[0][0])
        return min((c for c in candidates if c is not None), default=None)

    # Routes

    def route(self, held: Held, now: float) -> None:
        """Decide a bundle's way and put it into a queue, or aside where there is none."""
        held.neighbour, held.booking, held.session = None, None, None
        held.sent = held.returned = False
        decision = self.router.route(
            RouteRequest(
                held.destination,
                held.size,
                int(held.priority),
                held.expires,
                previous_hop=held.previous_hop,
                key=held.key,
            ),
            now,
        )
        if not isinstance(decision, list):
            self._limbo[held.key] = held
            return
        forward = decision[0]
        held.neighbour, held.booking = forward.neighbour, forward.booking
        self._queues[forward.neighbour].push(held)
        self._displace([booking.key for booking in forward.displaced], now)

    def _displace(self, keys: Iterable[object], now: float) -> None:
        """Bookings came back void: route again what has not begun to leave."""
        for key in keys:
            held = self.held.get(key) if isinstance(key, int) else None
            if held is None or held.session is not None or held.neighbour is None:
                continue
            self._queues[held.neighbour].remove(held)
            self.route(held, now)

    def _retry_limbo(self, now: float) -> None:
        waiting, self._limbo = self._limbo, {}
        for held in sorted(waiting.values(), key=lambda h: (h.priority, h.key)):
            self.route(held, now)

    def remove(self, held: Held, now: float) -> None:
        """A bundle's life ends here: take it out of queues, bookings and LTP."""
        self.held.pop(held.key, None)
        self._limbo.pop(held.key, None)
        if held.booking is not None:
            self.router.release(held.booking)
        if held.session is not None and held.neighbour is not None:
            if not held.sent:
                self._unsent[held.neighbour] -= held.size
            self.ltp.cancel(held.session, now)
        elif held.neighbour is not None:
            self._queues[held.neighbour].remove(held)

    # What LTP says

    def tagged(self, tags: Iterable[object]) -> list[Held]:
        """The bundles that a block's tags name, as far as they are still here."""
        return [held for tag in tags if isinstance(tag, int) and (held := self.held.get(tag)) is not None]

    def on_sent(self, held: Held) -> None:
        """All of a bundle has left."""
        held.sent = True
        self._unsent[held.neighbour or ""] -= held.size
        if held.booking is not None:
            self.router.consume(held.booking)
            held.booking = None

    def on_acknowledged(self, held: Held) -> None:
        """The neighbour has a bundle."""
        if not held.sent:
            self._unsent[held.neighbour or ""] -= held.size
        del self.held[held.key]

    def came_back(self, bundle: str, peer: str | None) -> None:
        """A bundle has come again while a neighbour has yet to confirm it: whoever sent it deletes its own copy."""
        for held in self.held.values():
            if held.bundle == bundle and held.session is not None:
                held.returned, held.previous_hop = True, peer

    def on_returned(self, held: Held, now: float) -> None:
        """A bundle comes back from LTP undelivered."""
        if not held.sent and held.neighbour is not None:
            self._unsent[held.neighbour] -= held.size
        if held.booking is not None:
            self.router.release(held.booking)
        self.route(held, now)

    # Neighbours that fail and come back

    def failed(self, neighbour: str, now: float) -> None:
        """A neighbour does not answer over a contact that should be open: avoid it for a while."""
        _, wait = self._failed.get(neighbour, (0.0, _FIRST_RETRY))
        self._failed[neighbour] = (now + wait, min(2 * wait, _LAST_RETRY))
        self._displace([booking.key for booking in self.router.contact_failed(neighbour, now)], now)

    def heard(self, neighbour: str, now: float) -> None:
        """A neighbour has sent something: it is there."""
        if self._failed.pop(neighbour, None) is not None:
            self._restored(neighbour, now)

    def _restored(self, neighbour: str, now: float) -> None:
        self.router.contact_restored(neighbour, now)
        self._retry_limbo(now)

    def retry_failed(self, now: float) -> None:
        """Routes lead by a failed neighbour again after a while: it may be back with nothing to say."""
        for neighbour, (at, wait) in list(self._failed.items()):
            if at <= now:
                self._failed[neighbour] = (math.inf, wait)
                self._restored(neighbour, now)

    # Contacts

    def contacts(self, now: float) -> None:
        """Do what contacts ask for that have opened or closed by `now`."""
        self._now = now
        while self._answers and self._answers[0][0] <= now:
            self._recall(heapq.heappop(self._answers)[1], now, sent=True)
        passed = False
        while self._boundaries and self._boundaries[-1] <= now:
            self._boundaries.pop()
            passed = True
        if not passed:
            return
        for name, model in self._models.items():
            is_open = model.can_send(now)
            if self._open[name] and not is_open:
                self._recall(name, now, sent=False)
                heapq.heappush(self._answers, (now + 2 * model.owlt(now) + self._margin, name))
            self._open[name] = is_open
        self._displace([booking.key for booking in self.router.overdue(now)], now)
        self._retry_limbo(now)

    def _recall(self, neighbour: str, now: float, *, sent: bool) -> None:
        """The contact has closed: take back what has not wholly left, or what was not answered in time.

        It can go another way then. Where the neighbour has it after all, duplicates are recognised.
        """
        if self._models[neighbour].can_send(now):
            return
        for held in list(self.held.values()):
            if held.neighbour == neighbour and held.session is not None and held.sent == sent:
                self.ltp.cancel(held.session, now)

    def fill(self, now: float) -> bool:
        """Hand bundles to LTP for every open contact, a little ahead of the link's rate; whether there were any."""
        filled = False
        for name, queue in self._queues.items():
            model = self._models[name]
            if not len(queue) or not model.can_send(now):
                continue
            ahead = model.rate(now) / 8 * _AHEAD * self._clock.rate
            while (urgent := queue.urgent()) is not None and (
                self._unsent[name] < ahead or urgent <= ServiceClass.EXPEDITED or not self._unsent[name]
            ):
                self._send(queue.pop(), name, now)
                filled = True
        return filled

    def _send(self, held: Held, neighbour: str, now: float) -> None:
        octets = self._fetch(held, now)
        if octets is None:
            return
        self._unsent[neighbour] += held.size
        number = self._config.numbers[neighbour]
        held.session = self.ltp.send(number, octets, now, tag=held.key, priority=3 - int(held.priority))
