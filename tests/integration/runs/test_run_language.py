"""Traffic and faults of the scenario language on containers: files, replies, conditions imposed over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_harness import assert_sound

from marsnet.dtn.node.ledger import Step, read_ledgers
from marsnet.runs.execute import execute
from marsnet.worlds.spec import EmulatedOptions

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]
SCENARIO = Path(__file__).with_name("language.yaml")


def test_files_replies_and_faults_work_on_containers(tmp_path: Path) -> None:
    done = execute(SCENARIO, tmp_path, "emulated", force_rate=True, options=EmulatedOptions(lab="language-test"))
    assert_sound(done.verdict, done.exit_code)
    delivered = tmp_path / "nodes" / "mcc" / "state" / "delivered" / "panorama" / SCENARIO.name
    assert delivered.read_bytes() == SCENARIO.read_bytes()
    kinds = [incident.kind for incident in done.outcome.incidents]
    assert len(kinds) == 8, "those that waited for a condition as well"
    cut = next(incident for incident in done.outcome.incidents if incident.name == "cut")
    records = list(read_ledgers([tmp_path / "ledger.jsonl"]))
    fourth = sorted(r.time for r in records if r.step == Step.DELIVERED and r.node == "mcc")[3]
    assert cut.start >= fourth
    refused = [r.time for r in records if r.step == Step.REFUSED and r.node == "habitat"]
    assert refused
    assert all(2400 - 60 <= time <= 2760 + 60 for time in refused)
