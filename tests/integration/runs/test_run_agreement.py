"""First light, in the virtual world and on containers: the same deliveries, at nearly the same times."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from run_harness import marsnet

from marsnet.runs.execute import Run, execute
from marsnet.worlds.spec import EmulatedOptions

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]
AGREEMENT = Path(__file__).with_name("agreement.yaml")
RATE = 60.0
LATE = ("node_lateness_p99", "link_lateness_p99", "of lateness are")
"""What the reasons say that a busy machine makes a run invalid for."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Virtual and emulated. A machine that was too late for the scenario's budget gets one more chance, at half the
    rate."""
    folder = tmp_path_factory.mktemp("agreement")
    virtual = execute(AGREEMENT, folder / "virtual", "virtual")
    for rate in (RATE, RATE / 2):
        place = folder / f"emulated-{rate:g}"
        emulated = execute(
            AGREEMENT, place, "emulated", rate=rate, force_rate=True, options=EmulatedOptions(lab="agreement-test")
        )
        reasons = emulated.judgement.invalid
        if emulated.valid or not all(any(word in reason for word in LATE) for reason in reasons):
            break
        warnings.warn(f"the machine was late at rate {rate:g}: {'; '.join(reasons)}", stacklevel=1)
    return virtual, emulated


def test_containers_deliver_what_the_virtual_world_delivers_when_it_does(runs: tuple[Run, Run]) -> None:
    virtual, emulated = runs
    assert emulated.valid, f"invalid even at rate {emulated.spec.rate:g}: {emulated.judgement.invalid}"
    compared = marsnet("compare", virtual.spec.folder, emulated.spec.folder, "--json")
    content = json.loads(compared.stdout)
    assert content["tolerance"] == {"deliveries": 0, "median": 0.02, "p99": 0.05}
    assert content["holds"], json.dumps({"beyond": content["beyond"], "classes": content["classes"]}, indent=1)
    assert compared.returncode == 0


def test_every_class_and_the_fault_took_part(runs: tuple[Run, Run]) -> None:
    for run in runs:
        assert {life.service_class for life in run.lives.values()} == {"critical", "expedited", "normal", "bulk"}
        (fault,) = run.outcome.incidents
        assert (fault.kind, fault.subject, fault.start, fault.end) == ("node_silent", "mro", 1800.0, 12600.0)
        lost = [frames.dropped.get("receiver_down", 0) for frames in run.outcome.frames if frames.target == "mro"]
        assert sum(lost) > 0, "the silence cost frames"


def test_both_worlds_judge_alike(runs: tuple[Run, Run]) -> None:
    virtual, emulated = ({name: f.passed for name, f in run.requirements.items()} for run in runs)
    assert emulated == virtual
