"""One run from scenario file to verdict: plan, deploy, drive, observe, judge, report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from marsnet.dtn.node.ledger import Record
from marsnet.errors import EnvironmentLacksError
from marsnet.plan.files import write_plan
from marsnet.runs.finished import LEDGER, METRICS, PLAN, STORED, write_stored
from marsnet.runs.judge import Judgement, judge
from marsnet.runs.openmetrics import write_openmetrics
from marsnet.runs.prepare import prepare
from marsnet.runs.report import write_report
from marsnet.runs.verdict import verdict, write_verdict
from marsnet.worlds.machine import detect
from marsnet.worlds.spec import EmulatedOptions, Outcome, Progress, RunSpec
from marsnet.worlds.virtual import run_virtual

World = Literal["emulated", "virtual"]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        spec: what it was determined by.
        outcome: what was observed.
        judgement: what that means.
        verdict: the JSON object.
    """

    spec: RunSpec
    outcome: Outcome
    judgement: Judgement
    verdict: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0 passed, 1 a requirement failed, 3 invalid."""
        if not self.judgement.valid:
            return 3
        return 0 if self.judgement.passed else 1


def choose_world(wanted: World | None) -> World:
    """The world to run in: the emulated one where the machine can, unless another is wanted.

    Raises:
        EnvironmentLacksError: the emulated world is wanted and something is missing.
    """
    if wanted == "virtual":
        return "virtual"
    try:
        detect().require_emulation()
    except EnvironmentLacksError:
        if wanted == "emulated":
            raise
        return "virtual"
    return "emulated"


def execute(
    path: Path,
    folder: Path,
    world: World,
    *,
    rate: float | None = None,
    force_rate: bool = False,
    seed: int | None = None,
    without_faults: bool = False,
    settings: Mapping[str, object] | None = None,
    options: EmulatedOptions | None = None,
    planning: Callable[[float, float], None] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Run a scenario and leave everything about it in a folder.

    Args:
        path: the scenario file.
        folder: an empty folder.
        world: where to run it.
        rate: mission seconds per host second, in place of the scenario's.
        force_rate: also where this machine cannot hold it.
        seed: in place of the scenario's.
        without_faults: leave the scenario's faults out.
        settings: values of parameters, in place of those that the files declare.
        options: how the emulated world is set up.
        planning: told the seconds of the plan that are computed, and all of them.
        progress: told the mission time reached.

    Raises:
        MarsnetError: with the exit code that it ends a command with.
    """
    spec = prepare(
        path,
        folder,
        emulated=world == "emulated",
        rate=rate,
        force_rate=force_rate,
        seed=seed,
        without_faults=without_faults,
        settings=settings,
        progress=planning,
    )
    write_plan(spec.plan, folder / PLAN)
    try:
        if world == "virtual":
            outcome = run_virtual(spec, progress)
        else:
            # Mininet need not be installed for the virtual world.
            from marsnet.worlds.emulated import run_emulated  # noqa: PLC0415

            outcome = run_emulated(spec, options or EmulatedOptions(), progress)
    except KeyboardInterrupt:
        # Broken off before the mission began, or while its end was observed: the report says so.
        outcome = Outcome(world, records=[], stored={}, frames=[], interrupted=True)
    return conclude(spec, outcome)


def conclude(spec: RunSpec, outcome: Outcome) -> Run:
    """Judge a run and write ledger, verdict and report into its folder."""
    folder = spec.folder
    judgement = judge(spec, outcome)
    report = folder / "report.html"
    content = verdict(spec, outcome, judgement, report)
    content["machine"] = (
        f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}"
    )
    write_ledger(folder / LEDGER, outcome.records)
    write_stored(folder / STORED, outcome.stored)
    write_verdict(content, folder)
    write_openmetrics(folder / METRICS, spec, outcome, judgement)
    write_report(report, spec, outcome, judgement, content)
    return Run(spec, outcome, judgement, content)


def write_ledger(path: Path, records: list[Record]) -> None:
    """Write the records of all nodes in order of time."""
    with path.open("w", encoding="utf-8") as file:
        for record in sorted(records, key=lambda r: (r.time, r.node)):
            file.write(record.line() + "\n")
