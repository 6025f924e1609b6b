"""The virtual world: the same nodes and the same link physics in one process, on a loop whose time jumps.

No root, no container, no network. Node processes become objects; a crash forgets the object and keeps its store.
"""

from __future__ import annotations

import time as host_time
from collections import deque
from collections.abc import Callable

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import ServiceClass, decode_from
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.config import ClockConfig, NodeConfig
from marsnet.dtn.node.ledger import MemoryLedger, Step
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.runner import NodeRunner
from marsnet.dtn.store import BundleState, BundleStore
from marsnet.links.pipeline import Pipeline
from marsnet.units import format_duration
from marsnet.worlds.channels import Channel, channels
from marsnet.worlds.loop import VirtualLoop
from marsnet.worlds.nodes import node_configs
from marsnet.worlds.spec import ETHERNET_UDP_OVERHEAD, Frames, Outcome, Progress, RunSpec

_NS = 1_000_000_000


class _Direction:
    """One direction of a link between two nodes of the virtual world."""

    def __init__(self, channel: Channel, loop: VirtualLoop, deliver: Callable[[str, list[bytes]], None]) -> None:
        self.channel = channel
        self.pipeline = Pipeline(channel.config)
        self.pipeline.load(channel.segments)
        self.pipeline.receiver_down(channel.deaf)
        self._loop, self._deliver = loop, deliver
        self._timer: object = None
        self._at: float | None = None

    def push(self, datagram: bytes, service_class: ServiceClass) -> None:
        now = round(self._loop.time() * _NS)
        self.pipeline.push(len(datagram) + ETHERNET_UDP_OVERHEAD, int(service_class), now, datagram)
        self._reschedule()

    def _reschedule(self) -> None:
        deadline = self.pipeline.next_deadline()
        if deadline is None:
            return
        at = deadline / _NS
        if self._at is not None and self._at <= at:
            return
        self._at = at
        self._loop.call_at(at, self._due, at)

    def _due(self, at: float) -> None:
        if self._at != at:
            return
        self._at = None
        outcomes = self.pipeline.poll(round(self._loop.time() * _NS))
        arrived = [o.handle for o in outcomes if o.reason is None and not o.corrupted]
        if arrived:
            self._deliver(self.channel.source, arrived)
        self._reschedule()

    def frames(self) -> Frames:
        stats = self.pipeline.stats()
        return Frames(
            self.channel.link,
            self.channel.source,
            self.channel.target,
            stats.entered[0],
            stats.delivered[0],
            stats.queued[0],
            stats.in_flight[0],
            {reason: count[0] for reason, count in stats.dropped.items()},
        )


class _Site:
    """A node of the virtual world: what outlives a crash, and the runner that does not."""

    def __init__(self, config: NodeConfig, spec: RunSpec, ledger: MemoryLedger, loop: VirtualLoop) -> None:
        self.config, self._spec, self._ledger, self._loop = config, spec, ledger, loop
        self.store = BundleStore(None, quota_bytes=config.quota)
        self.metrics = NodeMetrics(config.name)
        self.out: dict[str, _Direction] = {}
        self.runner: NodeRunner | None = None
        self._inbox: deque[tuple[str, list[bytes]]] = deque()

    def start(self) -> None:
        """Start the node on what its store holds."""
        self.metrics = NodeMetrics(self.config.name)
        delivered = [r.bundle for r in self._ledger.records if r.node == self.config.name and r.step == Step.DELIVERED]
        now = self._loop.time()
        folder = self._spec.folder / "nodes" / self.config.name / "delivered"
        agent = BundleAgent(
            self.config, self._spec.plan, self.store, self._ledger, self.metrics, now, delivered, folder=folder
        )
        self.runner = NodeRunner(agent, self, self._loop)
        self.runner.start()

    def crash(self) -> None:
        """End the node as a power failure would: its memory is gone, its store stays."""
        if self.runner is not None:
            self.runner.stop()
            self.runner = None

    def send(self, neighbour: str, datagram: bytes, service_class: ServiceClass) -> None:
        """A transport for the runner."""
        self.out[neighbour].push(datagram, service_class)

    def arrive(self, neighbour: str, datagrams: list[bytes]) -> None:
        """Datagrams came over a link; a node that is down does not hear them."""
        if self.runner is None:
            return
        for datagram in datagrams:
            self.runner.receive(neighbour, datagram)
        self.runner.pump()

    def holdings(self) -> list[str]:
        """Ids of the bundles in the store."""
        return [str(decode_from(self.store.load(record.key), 0)[0].id) for record in self.store.iterate(*BundleState)]


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
    configs = node_configs(spec, ClockConfig(epoch=clock.epoch, rate=1.0, origin=0.0), hiccup=0.0)
    sites = {name: _Site(config, spec, ledger, loop) for name, config in configs.items()}
    directions: list[_Direction] = []
    for channel in channels(spec, clock):
        direction = _Direction(channel, loop, sites[channel.target].arrive)
        sites[channel.source].out[channel.target] = direction
        directions.append(direction)
    duration = spec.scenario.duration
    for site in sites.values():
        loop.call_at(0.0, site.start)
    for incident in spec.incidents:
        if incident.kind == "node_crash":
            loop.call_at(incident.start, sites[incident.subject].crash)
            loop.call_at(incident.end, sites[incident.subject].start)
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
        incidents=spec.incidents,
        elapsed=elapsed,
        wall=host_time.monotonic() - began,
    )
