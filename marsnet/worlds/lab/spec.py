"""What a lab consists of, and every name and address that follows from it.

Names and addresses are computed from the lab's name and the node numbers alone, so that any process can find the parts
of a lab again without having built it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from marsnet.errors import InputError

Segment = Literal["earth", "mars"]
SEGMENTS: tuple[Segment, ...] = ("earth", "mars")

LABEL_LAB, LABEL_NODE, LABEL_RUN, LABEL_ROLE = "marsnet.lab", "marsnet.node", "marsnet.run", "marsnet.role"
ROLE_NODE, ROLE_HOLDER = "node", "holder"

DATA_NETWORK, DATA_PREFIX = "10.77", 16
MANAGEMENT_NETWORK, MANAGEMENT_PREFIX = "172.30", 16
MANAGEMENT_BRIDGE = "mgmt"
LAB_NUMBER = 65534
"""The number whose management address is the lab's own end of the management network."""
CONTROLLER_PORTS: dict[Segment, int] = {"earth": 6653, "mars": 6654}
"""OpenFlow port of each segment's controller on the lab's loopback (6653: IANA's port for OpenFlow)."""
CONTROLLER_API_PORTS: dict[Segment, int] = {"earth": 8653, "mars": 8654}
"""HTTP port of each segment's controller: plan, state, metrics."""
PROMETHEUS_PORT = 9090
DELAY_LINE_METRICS_PORT = 9109
NODE_METRICS_PORT = 9100
HOST_PORT = 1
"""Number of the port that joins a node's switch to the node's container."""

RUNTIME_ROOT = Path("/run/marsnet")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use.

    Attributes:
        cpus: processors, fractions allowed; None for no limit.
        memory: bytes; None for no limit.
        pids: processes and threads.
    """

    cpus: float | None = None
    memory: int | None = 512 * 1024**2
    pids: int = 256


@dataclass(frozen=True)
class NodeSpec:
    """One node: a container, its switch and its two interfaces.

    Attributes:
        name: lower-case letters, digits and hyphens.
        number: the node's ipn number, 1 to 65533; addresses, datapath id and interface names follow from it.
        segment: whose controller commands the switch.
        image: Docker image.
        command: what the container runs instead of the image's entry point; empty for the image's own.
        env: environment of the container.
        config_dir: host directory mounted read-only at `/etc/marsnet`.
        state_dir: host directory mounted at `/var/lib/marsnet`; it outlives the container.
        limits: what the container may use.
        mounts: further bind mounts, host path to container path; read-only.
        held: `Lab.up` creates the container and does not start it; `Lab.start_node` does.
        metrics: what Prometheus scrapes: port and path at its management address; None for nothing.
    """

    name: str
    number: int
    segment: Segment
    image: str
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    config_dir: Path | None = None
    state_dir: Path | None = None
    limits: Limits = field(default_factory=Limits)
    mounts: dict[str, str] = field(default_factory=dict)
    held: bool = False
    metrics: tuple[int, str] | None = (NODE_METRICS_PORT, "/metrics")


@dataclass(frozen=True)
class LinkSpec:
    """One link between the switches of two nodes.

    Attributes:
        name: name of the link in the topology and in the contact plan.
        a: node at the first end.
        b: node at the second end.
        mtu: bytes of an IP packet that the link carries.
        config: queues and classes of either direction, the JSON form of `marsnet.links.fidelity.LinkConfig`; empty
            for one queue without limits of its own.
    """

    name: str
    a: str
    b: str
    mtu: int = 1500
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a link at a node's switch.

    Attributes:
        node: whose switch.
        number: OpenFlow port number.
        interface: interface name in the lab's namespace.
        link: name of the link.
        peer: node at the other end.
    """

    node: str
    number: int
    interface: str
    link: str
    peer: str


def check_lab_name(name: str) -> str:
    """The name itself.

    Raises:
        InputError: when it cannot be part of an interface, namespace or container name.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no lab name", remedy="use 1 to 32 lower-case letters, digits and hyphens, as in 'first-light'"
        )
    return name


def check_topology(nodes: Sequence[NodeSpec], links: Sequence[LinkSpec]) -> None:
    """Raise InputError for a set of nodes and links that no lab can be built of."""
    by_name: dict[str, NodeSpec] = {}
    numbers: dict[int, str] = {}
    for node in nodes:
        if not _NAME.fullmatch(node.name):
            raise InputError(f"{node.name!r} is no node name", remedy="use lower-case letters, digits and hyphens")
        if node.name in by_name:
            raise InputError(f"node {node.name!r} exists twice", remedy="give every node a name of its own")
        if not 1 <= node.number < LAB_NUMBER:
            raise InputError(f"node {node.name!r} has number {node.number}", remedy=f"use 1 to {LAB_NUMBER - 1}")
        if node.number in numbers:
            raise InputError(
                f"nodes {numbers[node.number]!r} and {node.name!r} share number {node.number}",
                remedy="give every node a number of its own",
            )
        if node.segment not in SEGMENTS:
            raise InputError(f"node {node.name!r} is in segment {node.segment!r}", remedy="use 'earth' or 'mars'")
        by_name[node.name], numbers[node.number] = node, node.name
    seen: set[str] = set()
    for link in links:
        if link.name in seen:
            raise InputError(f"link {link.name!r} exists twice", remedy="give every link a name of its own")
        seen.add(link.name)
        for end in (link.a, link.b):
            if end not in by_name:
                known = ", ".join(by_name)
                raise InputError(f"link {link.name!r} ends at {end!r}, which is no node", remedy=f"use one of: {known}")
        if link.a == link.b:
            raise InputError(f"link {link.name!r} joins {link.a!r} to itself", remedy="name two different nodes")


def ports_of(nodes: Sequence[NodeSpec], links: Sequence[LinkSpec]) -> dict[str, list[Port]]:
    """The link ports of every node's switch, numbered from 2 in the order of the links; port 1 is the container."""
    numbers = {node.name: node.number for node in nodes}
    ports: dict[str, list[Port]] = {node.name: [] for node in nodes}
    for link in links:
        for node, peer in ((link.a, link.b), (link.b, link.a)):
            number = HOST_PORT + 1 + len(ports[node])
            ports[node].append(Port(node, number, f"s{numbers[node]}-eth{number}", link.name, peer))
    return ports


def digest(nodes: Sequence[NodeSpec], links: Sequence[LinkSpec]) -> str:
    """A fingerprint of everything that `Lab.up` builds from; equal topologies have equal fingerprints."""
    document = {"nodes": [asdict(node) for node in nodes], "links": [asdict(link) for link in links]}
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def namespace_name(lab: str) -> str:
    """Name of the lab's network namespace."""
    return f"marsnet-{lab}"


def container_name(lab: str, node: str) -> str:
    """Name of the node's container."""
    return f"marsnet-{lab}-{node}"


def holder_name(lab: str, node: str) -> str:
    """Name of the container that holds the node's network namespace."""
    return f"marsnet-{lab}-{node}.net"


def runtime_dir(lab: str) -> Path:
    """Where the lab keeps its sockets, pid files and state while it is up."""
    return RUNTIME_ROOT / lab


def switch_name(number: int) -> str:
    """Name of the switch of a node."""
    return f"s{number}"


def data_address(number: int) -> str:
    """IPv4 address of a node's `eth0`."""
    return f"{DATA_NETWORK}.{number >> 8}.{number & 255}"


def management_address(number: int) -> str:
    """IPv4 address of a node's `mgmt0`."""
    return f"{MANAGEMENT_NETWORK}.{number >> 8}.{number & 255}"


def data_mac(number: int) -> str:
    """Ethernet address of a node's `eth0` (locally administered)."""
    return f"02:4d:00:00:{number >> 8:02x}:{number & 255:02x}"


def management_mac(number: int) -> str:
    """Ethernet address of a node's `mgmt0` (locally administered)."""
    return f"02:4d:01:00:{number >> 8:02x}:{number & 255:02x}"
