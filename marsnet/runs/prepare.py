"""From a scenario file to everything that a run is determined by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from marsnet.errors import InputError
from marsnet.model.document import read_document
from marsnet.model.scenario import Scenario, load_scenario
from marsnet.model.topology import Topology
from marsnet.model.traffic import Flow
from marsnet.plan.types import ContactPlan
from marsnet.sky.planner import plan_contacts
from marsnet.units import format_duration
from marsnet.worlds.calibrate import check_holds, keeps_up
from marsnet.worlds.spec import RunSpec, check_rate, incidents, mission_time

TAIL = 7200.0
"""The plan reaches so many seconds beyond the run, so that routes at its end are not cut off."""


def prepare(
    path: Path,
    folder: Path,
    *,
    emulated: bool = False,
    rate: float | None = None,
    force_rate: bool = False,
    seed: int | None = None,
    without_faults: bool = False,
    settings: Mapping[str, object] | None = None,
    plan: ContactPlan | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> RunSpec:
    """Read a scenario, compute its contact plan and resolve its times.

    Args:
        path: the scenario file.
        folder: where the run leaves its files.
        emulated: whether it is to run in host time; the rate is then chosen by what this machine keeps up with, where
            neither the scenario nor `rate` says.
        rate: in place of the scenario's.
        force_rate: run also at a rate that this machine cannot hold; the run's fidelity will tell.
        seed: in place of the scenario's.
        without_faults: leave the scenario's faults out.
        settings: values of parameters, in place of those that the files declare.
        plan: where it was computed before, for the same network, start and duration.
        progress: told the seconds of the plan that are computed, and all of them.

    Raises:
        InputError: with file, line, value and remedy.
        EnvironmentLacksError: this machine cannot hold the rate.
    """
    scenario, topology = load_scenario(path, settings)
    if without_faults:
        scenario = scenario.model_copy(update={"faults": ()})
    check_times(scenario, topology, path, settings)
    wanted = scenario.rate if rate is None else rate
    if wanted is not None:
        check_rate(wanted)
    if plan is None:
        plan = contact_plan(scenario, topology, path, progress)
    if wanted is None:
        wanted = keeps_up(scenario, topology, plan) if emulated else 1.0
    elif emulated and not force_rate:
        check_holds(wanted, scenario, topology, plan)
    return RunSpec(
        scenario,
        topology,
        plan,
        incidents(scenario, topology),
        scenario.seed if seed is None else seed,
        wanted,
        folder,
    )


def contact_plan(
    scenario: Scenario, topology: Topology, path: Path, progress: Callable[[float, float], None] | None = None
) -> ContactPlan:
    """The plan that a scenario runs by."""
    base = (path.parent / scenario.topology).parent
    return plan_contacts(topology, scenario.start, scenario.duration + TAIL, base_dir=base, progress=progress)


def check_times(
    scenario: Scenario, topology: Topology, path: Path, settings: Mapping[str, object] | None = None
) -> None:
    """Resolve every time that the scenario names, read from `path` with these settings.

    Raises:
        InputError: naming file and line: a flow that ends before it starts, a fault outside of the run, a local time
            at a node that has none.
    """
    document = read_document(path, settings)
    place: tuple[int | str, ...] = ()
    try:
        for index, flow in enumerate(scenario.traffic):
            place = ("traffic", index, "start")
            start = _start(flow, scenario, topology)
            place = ("traffic", index, "start" if flow.stop is None else "stop")
            _check_stop(flow, start, scenario, topology)
        for index, fault in enumerate(scenario.faults):
            place = ("faults", index, "at")
            incidents(scenario.model_copy(update={"faults": (fault,)}), topology)
    except InputError as error:
        raise error.at(*document.place(place)) from None


def _start(flow: Flow, scenario: Scenario, topology: Topology) -> float:
    start = mission_time(flow.start, scenario, topology)
    if start < 0:
        raise InputError(
            f"flow {flow.name!r} starts at {flow.start.text!r}, before the run", remedy="give a later 'start'"
        )
    return start


def _check_stop(flow: Flow, start: float, scenario: Scenario, topology: Topology) -> None:
    stop = scenario.duration if flow.stop is None else mission_time(flow.stop, scenario, topology)
    if stop <= start:
        until = f"the end of the run at {format_duration(stop)}" if flow.stop is None else repr(flow.stop.text)
        raise InputError(
            f"flow {flow.name!r} starts at {flow.start.text!r} and stops at {until}, which is not later",
            remedy="give an earlier 'start'" if flow.stop is None else "give a later 'stop'",
        )
