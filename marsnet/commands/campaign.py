"""`marsnet campaign`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from marsnet.errors import InputError
from marsnet.runs.campaign import Point, Results, parse_axes, points, run_all, workers
from marsnet.runs.campaign_results import rows, units, write_comparison_page, write_parquet
from marsnet.units import format_duration
from marsnet.worlds.warp.world import guests_at_once


def campaign(
    scenario: Annotated[Path, typer.Argument(help="Scenario file.")],
    vary: Annotated[
        list[str],
        typer.Option("--vary", help="'seed=1..50', 'orbiters=1..4', 'size=1 kB,2 kB'; may stand several times."),
    ],
    world: Annotated[str, typer.Option("--world", help="'virtual' or 'warp'.")] = "virtual",
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Worker processes on this machine; default: its processors.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Dask scheduler to use instead, as in tcp://host:8786.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder of the campaign; default: campaigns/<scenario>.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came out as one JSON object.")] = False,
) -> None:
    """Run a scenario many times, in parallel; what the folder holds already is not repeated."""
    if scheduler is not None and jobs is not None:
        raise InputError("--jobs starts workers here, --scheduler uses others", remedy="give one of them")
    if world not in ("virtual", "warp"):
        raise InputError(f"campaigns do not run in a world {world!r}", remedy="use 'virtual' or 'warp'")
    axes = parse_axes(vary)
    everything = points(scenario, axes, "warp" if world == "warp" else "virtual")
    name = everything[0].scenario.name
    results = Results(output if output is not None else Path("campaigns") / name)
    todo = list({point.key: point for point in everything if not results.has(point)}.values())
    console = Console(highlight=False, stderr=as_json)
    kept = len({point.key for point in everything}) - len(todo)
    if kept:
        console.print(f"{kept} runs are there already")
    if todo and world == "warp" and scheduler is None:
        jobs = guests_at_once([point.topology for point in todo], jobs)
    began = time.monotonic()
    if todo:
        with (
            _Bar(console, name, len(todo)) as bar,
            workers(min(jobs, len(todo)) if jobs else None, scheduler) as client,
        ):
            run_all(todo, results, client, bar.ended)
    wall = time.monotonic() - began
    finished = [results.get(point) for point in everything]
    records, of = rows(finished), units(finished)
    parquet, page = results.folder / "results.parquet", results.folder / "report.html"
    write_parquet(parquet, records, of)
    told = f"{len(records)} runs in the {world} world: " + ", ".join(
        f"{len(a.values)} values of {a.name}" for a in axes
    )
    write_comparison_page(page, name, axes, records, of, told)
    passed = sum(record["passed"] for record in records)
    if as_json:
        content = {"scenario": name, "runs": len(records), "made": len(todo), "passed": passed, "wall": wall}
        print(json.dumps(content | {"results": str(parquet.resolve()), "report": str(page.resolve())}))
    else:
        console.print(f"{passed} of {len(records)} runs passed; {len(todo)} made in {format_duration(wall)}")
        console.print(f"Results: {parquet.resolve()}\nReport: {page.resolve()}", soft_wrap=True)
    raise typer.Exit(0 if passed == len(records) else 1)


class _Bar:
    """A progress bar over runs; a line for each tenth where there is no terminal."""

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console, self._title, self._total = console, title, total
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, state="")
        self._ended = self._failed = 0

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def ended(self, point: Point, result: dict[str, Any]) -> None:
        """A run has ended."""
        self._failed += not result["passed"]
        before, self._ended = 10 * self._ended // self._total, self._ended + 1
        state = f"{self._failed} did not pass" if self._failed else ""
        self._bar.update(self._task, completed=self._ended, state=state)
        if not self._console.is_terminal and 10 * self._ended // self._total > before:
            self._console.print(f"{self._title}: {self._ended} of {self._total} runs" + (f", {state}" if state else ""))
