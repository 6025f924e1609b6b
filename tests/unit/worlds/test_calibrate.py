"""The rate follows from the machine's speed and the scenario's load."""

from __future__ import annotations

from pathlib import Path

import pytest

from marsnet.model.scenario import load_scenario
from marsnet.worlds import calibrate
from marsnet.worlds.calibrate import LARGEST, Speed, demand, keeps_up, measure

SCENARIO, TOPOLOGY = load_scenario(Path(__file__).resolve().parents[3] / "scenarios" / "first_light.yaml")


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
    slow = keeps_up(SCENARIO, TOPOLOGY)
    assert 1 < slow < LARGEST
    monkeypatch.setattr(calibrate, "measure", lambda: Speed(1e-9, 1e-9, 64))
    assert keeps_up(SCENARIO, TOPOLOGY) == LARGEST
