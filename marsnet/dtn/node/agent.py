"""The bundle node's core, sans-IO: what to do with bundles, datagrams and the passing of mission time.

The order of things is what makes custody hold: a bundle is committed to the store first, then the ledger says so, then
the sender is told (LTP's last report), and only then is it routed on. A bundle leaves the store when the next node has
said the same. What ends a bundle's life here goes to the ledger before the store forgets it, so that a kill at any
instant leaves either the bundle or the record of its end.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import (
    Bundle,
    BundleError,
    CreationTimestamp,
    Eid,
    ServiceClass,
    decode_from,
    encode,
)
from marsnet.dtn.ltp import (
    BlockSent,
    CancelReason,
    ExportCancelled,
    ExportCompleted,
    GreenSegmentReceived,
    ImportCancelled,
    LtpConfig,
    LtpCounters,
    LtpEngine,
    PlanPeer,
    RedPartReceived,
    SessionId,
)
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.ledger import Ledger, Record, Step
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.queues import ClassQueue, Held
from marsnet.dtn.node.traffic import TrafficSource, is_intact, payload
from marsnet.dtn.routing import Forward, RouteRequest, SabrRouter
from marsnet.dtn.store import BundleState, BundleStore, StorageFullError, StoreError
from marsnet.errors import InputError
from marsnet.plan.types import ContactPlan

SINK = 1
"""Service number of the application that takes delivered bundles."""
_AHEAD = 0.05
"""Host seconds of a link's rate that are handed to LTP ahead of time."""
_CHECKPOINT_LIMIT = 5
"""Checkpoints without an answer before a neighbour counts as failed."""
_FIRST_RETRY, _LAST_RETRY = 60.0, 1800.0
"""Mission seconds before a failed neighbour is tried again: doubled each time, up to a limit."""


class BundleAgent:
    """One node of the overlay: receives, stores, routes, sends and delivers bundles.

    The caller feeds `receive` and `advance` with mission time, sends what `take_datagrams` returns and calls `advance`
    again at `next_deadline`.
    """

    def __init__(
        self,
        config: NodeConfig,
        plan: ContactPlan,
        store: BundleStore,
        ledger: Ledger,
        metrics: NodeMetrics,
        now: float,
        delivered: Iterable[str] = (),
    ) -> None:
        """Take up what the store holds.

        Args:
            config: who this node is.
            plan: contacts and ranges.
            store: its bundles.
            ledger: what happens is recorded in.
            metrics: what happens is counted in.
            now: mission seconds.
            delivered: ids of bundles that the ledger already says were delivered here.
        """
        self.config, self.store, self.ledger, self.metrics = config, store, ledger, metrics
        if config.clock is None:
            raise InputError(f"node {config.name!r} has no mission clock", remedy="give 'clock'")
        self.clock = MissionClock(config.clock.epoch, config.clock.rate, config.clock.origin)
        self.router = SabrRouter(config.name, plan)
        self._names = {number: name for name, number in config.numbers.items()}
        self._margin = max(2.0, config.hiccup * self.clock.rate)
        self.ltp = LtpEngine(
            config.number,
            LtpConfig(
                timer_margin=self._margin,
                checkpoint_limit=_CHECKPOINT_LIMIT,
                pacing_burst=max(0.05, 0.05 * self.clock.rate),
                datagram_overhead=config.overhead,
            ),
            random.Random(f"{config.seed}/{config.name}/ltp/{self._boot()}"),
        )
        self._now = now
        self._peers = {config.numbers[name]: name for name in config.neighbours}
        self._models = {n: PlanPeer(plan, config.name, n, mtu=c.mtu) for n, c in config.neighbours.items()}
        for name, model in self._models.items():
            self.ltp.add_peer(config.numbers[name], model)
        self._open = {name: model.can_send(now) for name, model in self._models.items()}
        self._queues = {name: ClassQueue() for name in config.neighbours}
        self._unsent: dict[str, int] = dict.fromkeys(config.neighbours, 0)
        self._held: dict[int, Held] = {}
        self._limbo: dict[int, Held] = {}
        self._failed: dict[str, tuple[float, float]] = {}
        """Neighbours that do not answer: when to try again, and how long to wait after that."""
        self._answers: list[tuple[float, str]] = []
        """When the last answers over a contact that has closed must have come, and from whom."""
        self._expiries: list[tuple[float, int]] = []
        self._confirm: list[SessionId] = []
        self._begun: list[tuple[Record, Held, bool]] = []
        self._ended = False
        boundaries = {t for c in plan.contacts if c.source == config.name for t in (c.start, c.end)}
        self._boundaries = sorted(t for t in boundaries if t > now)
        self._boundaries.reverse()
        self.flows = [
            TrafficSource(flow, config.seed, index=self._number("flow", flow.name), after=now) for flow in config.flows
        ]
        self._recover(now, frozenset(delivered))
        metrics.watch(self)

    def receive(self, peer: str | None, datagram: bytes, now: float) -> None:
        """A datagram arrived; `peer` is the neighbour it came from, where that is known."""
        if peer is not None and self._failed.pop(peer, None) is not None:
            self._restored(peer, now)
        self.ltp.receive(datagram, now, None if peer is None else self.config.numbers[peer])

    def take_datagrams(self) -> list[tuple[str, bytes, ServiceClass]]:
        """What is to be sent now: neighbour, octets, class."""
        return [
            (self._peers[peer], octets, ServiceClass(max(0, 3 - priority)))
            for peer, octets, priority in self.ltp.take_datagrams()
        ]

    def next_deadline(self, now: float) -> float | None:
        """Mission time of the next thing to do without input; None when there is none."""
        candidates = [self.ltp.next_deadline(now), self._boundaries[-1] if self._boundaries else None]
        candidates += [flow.next_time for flow in self.flows]
        candidates += [at for at, _ in self._failed.values() if at < math.inf]
        if self._expiries:
            candidates.append(self._expiries[0][0])
        if self._answers:
            candidates.append(self._answers[0][0])
        return min((c for c in candidates if c is not None), default=None)

    def advance(self, now: float) -> None:
        """Do what is due by `now`: traffic, expiry, contacts, timers; then commit, acknowledge, route and send."""
        self._now = now
        for act in (self._generate, self._expire, self._contacts, self._retry_failed, self.ltp.advance):
            self._unless_full(act, now)
        while True:
            for event in self.ltp.take_events():
                self._unless_full(partial(self._handle, event), now)
            if not self._commit(now) and not self._unless_full(self._fill, now):
                break
            self.ltp.advance(now)

    def _unless_full(self, act: Callable[[float], object], now: float) -> bool:
        """Do one thing; returns whether it says that there is more to do. A full disk undoes what came in meanwhile."""
        try:
            return bool(act(now))
        except StorageFullError as error:
            self._lose(error, now)
            return False

    @property
    def unroutable(self) -> int:
        """Bundles in the store that have no route."""
        return len(self._limbo)

    def neighbours(self) -> Iterator[tuple[str, ClassQueue, bool]]:
        """Each neighbour, what waits for it, and whether its contact was open when the node last acted."""
        for name, queue in self._queues.items():
            yield name, queue, self._models[name].can_send(self._now)

    def ltp_counters(self) -> Iterator[tuple[str, LtpCounters]]:
        """LTP's counters for each neighbour."""
        for number, name in self._peers.items():
            yield name, self.ltp.counters(number)

    # Sources and sinks

    def _generate(self, now: float) -> None:
        for source in self.flows:
            if source.next_time is None or source.next_time > now:
                continue
            flow = source.flow
            due = source.take(now)
            self._put("flow", flow.name, source.index)
            for index in due:
                self._accept(
                    payload(flow.name, index, flow.size),
                    Eid.ipn(self.config.numbers[flow.destination], SINK),
                    flow.priority,
                    flow.lifetime,
                    now,
                    flow.name,
                )

    def _accept(
        self, data: bytes, destination: Eid, priority: ServiceClass, lifetime: float, now: float, flow: str
    ) -> None:
        stamp = self.clock.dtn_time(now)
        sequence = self.store.reserve("bundles", "sequence")
        bundle = Bundle.create(
            Eid.ipn(self.config.number, SINK),
            destination,
            data,
            CreationTimestamp(stamp, sequence),
            round(lifetime * 1000),
            service_class=priority,
        )
        details = {
            "flow": flow,
            "class": priority.name.lower(),
            "source": self.config.name,
            "destination": self._destination(bundle),
            "size": len(data),
            "lifetime": lifetime,
        }
        self._store(bundle, encode(bundle), None, Step.ACCEPTED, details, now)

    def _deliver(self, held: Held, now: float) -> None:
        bundle, _ = decode_from(self.store.load(held.key), 0)
        self._end(held, Step.DELIVERED, now, {"intact": is_intact(bundle.payload)})
        self.store.confirm_delivery(held.key)
        created = self.clock.from_dtn_time(bundle.timestamp.time_ms)
        self.metrics.latency(held.priority, now - created)
        del self._held[held.key]

    # Convergence layer events

    def _handle(self, event: object, now: float) -> None:
        match event:
            case RedPartReceived():
                self._block(event, now)
            case BlockSent():
                for held in self._tagged(event.tags):
                    held.sent = True
                    self._unsent[held.neighbour or ""] -= held.size
                    if held.booking is not None:
                        self.router.consume(held.booking)
                        held.booking = None
            case ExportCompleted():
                for held in self._tagged(event.tags):
                    self._forwarded(held, now)
            case ExportCancelled():
                self.metrics.cancelled[int(event.reason), event.by_peer] += 1
                if event.reason != CancelReason.USER and not event.by_peer:
                    self._contact_failed(self._peers[event.peer], now)
                for held in self._tagged(event.tags):
                    self._requeue(held, now)
            case GreenSegmentReceived() | ImportCancelled():
                self.metrics.ignored[type(event).__name__] += 1

    def _tagged(self, tags: Iterable[object]) -> list[Held]:
        return [held for tag in tags if isinstance(tag, int) and (held := self._held.get(tag)) is not None]

    def _block(self, event: RedPartReceived, now: float) -> None:
        peer = self._peers.get(event.peer)
        data, position = event.data, 0
        try:
            while position < len(data):
                start = position
                bundle, position = decode_from(data, position)
                self._take_in(bundle, bytes(data[start:position]), peer, now)
        except BundleError:
            self.metrics.malformed += 1
        except StorageFullError:
            self.ltp.refuse(event.session, now)
            return
        self._confirm.append(event.session)

    def _take_in(self, bundle: Bundle, octets: bytes, peer: str | None, now: float) -> None:
        self._store(bundle, octets, peer, Step.RECEIVED, {"peer": peer or ""}, now)

    def _store(
        self, bundle: Bundle, octets: bytes, peer: str | None, step: Step, details: dict[str, object], now: float
    ) -> None:
        expires = self.clock.from_dtn_time(bundle.expiry_ms(self.clock.dtn_time(now)))
        name = str(bundle.id)
        try:
            added = self.store.add(
                octets,
                bundle_id=bundle.id.key,
                source=str(bundle.source),
                destination=str(bundle.destination),
                service_class=int(bundle.service_class),
                expiry=expires,
                received_from=peer or "",
                now=now,
            )
        except StorageFullError as error:
            self._lose(error, now)
            self._note(
                Record(now, self.config.name, Step.REFUSED, name, {**details, "reason": str(error)}),
                bundle.service_class,
            )
            if peer is not None:
                raise
            return
        for victim in added.evicted:
            self._discard(victim.key, Step.DROPPED, now, "evicted")
        if added.key is None:
            self._note(Record(now, self.config.name, Step.DUPLICATE, name, details), bundle.service_class)
            return
        held = Held(added.key, name, self._destination(bundle), len(octets), bundle.service_class, expires, peer)
        self._held[held.key] = held
        heapq.heappush(self._expiries, (expires, held.key))
        self._begun.append((Record(now, self.config.name, step, name, details), held, True))

    def _forwarded(self, held: Held, now: float) -> None:
        if not held.sent:
            self._unsent[held.neighbour or ""] -= held.size
        self.store.delete(held.key)
        record = Record(now, self.config.name, Step.FORWARDED, held.bundle, {"peer": held.neighbour or ""})
        self._begun.append((record, held, False))
        del self._held[held.key]

    # Commit, then tell

    def _commit(self, now: float) -> bool:
        if not (self._begun or self._confirm or self._ended):
            return False
        begun, self._begun = self._begun, []
        confirm, self._confirm = self._confirm, []
        self._ended = False
        self.ledger.flush()
        try:
            self.store.commit()
        except StorageFullError as error:
            self._begun, self._confirm = begun, confirm
            self._lose(error, now)
            begun, self._begun = self._begun, []
            confirm, self._confirm = self._confirm, []
        for record, held, _ in begun:
            self._note(record, held.priority)
        self.ledger.flush()
        for session in confirm:
            self.ltp.confirm(session, now)
        for _, held, is_new in begun:
            if is_new:
                self._dispatch(held, now)
        return True

    def _lose(self, error: StorageFullError, now: float) -> None:
        """The disk is full: what came in and was not durable yet is not kept, and its senders are told."""
        lost, reason = set(error.lost), {"reason": str(error)}
        begun, self._begun = self._begun, []
        for record, held, is_new in begun:
            if held.key in lost:
                self._held.pop(held.key, None)
                self._note(Record(now, self.config.name, Step.REFUSED, record.bundle, reason), held.priority)
            else:
                self._begun.append((record, held, is_new))
        if lost:
            for session in self._confirm:
                self.ltp.refuse(session, now)
            self._confirm.clear()

    def _end(self, held: Held, step: Step, now: float, details: dict[str, object]) -> None:
        """Record the end of a bundle's life here, before the store forgets it."""
        self._note(Record(now, self.config.name, step, held.bundle, details), held.priority)
        self._ended = True

    def _note(self, record: Record, service_class: ServiceClass) -> None:
        self.ledger.record(record)
        self.metrics.steps[record.step, service_class] += 1

    def _dispatch(self, held: Held, now: float) -> None:
        if held.destination == self.config.name:
            self._deliver(held, now)
        else:
            self._route(held, now)

    # Routing and sending

    def _route(self, held: Held, now: float) -> None:
        held.neighbour, held.booking, held.session = None, None, None
        held.sent = False
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
        forward: Forward = decision[0]
        held.neighbour, held.booking = forward.neighbour, forward.booking
        self._queues[forward.neighbour].push(held)
        self._displace([booking.key for booking in forward.displaced], now)

    def _displace(self, keys: Iterable[object], now: float) -> None:
        """Bookings came back void: route again what has not begun to leave."""
        for key in keys:
            held = self._held.get(key) if isinstance(key, int) else None
            if held is None or held.session is not None or held.neighbour is None:
                continue
            self._queues[held.neighbour].remove(held)
            self._route(held, now)

    def _requeue(self, held: Held, now: float) -> None:
        """A bundle comes back from LTP undelivered."""
        if not held.sent and held.neighbour is not None:
            self._unsent[held.neighbour] -= held.size
        if held.booking is not None:
            self.router.release(held.booking)
        self.store.set_state(held.key, BundleState.QUEUED)
        self._route(held, now)

    def _contact_failed(self, neighbour: str, now: float) -> None:
        _, wait = self._failed.get(neighbour, (0.0, _FIRST_RETRY))
        self._failed[neighbour] = (now + wait, min(2 * wait, _LAST_RETRY))
        self._displace([booking.key for booking in self.router.contact_failed(neighbour, now)], now)

    def _restored(self, neighbour: str, now: float) -> None:
        self.router.contact_restored(neighbour, now)
        self._retry_limbo(now)

    def _retry_failed(self, now: float) -> None:
        """Routes lead by a failed neighbour again after a while: it may be back with nothing to say."""
        for neighbour, (at, wait) in list(self._failed.items()):
            if at <= now:
                self._failed[neighbour] = (math.inf, wait)
                self._restored(neighbour, now)

    def _contacts(self, now: float) -> None:
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
        for held in list(self._held.values()):
            if held.neighbour == neighbour and held.session is not None and held.sent == sent:
                self.ltp.cancel(held.session, now)

    def _retry_limbo(self, now: float) -> None:
        waiting, self._limbo = self._limbo, {}
        for held in sorted(waiting.values(), key=lambda h: (h.priority, h.key)):
            self._route(held, now)

    def _fill(self, now: float) -> bool:
        """Hand bundles to LTP for every open contact, a little ahead of the link's rate."""
        filled = False
        for name, queue in self._queues.items():
            model = self._models[name]
            if not len(queue) or not model.can_send(now):
                continue
            ahead = model.rate(now) / 8 * _AHEAD * self.clock.rate
            while (urgent := queue.urgent()) is not None and (
                self._unsent[name] < ahead or urgent <= ServiceClass.EXPEDITED or not self._unsent[name]
            ):
                self._send(queue.pop(), name, now)
                filled = True
        return filled

    def _send(self, held: Held, neighbour: str, now: float) -> None:
        try:
            bundle, _ = decode_from(self.store.load(held.key), 0)
        except StoreError as error:
            self._discard(held.key, Step.DROPPED, now, str(error))
            return
        age = max(0, self.clock.dtn_time(now) - bundle.timestamp.time_ms) if bundle.timestamp.time_ms else None
        octets = encode(bundle.forwarded(Eid.ipn(self.config.number, 0), age))
        self.store.set_state(held.key, BundleState.FORWARDING, handler=neighbour)
        self._unsent[neighbour] += held.size
        held.session = self.ltp.send(
            self.config.numbers[neighbour], octets, now, tag=held.key, priority=3 - int(held.priority)
        )

    # End of life and restart

    def _expire(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            _, key = heapq.heappop(self._expiries)
            self._discard(key, Step.EXPIRED, now, "lifetime")

    def _discard(self, key: int, step: Step, now: float, reason: str) -> None:
        held = self._held.pop(key, None)
        if held is None:
            return
        self._limbo.pop(key, None)
        if held.booking is not None:
            self.router.release(held.booking)
        if held.session is not None and held.neighbour is not None:
            if not held.sent:
                self._unsent[held.neighbour] -= held.size
            self.ltp.cancel(held.session, now)
        elif held.neighbour is not None:
            self._queues[held.neighbour].remove(held)
        self._end(held, step, now, {"reason": reason})
        self.store.delete(key)

    def _boot(self) -> int:
        """How often this store was opened before: LTP's random numbers differ each time."""
        boots = self.store.reserve("node", "boots")
        self.store.commit()
        return boots

    def _number(self, space: str, name: str) -> int:
        return int.from_bytes(self.store.get(space, name) or b"", "big")

    def _put(self, space: str, name: str, value: int) -> None:
        self.store.put(space, name, value.to_bytes(8, "big"))

    def _recover(self, now: float, delivered: frozenset[str]) -> None:
        """Take up what the store held when the node ended, in the order in which it came."""
        for record in list(self.store.iterate(BundleState.FORWARDING, BundleState.QUEUED)):
            bundle, _ = decode_from(self.store.load(record.key), 0)
            if str(bundle.id) in delivered:
                self.store.confirm_delivery(record.key)
                continue
            held = Held(
                record.key,
                str(bundle.id),
                self._destination(bundle),
                record.size,
                ServiceClass(record.service_class),
                record.expiry,
                record.received_from or None,
            )
            self._held[held.key] = held
            heapq.heappush(self._expiries, (held.expires, held.key))
            self._dispatch(held, now)

    def _destination(self, bundle: Bundle) -> str:
        """The node that a bundle goes to, or its endpoint as text where the network has no such node."""
        endpoint = bundle.destination
        return self._names.get(endpoint.node, str(endpoint))
