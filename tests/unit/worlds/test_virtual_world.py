"""The virtual world: real plan, real engines, virtual time. Verdicts, determinism, faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from marsnet.errors import InputError
from marsnet.runs.judge import Judgement, judge
from marsnet.runs.lives import ledger_hash
from marsnet.runs.prepare import prepare
from marsnet.worlds.spec import Outcome
from marsnet.worlds.virtual import run_virtual

ROOT = Path(__file__).resolve().parents[3]
HOURS_8 = {
    "marsnet": "scenario/1",
    "name": "morning",
    "topology": str(ROOT / "topologies" / "first_light.yaml"),
    "start": "2026-10-01T10:00:00Z",
    "duration": "8 h",
    "traffic": [
        {
            "name": "telemetry", "source": "rover", "destination": "mcc", "class": "expedited", "size": "1 kB",
            "every": "10 min", "lifetime": "8 h", "stop": "6 h",
        },
        {
            "name": "images", "source": "rover", "destination": "mcc", "class": "bulk", "size": "200 kB",
            "every": "4 h", "burst": 5, "lifetime": "24 h", "stop": "2 h",
        },
    ],
    "requirements": [{"kind": "nothing_lost"}, {"kind": "frames_accounted"}, {"kind": "delivery", "at_least": "100 %"}],
}  # fmt: skip


def play(folder: Path, **changes: Any) -> tuple[Outcome, Judgement]:
    file = folder / "scenario.yaml"
    with file.open("w") as stream:
        YAML().dump(HOURS_8 | changes, stream)
    spec = prepare(file, folder)
    outcome = run_virtual(spec)
    return outcome, judge(spec, outcome)


def test_a_morning_passes_and_is_the_same_twice(tmp_path: Path) -> None:
    first, verdict = play(tmp_path)
    again, _ = play(tmp_path)
    assert verdict.valid
    assert verdict.passed, verdict.findings
    assert ledger_hash(first.records) == ledger_hash(again.records)
    assert len(verdict.lives) == 41


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    flows = [{**flow, "arrivals": "poisson"} for flow in HOURS_8["traffic"]]  # type: ignore[attr-defined]
    first, _ = play(tmp_path, traffic=flows)
    other, _ = play(tmp_path, traffic=flows, seed=2)
    assert ledger_hash(first.records) != ledger_hash(other.records)


@pytest.mark.parametrize("node", ["rover", "areo", "dss14", "mcc"])
def test_a_crash_of_any_node_loses_nothing_accepted(tmp_path: Path, node: str) -> None:
    fault = {"kind": "node_crash", "node": node, "at": "1.5 h", "duration": "20 min"}
    outcome, verdict = play(tmp_path, faults=[fault])
    assert verdict.findings[0].passed, verdict.findings[0]
    assert verdict.findings[1].passed, verdict.findings[1]
    assert all(life.fate == "delivered" for life in verdict.lives.values()), verdict.findings[2]
    assert not outcome.invalid


def test_a_node_that_is_down_cannot_crash(tmp_path: Path) -> None:
    crash = {"kind": "node_crash", "node": "areo", "at": "1 h", "duration": "20 min"}
    with pytest.raises(InputError, match=r"'areo' crashes at 4200 s while .* to 4800 s or later"):
        play(tmp_path, faults=[crash, crash | {"at": "70 min"}])


def test_an_outage_delays_and_its_frames_are_counted(tmp_path: Path) -> None:
    fault = {"kind": "link_outage", "link": "areo--rover", "at": "1 h", "duration": "2 h"}
    outcome, verdict = play(tmp_path, faults=[fault])
    assert verdict.findings[0].passed
    assert verdict.findings[1].passed
    dropped = [frames.dropped for frames in outcome.frames if frames.link == "areo--rover"]
    assert sum(sum(reasons.values()) for reasons in dropped) > 0
    undisturbed = play(tmp_path)[1]
    late, soon = (sum(life.delivered or 1e9 for life in v.lives.values()) for v in (verdict, undisturbed))
    assert late > soon


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_first_light_passes_and_without_its_fault_delivers_the_same_sooner(tmp_path: Path) -> None:
    path = ROOT / "scenarios" / "first_light.yaml"
    with_fault, without = prepare(path, tmp_path), prepare(path, tmp_path, without_faults=True)
    verdicts = [judge(spec, run_virtual(spec)) for spec in (with_fault, without)]
    assert all(verdict.passed and verdict.valid for verdict in verdicts), verdicts[0].findings
    late, soon = (verdict.lives for verdict in verdicts)
    assert set(late) == set(soon)
    total_late, total_soon = (sum(life.delivered or 1e9 for life in lives.values()) for lives in (late, soon))
    assert total_soon < total_late
    assert sum((soon[b].delivered or 1e9) < (late[b].delivered or 1e9) - 1.0 for b in late) >= 20
