"""The bundle node's core, sans-IO: what to do with bundles, datagrams and the passing of mission time.

Custody is in `custody`, ways and queues in `forwarding`, protocols between nodes in the convergence layers; this module
joins them, makes bundles, delivers them and ends their lives.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from marsnet.clock import MissionClock
from marsnet.dtn.apps.submission import Done, Submission, SubmissionError
from marsnet.dtn.bpv7 import (
    Bundle,
    BundleError,
    CreationTimestamp,
    Eid,
    ServiceClass,
    decode_from,
    encode,
)
from marsnet.dtn.node.assembly import assemble
from marsnet.dtn.node.config import FlowConfig, NodeConfig
from marsnet.dtn.node.custody import Custody
from marsnet.dtn.node.layer import Layer, LayerEvent, PeerDown, PeerUp, Received, Returned, Sent, Taken
from marsnet.dtn.node.ledger import Ledger, Record, Step
from marsnet.dtn.node.local import LocalTraffic
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.queues import Held, Leg
from marsnet.dtn.node.receivers import Receivers
from marsnet.dtn.node.traffic import BacklogSource, Offered, Source, TrafficSource, file_part, payload
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
        layers: Iterable[Layer] = (),
        folder: Path | None = None,
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
            layers: convergence layers besides LTP, for the neighbours whose configuration names them.
            folder: where applications put files.
        """
        self.config, self.store, self.ledger, self.metrics = config, store, ledger, metrics
        if config.clock is None:
            raise InputError(f"node {config.name!r} has no mission clock", remedy="give 'clock'")
        self.clock = MissionClock(config.clock.epoch, config.clock.rate, config.clock.origin)
        self._names = {number: name for name, number in config.numbers.items()}
        boots = store.reserve("node", "boots")
        store.commit()
        self.forwarder, self.layers, self.ltp = assemble(config, self.clock, plan, now, boots, layers, self._fetch)
        self._custody = Custody(config.name, store, ledger, metrics, self._lost)
        self._expiries: list[tuple[float, int]] = []
        self.local = LocalTraffic(
            self, config.applications.echo, keep=self._store, discard=self._discard, end=self._delivered
        )
        self.receivers = Receivers(config.receivers, folder)
        self.flows: list[Source] = [self._source(flow, now) for flow in config.flows]
        self._recover(now, frozenset(delivered))
        metrics.watch(self)

    def receive(self, peer: str | None, datagram: bytes, now: float) -> None:
        """A datagram of LTP arrived; `peer` is the neighbour it came from, where that is known."""
        if peer is not None:
            self.forwarder.heard(peer, now)
        self.ltp.receive(peer, datagram, now)

    def take_datagrams(self) -> list[tuple[str, bytes, ServiceClass]]:
        """What LTP sends now: neighbour, octets, class."""
        return self.ltp.take_datagrams()

    def next_deadline(self, now: float) -> float | None:
        """Mission time of the next thing to do without input; None when there is none."""
        candidates = [self.forwarder.next_deadline(now), *(flow.next_time for flow in self.flows)]
        candidates += [layer.next_deadline(now) for layer in self.layers]
        if self._expiries:
            candidates.append(self._expiries[0][0])
        return min((c for c in candidates if c is not None), default=None)

    def advance(self, now: float) -> None:
        """Do what is due by `now`: traffic, expiry, contacts, timers; then commit, acknowledge, route and send."""
        for act in (self._generate, self._expire, self.forwarder.advance, *(x.advance for x in self.layers)):
            self._unless_full(act, now)
        while True:
            for layer in self.layers:
                for event in layer.take_events():
                    self._unless_full(partial(self._handle, event), now)
            if self.local.applications.due:
                self._custody.touch()
            if not self._commit(now) and not self._unless_full(self.forwarder.fill, now):
                break
            for layer in self.layers:
                layer.advance(now)

    def update_plan(self, plan: ContactPlan, now: float) -> None:
        """Take another contact plan from now on.

        Raises:
            InputError: a contact of it has no range, or a range is impossible; the plan before stays.
        """
        self.forwarder.update(plan, now)
        self.ltp.engine.plan_changed(now)
        self._names.update({number: name for name, number in plan.nodes.items()})

    def submit(self, submission: Submission, now: float, done: Done) -> None:
        """Make a bundle for an application; `done` is told when it is durable, or that it is not accepted.

        Raises:
            BundleError: the bundle would break a rule of RFC 9171.
        """
        try:
            self.local.submit(submission, now, done)
        except StorageFullError as error:
            self._custody.lose(error, now)
            done(SubmissionError(str(error)))

    def act(self, action: Callable[[float], object], now: float) -> None:
        """Do something to the mailboxes; `advance` afterwards makes it durable."""
        self._unless_full(action, now)
        self._custody.touch()

    def _unless_full(self, act: Callable[[float], object], now: float) -> bool:
        """Do one thing; returns whether it says that there is more to do. A full disk undoes what came in meanwhile."""
        try:
            return bool(act(now))
        except StorageFullError as error:
            self._custody.lose(error, now)
            return False

    # Sources and sinks

    def _source(self, flow: FlowConfig, now: float) -> Source:
        index = self._number("flow", flow.name)
        if flow.arrivals == "backlog":
            return BacklogSource(flow, index, now, lambda key: key in self.forwarder.held)
        return TrafficSource(flow, self.config.seed, index=index, after=now)

    def _generate(self, now: float) -> None:
        for source in self.flows:
            if source.next_time is None or source.next_time > now:
                continue
            flow = source.flow
            for offered in source.take(now):
                key = self._accept(
                    self._payload(flow, offered),
                    flow.service,
                    Eid.ipn(self.config.numbers[offered.destination], flow.service),
                    offered.priority,
                    flow.lifetime,
                    now,
                    {"flow": flow.name, **({"tenant": flow.tenant} if flow.tenant else {})},
                )
                if not source.stored(offered, key, now):
                    break
            self._put("flow", flow.name, source.index)

    @staticmethod
    def _payload(flow: FlowConfig, offered: Offered) -> bytes:
        if flow.file is not None:
            return file_part(flow.file, offered.number, flow.size)
        return payload(flow.name, offered.number, offered.size)

    def _accept(
        self,
        data: bytes,
        service: int,
        destination: Eid,
        priority: ServiceClass,
        lifetime: float,
        now: float,
        details: dict[str, object],
    ) -> int | None:
        """An application here sends a payload; returns its key in the store, None where there was no room."""
        bundle = Bundle.create(
            Eid.ipn(self.config.number, service),
            destination,
            data,
            CreationTimestamp(self.clock.dtn_time(now), self.store.reserve("bundles", "sequence")),
            round(lifetime * 1000),
            service_class=priority,
        )
        details = {
            **details,
            "class": priority.name.lower(),
            "source": self.config.name,
            "destination": self.destination(bundle),
            "size": len(data),
            "lifetime": lifetime,
        }
        stored = self._store(bundle, encode(bundle), None, Step.ACCEPTED, details, now)
        return stored.key if isinstance(stored, Held) else None

    def _deliver(self, held: Held, now: float) -> None:
        """A bundle has come to its destination."""
        bundle, _ = decode_from(self.store.load(held.key), 0)
        service = bundle.destination.service
        if service == SINK or self.receivers.at(service) is not None:
            self._delivered(held, bundle, now)
        else:
            self.local.arrived(held, bundle, now)

    def _delivered(self, held: Held, bundle: Bundle, now: float) -> None:
        """The application has it: record that, then let it leave the store."""
        said = self.receivers.deliver(bundle.destination.service, bundle.payload)
        if said["intact"]:
            self._answer(bundle, now)
        self._custody.end(held, Step.DELIVERED, now, said)
        self.store.confirm_delivery(held.key)
        created = self.clock.from_dtn_time(bundle.timestamp.time_ms)
        self.metrics.latency(held.priority, now - created)
        self.forwarder.release(held)

    def _answer(self, bundle: Bundle, now: float) -> None:
        """The application's reply, which becomes durable together with the delivery of what it answers."""
        receiver = self.receivers.at(bundle.destination.service)
        if receiver is None or receiver.reply is None:
            return
        reply, name = receiver.reply, str(bundle.id)
        self._accept(
            payload(f"{receiver.flow}.reply/{name}", 0, reply.size),
            receiver.service,
            bundle.source,
            bundle.service_class if reply.service_class is None else ServiceClass[reply.service_class.upper()],
            bundle.lifetime_ms / 1000 if reply.lifetime is None else reply.lifetime,
            now,
            {
                "flow": f"{receiver.flow}.reply",
                "answers": name,
                **({"tenant": receiver.tenant} if receiver.tenant else {}),
            },
        )

    # Convergence layer events

    def _handle(self, event: LayerEvent, now: float) -> None:
        forwarder = self.forwarder
        match event:
            case Received():
                self._received(event, now)
            case Sent(tags=tags):
                for leg in _legs(tags):
                    forwarder.on_sent(leg)
            case Taken(tags=tags):
                for leg in _legs(tags):
                    self._taken(leg, now)
            case Returned(tags=tags, reason=reason, refused=refused):
                self.metrics.returned[reason] += 1
                for leg in _legs(tags):
                    forwarder.on_returned(leg, now, refused=refused)
                    self._goes_on(leg, now)
            case PeerUp(peer=peer):
                forwarder.heard(peer, now)
            case PeerDown(peer=peer, retries=retries):
                forwarder.failed(peer, now, retries=retries)

    def _received(self, event: Received, now: float) -> None:
        for data in event.parts:
            position = 0
            try:
                while position < len(data):
                    start = position
                    bundle, position = decode_from(data, position)
                    details: dict[str, object] = {"peer": event.peer or ""}
                    self._store(bundle, bytes(data[start:position]), event.peer, Step.RECEIVED, details, now)
            except BundleError:
                self.metrics.malformed += 1
            except StorageFullError:
                if event.receipt is not None:
                    event.layer.refuse(event.receipt, now)
                return
        if event.receipt is not None:
            self._custody.owe(event.layer, event.receipt)

    def _taken(self, leg: Leg, now: float) -> None:
        self.forwarder.on_taken(leg)
        if leg.returned:
            # The neighbour took it, and it is here once more already: the one copy that counts is this one.
            self._goes_on(leg, now)
            return
        held, peer = leg.held, {"peer": leg.neighbour}
        if held.legs or self.forwarder.keeps_copies:
            self._custody.begin(Record(now, self.config.name, Step.COPIED, held.bundle, peer), held, fresh=False)
            self._goes_on(leg, now)
            return
        self._leaves(held, leg.neighbour, now)

    def _leaves(self, held: Held, peer: str, now: float) -> None:
        """A neighbour is responsible for the bundle now, and this node no longer."""
        self.forwarder.release(held)
        # It may come back when the way it took proves closed, so its ID is forgotten; its destination remembers it.
        self.store.delete(held.key, forget=True)
        record = Record(now, self.config.name, Step.FORWARDED, held.bundle, {"peer": peer})
        self._custody.begin(record, held, fresh=False)

    def _goes_on(self, leg: Leg, now: float) -> None:
        """A leg is over and the bundle still here: find another way, unless others carry it."""
        held = leg.held
        if held.taken and not self.forwarder.keeps_copies:
            if not held.legs:
                self._leaves(held, min(held.taken), now)
            return
        if not held.legs:
            self.store.set_state(held.key, BundleState.QUEUED)
        self.forwarder.route(held, now)

    def _store(
        self, bundle: Bundle, octets: bytes, peer: str | None, step: Step, details: dict[str, object], now: float
    ) -> Held | StorageFullError | None:
        """Put a bundle into the store: its entry, the error when one of this node's finds no room, None when it is
        there already."""
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
            self._custody.lose(error, now)
            self._custody.note(
                Record(now, self.config.name, Step.REFUSED, name, {**details, "reason": str(error)}),
                bundle.service_class,
            )
            if peer is not None:
                raise
            return error
        for victim in added.evicted:
            self._discard(victim.key, Step.DROPPED, now, "evicted")
        if added.key is None:
            self.forwarder.came_back(name, peer)
            self._custody.note(Record(now, self.config.name, Step.DUPLICATE, name, details), bundle.service_class)
            return None
        held = Held(added.key, name, self.destination(bundle), len(octets), bundle.service_class, expires, now, peer)
        self._hold(held)
        self._custody.begin(Record(now, self.config.name, step, name, details), held, fresh=True)
        return held

    def _lost(self, held: Held) -> None:
        self.forwarder.release(held)
        self.local.lost(held)

    def _hold(self, held: Held) -> None:
        self.forwarder.hold(held)
        heapq.heappush(self._expiries, (held.expires, held.key))

    def _commit(self, now: float) -> bool:
        fresh = self._custody.commit(now)
        if fresh is None:
            return False
        for held in fresh:
            self.local.durable(held)
        self.local.committed(now)
        for held in fresh:
            self._dispatch(held, now)
        return True

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
        if held is None or self.local.applications.in_application(key):
            return
        self.local.applications.forget(key)
        self.forwarder.remove(held, now)
        self._custody.end(held, step, now, {"reason": reason})
        self.store.delete(key)

    def _fetch(self, leg: Leg, now: float) -> bytes | None:
        """A bundle as it leaves: age told, hop counted, this node named. It ends here where it must not leave."""
        held = leg.held
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
        self.store.set_state(held.key, BundleState.FORWARDING, handler=leg.neighbour)
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
        ours = (BundleState.DELIVERING, BundleState.AWAITING_DELIVERY)
        for record in list(self.store.iterate(BundleState.FORWARDING, BundleState.QUEUED, *ours)):
            bundle, _ = decode_from(self.store.load(record.key), 0)
            if str(bundle.id) in delivered:
                # The node ended between the ledger and the commit that a reply belongs to.
                self._answer(bundle, now)
                self.store.confirm_delivery(record.key)
                continue
            held = Held(
                record.key,
                str(bundle.id),
                self.destination(bundle),
                record.size,
                ServiceClass(record.service_class),
                record.expiry,
                record.added,
                record.received_from or None,
            )
            self._hold(held)
            if record.state in ours:
                self.local.arrived(held, bundle, now, doubtful=bool(record.handler))
            else:
                self._dispatch(held, now)
            for source in self.flows:
                if isinstance(source, BacklogSource) and bundle.source == self._endpoint(source.flow):
                    source.adopt(held.key)

    def _endpoint(self, flow: FlowConfig) -> Eid:
        return Eid.ipn(self.config.number, flow.service)

    def destination(self, bundle: Bundle) -> str:
        """The node that a bundle goes to, or its endpoint as text where the network has no such node."""
        endpoint = bundle.destination
        return self._names.get(endpoint.node, str(endpoint))


def _legs(tags: Iterable[object]) -> list[Leg]:
    """The legs that a layer's tags name, as far as they still matter."""
    return [tag for tag in tags if isinstance(tag, Leg) and not tag.done]
