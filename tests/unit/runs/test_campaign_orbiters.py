"""`marsnet campaign --vary orbiters=1..4`: the network itself varies, so that each point has a plan of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from marsnet.runs.campaign import parse_axes, plan_for, points

ROOT = Path(__file__).parents[3]
MANY = f"""
marsnet: scenario/1
name: many
parameters: {{orbiters: 2, low: "${{orbiters}}", areostationary: 0}}
topology: {ROOT / "topologies" / "mtn_mix.yaml"}
start: 2030-01-10T00:00:00Z
duration: 6 h
traffic:
  - {{name: telemetry, source: habitat, destination: mcc, class: expedited, size: 1 kB, every: 20 min, lifetime: 6 h,
     stop: 4 h}}
requirements:
  - {{kind: delivery, class: expedited, at_least: 80 %}}
  - {{kind: nothing_lost}}
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    file = tmp_path / "many.yaml"
    file.write_text(MANY)
    return file


def test_every_number_of_orbiters_is_a_network_of_its_own(many: Path) -> None:
    everyone = list(points(many, parse_axes(["orbiters=1..4"])))
    assert [point.values["orbiters"] for point in everyone] == [1, 2, 3, 4]
    orbiters = [[name for name in point.topology.nodes if name.startswith("low")] for point in everyone]
    assert [len(names) for names in orbiters] == [1, 2, 3, 4]
    one, two = (plan_for(p.topology, p.scenario.start, 3600.0, p.base) for p in everyone[:2])
    assert set(two.nodes) - set(one.nodes) == {"low2"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_sweeps_over_orbiters(many: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "marsnet.cli", "campaign", str(many), "--vary", "orbiters=1..4", "--vary", "seed=1..2",
         "--jobs", "2", "--output", str(tmp_path / "out"), "--json"],
        capture_output=True, text=True, cwd=ROOT, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    records = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert [(r["orbiters"], r["seed"]) for r in records] == [(n, seed) for n in (1, 2, 3, 4) for seed in (1, 2)]
    assert all(r["expedited.delivered"] == r["expedited.accepted"] == 12 for r in records)
    waits = [r["expedited.latency_p95"] for r in records if r["seed"] == 1]
    assert waits[-1] < waits[0] - 3600, "with four orbiters less waits for a pass than with one"
    assert said["runs"] == 8
