"""How fast mission time may run on this machine: measured work of a node against what a scenario offers."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from marsnet.dtn.ltp import ConstantPeer, LtpConfig, LtpEngine, RedPartReceived
from marsnet.dtn.store import BundleStore
from marsnet.errors import EnvironmentLacksError
from marsnet.model.scenario import Scenario
from marsnet.model.topology import Topology
from marsnet.plan.types import ContactPlan
from marsnet.worlds.nodes import flow_config, offered
from marsnet.worlds.spec import IP_UDP_OVERHEAD

LARGEST = 600.0
"""No rate is chosen above this: a host millisecond would weigh more than 0.6 s of mission time."""
_HOPS = 3
"""Stores that a bundle passes between Mars and mission control."""
_USE = 0.3
"""Share of the processors that nodes may take: the rest is for switches, links, controllers and bursts."""
_MOST = 0.8
"""Share of the processors that nodes may take at a rate that is asked for."""
_SOCKET = 15e-6
"""Seconds that sockets and switches take for a datagram on each side, which the measurement leaves out."""
_BLOCK, _BLOCKS, _BUNDLES = 100_000, 10, 50


@dataclass(frozen=True, slots=True)
class Speed:
    """What a node's work costs here.

    Attributes:
        segment: processor seconds for an LTP segment, both ends together.
        bundle: processor seconds to make a bundle durable and delete it again.
        cores: processors.
    """

    segment: float
    bundle: float
    cores: int


def measure() -> Speed:
    """Time both kinds of work for a fraction of a second."""
    return Speed(_segment_cost() + 2 * _SOCKET, _bundle_cost(), len(os.sched_getaffinity(0)))


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
                receiver.receive(octets, 0.0, 1)
                segments += 1
            receiver.advance(0.0)
            for _, octets, _ in receiver.take_datagrams():
                sender.receive(octets, 0.0, 2)
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
    """Processor seconds that the nodes need for one mission second of a scenario, on the average."""
    work = 0.0
    mtu = min(link.mtu for link in topology.links) - IP_UDP_OVERHEAD
    for flow in scenario.traffic:
        load = offered(flow_config(scenario, topology, flow))
        work += load.bundles * _HOPS * (speed.bundle + (1 + load.size // mtu) * speed.segment)
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


def _held(scenario: Scenario, topology: Topology, plan: ContactPlan, speed: Speed) -> float:
    """The largest rate at which the nodes' work fits into the processors, and their lateness into the budget."""
    fits = speed.cores * _MOST / demand(scenario, topology, speed)
    return min([fits, *(_in_time(work, lasts, scenario) for work, lasts in _bursts(scenario, topology, plan, speed))])


def _bursts(scenario: Scenario, topology: Topology, plan: ContactPlan, speed: Speed) -> Iterator[tuple[float, float]]:
    """Of each flow: processor seconds that a node needs for a burst, and mission seconds that its transmitter does."""
    mtu = min(link.mtu for link in topology.links) - IP_UDP_OVERHEAD
    for flow in scenario.traffic:
        rates = [contact.rate for contact in plan.contacts if contact.source == flow.source]
        load = offered(flow_config(scenario, topology, flow))
        work = load.together * (speed.bundle + (1 + load.size // mtu) * speed.segment)
        if rates:
            yield work, 8 * load.together * load.size / max(rates)


def _in_time(work: float, lasts: float, scenario: Scenario) -> float:
    """The largest rate at which a burst makes a node no later than the scenario's budget allows.

    At rate k the burst comes within `lasts` / k host seconds; a node that needs `work` for it is late by the rest.
    """
    budget = scenario.fidelity
    within_host = lasts / (work - budget.node_lateness_p99) if work > budget.node_lateness_p99 else math.inf
    return min(within_host, (budget.mission_lateness_p99 + lasts) / work)
