"""The rate follows from the machine's speed and the scenario's load."""

from __future__ import annotations

from pathlib import Path

import pytest

from marsnet.errors import EnvironmentLacksError
from marsnet.model.scenario import load_scenario
from marsnet.plan.types import Contact, ContactPlan
from marsnet.worlds import calibrate
from marsnet.worlds.calibrate import LARGEST, Speed, check_holds, demand, keeps_up, measure

SCENARIO, TOPOLOGY = load_scenario(Path(__file__).resolve().parents[3] / "scenarios" / "first_light.yaml")
PLAN = ContactPlan("2026-10-01", 0.0, 9.0, {}, (Contact("l", "rover", "mro", 0.0, 9.0, 2e6),), ())
LASTS = 14 * 500e3 * 8 / 2e6
"""Seconds that the rover's transmitter takes for a burst of images."""
BOUND = 300.0 + LASTS
"""Lateness in mission time that the scenario allows, and what a link gives in addition."""


def test_work_takes_time_on_this_machine() -> None:
    speed = measure()
    assert 1e-6 < speed.segment < 0.1
    assert 1e-6 < speed.bundle < 10
    assert speed.cores >= 1


def test_demand_is_proportional_to_cost_and_load() -> None:
    once = demand(SCENARIO, TOPOLOGY, Speed(1e-5, 1e-3, 2))
    assert demand(SCENARIO, TOPOLOGY, Speed(2e-5, 2e-3, 2)) == pytest.approx(2 * once)
    heavier = SCENARIO.model_copy(update={"traffic": (*SCENARIO.traffic, SCENARIO.traffic[-1])})
    assert demand(heavier, TOPOLOGY, Speed(1e-5, 1e-3, 2)) > once


def test_a_slow_machine_runs_slower_and_a_fast_one_no_faster_than_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "measure", lambda: Speed(1e-3, 1e-1, 1))
    slow = keeps_up(SCENARIO, TOPOLOGY, PLAN)
    assert 1 < slow < LARGEST
    monkeypatch.setattr(calibrate, "measure", lambda: Speed(1e-9, 1e-9, 64))
    assert keeps_up(SCENARIO, TOPOLOGY, PLAN) == LARGEST


def test_a_rate_that_the_processors_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # 14 images of 500 kB, each 340 segments of 1472 bytes and one more: 4760 segments of a microsecond are no burden.
    monkeypatch.setattr(calibrate, "measure", lambda: Speed(1e-6, 1e-6, 2))
    most = 2 * 0.8 / demand(SCENARIO, TOPOLOGY, Speed(1e-6, 1e-6, 2))
    assert most > 1e5
    with pytest.raises(EnvironmentLacksError) as refused:
        check_holds(1.01 * most, SCENARIO, TOPOLOGY, PLAN)
    assert f"the largest that it can is {min(most, BOUND / (14 * 341e-6)):.3g}; to fix it: run it with --rate " in str(
        refused.value
    )
    assert "--force-rate" in refused.value.fix
    check_holds(600, SCENARIO, TOPOLOGY, PLAN)


def test_a_burst_must_not_make_a_node_later_than_the_budget_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    # A burst of 14 images is 0.24 s of work: within 250 ms of the host, and 300 s of the mission up to rate 1261 or so.
    monkeypatch.setattr(calibrate, "measure", lambda: Speed(5e-5, 1e-9, 64))
    work = 14 * 341 * 5e-5
    check_holds(0.99 * BOUND / work, SCENARIO, TOPOLOGY, PLAN)
    with pytest.raises(EnvironmentLacksError):
        check_holds(1.01 * BOUND / work, SCENARIO, TOPOLOGY, PLAN)
    # Twice as slow, it is 0.48 s: the link must spread it over the host seconds beyond the budget.
    monkeypatch.setattr(calibrate, "measure", lambda: Speed(1e-4, 1e-9, 64))
    spread = LASTS / (2 * work - 0.25)
    check_holds(0.99 * spread, SCENARIO, TOPOLOGY, PLAN)
    with pytest.raises(EnvironmentLacksError):
        check_holds(1.01 * spread, SCENARIO, TOPOLOGY, PLAN)
