"""The warp world, seen from outside: start the guest with the scenario, follow it, bring the run back."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from marsnet.errors import InputError, RunInvalidError
from marsnet.model.scenario import Scenario
from marsnet.worlds import images
from marsnet.worlds.software import python_packages
from marsnet.worlds.spec import EmulatedOptions, Outcome, Progress, RunSpec
from marsnet.worlds.warp import recipe
from marsnet.worlds.warp.archives import Content, concatenate, pickled, to_initramfs, unpack, write_tar
from marsnet.worlds.warp.guest import PACKAGES
from marsnet.worlds.warp.machine import Guest, Order, start_of_clock
from marsnet.worlds.warp.recipe import Parts, Say
from marsnet.worlds.warp.shell import MOMENT, Terminal

LEAD = 600.0
"""Guest seconds from its start to mission time 0, in which it builds the network; what is left over costs nothing."""
CONTENT = "guest-content.txt"
"""File of a run folder: a hash of all that the guest was made of and told."""
WAKERS = "wakers.json"
"""File of a run folder: who woke the guest how often."""
_SYSTEM_MEMORY = 2 << 30
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
    made = recipe.parts(say, software.debian)
    store = container_store(recipe.parts(say) if software.debian else made, say)
    packages = python_packages(software.python, say)
    scenario, files = with_files(spec.scenario)
    if packages is not None:
        files[PACKAGES] = packages
    inside = replace(spec, scenario=scenario, rate=1.0, folder=Path("/mission/run"))
    duration = spec.scenario.duration
    program = folder / "program.tar"
    recipe.program_layer(program)
    recipe.node_image(folder / "image.tar", made, program, whole=False)
    order = {"action": "run", "links": wanted.links, "datapath": wanted.datapath}
    entries: dict[str, Content] = {
        "mission/order.json": json.dumps(order).encode(),
        "mission/spec.pickle": pickled(inside),
        "mission/run/plan.json": (spec.folder / "plan.json").read_bytes(),
        **files,
    }
    content = content_of([made.root, store, program], entries)
    (spec.folder / CONTENT).write_text(content + "\n", encoding="ascii")
    if replay is not None and replay.content not in ("", content):
        raise InputError(
            "marsnet, its packages or the scenario have changed since that run, so it cannot be made again exactly",
            remedy="go back to what ran then, or give --anyway",
        )
    at = math.inf if replay is None else replay.at
    entries |= {"mission/moment": MOMENT.pack(at), "mission/image.tar": folder / "image.tar"}
    mission = folder / "mission.tar"
    write_tar(mission, entries)
    initramfs = _initramfs(folder, [made.root, store], [program, mission])
    memory = 2 * initramfs.stat().st_size + _SYSTEM_MEMORY + _NODE_MEMORY * len(spec.topology.nodes)
    clock = start_of_clock(spec.plan.epoch, LEAD)
    results = folder / "results"
    results.mkdir()
    shell = None if replay is None else folder / "shell"
    terminal = Terminal(folder / "shell")
    say("starting the guest")
    try:
        with Guest(Order(made.kernel, initramfs, memory, spec.seed, clock, folder, shell)) as guest:
            try:
                for message in guest.messages(results):
                    _follow(message, spec, tell, began, duration)
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


def container_store(made: Parts, say: Say) -> Path:
    """Initramfs archive of a container daemon's store that holds the layers of the node's image.

    Raises: as `run_warp`.
    """
    target = recipe.cache() / f"store-{made.key}.cpio"
    if target.exists():
        return target
    say("loading the container image in a guest (some minutes, once)")
    with tempfile.TemporaryDirectory(dir=recipe.cache()) as scratch:
        folder = Path(scratch)
        program = folder / "program.tar"
        recipe.program_layer(program)
        recipe.node_image(folder / "image.tar", made, program, whole=True)
        write_tar(
            folder / "mission.tar",
            {"mission/order.json": b'{"action": "prepare"}', "mission/image.tar": folder / "image.tar"},
        )
        initramfs = _initramfs(folder, [made.root], [program, folder / "mission.tar"])
        memory = 3 * initramfs.stat().st_size + _SYSTEM_MEMORY
        with Guest(Order(made.kernel, initramfs, memory, 1, "2026-01-01T00:00:00", folder)) as guest:
            for message in guest.messages(folder):
                _raise_failure(message)
        to_initramfs(folder / "store.tar", folder / "store.cpio")
        (folder / "store.cpio").rename(target)
    return target


def _initramfs(folder: Path, made: list[Path], tars: list[Path]) -> Path:
    pieces = []
    for tar in tars:
        piece = tar.with_suffix(".cpio")
        to_initramfs(tar, piece)
        pieces.append(piece)
    whole = folder / "initramfs"
    concatenate([*made, *pieces], whole)
    return whole


def _follow(message: dict[str, Any], spec: RunSpec, tell: Progress, began: float, duration: float) -> None:
    _raise_failure(message)
    if "wakers" in message:
        (spec.folder / WAKERS).write_text(json.dumps(message["wakers"], indent=1), encoding="utf-8")
    if "state" in message:
        share = float(message.get("share", 0.0))
        wall = time.monotonic() - began
        pace = f", {share * duration / wall:,.0f} times real time" if share > 0 else ""
        tell(share, f"{message['state']}{pace}")


def _raise_failure(message: dict[str, Any]) -> None:
    if "error" in message:
        raise RunInvalidError(f"inside the guest: {message['error']}\n{message['trace']}")


def _keep_logs(folder: Path, run: Path) -> None:
    for name in ("console.log", "qemu.log"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, run / f"guest-{name}")


def _outcome(path: Path, began: float) -> Outcome:
    if not path.exists():
        raise RunInvalidError("the guest ended without a result")
    outcome = TypeAdapter(Outcome).validate_json(path.read_bytes())
    return replace(outcome, world="warp", wall=time.monotonic() - began)
