"""Runs the console script on real containers, waits for what it says, and looks at what it leaves."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from marsnet.dtn.node.ledger import read_ledgers
from marsnet.runs.lives import Life, lives
from marsnet.worlds import images
from marsnet.worlds.lab import namespace, spec

ROOT = Path(__file__).resolve().parents[3]
MARSNET = str(Path(sys.executable).with_name("marsnet"))
SHORT = Path(__file__).with_name("short.yaml")
FIRST_LIGHT = ROOT / "topologies" / "first_light.yaml"
NOTHING: dict[str, Any] = {"containers": [], "namespace": False, "processes": [], "runtime": False}


def marsnet(*arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the console script to its end."""
    return subprocess.run([MARSNET, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False)


def container(lab: str, node: str) -> Any:
    """A node's container."""
    return images.connect().containers.get(spec.container_name(lab, node))


def inodes_of(lab: str) -> list[int]:
    """What identifies the network namespaces of a lab that is up: its own and those of its nodes."""
    client = images.connect()
    holders = [c for c in client.containers.list(filters={"label": f"marsnet.lab={lab}"}) if c.name.endswith(".net")]
    own = namespace.inode(spec.namespace_name(lab))
    assert own is not None
    return [own, *(Path(f"/proc/{c.attrs['State']['Pid']}/ns/net").stat().st_ino for c in holders)]


def left_of(lab: str, inodes: list[int]) -> dict[str, Any]:
    """Everything on this machine that carries the lab's label or lives in namespaces that were the lab's."""
    found = images.connect().containers.list(all=True, filters={"label": f"marsnet.lab={lab}"}, ignore_removed=True)
    return {
        "containers": sorted(c.name for c in found),
        "namespace": namespace.inode(spec.namespace_name(lab)) is not None,
        "processes": namespace.processes_in(inodes),
        "runtime": spec.runtime_dir(lab).exists(),
    }


@dataclass
class Running:
    """A `marsnet run` that is under way, in a process group of its own as under a shell."""

    arguments: list[str]
    output: Path
    lab: str
    inodes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        # Who was started in the background ignores SIGINT, and so would its children.
        self.process = subprocess.Popen(
            ["env", "--default-signal=INT", MARSNET, "run", *self.arguments, "--world", "emulated", "--lab", self.lab,
             "--json", "--output", str(self.output)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,))
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def until(self, pattern: str, timeout: float = 90) -> re.Match[str]:
        """Wait for a line of its progress."""
        deadline = time.monotonic() + timeout
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            assert line is not None, f"it ended before {pattern!r}: {self.said}"
            self.said.append(line)
            if match := re.search(pattern, line):
                return match

    def reached(self, mission: str) -> None:
        """Wait for a mission time, as `45 min`; remembers the lab's namespaces."""
        self.until(rf"{mission}( 0\.0 s)? of 2\.50 h$")
        if not self.inodes:
            self.inodes = inodes_of(self.lab)

    def interrupt(self) -> None:
        """Ctrl-C: the terminal signals the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self, timeout: float = 90) -> Finished:
        """Wait for its end."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        code = self.process.wait(timeout)
        self._reader.join()
        while (line := self._lines.get()) is not None:
            self.said.append(line)
        return Finished(code, out, self.said, (self.output / "latest").resolve(), self.lab, self.inodes)


@dataclass(frozen=True)
class Finished:
    """A run that has ended: exit code, standard output, lines of standard error, folder, lab and its namespaces."""

    code: int
    out: str
    said: list[str]
    folder: Path
    lab: str
    inodes: list[int]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "verdict.json").read_text())
        return content

    def lives(self) -> dict[str, Life]:
        """Every accepted bundle's life, from the ledger."""
        return lives(read_ledgers([self.folder / "ledger.jsonl"]), {})


def assert_sound(verdict: dict[str, Any], code: int) -> None:
    """Every requirement is met, and nothing speaks against the run but perhaps that this machine was late.

    How late a busy machine is says nothing about the product; that it is told as exit code 3 is part of it.
    """
    assert all(requirement["passed"] for requirement in verdict["requirements"]), verdict["requirements"]
    assert [reason for reason in verdict["invalid"] if "lateness" not in reason] == []
    assert (code, verdict["valid"], verdict["passed"]) in {(0, True, True), (3, False, False)}


class Runs:
    """Starts runs, and clears away what a test that failed has left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Running] = []
        self.labs: set[str] = set()

    def new_lab(self) -> str:
        name = f"r-{uuid.uuid4().hex[:8]}"
        self.labs.add(name)
        return name

    def start(self, *options: str, lab: str | None = None, scenario: Path = SHORT) -> Running:
        running = Running([str(scenario), *options], self._folder / f"runs-{len(self._started)}", lab or self.new_lab())
        self._started.append(running)
        return running

    def close(self) -> None:
        for running in self._started:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()
        for lab in self.labs:
            marsnet("down", lab)


@dataclass(frozen=True)
class StandingLab:
    """A lab that is up: its name, and what the two `marsnet up` said."""

    name: str
    arguments: tuple[str, ...]
    first: subprocess.CompletedProcess[str]
    again: subprocess.CompletedProcess[str]
