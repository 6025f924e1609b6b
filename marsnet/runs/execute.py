"""One run from scenario file to verdict: plan, deploy, drive, observe, judge, report."""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from marsnet.dtn.node.ledger import Record
from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.model.times import parse_when
from marsnet.plan.files import write_plan
from marsnet.runs.findings import Finding, excess
from marsnet.runs.finished import LEDGER, METRICS, PLAN, REPORT, STORED, write_stored
from marsnet.runs.judge import Judgement, judge
from marsnet.runs.lives import Life
from marsnet.runs.openmetrics import write_openmetrics
from marsnet.runs.prepare import prepare
from marsnet.runs.report import write_report
from marsnet.runs.verdict import conclusion, verdict, write_verdict
from marsnet.units import format_duration
from marsnet.worlds.spec import DatapathKind, EmulatedOptions, LinkKind, Outcome, Progress, RunSpec, mission_time
from marsnet.worlds.virtual import run_virtual

World = Literal["emulated", "virtual", "warp"]
_PACKAGES = ("numpy", "skyfield", "pyerfa", "cbor2", "cryptography")
"""Those that what comes out of a run depends on."""


REQUEST = "request.json"
"""File of a warp run's folder: what was asked for, so that it can be made again."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a run in the warp world was asked for.

    Attributes:
        scenario: absolute path of its file.
        seed: that it ran with.
        without_faults: whether its faults were left out.
        settings: values of parameters.
        links: `line` or `netem`.
        datapath: of the switches.
        prometheus: where its Prometheus listened; None for none.
        scrape: seconds between its scrapes; None for the default.
    """

    scenario: str
    seed: int
    without_faults: bool
    settings: dict[str, object]
    links: LinkKind
    datapath: DatapathKind | None
    prometheus: str | None = None
    scrape: float | None = None


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        spec = self.spec
        return (
            f"<Run of {spec.scenario.name}, {self.outcome.world}, seed {spec.seed}: {conclusion(self.verdict).plain}>"
        )

    @property
    def exit_code(self) -> int:
        """0 passed, 1 a requirement failed, 3 invalid."""
        if not self.valid:
            return 3
        return 0 if self.judgement.passed else 1

    @property
    def valid(self) -> bool:
        """Whether the run can be trusted."""
        return self.judgement.valid

    @property
    def passed(self) -> bool:
        """Whether the run can be trusted and every requirement holds."""
        return self.judgement.passed and self.judgement.valid

    @property
    def requirements(self) -> dict[str, Finding]:
        """What was measured for each requirement, by its name."""
        return {finding.name: finding for finding in self.judgement.findings}

    @property
    def lives(self) -> dict[str, Life]:
        """Every accepted bundle's life, by bundle id."""
        return self.judgement.lives

    @property
    def ledger_hash(self) -> str:
        """SHA-256 of all records of all nodes."""
        return str(self.verdict["ledger_hash"])

    def latencies(self, service_class: str | None = None, *, flow: str | None = None) -> list[float]:
        """Mission seconds from creation to delivery of the bundles of a class or a flow that were delivered."""
        return [x.delivered - x.created for x in self._chosen(service_class, flow) if x.delivered is not None]

    def bundles(self, service_class: str | None = None, *, flow: str | None = None) -> list[dict[str, Any]]:
        """One record for each accepted bundle of a class or a flow, as a table wants it.

        Times are mission seconds; `delivered`, `latency` and `beyond_light_time` are None where it was not delivered,
        `light_time` where no link leads there. `way` names the nodes whose stores took it, in order.
        """
        return [
            {
                "bundle": life.bundle,
                "flow": life.flow,
                "class": life.service_class,
                "source": life.source,
                "destination": life.destination,
                "size": life.size,
                "created": life.created,
                "delivered": life.delivered,
                "latency": None if life.delivered is None else life.delivered - life.created,
                "light_time": self._light_time(life),
                "beyond_light_time": None if life.delivered is None else excess(life, self.judgement.light),
                "fate": life.fate,
                "way": [node for node, _ in life.hops],
            }
            for life in self._chosen(service_class, flow)
        ]

    def _light_time(self, life: Life) -> float | None:
        light = self.judgement.light.between(life.source, life.destination, life.created)
        return light if math.isfinite(light) else None

    def told(self) -> str:
        """The verdict as text: each requirement with what was measured, then the word."""
        lines = [
            f"{'pass' if f.passed else 'FAIL'} {f.name}: {f.measured} (required: {f.required})"
            for f in self.judgement.findings
        ]
        return "\n".join([*lines, conclusion(self.verdict).plain])

    def assert_passed(self) -> None:
        """Raise AssertionError with the verdict as text, unless the run passed."""
        if not self.passed:
            raise AssertionError(f"{self.spec.scenario.name}, seed {self.spec.seed}:\n{self.told()}")

    def _chosen(self, service_class: str | None, flow: str | None) -> list[Life]:
        return [
            life
            for life in self.lives.values()
            if service_class in (None, life.service_class) and flow in (None, life.flow)
        ]


def choose_world(wanted: World | None) -> World:
    """The world to run in: the emulated one where the machine can, unless another is wanted.

    Raises:
        EnvironmentLacksError: the emulated world is wanted and something is missing.
    """
    if wanted in {"virtual", "warp"}:
        return wanted
    # What other worlds are made with need not be installed for the virtual one, and takes long to import.
    from marsnet.worlds.machine import detect  # noqa: PLC0415

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
        emulated=world != "virtual",
        rate=1.0 if world == "warp" else rate,
        force_rate=force_rate,
        seed=seed,
        without_faults=without_faults,
        settings=settings,
        progress=planning,
    )
    write_plan(spec.plan, folder / PLAN)
    if world == "warp":
        chosen = options or EmulatedOptions()
        asked = Request(
            str(path.resolve()),
            spec.seed,
            without_faults,
            dict(settings or {}),
            chosen.links,
            chosen.datapath,
            chosen.prometheus,
            chosen.scrape,
        )
        (folder / REQUEST).write_text(json.dumps(asdict(asked), indent=1) + "\n", encoding="utf-8")
    finished = perform(spec, world, options, progress)
    write_files(finished)
    return finished


def look_at(folder: Path, at: str, *, anyway: bool = False, progress: Progress | None = None) -> None:
    """Make a run of the warp world again, up to a moment, and open a shell there.

    Args:
        folder: of the run.
        at: the moment, as scenario files have instants.
        anyway: also where marsnet, its packages or the scenario have changed since.
        progress: told the mission time reached.

    Raises:
        MarsnetError: it is no run of the warp world, the moment is outside of it, or what ran is not there any more.
    """
    from marsnet.worlds.warp.world import CONTENT, Replay, look_in  # noqa: PLC0415

    try:
        asked = Request(**json.loads((folder / REQUEST).read_text(encoding="utf-8")))
        content = (folder / CONTENT).read_text(encoding="ascii").strip()
    except (OSError, ValueError, TypeError):
        raise InputError(
            f"{str(folder)!r} is no run of the warp world", remedy="name the folder of one, or run '--world warp' first"
        ) from None
    try:
        when = parse_when(at)
    except ValueError as error:
        raise InputError(str(error)) from None
    with tempfile.TemporaryDirectory(prefix="marsnet-again-") as scratch:
        spec = prepare(
            Path(asked.scenario),
            Path(scratch),
            emulated=True,
            rate=1.0,
            seed=asked.seed,
            without_faults=asked.without_faults,
            settings=asked.settings,
        )
        moment = mission_time(when, spec.scenario, spec.topology)
        if not 0 <= moment < spec.scenario.duration:
            raise InputError(
                f"{at!r} is outside of the run", remedy=f"it lasts {format_duration(spec.scenario.duration)}"
            )
        write_plan(spec.plan, spec.folder / PLAN)
        options = EmulatedOptions(
            links=asked.links, datapath=asked.datapath, prometheus=asked.prometheus, scrape=asked.scrape
        )
        look_in(spec, Replay(moment, "" if anyway else content), progress, options)


def perform(
    spec: RunSpec, world: World, options: EmulatedOptions | None = None, progress: Progress | None = None
) -> Run:
    """Run what was prepared, and judge it; a virtual run leaves no files."""
    try:
        if world == "virtual":
            outcome = run_virtual(spec, progress)
        elif world == "warp":
            from marsnet.worlds.warp.world import run_warp  # noqa: PLC0415

            outcome = run_warp(spec, progress, options)
        else:
            from marsnet.worlds.emulated import run_emulated  # noqa: PLC0415

            outcome = run_emulated(spec, options or EmulatedOptions(), progress)
    except KeyboardInterrupt:
        # Broken off before the mission began, or while its end was observed: the report says so.
        outcome = Outcome(world, records=[], stored={}, frames=[], interrupted=True)
    judgement = judge(spec, outcome)
    content = verdict(spec, outcome, judgement, spec.folder / REPORT)
    content["machine"] = (
        f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}"
    )
    content["packages"] = {name: metadata.version(name) for name in _PACKAGES}
    return Run(spec, outcome, judgement, content)


def write_files(run: Run) -> None:
    """Write ledger, verdict, metrics and report of a run into its folder."""
    folder, spec, outcome = run.spec.folder, run.spec, run.outcome
    write_ledger(folder / LEDGER, outcome.records)
    write_stored(folder / STORED, outcome.stored)
    write_verdict(run.verdict, folder)
    write_openmetrics(folder / METRICS, spec, outcome, run.judgement)
    write_report(folder / REPORT, spec, outcome, run.judgement, run.verdict)


def write_ledger(path: Path, records: list[Record]) -> None:
    """Write the records of all nodes in order of time."""
    with path.open("w", encoding="utf-8") as file:
        for record in sorted(records, key=lambda r: (r.time, r.node)):
            file.write(record.line() + "\n")
