"""From a scenario file to everything that a run is determined by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from marsnet.errors import InputError
from marsnet.model.document import read_document
from marsnet.model.faults import ControllerLoss, StalePlan, WrongPlan
from marsnet.model.programs import Program
from marsnet.model.scenario import Scenario, load_scenario
from marsnet.model.times import When
from marsnet.model.topology import Topology
from marsnet.model.traffic import Flow
from marsnet.plan.files import read_plan
from marsnet.plan.types import ContactPlan
from marsnet.sky.planner import check_covered, plan_contacts
from marsnet.units import format_duration
from marsnet.worlds.foreign import refuse_foreign
from marsnet.worlds.incidents import incidents, plan_name, without, wrong
from marsnet.worlds.spec import Incident, RunSpec, check_rate, mission_time

MOST_BUNDLES = 10_000_000
"""Bundles that a flow sends in a run at most: more would not end."""
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
    if not emulated:
        refuse_foreign(topology)
    check_world(scenario, "emulated" if emulated else "virtual", path, settings)
    check_times(scenario, topology, path, settings)
    wanted = scenario.rate if rate is None else rate
    if scenario.programs and emulated:
        wanted = _own_time(wanted)
    if wanted is not None:
        check_rate(wanted)
    if plan is None:
        plan = contact_plan(scenario, topology, path, progress)
    if emulated:
        wanted = _kept(wanted, scenario, topology, plan, force_rate=force_rate)
    return spec_of(scenario, topology, plan, scenario.seed if seed is None else seed, wanted or 1.0, folder)


def _kept(
    wanted: float | None, scenario: Scenario, topology: Topology, plan: ContactPlan, *, force_rate: bool
) -> float:
    """The rate of a run in host time, which this machine keeps up with."""
    # It takes a database and other things that the virtual world has no use for.
    from marsnet.worlds.calibrate import check_holds, keeps_up  # noqa: PLC0415

    if wanted is None:
        return keeps_up(scenario, topology, plan)
    if not force_rate and scenario.traffic:
        check_holds(wanted, scenario, topology, plan)
    return wanted


def spec_of(scenario: Scenario, topology: Topology, plan: ContactPlan, seed: int, rate: float, folder: Path) -> RunSpec:
    """A run on a contact plan that knows of no fault yet: its incidents, and the plans that they make."""
    known = incidents(scenario, topology, plan, seed)
    announced = [incident for incident in known if incident.planned]
    plans = _plans(scenario, plan, announced)
    return RunSpec(scenario, topology, without(plan, announced), known, seed, rate, folder, plans)


def _plans(scenario: Scenario, plan: ContactPlan, announced: list[Incident]) -> dict[str, ContactPlan]:
    """The contact plans that faults give to nodes, by name."""
    true = without(plan, announced)
    found: dict[str, ContactPlan] = {}
    for index, fault in enumerate(scenario.faults):
        if isinstance(fault, WrongPlan):
            read = None if fault.plan is None else read_plan(fault.plan, epoch=plan.epoch)
            found[plan_name(index)] = wrong(fault, true, read)
        elif isinstance(fault, StalePlan):
            found[plan_name(index)] = without(plan, [i for i in announced if i.name not in fault.misses])
    return found


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
        InputError: naming file and line: an interval without ephemeris, a flow that ends before it starts, a fault
            outside of the run, a local time at a node that has none.
    """
    document = read_document(path, settings)
    place: tuple[int | str, ...] = ()
    try:
        place = ("start",)
        check_covered(topology, scenario.start, 0.0)
        place = ("duration",)
        check_covered(topology, scenario.start, scenario.duration + TAIL)
        for index, flow in enumerate(scenario.traffic):
            place = ("traffic", index, "start")
            start = _start(flow, scenario, topology)
            place = ("traffic", index, "start" if flow.stop is None else "stop")
            _check_stop(flow, start, scenario, topology)
            place = ("traffic", index, "every")
            _check_number(flow, start, scenario, topology)
        for index, fault in enumerate(scenario.faults):
            place = ("faults", index, "at")
            incidents(scenario.model_copy(update={"faults": scenario.faults[: index + 1]}), topology)
            if isinstance(fault, WrongPlan) and fault.plan is not None:
                place = ("faults", index, "plan")
                _check_plan(read_plan(fault.plan, epoch=scenario.start), topology)
        for index, program in enumerate(scenario.programs):
            place = ("programs", index, "at")
            begin = _begin(program, scenario, topology)
            if program.stop is not None:
                place = ("programs", index, "stop")
                _check_end(program, program.stop, begin, scenario, topology)
    except InputError as error:
        raise (error if error.file else error.at(*document.place(place))) from None


def _check_plan(plan: ContactPlan, topology: Topology) -> None:
    strangers = sorted(set(plan.nodes) - set(topology.nodes))
    if strangers:
        raise InputError(
            f"the plan has the unknown node {strangers[0]!r}", remedy=f"there are {', '.join(topology.nodes)}"
        )
    lacking = {(c.source, c.target) for c in plan.contacts} - {(r.source, r.target) for r in plan.ranges}
    if lacking:
        source, target = min(lacking)
        raise InputError(f"the plan has no range from {source!r} to {target!r}", remedy="add one to the plan file")


def check_world(scenario: Scenario, world: str, path: Path, settings: Mapping[str, object] | None = None) -> None:
    """Refuse what cannot happen in a world.

    Raises:
        InputError: naming file and line.
    """
    if scenario.programs and world == "virtual":
        raise read_document(path, settings).error(
            ("programs", 0),
            "the virtual world has no kernel that programs could run on",
            "run it with '--world warp', or at its own pace with '--world emulated'",
        )
    for index, fault in enumerate(scenario.faults):
        if isinstance(fault, ControllerLoss) and world == "virtual":
            raise read_document(path, settings).error(
                ("faults", index, "kind"),
                "the virtual world has no network controllers that could be lost",
                "run it with '--world emulated', or leave the fault out",
            )


def _own_time(rate: float | None) -> float:
    """The rate at which programs that know nothing of a mission clock may run."""
    if rate not in (None, 1.0):
        raise InputError(
            f"the scenario's programs live on the machine's own time, and the rate is {rate:g}",
            remedy="run it at rate 1, or with '--world warp', which does not wait",
        )
    return 1.0


def _start(flow: Flow, scenario: Scenario, topology: Topology) -> float:
    start = mission_time(flow.start, scenario, topology)
    if start < 0:
        raise InputError(
            f"flow {flow.name!r} starts at {flow.start.text!r}, before the run", remedy="give a later 'start'"
        )
    return start


def _begin(program: Program, scenario: Scenario, topology: Topology) -> float:
    begin = mission_time(program.at, scenario, topology)
    if not 0 <= begin < scenario.duration:
        raise InputError(
            f"program {program.name!r} starts at {program.at.text!r}, outside of the run",
            remedy=f"give an instant within {format_duration(scenario.duration)} of the start",
        )
    return begin


def _check_end(program: Program, stop: When, begin: float, scenario: Scenario, topology: Topology) -> None:
    if mission_time(stop, scenario, topology) <= begin:
        raise InputError(
            f"program {program.name!r} starts at {program.at.text!r} and is stopped at {stop.text!r}, "
            "which is not later",
            remedy="give a later 'stop'",
        )


def _check_stop(flow: Flow, start: float, scenario: Scenario, topology: Topology) -> None:
    stop = scenario.duration if flow.stop is None else mission_time(flow.stop, scenario, topology)
    if start >= min(stop, scenario.duration):
        ends = stop >= scenario.duration
        until = (
            f"the end of the run at {format_duration(scenario.duration)}"
            if ends
            else repr(flow.stop and flow.stop.text)
        )
        raise InputError(
            f"flow {flow.name!r} starts at {flow.start.text!r} and stops at {until}, which is not later",
            remedy="give an earlier 'start'" if ends else "give a later 'stop'",
        )


def _check_number(flow: Flow, start: float, scenario: Scenario, topology: Topology) -> None:
    stop = scenario.duration if flow.stop is None else mission_time(flow.stop, scenario, topology)
    number = 0.0 if flow.every is None else (min(stop, scenario.duration) - start) / flow.every * flow.burst
    if number > MOST_BUNDLES:
        raise InputError(
            f"flow {flow.name!r} sends {number:.3g} bundles",
            remedy=f"send at most {MOST_BUNDLES:,d}, of a greater size",
        )
