"""Faults that only the virtual world had seen, each felt on containers: what they do shows in ledgers and frames."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from marsnet.dtn.node.ledger import Step
from marsnet.errors import RunInvalidError
from marsnet.runs.execute import Run, execute
from marsnet.worlds.spec import EmulatedOptions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HARDSHIP = Path(__file__).with_name("hardship.yaml")
MINUTE = 60.0


@pytest.fixture(scope="module", params=["virtual", pytest.param("emulated", marks=pytest.mark.root)])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A machine that was too busy to begin in time gets one more chance."""
    options = EmulatedOptions(lab="hardship-test")
    try:
        return execute(HARDSHIP, tmp_path_factory.mktemp("hardship"), request.param, force_rate=True, options=options)
    except RunInvalidError:
        return execute(HARDSHIP, tmp_path_factory.mktemp("again"), request.param, force_rate=True, options=options)


def dropped(run: Run, reason: str, link: str) -> int:
    return sum(frames.dropped.get(reason, 0) for frames in run.outcome.frames if frames.link == link)


def late(run: Run, begin: float, end: float) -> list[float]:
    """By how much telemetry made between two minutes came later than the quickest, seconds."""
    lives = [life for life in run.lives.values() if life.flow == "telemetry" and life.delivered is not None]
    quickest = min(life.delivered - life.created for life in lives if life.delivered is not None)
    return [
        life.delivered - life.created - quickest
        for life in lives
        if life.delivered is not None and begin <= life.created / MINUTE < end
    ]


def test_all_is_delivered_in_the_end(run: Run) -> None:
    assert run.exit_code == 0, json.dumps(run.verdict["requirements"], indent=1) + str(run.judgement.invalid)
    assert {incident.kind for incident in run.outcome.incidents} == {
        "power_cycle", "bit_errors", "dust_storm", "replayed_bundles", "link_outage", "stale_plan",
    }  # fmt: skip


def test_a_node_that_is_switched_off_makes_nothing_meanwhile_and_goes_on_afterwards(run: Run) -> None:
    made = [r.time / MINUTE for r in run.outcome.records if r.step == Step.ACCEPTED and r.node == "rover"]
    for off, on in ((10, 15), (30, 35)):
        assert not [time for time in made if off + 0.2 < time < on - 0.2]
        assert [time for time in made if off - 2 < time < off]
        assert [time for time in made if on - 0.2 <= time < on + 3]
    assert dropped(run, "receiver_down", "areo--rover") > 0, "the answer to what it had just sent"


def test_bit_errors_and_losses_cost_frames_and_no_bundle(run: Run) -> None:
    assert dropped(run, "bit_error", "areo--habitat") > 0
    assert dropped(run, "loss", "areo--habitat") > 0


def test_dust_slows_the_link_down(run: Run) -> None:
    assert min(late(run, 36, 44)) > 8
    assert median(late(run, 50, 56)) < 8


def test_replayed_bundles_are_told_from_new_ones(run: Run) -> None:
    again = [r for r in run.outcome.records if r.step == Step.DUPLICATE and r.details.get("peer") == "habitat"]
    assert len(again) > 5
    assert all(life.deliveries == 1 for life in run.lives.values())


def test_a_relay_that_missed_the_news_of_planned_works_sends_into_them(run: Run) -> None:
    assert min(late(run, 56, 62)) > 100, "until the works are over"
    assert dropped(run, "no_contact", "dss14--areo") > 0
    assert median(late(run, 64, 80)) < 30
