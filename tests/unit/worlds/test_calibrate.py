"""The rate follows from the machine's speed and the scenario's load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from marsnet.errors import EnvironmentLacksError
from marsnet.model.scenario import Scenario, load_scenario
from marsnet.plan.types import Contact, ContactPlan
from marsnet.worlds import calibrate
from marsnet.worlds.calibrate import LARGEST, Speed, check_holds, demand, keeps_up, measure

SCENARIOS = Path(__file__).resolve().parents[3] / "scenarios"
SCENARIO, TOPOLOGY = load_scenario(SCENARIOS / "first_light.yaml")
PLAN = ContactPlan("2026-10-01", 0.0, 9.0, {}, (Contact("l", "rover", "mro", 0.0, 9.0, 2e6),), ())
LASTS = 14 * 500e3 * 8 / 2e6
"""Seconds that the rover's transmitter takes for a burst of images."""
BOUND = 300.0 + LASTS
"""Lateness in mission time that the scenario allows, and what a link gives in addition."""
FRAMES = 14 * 340
"""Of a burst: 500 kB in segments of at most 1472 bytes."""
HOPS = 3
"""From the rover by way of an orbiter and a station to mission control."""
QUIET = Speed(segment=8e-6, datagram=4.5e-6, bundle=3e-4, wake=2e-4, cores=2)
"""As measured where nothing else ran."""


def speed(**changed: float) -> Speed:
    """A machine to which everything comes easy but for what is said."""
    return Speed(**{"segment": 1e-12, "datagram": 1e-12, "bundle": 1e-12, "wake": 1e-9, "cores": 64} | changed)  # type: ignore[arg-type]


def largest(monkeypatch: pytest.MonkeyPatch, machine: Speed, scenario: Scenario = SCENARIO) -> float:
    """The rate that a refusal names."""
    monkeypatch.setattr(calibrate, "measure", lambda: machine)
    with pytest.raises(EnvironmentLacksError) as refused:
        check_holds(1e12, scenario, TOPOLOGY, PLAN)
    assert "--force-rate" in refused.value.fix
    told = re.search(r"the largest that it can is (\S+?); to fix it: run it with --rate ", str(refused.value))
    assert told is not None
    rate = float(told[1])
    check_holds(0.99 * rate, scenario, TOPOLOGY, PLAN)
    with pytest.raises(EnvironmentLacksError):
        check_holds(1.01 * rate, scenario, TOPOLOGY, PLAN)
    return rate


def test_work_takes_time_on_this_machine() -> None:
    measured = measure()
    assert 1e-7 < measured.segment < 0.1
    assert 1e-7 < measured.datagram < 0.1
    assert 1e-6 < measured.bundle < 10
    assert 0 < measured.wake < 10
    assert measured.cores >= 1
    assert measured.hop > measured.node > measured.segment


def test_demand_is_proportional_to_cost_and_load() -> None:
    once = demand(SCENARIO, TOPOLOGY, Speed(1e-5, 1e-5, 1e-3, 1e-3, 2))
    assert demand(SCENARIO, TOPOLOGY, Speed(2e-5, 2e-5, 2e-3, 1e-3, 2)) == pytest.approx(2 * once)
    heavier = SCENARIO.model_copy(update={"traffic": (*SCENARIO.traffic, SCENARIO.traffic[-1])})
    assert demand(heavier, TOPOLOGY, Speed(1e-5, 1e-5, 1e-3, 1e-3, 2)) > once


def test_a_slow_machine_runs_slower_and_a_fast_one_no_faster_than_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "measure", lambda: Speed(1e-3, 1e-3, 1e-1, 1e-2, 1))
    assert 0 < keeps_up(SCENARIO, TOPOLOGY, PLAN) < 30
    monkeypatch.setattr(calibrate, "measure", speed)
    assert keeps_up(SCENARIO, TOPOLOGY, PLAN) == LARGEST


def test_a_burst_is_work_on_every_hop_of_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four nodes at a time can work on it; the rest of the time that the budget gives is the link's."""
    machine = speed(datagram=1e-6)
    work = HOPS * FRAMES * machine.hop / (HOPS + 1)
    assert largest(monkeypatch, machine) == pytest.approx(BOUND / work, rel=0.01)
    two = speed(datagram=1e-6, cores=2)
    assert largest(monkeypatch, two) == pytest.approx(BOUND / (2 * work), rel=0.01)


def test_a_burst_must_not_make_a_node_later_than_the_budget_of_host_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # 0.48 s of work for one node: the link must spread it over the host seconds beyond the 250 ms that are allowed.
    machine = speed(segment=1e-4)
    alone = FRAMES * machine.node
    assert largest(monkeypatch, machine) == pytest.approx(LASTS / (alone - 0.25), rel=0.01)
    lax = SCENARIO.model_copy(update={"fidelity": SCENARIO.fidelity.model_copy(update={"node_lateness_p99": 1.0})})
    assert largest(monkeypatch, machine, lax) == pytest.approx(BOUND / alone, rel=0.01)


def test_a_machine_that_wakes_late_bounds_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert largest(monkeypatch, speed(wake=0.05)) == pytest.approx(300.0 / 0.05)


def test_on_the_average_the_work_must_fit_into_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    calm = [flow for flow in SCENARIO.traffic if flow.name == "habitat-telemetry"]
    scenario = SCENARIO.model_copy(update={"traffic": tuple(calm)})
    machine = speed(bundle=0.001, cores=1)
    assert largest(monkeypatch, machine, scenario) == pytest.approx(0.8 / (1200 * 3 * 0.001 / scenario.duration), 0.01)


def test_first_light_holds_at_600_on_two_quiet_cores_and_nowhere_near_2000(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs showed: valid at 600 while nothing else ran, invalid at 2000."""
    contacts = tuple(Contact("l", "habitat" if n else "rover", "areo", 0.0, 9.0, 256e3) for n in range(2))
    monkeypatch.setattr(calibrate, "measure", lambda: QUIET)
    plan = ContactPlan("2026-10-01", 0.0, 9.0, {}, contacts, ())
    check_holds(600, SCENARIO, TOPOLOGY, plan)
    with pytest.raises(EnvironmentLacksError):
        check_holds(1200, SCENARIO, TOPOLOGY, plan)
