"""How fast mission time may run on this machine: measured costs against what a scenario offers.

A burst of images leaves its source at the link's rate times k, and every hop of its way is work for the same
processors: the nodes, the switches and the delay line. What they cannot do in that time makes what follows late.
"""

from __future__ import annotations

import math
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from marsnet.dtn.ltp import ConstantPeer, LtpConfig, LtpEngine, RedPartReceived
from marsnet.dtn.store import BundleStore
from marsnet.errors import EnvironmentLacksError
from marsnet.model.scenario import Scenario
from marsnet.model.topology import Topology
from marsnet.model.traffic import Flow
from marsnet.plan.types import ContactPlan
from marsnet.worlds.nodes import Load, flow_config, offered
from marsnet.worlds.spec import IP_UDP_OVERHEAD

LARGEST = 600.0
"""No rate is chosen above this: a host millisecond would weigh more than 0.6 s of mission time."""
_USE = 0.3
"""Share of the processors that a run may take on the average in comfort: the rest is for bursts."""
_MOST = 0.8
"""Share of the processors that it may take at a rate that is asked for."""
_NODE, _BETWEEN = 7, 11
"""What a frame costs on a hop beyond LTP's engines, in datagrams from socket to socket: in the two nodes (asyncio,
queues, pacing), and between them (two switches, a delay line). Seen where a datagram took 7 µs: 50 and 80 µs."""
_BLOCK, _BLOCKS, _BUNDLES, _DATAGRAMS, _SLEEPS = 100_000, 10, 50, 2000, 50
_NAP = 0.002


@dataclass(frozen=True, slots=True)
class Speed:
    """What a run's work costs here.

    Attributes:
        segment: processor seconds that LTP's engines take for a segment, both ends together.
        datagram: processor seconds for a datagram from socket to socket.
        bundle: seconds to make a bundle durable and delete it again.
        wake: seconds by which a process that sleeps wakes up late, 95th percentile.
        cores: processors.
    """

    segment: float
    datagram: float
    bundle: float
    wake: float
    cores: int

    @property
    def node(self) -> float:
        """Processor seconds of both nodes for a frame on one hop."""
        return self.segment + _NODE * self.datagram

    @property
    def hop(self) -> float:
        """Processor seconds of everything for a frame on one hop."""
        return self.node + _BETWEEN * self.datagram


def measure() -> Speed:
    """Time each kind of work for a fraction of a second."""
    return Speed(_segment_cost(), _datagram_cost(), _bundle_cost(), _wake_late(), len(os.sched_getaffinity(0)))


def _datagram_cost() -> float:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        sender.connect(receiver.getsockname())
        receiver.settimeout(1.0)
        octets, began = bytes(1400), time.process_time()
        for _ in range(_DATAGRAMS):
            sender.send(octets)
            receiver.recv(2000)
        return (time.process_time() - began) / _DATAGRAMS


def _wake_late() -> float:
    late = []
    for _ in range(_SLEEPS):
        due = time.monotonic() + _NAP
        time.sleep(_NAP)
        late.append(time.monotonic() - due)
    return sorted(late)[_SLEEPS * 95 // 100]


def _segment_cost() -> float:
    sender, receiver = (LtpEngine(number, LtpConfig(require_confirm=False)) for number in (1, 2))
    sender.add_peer(2, ConstantPeer())
    receiver.add_peer(1, ConstantPeer())
    segments, began = 0, time.process_time()
    for _ in range(_BLOCKS):
        sender.send(2, bytes(_BLOCK), 0.0)
        received = False
        while not received:
            sender.advance(0.0)
            for _, octets, _ in sender.take_datagrams():
                receiver.receive(cast("bytes", octets), 0.0, 1)
                segments += 1
            receiver.advance(0.0)
            for _, octets, _ in receiver.take_datagrams():
                sender.receive(cast("bytes", octets), 0.0, 2)
            received = any(isinstance(event, RedPartReceived) for event in receiver.take_events())
    return (time.process_time() - began) / segments


def _bundle_cost() -> float:
    with tempfile.TemporaryDirectory(prefix="marsnet-calibrate-") as folder:
        store = BundleStore(folder, sync=False)
        began = time.monotonic()
        for number in range(_BUNDLES):
            added = store.add(
                bytes(1000),
                bundle_id=number.to_bytes(4, "big"),
                source="ipn:1.1",
                destination="ipn:2.1",
                service_class=2,
                expiry=1.0,
                now=0.0,
            )
            store.commit()
            if added.key is not None:
                store.delete(added.key)
        store.close()
        return (time.monotonic() - began) / _BUNDLES


def demand(scenario: Scenario, topology: Topology, speed: Speed) -> float:
    """Processor seconds that a run needs for one mission second of a scenario, on the average."""
    work = sum(load.bundles * _journey(load, hops, topology, speed) for _, load, hops in _loads(scenario, topology))
    return work / scenario.duration


def keeps_up(scenario: Scenario, topology: Topology, plan: ContactPlan) -> float:
    """The largest rate at which this machine keeps up with a scenario in comfort, mission seconds per host second."""
    speed = measure()
    easy = speed.cores * _USE / demand(scenario, topology, speed)
    return min(LARGEST, easy, _held(scenario, topology, plan, speed))


def check_holds(rate: float, scenario: Scenario, topology: Topology, plan: ContactPlan) -> None:
    """Measure, and refuse a rate that this machine cannot hold.

    Raises:
        EnvironmentLacksError: naming the largest rate that it can.
    """
    largest = _held(scenario, topology, plan, measure())
    if rate > largest:
        raise EnvironmentLacksError(
            f"this machine cannot hold {scenario.name!r} at rate {rate:g}: the largest that it can is {largest:.3g}",
            fix=f"run it with --rate {math.floor(largest) or largest:.3g}, or try all the same with --force-rate",
        )


def _loads(scenario: Scenario, topology: Topology) -> Iterator[tuple[Flow, Load, int]]:
    """Each flow, what it offers, and the least number of hops that it takes."""
    for flow in scenario.traffic:
        config = flow_config(scenario, topology, flow)
        ends = {config.destination, *(item.destination for item in config.trace)} - {"", flow.source}
        yield flow, offered(config), max((_hops(topology, flow.source, end) for end in ends), default=1)


def _hops(topology: Topology, source: str, destination: str) -> int:
    """Links from node to node; 1 where none lead there."""
    seen, ring, hops = {source}, {source}, 0
    while ring and destination not in ring:
        ring = {end for link in topology.links if ring & set(link.between) for end in link.between} - seen
        seen |= ring
        hops += 1
    return max(1, hops) if ring else 1


def _frames(load: Load, topology: Topology) -> float:
    mtu = min(link.mtu for link in topology.links) - IP_UDP_OVERHEAD
    return 1 + load.size // mtu


def _journey(load: Load, hops: int, topology: Topology, speed: Speed) -> float:
    """Processor seconds that a bundle takes on its whole way."""
    return hops * (speed.bundle + _frames(load, topology) * speed.hop)


def _held(scenario: Scenario, topology: Topology, plan: ContactPlan, speed: Speed) -> float:
    """The largest rate at which the work fits into the processors, and what is late into the budget."""
    budget = scenario.fidelity
    limits = [speed.cores * _MOST / demand(scenario, topology, speed), budget.mission_lateness_p99 / speed.wake]
    for flow, load, hops in _loads(scenario, topology):
        rates = [contact.rate for contact in plan.contacts if contact.source == flow.source]
        if rates:
            lasts = 8 * load.together * load.size / max(rates)
            alone = load.together * (speed.bundle + _frames(load, topology) * speed.node)
            together = load.together * _journey(load, hops, topology, speed) / min(speed.cores, hops + 1)
            limits += [_spread(alone, lasts, budget.node_lateness_p99)]
            limits += [(budget.mission_lateness_p99 + lasts) / work for work in (alone, together)]
    return min(limits)


def _spread(work: float, lasts: float, late: float) -> float:
    """The largest rate at which a node is late by no more host seconds than that with a burst.

    At rate k the burst leaves it within `lasts` / k host seconds; what it needs beyond them it is late by.
    """
    return lasts / (work - late) if work > late else math.inf
