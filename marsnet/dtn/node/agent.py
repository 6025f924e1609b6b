"""The bundle node's core, sans-IO: what to do with bundles, datagrams and the passing of mission time.

The order of things is what makes custody hold: a bundle is committed to the store first, then the ledger says so, then
the sender is told (LTP's last report), and only then is it routed on. A bundle leaves the store when the next node has
said the same. What ends a bundle's life here goes to the ledger before the store forgets it, so that a kill at any
instant leaves either the bundle or the record of its end.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
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
    RedPartReceived,
    SessionId,
)
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.forwarding import Forwarder
from marsnet.dtn.node.ledger import Ledger, Record, Step
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.queues import Held
from marsnet.dtn.node.traffic import TrafficSource, is_intact, payload
from marsnet.dtn.store import BundleState, BundleStore, StorageFullError, StoreError
from marsnet.errors import InputError
from marsnet.plan.types import ContactPlan

SINK = 1
"""Service number of the application that takes delivered bundles."""


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
        self._names = {number: name for name, number in config.numbers.items()}
        boots = store.reserve("node", "boots")
        store.commit()
        self.forwarder = Forwarder(config, self.clock, plan, now, boots, self._fetch)
        self.ltp = self.forwarder.ltp
        self._expiries: list[tuple[float, int]] = []
        self._confirm: list[SessionId] = []
        self._begun: list[tuple[Record, Held, bool]] = []
        self._ended = False
        self.flows = [
            TrafficSource(flow, config.seed, index=self._number("flow", flow.name), after=now) for flow in config.flows
        ]
        self._recover(now, frozenset(delivered))
        metrics.watch(self)

    def receive(self, peer: str | None, datagram: bytes, now: float) -> None:
        """A datagram arrived; `peer` is the neighbour it came from, where that is known."""
        if peer is not None:
            self.forwarder.heard(peer, now)
        self.ltp.receive(datagram, now, None if peer is None else self.config.numbers[peer])

    def take_datagrams(self) -> list[tuple[str, bytes, ServiceClass]]:
        """What is to be sent now: neighbour, octets, class."""
        return [
            (self.forwarder.names[peer], octets, ServiceClass(max(0, 3 - priority)))
            for peer, octets, priority in self.ltp.take_datagrams()
        ]

    def next_deadline(self, now: float) -> float | None:
        """Mission time of the next thing to do without input; None when there is none."""
        candidates = [self.forwarder.next_deadline(now), *(flow.next_time for flow in self.flows)]
        if self._expiries:
            candidates.append(self._expiries[0][0])
        return min((c for c in candidates if c is not None), default=None)

    def advance(self, now: float) -> None:
        """Do what is due by `now`: traffic, expiry, contacts, timers; then commit, acknowledge, route and send."""
        forwarder = self.forwarder
        for act in (self._generate, self._expire, forwarder.contacts, forwarder.retry_failed, self.ltp.advance):
            self._unless_full(act, now)
        while True:
            for event in self.ltp.take_events():
                self._unless_full(partial(self._handle, event), now)
            if not self._commit(now) and not self._unless_full(forwarder.fill, now):
                break
            self.ltp.advance(now)

    def _unless_full(self, act: Callable[[float], object], now: float) -> bool:
        """Do one thing; returns whether it says that there is more to do. A full disk undoes what came in meanwhile."""
        try:
            return bool(act(now))
        except StorageFullError as error:
            self._lose(error, now)
            return False

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
        del self.forwarder.held[held.key]

    # Convergence layer events

    def _handle(self, event: object, now: float) -> None:
        match event:
            case RedPartReceived():
                self._block(event, now)
            case BlockSent():
                for held in self.forwarder.tagged(event.tags):
                    self.forwarder.on_sent(held)
            case ExportCompleted():
                for held in self.forwarder.tagged(event.tags):
                    self._forwarded(held, now)
            case ExportCancelled():
                self.metrics.cancelled[int(event.reason), event.by_peer] += 1
                if event.reason != CancelReason.USER and not event.by_peer:
                    self.forwarder.failed(self.forwarder.names[event.peer], now)
                for held in self.forwarder.tagged(event.tags):
                    self.store.set_state(held.key, BundleState.QUEUED)
                    self.forwarder.on_returned(held, now)
            case GreenSegmentReceived() | ImportCancelled():
                self.metrics.ignored[type(event).__name__] += 1

    def _block(self, event: RedPartReceived, now: float) -> None:
        peer = self.forwarder.names.get(event.peer)
        data, position = event.data, 0
        try:
            while position < len(data):
                start = position
                bundle, position = decode_from(data, position)
                self._store(bundle, bytes(data[start:position]), peer, Step.RECEIVED, {"peer": peer or ""}, now)
        except BundleError:
            self.metrics.malformed += 1
        except StorageFullError:
            self.ltp.refuse(event.session, now)
            return
        self._confirm.append(event.session)

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
            self.forwarder.came_back(name, peer)
            self._note(Record(now, self.config.name, Step.DUPLICATE, name, details), bundle.service_class)
            return
        held = Held(added.key, name, self._destination(bundle), len(octets), bundle.service_class, expires, now, peer)
        self._hold(held)
        self._begun.append((Record(now, self.config.name, step, name, details), held, True))

    def _hold(self, held: Held) -> None:
        self.forwarder.held[held.key] = held
        heapq.heappush(self._expiries, (held.expires, held.key))

    def _forwarded(self, held: Held, now: float) -> None:
        if held.returned:
            # The neighbour took it, and it is here once more already: the one copy that counts is this one.
            self.store.set_state(held.key, BundleState.QUEUED)
            self.forwarder.on_returned(held, now)
            return
        self.forwarder.on_acknowledged(held)
        # It may come back when the way it took proves closed, so its ID is forgotten; its destination remembers it.
        self.store.delete(held.key, forget=True)
        record = Record(now, self.config.name, Step.FORWARDED, held.bundle, {"peer": held.neighbour or ""})
        self._begun.append((record, held, False))

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
                self.forwarder.held.pop(held.key, None)
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
            self.forwarder.route(held, now)

    # End of life and restart

    def _expire(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            _, key = heapq.heappop(self._expiries)
            self._discard(key, Step.EXPIRED, now, "lifetime")

    def _discard(self, key: int, step: Step, now: float, reason: str) -> None:
        held = self.forwarder.held.get(key)
        if held is None:
            return
        self.forwarder.remove(held, now)
        self._end(held, step, now, {"reason": reason})
        self.store.delete(key)

    def _fetch(self, held: Held, now: float) -> bytes | None:
        """A bundle as it leaves: age told, hop counted, this node named. It ends here where it must not leave."""
        try:
            bundle, _ = decode_from(self.store.load(held.key), 0)
            hops = bundle.hop_count
            if hops is not None and hops.hops >= hops.limit:
                self._discard(held.key, Step.DROPPED, now, "hop limit")
                return None
            octets = encode(bundle.forwarded(Eid.ipn(self.config.number, 0), self._age(bundle, held, now)))
        except (StoreError, BundleError) as error:
            self._discard(held.key, Step.DROPPED, now, str(error))
            return None
        self.store.set_state(held.key, BundleState.FORWARDING, handler=held.neighbour or "")
        return octets

    def _age(self, bundle: Bundle, held: Held, now: float) -> int:
        """Milliseconds since a bundle was made, also where its source had no clock."""
        if bundle.timestamp.time_ms:
            return max(0, self.clock.dtn_time(now) - bundle.timestamp.time_ms)
        return (bundle.bundle_age or 0) + round((now - held.since) * 1000)

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
                record.added,
                record.received_from or None,
            )
            self._hold(held)
            self._dispatch(held, now)

    def _destination(self, bundle: Bundle) -> str:
        """The node that a bundle goes to, or its endpoint as text where the network has no such node."""
        endpoint = bundle.destination
        return self._names.get(endpoint.node, str(endpoint))
