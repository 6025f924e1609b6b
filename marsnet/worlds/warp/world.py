"""The warp world, seen from outside: start the guest with the scenario, follow it, bring the run back."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from marsnet.clock import parse_utc
from marsnet.errors import EnvironmentLacksError, InputError, RunInvalidError
from marsnet.model.scenario import Scenario
from marsnet.model.topology import Topology
from marsnet.worlds import images
from marsnet.worlds.machine_resources import available_memory
from marsnet.worlds.software import python_packages
from marsnet.worlds.spec import EmulatedOptions, Outcome, Progress, RunSpec
from marsnet.worlds.warp import recipe
from marsnet.worlds.warp.agent import PACKAGES
from marsnet.worlds.warp.archives import Content, pickled, unpack
from marsnet.worlds.warp.machine import Guest, Order
from marsnet.worlds.warp.needs import require_memory
from marsnet.worlds.warp.shell import MOMENT, Terminal
from marsnet.worlds.warp.snapshots import raise_failure, ready_guest, write_mission

LEAD = 600.0
"""Guest seconds from where it goes on to mission time 0, in which it builds the network; what is left costs nothing."""
CONTENT = "guest-content.txt"
"""File of a run folder: a hash of all that the guest was made of and told."""
WAKERS = "wakers.json"
"""File of a run folder: who woke the guest how often."""
_SYSTEM_MEMORY = 3 << 29
LEAST_MEMORY = 3 << 30
"""Bytes that the smallest guest has: while it boots, its root of some 800 MB is in memory twice, and one of the copies
may take half of it."""
_NODE_MEMORY = 128 << 20


@dataclass(frozen=True, slots=True)
class Replay:
    """A run that is made again to look in at a moment.

    Attributes:
        at: mission seconds.
        content: what the first run's guest was made of (`CONTENT` in its folder); empty to take it as it comes.
    """

    at: float
    content: str


def run_warp(spec: RunSpec, progress: Progress | None = None, options: EmulatedOptions | None = None) -> Outcome:
    """Run a scenario in a guest whose clock jumps when it idles, at rate 1.

    Args:
        spec: the run.
        progress: told the mission time reached.
        options: how the emulated world inside is set up; only links and datapath count.

    Raises:
        EnvironmentLacksError: QEMU, a package or memory is missing.
        RunInvalidError: the guest ended, hung, or failed inside.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="marsnet-warp-") as scratch:
        results = _mission(spec, Path(scratch), progress or _silent, options or EmulatedOptions())
        outcome = _outcome(results / "outcome.json", began)
        unpack(results / "run.tar", spec.folder)
    return outcome


def look_in(
    spec: RunSpec, replay: Replay, progress: Progress | None = None, options: EmulatedOptions | None = None
) -> None:
    """Make a run again up to a moment, with a shell there; the guest ends with the shell.

    Raises: as `run_warp`, and
        InputError: what would run is not what ran.
    """
    with tempfile.TemporaryDirectory(prefix="marsnet-warp-") as scratch:
        _mission(spec, Path(scratch), progress or _silent, options or EmulatedOptions(), replay)


def _silent(share: float, state: str) -> None:
    return None


def _mission(
    spec: RunSpec, folder: Path, tell: Progress, wanted: EmulatedOptions, replay: Replay | None = None
) -> Path:
    """Run a guest from start to end; returns the folder in `folder` of what it has sent."""
    began = time.monotonic()

    def say(step: str) -> None:
        tell(0.0, f"setting up: {step}")

    software = spec.scenario.software
    memory = guest_memory(spec.topology)
    require_memory(memory)
    made = recipe.parts(say, software.debian)
    kept = ready_guest(made, memory, say)
    packages = python_packages(software.python, say)
    scenario, files = with_files(spec.scenario)
    if packages is not None:
        files[PACKAGES] = packages
    inside = replace(spec, scenario=scenario, rate=1.0, folder=Path("/mission/run"))
    order = {
        "clock": parse_utc(spec.plan.epoch).timestamp() - LEAD,
        "seed": spec.seed,
        "links": wanted.links,
        "datapath": wanted.datapath,
    }
    entries: dict[str, Content] = {
        "mission/order.json": json.dumps(order).encode(),
        "mission/spec.pickle": pickled(inside),
        "mission/run/plan.json": (spec.folder / "plan.json").read_bytes(),
        **files,
    }
    content = content_of([kept.ram.parent], entries)
    (spec.folder / CONTENT).write_text(content + "\n", encoding="ascii")
    if replay is not None and replay.content not in ("", content):
        raise InputError(
            "marsnet, its packages or the scenario have changed since that run, so it cannot be made again exactly",
            remedy="go back to what ran then, or give --anyway",
        )
    at = math.inf if replay is None else replay.at
    mission = write_mission(folder, entries | {"mission/moment": MOMENT.pack(at)})
    results = folder / "results"
    results.mkdir()
    shell = None if replay is None else folder / "shell"
    terminal = Terminal(folder / "shell")
    say("resuming the guest")
    start = Order(made.kernel, made.root, memory, folder, mission, seed=spec.seed, kept=kept, shell=shell)
    try:
        with Guest(start) as guest:
            try:
                for message in guest.messages(results):
                    _follow(message, spec, tell, began)
                    if "shell" in message:
                        terminal.begin()
            finally:
                _keep_logs(folder, spec.folder)
    finally:
        terminal.end()
    return results


def content_of(parts: Sequence[Path], entries: Mapping[str, Content]) -> str:
    """A hash of what a guest is made of and told; folders are known by their names, which say what is in them.

    Args:
        parts: files; the large ones of them, in the cache, are known by their names.
        entries: as `write_tar` takes them.
    """
    known: dict[str, bytes] = {}
    for path in parts:
        known[f"part {path.name}"] = b"" if path.parent == recipe.cache() else path.read_bytes()
    for name, content in entries.items():
        if isinstance(content, Path):
            known[name] = content.name.encode() if content.is_dir() else content.read_bytes()
        else:
            known[name] = content
    return images.content_key(known)


def with_files(scenario: Scenario) -> tuple[Scenario, dict[str, Content]]:
    """A scenario whose files are where the guest has them, and these files as an archive takes them."""
    files: dict[str, Content] = {}

    def taken(path: Path) -> Path:
        inside = f"mission/files/{len(files)}/{path.name}"
        files[inside] = path
        return Path("/", inside)

    traffic = []
    for flow in scenario.traffic:
        paths = {key: path for key in ("file", "trace") if (path := getattr(flow, key)) is not None}
        traffic.append(flow.model_copy(update={key: taken(path) for key, path in paths.items()}))
    programs = [
        program.model_copy(update={"files": tuple(taken(path) for path in program.files)})
        for program in scenario.programs
    ]
    return scenario.model_copy(update={"traffic": tuple(traffic), "programs": tuple(programs)}), files


def guest_memory(topology: Topology) -> int:
    """Bytes that a guest has for a network: in whole GiB, so that most networks go on from the same kept guest."""
    nodes = sum(
        _NODE_MEMORY if node.container.memory is None else max(_NODE_MEMORY, round(node.container.memory))
        for node in topology.nodes.values()
    )
    return max(LEAST_MEMORY, -(-(_SYSTEM_MEMORY + nodes) // (1 << 30)) << 30)


def guests_at_once(topologies: Sequence[Topology], wanted: int | None) -> int:
    """How many guests run side by side: a processor each, and all in memory.

    Args:
        topologies: of the runs.
        wanted: so many; None for as many as this machine has room for.

    Raises:
        EnvironmentLacksError: it has no room for so many.
    """
    need, available = max(map(guest_memory, topologies)), available_memory()
    room = available // need
    if room < (wanted or 1):
        raise EnvironmentLacksError(
            f"{wanted or 1} guests at once need {(wanted or 1) * need >> 20} MiB of memory, "
            f"and {available >> 20} MiB are free",
            fix=f"give --jobs {room}" if room else "end other programs",
        )
    return wanted or min(room, len(os.sched_getaffinity(0)))


def _follow(message: dict[str, Any], spec: RunSpec, tell: Progress, began: float) -> None:
    raise_failure(message)
    duration = spec.scenario.duration
    if "wakers" in message:
        (spec.folder / WAKERS).write_text(json.dumps(message["wakers"], indent=1), encoding="utf-8")
    if "state" in message:
        share = float(message.get("share", 0.0))
        wall = time.monotonic() - began
        pace = f", {share * duration / wall:,.0f} times real time" if share > 0 else ""
        tell(share, f"{message['state']}{pace}")


def _keep_logs(folder: Path, run: Path) -> None:
    for name in ("console.log", "qemu.log"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, run / f"guest-{name}")


def _outcome(path: Path, began: float) -> Outcome:
    if not path.exists():
        raise RunInvalidError("the guest ended without a result")
    outcome = TypeAdapter(Outcome).validate_json(path.read_bytes())
    return replace(outcome, world="warp", wall=time.monotonic() - began)
