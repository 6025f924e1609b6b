"""`marsnet run` and `marsnet report`."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from marsnet.commands.options import SET
from marsnet.errors import InputError
from marsnet.model.scenario import check_seed, load_scenario
from marsnet.model.templates import parse_settings
from marsnet.runs.execute import Run, World, choose_world, execute
from marsnet.runs.folder import make_run_folder
from marsnet.runs.prepare import check_times
from marsnet.runs.verdict import classes_table, conclusion, requirements_table
from marsnet.units import format_duration, quantity
from marsnet.worlds.spec import DatapathKind, EmulatedOptions, LinkKind, check_rate

_VERDICT = {"requirements", "report", "valid", "invalid", "passed"}
"""What `report` shows of a verdict."""
_LEAST_SCRAPE = 0.1
"""Seconds."""
_PLANNING = 0.05
"""Share of the progress bar that computing the plan gets."""


def run(
    scenario: Annotated[Path, typer.Argument(help="Scenario file.")],
    world: Annotated[
        str | None,
        typer.Option("--world", help="'emulated', 'virtual' or 'warp'; default: emulated where this machine can."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Mission seconds per second, in place of the scenario's.")
    ] = None,
    force_rate: Annotated[
        bool, typer.Option("--force-rate", help="Run also at a rate that this machine cannot hold.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="In place of the scenario's.")] = None,
    without_faults: Annotated[bool, typer.Option("--no-faults", help="Leave the scenario's faults out.")] = False,
    settings: Annotated[list[str] | None, SET] = None,
    lab: Annotated[str | None, typer.Option("--lab", help="Name of the lab; default: the scenario's name.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up after the run.")] = False,
    prometheus: Annotated[
        str | None,
        typer.Option(
            "--prometheus", help="Where its Prometheus listens; default: 127.0.0.1:9090, or a free port; in warp: none."
        ),
    ] = None,
    scrape: Annotated[
        str | None,
        typer.Option("--scrape", help="Time between Prometheus' scrapes; default: 2 s, in the warp world 15 s."),
    ] = None,
    links: Annotated[
        str, typer.Option("--links", help="What light time is made of: 'line', or the kernel's 'netem'.")
    ] = "line",
    datapath: Annotated[
        str | None,
        typer.Option("--datapath", help="Of the switches: 'kernel' or 'user'; default: the kernel's where it has one."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="Folder that run folders are made in.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as one JSON object.")] = False,
) -> None:
    """Run a scenario; ends in a verdict and a report."""
    if world not in (None, "emulated", "virtual", "warp"):
        raise InputError(f"there is no world {world!r}", remedy="use 'emulated', 'virtual' or 'warp'")
    if links not in ("line", "netem"):
        raise InputError(f"there are no links on {links!r}", remedy="use 'line' or 'netem'")
    if datapath not in (None, "kernel", "user"):
        raise InputError(f"there is no datapath {datapath!r}", remedy="use 'kernel' or 'user'")
    chosen_settings = parse_settings(settings or [])
    loaded, topology = load_scenario(scenario, chosen_settings)
    check_times(loaded, topology, scenario, chosen_settings)
    if rate is not None:
        check_rate(rate)
    if seed is not None:
        check_seed(seed)
    chosen = choose_world(cast("World | None", world))
    if chosen == "warp" and rate not in (None, 1.0):
        raise InputError(f"--rate is {rate:g}, the warp world runs at true light time", remedy="leave --rate out")
    if chosen != "emulated" and (lab is not None or keep):
        raise InputError(
            f"the {chosen} world leaves no lab behind", remedy="leave --lab and --keep out, or run it emulated"
        )
    if chosen == "virtual" and (prometheus is not None or scrape is not None):
        raise InputError(
            "the virtual world has no Prometheus",
            remedy="leave --prometheus and --scrape out; metrics.om of the run folder is for one",
        )
    if chosen == "warp" and scrape is not None and prometheus is None:
        raise InputError(
            "--scrape without a Prometheus", remedy="the warp world has one with --prometheus 127.0.0.1:9090"
        )
    interval = None if scrape is None else _interval(scrape)
    if chosen == "virtual" and (links, datapath) != ("line", None):
        raise InputError("the virtual world has no kernel and no switches", remedy="leave --links and --datapath out")
    console = Console(highlight=False, stderr=as_json)
    if chosen == "virtual" and world is None:
        console.print("This machine cannot run the emulated world (see 'marsnet doctor'): running the virtual one.")
    name = loaded.name
    folder = make_run_folder(output, name)
    with Bar(console, f"{name} ({chosen})") as bar, ended_like_by_a_person():
        finished = execute(
            scenario,
            folder,
            chosen,
            rate=rate,
            force_rate=force_rate,
            seed=seed,
            without_faults=without_faults,
            settings=chosen_settings,
            options=EmulatedOptions(
                lab=lab,
                keep=keep,
                prometheus=prometheus,
                scrape=interval,
                links=cast("LinkKind", links),
                datapath=cast("DatapathKind | None", datapath),
            ),
            planning=bar.planning,
            progress=bar.running,
        )
    if as_json:
        print(json.dumps(finished.verdict))
    else:
        _show(console, finished)
    raise typer.Exit(finished.exit_code)


def report(
    folder: Annotated[Path, typer.Argument(help="Run folder; default: the newest.")] = Path("runs/latest"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as one JSON object.")] = False,
) -> None:
    """Show the verdict of a finished run and where its report is."""
    file = folder / "verdict.json"
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"there is no verdict in {str(folder)!r}", remedy="name the folder of a finished run"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"the verdict cannot be read: {error}", remedy="run it again", file=file) from None
    if not isinstance(content, dict) or not content.keys() >= _VERDICT:
        raise InputError("it is no verdict", remedy="name the folder of a finished run", file=file)
    if as_json:
        print(json.dumps(content))
        return
    console = Console(highlight=False)
    for requirement in content["requirements"]:
        mark = "[green]pass[/]" if requirement["passed"] else "[bold red]FAIL[/]"
        console.print(f"{mark} {requirement['name']}: {requirement['measured']} (required: {requirement['required']})")
    console.print(conclusion(content))
    console.print(f"Report: {content['report']}", soft_wrap=True)


def _interval(scrape: str) -> float:
    """Seconds between two scrapes.

    Raises:
        InputError: it is no time, or shorter than Prometheus takes.
    """
    seconds = quantity(scrape, "time")
    if seconds < _LEAST_SCRAPE:
        raise InputError(f"--scrape is {scrape}", remedy=f"give {format_duration(_LEAST_SCRAPE)} or more")
    return seconds


@contextmanager
def ended_like_by_a_person() -> Iterator[None]:
    """SIGTERM, as `timeout` and service managers send it, breaks the run off as Ctrl-C does: nothing stays behind."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _show(console: Console, finished: Run) -> None:
    if finished.judgement.classes:
        console.print(classes_table(finished.judgement))
    console.print(requirements_table(finished.judgement))
    outcome = finished.outcome
    console.print(
        f"{format_duration(outcome.elapsed)} of mission time in {format_duration(outcome.wall)}, "
        f"{outcome.world} world" + (f" at rate {finished.spec.rate:g}" if outcome.world != "virtual" else "")
    )
    console.print(conclusion(finished.verdict))
    console.print(f"Report: {finished.verdict['report']}", soft_wrap=True)


class Bar:
    """A progress bar over planning and mission time; a line for each step and tenth where there is no terminal.

    Args:
        console: where it is shown.
        title: what runs.
        still: lines also on a terminal, which somebody else may write to as well.
    """

    def __init__(self, console: Console, title: str, *, still: bool = False) -> None:
        self._console, self._title = console, title
        self._lines = still or not console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=self._lines,
        )
        self._task = self._bar.add_task(title, total=1.0, state="planning")
        self._told = -1
        self._step = ""

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def planning(self, done: float, total: float) -> None:
        """So many seconds of the plan are computed, of all."""
        self._bar.update(self._task, completed=_PLANNING * done / total)

    def running(self, share: float, state: str) -> None:
        """The run has come so far."""
        if "http://" in state:
            self._console.print(state.removeprefix("setting up: "))
            return
        self._bar.update(self._task, completed=_PLANNING + (1 - _PLANNING) * share, state=state)
        tenth = int(10 * share)
        step = state if state.startswith("setting up") else ""
        if self._lines and (tenth > self._told or step not in ("", self._step)):
            self._told, self._step = max(tenth, self._told), step
            self._console.print(f"{self._title}: {state}")
