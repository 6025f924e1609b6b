"""The virtual world: the same nodes and the same link physics in one process, on a loop whose time jumps.

No root, no container, no network. Node processes become objects; a crash forgets the object and keeps its store.
"""

from __future__ import annotations

import time as host_time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from operator import itemgetter

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import ServiceClass, decode_from
from marsnet.dtn.ltp import Train
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.conditions import Conditions
from marsnet.dtn.node.config import ClockConfig, NodeConfig
from marsnet.dtn.node.identity import name_of
from marsnet.dtn.node.ledger import MemoryLedger, Step
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.runner import NodeRunner
from marsnet.dtn.node.storage import open_store
from marsnet.dtn.recipe import Recipes
from marsnet.dtn.store import BundleState
from marsnet.links.pipeline import Pipeline
from marsnet.plan.types import Contact
from marsnet.units import format_duration
from marsnet.worlds.channels import Channel, channels, starting
from marsnet.worlds.director import Director, plan_file
from marsnet.worlds.loop import VirtualLoop
from marsnet.worlds.nodes import node_configs
from marsnet.worlds.spec import ETHERNET_UDP_OVERHEAD, NO_CONTACT, Frames, Incident, Outcome, Progress, RunSpec

_NS = 1_000_000_000
_AHEAD = 1.0
"""Seconds of a link's rate that nodes hand out at once: each wake-up costs more than a frame."""
_RED_DATA = 0
"""Type of an LTP segment that is red data and no checkpoint (RFC 5326 section 3.2.1): nothing answers it."""
_PATIENCE = 60.0
"""Mission seconds after which such segments are heard, should none follow that is answered."""
_Arrival = tuple[bytes | Train, int, int]
"""A datagram; or a train, the first of its segments that has come, and how many with that."""


class _Direction:
    """One direction of a link between two nodes of the virtual world.

    A node is woken for what it answers. Segments of a block before its checkpoint are handed over together with it:
    they arrive when they arrive but are not heard one by one.
    """

    def __init__(
        self,
        channel: Channel,
        contacts: Iterable[Contact],
        loop: VirtualLoop,
        deliver: Callable[[str, list[_Arrival]], None],
    ) -> None:
        self.channel = channel
        self._contacts = [(contact.start, contact.end) for contact in contacts]
        self._outside = 0
        self.pipeline = Pipeline(channel.config)
        self.pipeline.load(channel.segments)
        self.pipeline.receiver_down(channel.deaf)
        self._loop, self._deliver = loop, deliver
        self._at: float | None = None

    def push(self, datagrams: list[tuple[bytes | Train, ServiceClass]]) -> None:
        """Datagrams leave, one after another; outside of the true plan's contacts nobody hears them."""
        if not self._in_contact():
            self._outside += sum(d.count if isinstance(d, Train) else 1 for d, _ in datagrams)
            return
        now, push = self._now, self.pipeline.push_train
        for datagram, service_class in datagrams:
            if isinstance(datagram, Train):
                length = datagram.size + ETHERNET_UDP_OVERHEAD
                push(length, datagram.count, service_class, now, datagram, quiet=datagram.kind == _RED_DATA)
            else:
                push(len(datagram) + ETHERNET_UDP_OVERHEAD, 1, service_class, now, datagram, quiet=False)
        self._reschedule()

    def _in_contact(self) -> bool:
        now = self._loop.time()
        index = bisect_right(self._contacts, now, key=itemgetter(0)) - 1
        return index >= 0 and now < self._contacts[index][1]

    def reload(self, channel: Channel) -> None:
        """Obey another timeline from now on."""
        now = self._now
        self.pipeline.load(starting(channel.segments, now), replace_from_ns=now)
        deaf = [(max(start, now), end) for start, end in channel.deaf if end > now]
        self.pipeline.receiver_down(deaf, replace_from_ns=now)
        self._reschedule()

    def flush(self) -> None:
        """Hand over all that has arrived."""
        arrived = self.pipeline.take(self._now)
        if arrived:
            self._deliver(self.channel.source, arrived)

    @property
    def _now(self) -> int:
        return round(self._loop.time() * _NS)

    def _reschedule(self) -> None:
        deadline = self.pipeline.next_deadline()
        if deadline is None:
            return
        at = deadline / _NS + _PATIENCE
        alarm = self.pipeline.alarm()
        if alarm is not None and alarm / _NS < at:
            at = alarm / _NS
        if self._at is not None and self._at <= at:
            return
        self._at = at
        self._loop.call_at(at, self._due, at)

    def _due(self, at: float) -> None:
        if self._at != at:
            return
        self._at = None
        self.flush()
        self._reschedule()

    def frames(self) -> Frames:
        self.pipeline.take(self._now)
        stats = self.pipeline.stats()
        return Frames(
            self.channel.link,
            self.channel.source,
            self.channel.target,
            stats.entered[0] + self._outside,
            stats.delivered[0],
            stats.queued[0],
            stats.in_flight[0],
            {reason: count[0] for reason, count in stats.dropped.items()}
            | ({NO_CONTACT: self._outside} if self._outside else {}),
        )


class _Site:
    """A node of the virtual world: what outlives a crash, and the runner that does not."""

    def __init__(
        self, config: NodeConfig, spec: RunSpec, ledger: MemoryLedger, loop: VirtualLoop, recipes: Recipes
    ) -> None:
        self.config, self._spec, self._ledger, self._loop = config, spec, ledger, loop
        self.store = open_store(config, None, recipes)
        self.metrics = NodeMetrics(config.name)
        self.out: dict[str, _Direction] = {}
        self.inbound: list[_Direction] = []
        self.runner: NodeRunner | None = None
        self._leaving: dict[str, list[tuple[bytes | Train, ServiceClass]]] = {}

    def start(self) -> None:
        """Start the node on what its store holds. What came before it was up is gone."""
        self._hear()
        self.metrics = NodeMetrics(self.config.name)
        delivered = [r.bundle for r in self._ledger.records if r.node == self.config.name and r.step == Step.DELIVERED]
        now = self._loop.time()
        folder = self._spec.folder / "nodes" / self.config.name / "delivered"
        agent = BundleAgent(
            self.config,
            self._spec.plan,
            self.store,
            self._ledger,
            self.metrics,
            now,
            delivered,
            folder=folder,
            trains=True,
        )
        self.runner = NodeRunner(agent, self, self._loop)
        self.runner.listeners.append(self._leave)
        self.runner.start()

    def crash(self) -> None:
        """End the node as a power failure would: its memory is gone, its store stays."""
        self._hear()
        if self.runner is not None:
            self.runner.stop()
            self.runner = None

    def send(self, neighbour: str, datagram: bytes | Train, service_class: ServiceClass) -> None:
        """A transport for the runner. What leaves at one instant is pushed in one go."""
        leaving = self._leaving.get(neighbour)
        if leaving is None:
            leaving = self._leaving[neighbour] = []
        leaving.append((datagram, service_class))

    def _leave(self) -> None:
        if self._leaving:
            leaving, self._leaving = self._leaving, {}
            for neighbour, datagrams in leaving.items():
                self.out[neighbour].push(datagrams)

    def collect(self) -> None:
        """What need not wake the node is handed over by `_Direction`."""

    def arrive(self, neighbour: str, datagrams: list[_Arrival]) -> None:
        """Datagrams came over a link; a node that is down does not hear them."""
        if self.runner is None:
            return
        runner = self.runner
        trains: list[tuple[Train, int, int]] = []
        for datagram, first, count in datagrams:
            if isinstance(datagram, Train):
                trains.append((datagram, first, count))
                continue
            if trains:
                runner.receive_trains(neighbour, trains)
                trains = []
            runner.receive(neighbour, (datagram,))
        if trains:
            runner.receive_trains(neighbour, trains)
        runner.heed()

    def _hear(self) -> None:
        for direction in self.inbound:
            direction.flush()

    def impose(self, conditions: Conditions) -> None:
        """Live under conditions; a node that is down does not."""
        if self.runner is not None:
            spec = self._spec
            plans = {plan_file(name): plan for name, plan in spec.plans.items()}
            self.runner.impose(conditions, plans.get(conditions.plan, spec.plan) if conditions.plan else spec.plan)

    def holdings(self) -> list[str]:
        """Ids of the bundles in the store."""
        return [
            name_of(decode_from(bytes(self.store.load(record.key)), 0)[0])
            for record in self.store.iterate(*BundleState)
        ]


class _Stage:
    """Makes the virtual world's faults happen."""

    def __init__(
        self, spec: RunSpec, clock: MissionClock, sites: dict[str, _Site], directions: list[_Direction]
    ) -> None:
        self._spec, self._clock = spec, clock
        self._sites = sites
        self._directions = {(d.channel.link, d.channel.source): d for d in directions}

    def kill(self, node: str) -> None:
        self._sites[node].crash()

    def revive(self, node: str) -> None:
        self._sites[node].start()

    def impose(self, node: str, conditions: Conditions) -> None:
        self._sites[node].impose(conditions)

    def stop_controller(self, segment: str) -> None:
        raise AssertionError("refused when the run was prepared: there are no controllers here")

    def start_controller(self, segment: str) -> None:
        raise AssertionError("refused when the run was prepared: there are no controllers here")

    def relink(self, links: frozenset[str], happened: tuple[Incident, ...]) -> None:
        for channel in channels(self._spec, self._clock, happened, links):
            self._directions[channel.link, channel.source].reload(channel)


class _Cast:
    """Lets the director act on the loop, and see the ledger where its faults wait for something."""

    def __init__(self, spec: RunSpec, stage: _Stage, loop: VirtualLoop, ledger: MemoryLedger) -> None:
        self.director = Director(spec, stage)
        self._loop, self._ledger = loop, ledger
        self._seen = 0
        self._looking = False
        if self.director.watches:
            ledger.added = self._added

    def _added(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        records = self._ledger.records[self._seen :]
        self._seen += len(records)
        self.director.observe(records, self._loop.time())
        self.schedule()

    def schedule(self) -> None:
        """Wake for what comes next."""
        if (at := self.director.next_time) is not None:
            self._loop.call_at(at, self._due, at)

    def _due(self, at: float) -> None:
        if self.director.next_time is not None and self.director.next_time <= at:
            self.director.advance(at)
            self.schedule()


def run_virtual(spec: RunSpec, progress: Progress | None = None) -> Outcome:
    """Run a scenario on virtual time.

    Args:
        spec: the run.
        progress: told how far it is, a hundred times.
    """
    began = host_time.monotonic()
    loop = VirtualLoop()
    ledger = MemoryLedger()
    clock = MissionClock(spec.plan.epoch, 1.0, 0.0)
    configs = node_configs(spec, ClockConfig(epoch=clock.epoch, rate=1.0, origin=0.0), hiccup=0.0, ahead=_AHEAD)
    recipes = Recipes()
    sites = {name: _Site(config, spec, ledger, loop, recipes) for name, config in configs.items()}
    directions: list[_Direction] = []
    for channel in channels(spec, clock):
        contacts = (c for c in spec.plan.between(channel.source, channel.target) if c.link == channel.link)
        direction = _Direction(channel, contacts, loop, sites[channel.target].arrive)
        sites[channel.source].out[channel.target] = direction
        sites[channel.target].inbound.append(direction)
        directions.append(direction)
    duration = spec.scenario.duration
    for site in sites.values():
        loop.call_at(0.0, site.start)
    cast = _Cast(spec, _Stage(spec, clock, sites, directions), loop, ledger)
    loop.call_at(0.0, cast.schedule)
    if progress is not None:
        for step in range(1, 101):
            loop.call_at(duration * step / 100, progress, step / 100, f"{step:d} % of {format_duration(duration)}")
    interrupted = False
    loop.call_at(duration, loop.stop)
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        interrupted = True
    elapsed = loop.time()
    for site in sites.values():
        site.crash()
    loop.close()
    return Outcome(
        world="virtual",
        records=ledger.records,
        stored={name: site.holdings() for name, site in sites.items()},
        frames=[direction.frames() for direction in directions],
        interrupted=interrupted,
        incidents=cast.director.happened,
        elapsed=elapsed,
        wall=host_time.monotonic() - began,
    )
