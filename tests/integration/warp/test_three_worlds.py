"""The same ten minutes at true light time in all three worlds, laid side by side. `make test-warp` runs it.

The emulated world takes part where it can run (root and Docker); it and the guest run at the same time, because the one
waits and the other computes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.warp, pytest.mark.slow, pytest.mark.timeout(7200)]
SCENARIO = Path(__file__).with_name("excerpt.yaml")
WORLDS = ("virtual", "warp", "emulated")
PAIRS = list(combinations(WORLDS, 2))
TOLERANCE = {("virtual", "warp"): (0.005, 0.01)}
"""Of the classes' medians and 99th percentiles, % of light time: 17 and 34 ms."""
BUSY = (0.05, 0.2)
"""Where containers take part, whose host has other things to do: 0.2 s and 0.7 s."""

LATE = ("node_lateness_p99", "link_lateness_p99", "of lateness are")
"""What the reasons say that a busy machine makes a run invalid for."""
INVALID = 3


@dataclass(frozen=True)
class Finished:
    folder: Path
    verdict: dict[str, Any]


def marsnet(*words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "marsnet.cli", *map(str, words), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str], *codes: int) -> dict[str, Any]:
    out, errors = process.communicate()
    assert process.returncode in (0, *codes), out + errors
    content: dict[str, Any] = json.loads(out)
    return content


def finished(world: str, folder: Path, process: subprocess.Popen[str]) -> Finished | None:
    """The run; None of containers whose host was too busy, which is nobody's defect."""
    if world != "emulated":
        return Finished(folder, told(process))
    verdict = told(process, INVALID)
    late = [reason for reason in verdict["invalid"] if any(word in reason for word in LATE)]
    if late and late == verdict["invalid"]:
        warnings.warn(f"the machine was too busy for containers: {'; '.join(late)}", stacklevel=2)
        return None
    return Finished(folder, verdict)


def can_run(world: str) -> bool:
    """Whether this machine has that world, as the doctor says."""
    doctor = marsnet("doctor")
    out, _ = doctor.communicate()
    return bool(json.loads(out)["worlds"][world])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    folder = tmp_path_factory.mktemp("worlds")
    chosen = [world for world in WORLDS if can_run(world)]
    rate = {"emulated": ["--rate", "1"]}
    started = {
        world: marsnet("run", SCENARIO, "--world", world, "--output", folder / world, *rate.get(world, []))
        for world in chosen
    }
    try:
        found = {world: finished(world, folder / world / "latest", process) for world, process in started.items()}
        return {world: run for world, run in found.items() if run is not None}
    finally:
        for process in started.values():
            process.terminate()
            process.wait()


def test_two_worlds_need_neither_root_nor_docker(runs: dict[str, Finished]) -> None:
    assert {"virtual", "warp"} <= set(runs)
    for name, run in runs.items():
        assert run.verdict["world"] == name
        assert run.verdict["valid"], run.verdict["invalid"]


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_worlds_agree(pair: tuple[str, str], runs: dict[str, Finished]) -> None:
    if not set(pair) <= set(runs):
        pytest.skip("the emulated world cannot run here, or was late")
    first, second = (runs[world] for world in pair)
    median, p99 = TOLERANCE.get(pair, BUSY)
    limits = ["--median", str(median), "--p99", str(p99)]
    compared = told(marsnet("compare", first.folder, second.folder, *limits))
    assert compared["holds"], compared["beyond"]
    assert compared["divergent"] == 0, compared["first_divergent"]
    assert {name: group["delivered"] for name, group in compared["classes"].items()} == {
        "critical": [18, 18],
        "expedited": [36, 36],
        "normal": [5, 5],
        "bulk": [8, 8],
    }
    assert all(group["same_way"] == 1.0 for group in compared["classes"].values())
    assert len(compared["contacts"]) > 5
    assert [c for c in compared["contacts"] if c["bytes"][0] != c["bytes"][1]] == []
    requirements = [
        {entry["name"]: entry["passed"] for entry in run.verdict["requirements"]} for run in (first, second)
    ]
    assert requirements[0] == requirements[1]
    light = [group["light_time"] for group in compared["classes"].values()]
    assert min(light) > 338.0
