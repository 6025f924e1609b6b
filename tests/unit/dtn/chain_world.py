"""Three bundle nodes in a row, each a process with a store on disk, on loopback; and what became of their bundles."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from marsnet.dtn.node.config import DEFAULT_PORTS, ClockConfig, NodeConfig
from marsnet.dtn.node.ledger import Record, Step, read_ledgers
from marsnet.plan.files import write_plan
from marsnet.plan.types import Contact, ContactPlan, Range

NAMES = ("rover", "relay", "earth")
NUMBERS = {name: number for number, name in enumerate(NAMES, 1)}
RATE = 600.0
"""Mission seconds per second: a neighbour that did not answer is tried again within three seconds at the latest."""
EPOCH = "2026-10-01T00:00:00.000Z"
ROOT = Path(__file__).resolve().parents[3]


def chain_plan() -> ContactPlan:
    """Open contacts between neighbours, one light second apart."""
    pairs = [("rover", "relay"), ("relay", "rover"), ("relay", "earth"), ("earth", "relay")]
    return ContactPlan(
        EPOCH,
        0.0,
        1e9,
        NUMBERS,
        tuple(Contact(f"{a}-{b}", a, b, 0.0, 1e9, 2e6) for a, b in pairs),
        tuple(Range(a, b, 0.0, 1e9, 1.0) for a, b in pairs),
    )


class Chain:
    """The nodes, their folders, and a process that forks them."""

    def __init__(
        self, folder: Path, network: int, convergence: str = "ltp", *, one_address: bool = False, traffic: bool = True,
        **options: Any,
    ) -> None:  # fmt: skip
        """Write the configurations and start all nodes.

        Args:
            folder: for everything; must be empty.
            network: third octet of their addresses in 127.9.0.0/16, so that chains can run at the same time.
            convergence: protocol between them.
            one_address: all nodes at one address, at ports of their own.
            traffic: whether the nodes themselves send bundles.
            options: more of `NodeConfig`, the same for each; or functions of a node's address.
        """
        self._traffic = traffic
        self.folder, self._network, self._convergence, self._options = folder, network, convergence, options
        self.origin = time.monotonic()
        port = DEFAULT_PORTS[convergence]
        self._ports = {name: port + (5000 + NUMBERS[name] if one_address else 0) for name in NAMES}
        self._one_address = one_address
        self.pids: dict[str, int] = {}
        self._fresh: dict[int, subprocess.Popen[bytes]] = {}
        write_plan(chain_plan(), folder / "plan.json")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._zygote = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("chain_zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.configure(stop=1e9)

    def now(self) -> float:
        """Mission seconds."""
        return (time.monotonic() - self.origin) * RATE

    def configure(self, stop: float) -> None:
        """Write the configurations; traffic both ways ends at the mission time `stop`."""
        for name in NAMES:
            at = NAMES.index(name)
            neighbours = {
                other: {
                    "address": self.address(other),
                    "port": self._ports[other],
                    "convergence": self._convergence,
                }
                for other in (NAMES[at - 1 : at] + NAMES[at + 1 : at + 2])
            }
            flows = {
                "rover": [
                    self._flow("images", "earth", 300_000, 900.0, stop),
                    self._flow("log", "earth", 900, 30, stop),
                ],
                "earth": [self._flow("orders", "rover", 400, 60.0, stop)],
            }
            config = NodeConfig.model_validate(
                {
                    "name": name,
                    "number": NUMBERS[name],
                    "numbers": NUMBERS,
                    "clock": ClockConfig(epoch=EPOCH, rate=RATE, origin=self.origin),
                    "plan": "plan.json",
                    "neighbours": neighbours,
                    "state": str(self.folder / name),
                    "listen": {self._convergence: (self.address(name), self._ports[name])},
                    "hiccup": 0.5,
                    "flows": flows.get(name, []) if self._traffic else [],
                    **{k: v(self.address(name)) if callable(v) else v for k, v in self._options.items()},
                }
            )
            fresh = self.folder / f"{name}.new"
            fresh.write_text(config.model_dump_json(), encoding="utf-8")
            fresh.replace(self.folder / f"{name}.json")

    def address(self, name: str) -> str:
        """Of a node."""
        return f"127.9.{self._network}.{9 if self._one_address else NUMBERS[name]}"

    @staticmethod
    def _flow(name: str, destination: str, size: int, every: float, stop: float) -> dict[str, Any]:
        return {
            "name": name,
            "destination": destination,
            "service_class": "normal",
            "size": size,
            "every": every,
            "arrivals": "poisson",
            "lifetime": 9e8,
            "stop": stop,
        }

    def _ask(self, line: str) -> int:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(line + "\n")
        self._zygote.stdin.flush()
        return int(self._zygote.stdout.readline())

    def start(self, name: str, *, fresh: bool = False, limit: int | None = None) -> None:
        """Start a node: by forking, with files of `limit` octets at most, or `fresh` as a user would."""
        config, log = self.folder / f"{name}.json", self.folder / f"{name}.log"
        if not fresh:
            self.pids[name] = self._ask(f"start {config} {log} {limit or ''}")
            return
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "marsnet.dtn.node", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.pids[name] = process.pid
        self._fresh[process.pid] = process

    def kill(self, name: str) -> None:
        """kill -9."""
        status = self._end(name, signal.SIGKILL)
        assert status == -signal.SIGKILL, f"{name} had ended by itself ({status}): {self.log(name)}"

    def stop(self, name: str) -> None:
        """SIGTERM, and wait."""
        status = self._end(name, signal.SIGTERM)
        # One that has only just been started knows no SIGTERM yet, and dies of it.
        assert status in {0, -signal.SIGTERM}, f"{name} ended with {status}: {self.log(name)}"

    def _end(self, name: str, number: signal.Signals) -> int:
        pid = self.pids.pop(name)
        process = self._fresh.pop(pid, None)
        if process is None:
            word = "kill" if number == signal.SIGKILL else "stop"
            return os.waitstatus_to_exitcode(self._ask(f"{word} {pid}"))
        process.send_signal(number)
        return process.wait(20)

    def log(self, name: str) -> str:
        """The last that a node said."""
        path = self.folder / f"{name}.log"
        return path.read_text(encoding="utf-8")[-2000:] if path.exists() else ""

    def whereabouts(self, bundles: set[str]) -> str:
        """What the ledgers say of some bundles, and what the nodes said last."""
        steps = [
            f"{r.time:.1f} {r.node} {r.step} {r.bundle} {r.details}" for r in self.records() if r.bundle in bundles
        ]
        logs = [f"{name}: {self.log(name)}" for name in NAMES]
        return "\n".join([f"{len(bundles)} bundles at {self.now():.1f}", *steps[-60:], *logs])

    def records(self) -> Iterator[Record]:
        """All that the ledgers say so far."""
        return read_ledgers(path for name in NAMES if (path := self.folder / name / "ledger.jsonl").exists())

    def close(self) -> None:
        """End all processes."""
        for name in list(self.pids):
            self._end(name, signal.SIGKILL)
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.wait(20)
        self._zygote.stdout.close()


@contextmanager
def chain(folder: Path, network: int, convergence: str = "ltp", **options: Any) -> Iterator[Chain]:
    """A chain that is ended whatever happens."""
    made = Chain(folder, network, convergence, **options)
    try:
        yield made
    finally:
        made.close()


def wait_until(condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Wait for what other processes do.

    Raises:
        AssertionError: it did not happen in time; `what` tells what is wrong.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s: {what()}"
        time.sleep(0.05)


class Fate:
    """What the ledgers say became of all bundles.

    Attributes:
        accepted: bundles that an application was told are safe.
        delivered: how often each was handed to an application.
        damaged: delivered bundles that were not what was sent.
        ended: those that ended otherwise, with the step.
    """

    def __init__(self, records: Iterator[Record]) -> None:
        self.accepted: set[str] = set()
        self.delivered: Counter[str] = Counter()
        self.damaged: set[str] = set()
        self.ended: dict[str, Step] = {}
        for record in records:
            if record.step == Step.ACCEPTED:
                self.accepted.add(record.bundle)
            elif record.step == Step.DELIVERED:
                self.delivered[record.bundle] += 1
                if not record.details["intact"]:
                    self.damaged.add(record.bundle)
            elif record.step in (Step.DROPPED, Step.EXPIRED):
                self.ended[record.bundle] = record.step

    @property
    def missing(self) -> set[str]:
        """Accepted and not delivered."""
        return self.accepted - self.delivered.keys()

    def judge(self) -> None:
        """None lost, none twice, each intact.

        Raises:
            AssertionError: saying which.
        """
        twice = {bundle: count for bundle, count in self.delivered.items() if count > 1}
        assert not twice, f"delivered more than once: {twice}"
        assert not self.damaged, f"not intact: {self.damaged}"
        assert not self.missing, f"accepted and never delivered: {json.dumps(sorted(self.missing))}"
        assert not self.ended.keys() - self.delivered.keys(), f"ended: {self.ended}"


def free_port(address: str) -> int:
    """A TCP port that nobody has, below those that the kernel hands to whoever connects."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((address, port))
            return port
