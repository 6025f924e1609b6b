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
from marsnet.model.topology import OWN_IMAGE, Topology
from marsnet.worlds import images
from marsnet.worlds.foreign import check_run, check_traffic, templates
from marsnet.worlds.machine_resources import available_memory
from marsnet.worlds.nodes import node_configs
from marsnet.worlds.software import python_packages
from marsnet.worlds.spec import EmulatedOptions, Outcome, Progress, RunSpec
from marsnet.worlds.warp import recipe
from marsnet.worlds.warp.agent import PACKAGES
from marsnet.worlds.warp.archives import Content, pickled, unpack
from marsnet.worlds.warp.foreign_images import foreign_images
from marsnet.worlds.warp.machine import LOGS, Guest, Order
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
_IMAGE_MEMORY = 512 << 20
_PROMETHEUS_MEMORY = 512 << 20
_SCRAPE = 15.0
"""Mission seconds between Prometheus' scrapes."""


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
        options: how the emulated world inside is set up; links, datapath, Prometheus and the time between its scrapes
            count. There is no Prometheus without an address, which is one inside.

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

    def say(step: str) -> None:
        tell(0.0, f"setting up: {step}")

    topology, files = _with_daemons(spec)
    _check_address(wanted.prometheus)
    software = spec.scenario.software
    scraped = wanted.prometheus is not None
    memory = guest_memory(spec.topology, scraped=scraped)
    require_memory(memory)
    made = recipe.parts(say, [*software.debian, *([recipe.PROMETHEUS] if scraped else [])])
    foreign = foreign_images(spec.topology, templates(spec.topology), recipe.cache(), say)
    kept = ready_guest(made, memory, say, foreign)
    packages = python_packages(software.python, say)
    scenario, own_files = with_files(spec.scenario)
    files |= own_files
    if packages is not None:
        files[PACKAGES] = packages
    inside = replace(spec, scenario=scenario, topology=topology, rate=1.0, folder=Path("/mission/run"))
    order = {
        "clock": parse_utc(spec.plan.epoch).timestamp() - LEAD,
        "seed": spec.seed,
        "links": wanted.links,
        "datapath": wanted.datapath,
        "images": dict(foreign.tags),
        "prometheus": wanted.prometheus,
        "scrape": wanted.scrape or _SCRAPE,
    }
    entries: dict[str, Content] = {
        "mission/order.json": json.dumps(order).encode(),
        "mission/spec.pickle": pickled(inside),
        "mission/run/plan.json": (spec.folder / "plan.json").read_bytes(),
        **files,
    }
    content = content_of([kept.ram.parent], entries | {"root": recipe.digest(made.root).encode()})
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
    # What is made once is no part of the run's pace.
    began = time.monotonic()
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


def _with_daemons(spec: RunSpec) -> tuple[Topology, dict[str, Content]]:
    """A topology whose daemons' templates are where the guest has them, and these as an archive takes them.

    Raises:
        InputError: a template is wrong, or the run asks of a daemon what it does not do.
    """
    found = templates(spec.topology)
    if found:
        check_run(spec, found, parse_utc(spec.scenario.start))
        check_traffic(found, node_configs(spec, None, hiccup=0.0))
    nodes, files = dict(spec.topology.nodes), dict[str, Content]()
    for number, (name, template) in enumerate(found.items()):
        inside = f"mission/daemons/{number}/{template.name}"
        files |= {
            f"{inside}/{path.relative_to(template.folder)}": path
            for path in sorted(template.folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }
        node = nodes[name]
        assert node.daemon is not None  # noqa: S101
        nodes[name] = node.model_copy(update={"daemon": node.daemon.model_copy(update={"template": f"/{inside}"})})
    return spec.topology.model_copy(update={"nodes": nodes}), files


def _check_address(address: str | None) -> None:
    """Raise InputError where it is no address that the guest has."""
    if address is None:
        return
    # What labs are made with is not needed otherwise on this side.
    from marsnet.worlds.lab.forward import endpoint  # noqa: PLC0415

    host, _ = endpoint(address)
    if host not in ("localhost", "0.0.0.0") and not host.startswith("127."):  # noqa: S104 - of the guest, who is alone
        raise InputError(
            f"the guest of the warp world, in which Prometheus listens, has no address {host}",
            remedy="give --prometheus 127.0.0.1:9090",
        )


def guest_memory(topology: Topology, *, scraped: bool = False) -> int:
    """Bytes that a guest has for a network: in whole GiB, so that most networks go on from the same kept guest.

    Args:
        topology: the network.
        scraped: whether a Prometheus runs beside it.
    """
    nodes = sum(
        _NODE_MEMORY if node.container.memory is None else max(_NODE_MEMORY, round(node.container.memory))
        for node in topology.nodes.values()
    )
    runs = (node.container.image if node.daemon is None else node.daemon.template for node in topology.nodes.values())
    further = _IMAGE_MEMORY * len(set(runs) - {OWN_IMAGE})
    whole = _SYSTEM_MEMORY + nodes + further + _PROMETHEUS_MEMORY * scraped
    return max(LEAST_MEMORY, -(-whole // (1 << 30)) << 30)


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
        pace = f", {share * duration / wall:,.1f} times real time" if share > 0 else ""
        tell(share, f"{message['state']}{pace}")


def _keep_logs(folder: Path, run: Path) -> None:
    for name in LOGS:
        if (folder / name).exists():
            shutil.copyfile(folder / name, run / f"guest-{name}")


def _outcome(path: Path, began: float) -> Outcome:
    if not path.exists():
        raise RunInvalidError("the guest ended without a result")
    outcome = TypeAdapter(Outcome).validate_json(path.read_bytes())
    return replace(outcome, world="warp", wall=time.monotonic() - began)
