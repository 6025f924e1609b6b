"""How fast mission time may run on this machine: measured work of a node against what a scenario offers."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass

from marsnet.dtn.ltp import ConstantPeer, LtpConfig, LtpEngine, RedPartReceived
from marsnet.dtn.store import BundleStore
from marsnet.model.scenario import Scenario
from marsnet.model.topology import Topology
from marsnet.worlds.spec import IP_UDP_OVERHEAD, mission_time

LARGEST = 600.0
"""No rate is chosen above this: a host millisecond would weigh more than 0.6 s of mission time."""
_HOPS = 3
"""Stores that a bundle passes between Mars and mission control."""
_USE = 0.3
"""Share of the processors that nodes may take: the rest is for switches, links, controllers and bursts."""
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
        start = mission_time(flow.start, scenario, topology)
        stop = scenario.duration if flow.stop is None else mission_time(flow.stop, scenario, topology)
        bundles = max(1.0, (stop - start) / flow.every) * flow.burst
        work += bundles * _HOPS * (speed.bundle + (1 + flow.size // mtu) * speed.segment)
    return work / scenario.duration


def keeps_up(scenario: Scenario, topology: Topology) -> float:
    """The largest rate at which this machine keeps up with a scenario, mission seconds per host second."""
    speed = measure()
    return min(LARGEST, speed.cores * _USE / demand(scenario, topology, speed))
