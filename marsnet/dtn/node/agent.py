"""The bundle node's core, sans-IO: what to do with bundles, datagrams and the passing of mission time.

Custody is in `custody`, ways in `ways`, queues in `forwarding`, protocols between nodes in the convergence layers, what
they say in `handling`, traffic of the node's own in `flowing`; this module joins them and delivers bundles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from marsnet.clock import MissionClock
from marsnet.dtn.apps.submission import Done, Submission, SubmissionError
from marsnet.dtn.bpv7 import (
    Bundle,
    ServiceClass,
)
from marsnet.dtn.ltp import Train
from marsnet.dtn.node.arriving import Arrivals
from marsnet.dtn.node.assembly import assemble
from marsnet.dtn.node.conditions import Conditions, Skew, Tamperer, TrueTimeLedger
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.custody import Custody
from marsnet.dtn.node.delivery import Delivery
from marsnet.dtn.node.flowing import Flows
from marsnet.dtn.node.handling import Handler
from marsnet.dtn.node.keeping import Keeper
from marsnet.dtn.node.layer import Layer
from marsnet.dtn.node.leaving import Departures
from marsnet.dtn.node.ledger import Ledger, Step
from marsnet.dtn.node.local import LocalTraffic
from marsnet.dtn.node.making import Maker
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.queues import Held, Leg
from marsnet.dtn.node.reasons import DropReason
from marsnet.dtn.node.receivers import Receivers
from marsnet.dtn.node.recovery import AT_ONCE, THEN, Found, recover
from marsnet.dtn.recipe import Rope
from marsnet.dtn.store import BundleState, StorageFullError, Store
from marsnet.errors import InputError
from marsnet.plan.types import ContactPlan

SINK = 1
"""Service number of the application that takes delivered bundles."""


class BundleAgent:
    """One node of the overlay: receives, stores, routes, sends and delivers bundles.

    The caller feeds `receive` and `advance` with mission time, sends what `take_datagrams` returns and calls `advance`
    again at `next_deadline`.

    Attributes:
        clock_steps: how often the mission clock went back.
    """

    def __init__(
        self,
        config: NodeConfig,
        plan: ContactPlan,
        store: Store,
        ledger: Ledger,
        metrics: NodeMetrics,
        now: float,
        delivered: Iterable[str] = (),
        layers: Iterable[Layer] = (),
        folder: Path | None = None,
        *,
        trains: bool = False,
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
            trains: whether LTP's red data is to leave as trains.
        """
        config = config.model_copy(update={"numbers": {**plan.nodes, **config.known_numbers()}})
        self.skew = Skew()
        self.tamperer = Tamperer(f"{config.seed}/{config.name}/tampering")
        ledger = TrueTimeLedger(ledger, self.skew)
        self.config, self.store, self.ledger, self.metrics = config, store, ledger, metrics
        self.clock_steps, self._last = 0, now
        self._others: float | None = None
        """When anything but LTP has something to do next (infinite: never); None where that has to be found out."""
        if isinstance(config.clock, str):
            raise InputError(
                f"the clock {config.clock!r} of node {config.name!r} is not set", remedy="give its numbers"
            )
        self.clock = MissionClock(config.clock.epoch, config.clock.rate, config.clock.origin)
        boots = store.reserve("node", "boots")
        store.commit()
        self.forwarder, self.layers, self.ltp = assemble(
            config, self.clock, plan, now, boots, layers, self._leaving, trains=trains
        )
        self._plan = plan
        self._custody = Custody(config.name, store, ledger, metrics, self._lost)
        self.keeper = Keeper(config, self.clock, store, self._custody, self.forwarder, now, boots)
        self.maker = Maker(self.keeper)
        self.arrivals = Arrivals(config, self.keeper, metrics)
        self.handler = Handler(config.name, self.keeper, self.arrivals, self.tamperer)
        self._departures = Departures(self.keeper, config.numbers)
        self.delivery = Delivery(config.name, self.keeper, self.clock, metrics)
        self.local = LocalTraffic(self, config.applications.echo, end=self._taken_up)
        self.keeper.mailboxes = self.local.applications
        self.receivers = Receivers(config.receivers, folder)
        self.flows = Flows(config, self.keeper, self.maker, now)
        self._stored: Iterator[Found | None] | None = recover(
            # The node may have ended between the ledger and the commit that a reply belongs to.
            self.keeper, lambda: self._last, frozenset(delivered), lambda bundle: self._answer(bundle, self._last)
        )  # fmt: skip
        self._take_up(AT_ONCE, now)
        self.forwarder.begin(now)
        metrics.watch(self)

    def receive(self, peer: str | None, datagram: bytes, now: float) -> None:
        """A datagram of LTP arrived; `peer` is the neighbour it came from, where that is known."""
        self.receive_all(peer, (datagram,), now)

    def receive_all(self, peer: str | None, datagrams: Iterable[bytes], now: float) -> None:
        """Datagrams of LTP arrived one after another, as in `receive`."""
        if peer is not None and self.forwarder.heard(peer, now):
            self._others = None
        self.ltp.receive_all(peer, datagrams, now)

    def receive_trains(self, peer: str, arrivals: Sequence[tuple[Train, int, int]], now: float) -> None:
        """Segments of trains arrived from a neighbour; see `LtpEngine.receive_trains`."""
        if self.forwarder.heard(peer, now):
            self._others = None
        self.ltp.receive_trains(peer, arrivals, now)

    def impose(self, conditions: Conditions, plan: ContactPlan, now: float) -> None:
        """Live under these conditions from the true mission time `now` on, with this contact plan."""
        self.store.set_quota(self.config.quota if conditions.quota is None else conditions.quota)
        self.tamperer.impose(conditions.tampering)
        self.skew.set(conditions.drift, now)
        if plan is not self._plan:
            self._plan = plan
            self.update_plan(plan, self.skew.local(now))

    def take_datagrams(self) -> list[tuple[str, bytes | Train, ServiceClass]]:
        """What LTP sends now: neighbour, octets, class."""
        return self.ltp.take_datagrams()

    def next_deadline(self, now: float) -> float | None:
        """Mission time of the next thing to do without input; None when there is none."""
        others = self._others
        if others is None:
            candidates = [self.forwarder.next_deadline(now), self.keeper.next_expiry]
            candidates += self.flows.deadlines(now)
            candidates += [layer.next_deadline(now) for layer in self.layers if layer is not self.ltp]
            if self._stored is not None:
                candidates.append(now)
            others = min([each for each in candidates if each is not None], default=math.inf)
            if not self.keeper.fragmenter.waits:
                self._others = others
        deadline = self.ltp.next_deadline(now)
        if deadline is None or others < deadline:
            return None if others == math.inf else others
        return deadline

    def tick(self, now: float) -> None:
        """As `advance`, where nothing has happened since but that time has passed and `receive` took datagrams in.

        Mostly that concerns LTP alone, which paces its segments: to look at nothing else costs a fraction then.
        """
        others = self._others
        if others is not None and self._last <= now < others:
            self.ltp.advance(now)
            if not self.ltp.tells:
                self._last = now
                return
        self.advance(now)

    def advance(self, now: float) -> None:
        """Do what is due by `now`: traffic, expiry, contacts, timers; then commit, acknowledge, route and send.

        A `now` before the last one is a clock that was set back. Nothing that was done is undone by it.
        """
        if now < self._last:
            self.clock_steps += 1
        self._last, self._others = now, None
        if self._stored is not None:
            self._unless_full(partial(self._take_up, THEN), now)
        elif self.flows.sources:
            self._unless_full(self.flows.generate, now)
        if (expiry := self.keeper.next_expiry) is not None and expiry <= now:
            self._unless_full(self.keeper.expire, now)
        self._unless_full(self.forwarder.advance, now)
        for layer in self.layers:
            self._unless_full(layer.advance, now)
        while True:
            for layer in self.layers:
                for event in layer.take_events():
                    self._unless_full(partial(self.handler.handle, event), now)
            if self.local.applications.due:
                self._custody.touch()
            if self.keeper.reporter.asked or self.keeper.fragmenter.waits:
                self._unless_full(self._catch_up, now)
            if not self._commit(now) and not self._unless_full(self.forwarder.fill, now):
                break
            for layer in self.layers:
                layer.advance(now)

    def _catch_up(self, now: float) -> None:
        """Put together what there was no room for, and make the status reports that became due."""
        self.keeper.fragmenter.retry(now)
        self.maker.issue_reports(now)

    def update_plan(self, plan: ContactPlan, now: float) -> None:
        """Take another contact plan from now on.

        Raises:
            InputError: a contact of it has no range, or a range is impossible; the plan before stays.
        """
        self.forwarder.update(plan, now)
        self.ltp.engine.plan_changed(now)
        self.keeper.endpoints.learn(plan.nodes)

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

    # Sinks

    def _deliver(self, held: Held, now: float, *, doubtful: bool | None = None) -> None:
        """A bundle has come to its destination; `doubtful` says of one that waited there before the node was started
        whether an application may have seen it."""
        bundle = self.delivery.open(held.key, now, first=True)
        if bundle is None:
            return
        wanted = self.local.applications.is_attached(str(bundle.destination))
        if self.delivery.is_record(held, bundle, now, wanted=wanted):
            return
        service = bundle.destination.service
        if service == SINK or self.receivers.at(service) is not None:
            self._delivered(held, bundle, now)
        elif self.config.unknown_service == "drop" and doubtful is None and not self.local.serves(bundle.destination):
            self.keeper.discard(held.key, DropReason.NO_SERVICE, now)
        else:
            self.local.arrived(held, bundle, now, doubtful=bool(doubtful))

    def _delivered(self, held: Held, bundle: Bundle, now: float) -> None:
        """The application has it: record that, then let it leave the store."""
        said = self.receivers.deliver(bundle.destination.service, bundle.payload)
        if said["intact"]:
            self._answer(bundle, now)
        self._end(held, bundle, now, said)

    def _taken_up(self, held: Held, bundle: Bundle, now: float) -> None:
        """An application outside of the node has it."""
        self._end(held, bundle, now, {"intact": True})

    def _end(self, held: Held, bundle: Bundle, now: float, said: dict[str, object]) -> None:
        self._custody.end(held, Step.DELIVERED, now, said)
        self.store.confirm_delivery(held.key)
        self.delivery.delivered(held, bundle, now)
        self.forwarder.release(held)

    def _answer(self, bundle: Bundle, now: float) -> None:
        """The application's reply, which becomes durable together with the delivery of what it answers."""
        if self.local.is_echo(bundle.destination):
            self.local.echo_back(bundle, now)
            return
        receiver = self.receivers.at(bundle.destination.service)
        if receiver is not None:
            self.flows.reply(receiver, bundle, now)

    def _lost(self, held: Held) -> None:
        self.keeper.forget(held)
        self.arrivals.forget(held.bundle)
        self.local.lost(held)

    def _commit(self, now: float) -> bool:
        fresh = self._custody.commit(now)
        if fresh is None:
            return False
        for held in fresh:
            self.local.durable(held)
        self.local.committed(now)
        for held in fresh:
            self.keeper.settle(held)
            if held.key in self.forwarder.held:
                self._dispatch(held, now)
        return True

    def _dispatch(self, held: Held, now: float) -> None:
        if held.destination == self.config.name:
            if held.key not in self.keeper.reassembly:
                self._deliver(held, now)
        else:
            self.forwarder.route(held, now)

    def _leaving(self, leg: Leg, now: float) -> bytes | Rope | None:
        return self._departures.octets(leg, now)

    def _take_up(self, most: int, now: float) -> None:
        """Take up some more of what the store held when the node began."""
        if self._stored is None:
            return
        taken = list(islice(self._stored, most))
        if len(taken) < most:
            self._stored = None
        for found in filter(None, taken):
            self._unless_full(partial(self._resume, found), now)

    def _resume(self, found: Found, now: float) -> None:
        held = found.held
        self.flows.adopt(found.source, held.key)
        if found.state in (BundleState.DELIVERING, BundleState.AWAITING_DELIVERY):
            self._deliver(held, now, doubtful=bool(self.store.record(held.key).handler))
        else:
            self._dispatch(held, now)
