"""Real node processes on loopback, a contact plan between them, and their HTTP interfaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
EPOCH = "2026-10-01T00:00:00.000Z"


_networks = count()


def addresses() -> str:
    """The first three octets, and the last one's beginning, of loopback addresses that no other process uses."""
    block = (4096 + (os.getpid() * 64 + next(_networks)) % (2**20 - 4096)) << 4
    return f"127.{block >> 16}.{block >> 8 & 255}.{block & 255}"


def line_plan(names: list[str], *, owlt: float, rate: float = 1e7, start: float = -100.0) -> dict[str, Any]:
    """A plan in which each node always has contact with the next one."""
    pairs = [pair for a, b in pairwise(names) for pair in ((a, b), (b, a))]
    return {
        "marsnet": "plan/1",
        "epoch": EPOCH,
        "start": start,
        "end": 1e6,
        "nodes": {name: number for number, name in enumerate(names, 1)},
        "meta": {},
        "contacts": [
            {"link": "--".join(sorted(p)), "source": p[0], "target": p[1], "start": start, "end": 1e6, "rate": rate}
            for p in pairs
        ],
        "ranges": [{"source": a, "target": b, "start": start, "end": 1e6, "owlt": owlt} for a, b in pairs],
    }


class Node:
    """One node process."""

    def __init__(self, folder: Path, config: dict[str, Any], file: str = "node.json") -> None:
        self.folder, self.config, self.path = folder, config, folder / file
        self.url = "http://{}:{}".format(*config["metrics"])
        self.process: subprocess.Popen[str] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self) -> None:
        """Write what the configuration has become."""
        self.path.write_text(json.dumps(self.config))

    def refusal(self) -> str:
        """What it says when it does not start."""
        command = [sys.executable, "-m", "marsnet.dtn.node", "--config", str(self.path)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)
        assert ended.returncode, ended.stdout
        return ended.stderr

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.spawn()
        self.await_ready()

    def spawn(self) -> None:
        """Start it."""
        with (self.folder / "stderr.txt").open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "marsnet.dtn.node", "--config", str(self.path)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )

    def await_ready(self) -> None:
        """Wait until it says that it is ready."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "ready" in line, (self.folder / "stderr.txt").read_text()

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None:
            self.process.terminate()
            self.process.communicate(timeout=20)
            self.process = None

    def kill(self) -> None:
        """End it at once."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()
        self.process = None

    def ask(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, Any]:
        """Status and body of an answer; JSON where it is JSON."""
        sent = dict(headers)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=sent)  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                status, content, kind = answer.status, answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            status, content, kind = error.code, error.read(), error.headers.get_content_type()
        return status, json.loads(content) if kind == "application/json" and content else content


@contextmanager
def running(
    folder: Path, names: list[str], *, owlt: float = 0.01, rate: float = 1.0, plan: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[dict[str, Node]]:  # fmt: skip
    """Nodes in a line, started; they are ended afterwards. An option may be a function of the node's address."""
    prefix, _, first = addresses().rpartition(".")

    def address(number: int) -> str:
        return f"{prefix}.{int(first) + number}"

    numbers = {name: number for number, name in enumerate(names, 1)}
    plan = plan or line_plan(names, owlt=owlt)
    origin = time.monotonic()
    nodes = {}
    for name, number in numbers.items():
        place = folder / name
        place.mkdir(parents=True)
        (place / "plan.json").write_text(json.dumps(plan))
        near = {c["target"] for c in plan["contacts"] if c["source"] == name}
        nodes[name] = Node(
            place,
            {
                "name": name,
                "number": number,
                "numbers": numbers,
                "clock": {"epoch": EPOCH, "rate": rate, "origin": origin},
                "plan": "plan.json",
                "state": str(place / "state"),
                "durability": "process",
                "listen": {"ltp": [address(number), 1113]},
                "neighbours": {other: {"address": address(numbers[other])} for other in sorted(near)},
                "metrics": [address(number), 8090],
                "hiccup": 0.25,
                **{key: value(address(number)) if callable(value) else value for key, value in options.items()},
            },
        )
    try:
        for node in nodes.values():
            node.spawn()
        for node in nodes.values():
            node.await_ready()
        yield nodes
    finally:
        for node in nodes.values():
            node.stop()
