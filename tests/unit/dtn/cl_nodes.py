"""Real node processes on loopback that speak one convergence layer or another, on real time and without a plan."""

from __future__ import annotations

import base64
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from node_process import Node

NUMBERS = {"alpha": 1, "beta": 2, "gamma": 3}
PATIENCE = 20.0
"""Host seconds that anything may take."""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of the loopback that nobody has now, below those that the kernel hands to whoever connects."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def free_ports(count: int) -> list[int]:
    """Several, all different."""
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen[free_port(socket.SOCK_DGRAM)] = None
    return list(chosen)


def line(folder: Path, layer: str, names: tuple[str, ...] = ("alpha", "beta"), **options: Any) -> dict[str, Node]:
    """Nodes in a line on one host, told apart by their ports alone; not started."""
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    nodes = {}
    for name in names:
        at = names.index(name)
        near = names[max(at - 1, 0) : at] + names[at + 1 : at + 2]
        config = {
            "name": name,
            "number": NUMBERS[name],
            "numbers": {other: NUMBERS[other] for other in names},
            "state": "state",
            "durability": "process",
            "listen": {layer: ["127.0.0.1", ports[name]]},
            "neighbours": {o: {"convergence": layer, "address": "127.0.0.1", "port": ports[o]} for o in near},
            "metrics": ["127.0.0.1", free_port()],
            **options,
        }
        nodes[name] = Node(folder / name, config)
    return nodes


@contextmanager
def started(nodes: dict[str, Node]) -> Iterator[dict[str, Node]]:
    """Start them, and end those that run afterwards."""
    try:
        for node in nodes.values():
            node.spawn()
        for node in nodes.values():
            node.await_ready()
        yield nodes
    finally:
        for node in nodes.values():
            node.stop()


def send(node: Node, destination: str, payload: bytes, **fields: Any) -> str:
    """Hand a payload to a node; returns the bundle's id."""
    query = "&".join(f"{key}={value}" for key, value in {"destination": destination, **fields}.items())
    status, answer = node.ask("POST", f"/v1/bundles?{query}", payload, {"Content-Type": "application/octet-stream"})
    assert status == 201, answer
    return str(answer["bundle"])


def take(node: Node, service: int = 5, wait: float = PATIENCE) -> bytes | None:
    """The next payload at a service of a node, acknowledged; None when none comes in time."""
    status, found = node.ask("GET", f"/v1/endpoints/{service}/next?wait={wait}")
    if status == 204:
        return None
    assert status == 200, found
    for first in (True, False):
        # It may be said as often as one likes; the answer tells whether it was said before.
        status, answer = node.ask("DELETE", f"/v1/endpoints/{service}/bundles/{found['bundle']}")
        assert (status, answer.get("first")) == (200, first), answer
    return base64.b64decode(found["payload"])


def take_all(node: Node, count: int, service: int = 5) -> list[bytes]:
    """So many payloads, and no more than those."""
    found = []
    for _ in range(count):
        payload = take(node, service)
        assert payload is not None, f"{len(found)} of {count} came"
        found.append(payload)
    assert take(node, service, wait=0.3) is None
    return found


def figure(node: Node, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    _, text = node.ask("GET", "/metrics")
    total = 0.0
    for row in text.decode().splitlines():
        if row.startswith(name) and row[len(name)] in "{ " and all(f'{k}="{v}"' in row for k, v in labels.items()):
            total += float(row.rsplit(" ", 1)[1])
    return total


def until(node: Node, name: str, at_least: float, **labels: str) -> None:
    """Wait for a metric: each question is answered by the node's own loop."""
    limit = time.monotonic() + PATIENCE
    while figure(node, name, **labels) < at_least:
        assert time.monotonic() < limit, f"{name} {labels} stayed below {at_least}"
        time.sleep(0.05)
