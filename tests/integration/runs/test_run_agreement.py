"""First light, in the virtual world and on containers: the same deliveries, at nearly the same times."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from run_harness import marsnet

from marsnet.errors import RunInvalidError
from marsnet.runs.execute import Run, execute
from marsnet.worlds.spec import EmulatedOptions

pytestmark = [pytest.mark.agreement, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]
AGREEMENT = Path(__file__).with_name("agreement.yaml")
RATE = 60.0
LATE = ("node_lateness_p99", "link_lateness_p99", "of lateness are")
"""What the reasons say that a busy machine makes a run invalid for."""


def emulated(folder: Path, rate: float) -> tuple[Run | None, list[str]]:
    """A run on containers, and what the machine was too busy for."""
    place = folder / f"emulated-{rate:g}"
    place.mkdir()
    options = EmulatedOptions(lab="agreement-test")
    try:
        run = execute(AGREEMENT, place, "emulated", rate=rate, force_rate=True, options=options)
    except RunInvalidError as error:
        return None, [str(error)]
    reasons = run.judgement.invalid
    return run, [reason for reason in reasons if any(word in reason for word in LATE)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Virtual and emulated. A machine that was too late for the scenario's budget gets one more chance, at half the
    rate."""
    folder = tmp_path_factory.mktemp("agreement")
    (folder / "virtual").mkdir()
    virtual = execute(AGREEMENT, folder / "virtual", "virtual")
    run, late = emulated(folder, RATE)
    if late:
        warnings.warn(f"the machine was too busy at rate {RATE:g}: {'; '.join(late)}", stacklevel=1)
        run, late = emulated(folder, RATE / 2)
    assert run is not None, f"and at rate {RATE / 2:g} as well: {late}"
    return virtual, run


def test_containers_deliver_what_the_virtual_world_delivers_when_it_does(runs: tuple[Run, Run]) -> None:
    virtual, containers = runs
    assert containers.valid, f"at rate {containers.spec.rate:g}: {containers.judgement.invalid}"
    compared = marsnet("compare", virtual.spec.folder, containers.spec.folder, "--json")
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
    virtual, containers = ({name: f.passed for name, f in run.requirements.items()} for run in runs)
    assert containers == virtual
