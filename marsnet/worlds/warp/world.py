"""The warp world, seen from outside: start the guest with the scenario, follow it, bring the run back."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from marsnet.errors import RunInvalidError
from marsnet.model.scenario import Scenario
from marsnet.worlds.software import python_packages
from marsnet.worlds.spec import EmulatedOptions, Outcome, Progress, RunSpec
from marsnet.worlds.warp import recipe
from marsnet.worlds.warp.archives import Content, concatenate, pickled, to_initramfs, unpack, write_tar
from marsnet.worlds.warp.guest import PACKAGES
from marsnet.worlds.warp.machine import Guest, Order, start_of_clock
from marsnet.worlds.warp.recipe import Parts, Say

LEAD = 600.0
"""Guest seconds from its start to mission time 0, in which it builds the network; what is left over costs nothing."""
WAKERS = "wakers.json"
"""File of a run folder: who woke the guest how often."""
_SYSTEM_MEMORY = 2 << 30
_NODE_MEMORY = 128 << 20


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
    tell = progress or (lambda share, state: None)
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
    with tempfile.TemporaryDirectory(prefix="marsnet-warp-") as scratch:
        folder = Path(scratch)
        program = folder / "program.tar"
        recipe.program_layer(program)
        recipe.node_image(folder / "image.tar", made, program, whole=False)
        wanted = options or EmulatedOptions()
        order = {"action": "run", "links": wanted.links, "datapath": wanted.datapath}
        mission = folder / "mission.tar"
        write_tar(
            mission,
            {
                "mission/order.json": json.dumps(order).encode(),
                "mission/spec.pickle": pickled(inside),
                "mission/run/plan.json": (spec.folder / "plan.json").read_bytes(),
                "mission/image.tar": folder / "image.tar",
                **files,
            },
        )
        initramfs = _initramfs(folder, [made.root, store], [program, mission])
        memory = 2 * initramfs.stat().st_size + _SYSTEM_MEMORY + _NODE_MEMORY * len(spec.topology.nodes)
        clock = start_of_clock(spec.plan.epoch, LEAD)
        results = folder / "results"
        results.mkdir()
        say("starting the guest")
        with Guest(Order(made.kernel, initramfs, memory, spec.seed, clock, folder)) as guest:
            try:
                for message in guest.messages(results):
                    _follow(message, spec, tell, began, duration)
            finally:
                _keep_logs(folder, spec.folder)
        outcome = _outcome(results / "outcome.json", began)
        unpack(results / "run.tar", spec.folder)
    return outcome


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
