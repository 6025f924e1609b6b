"""`marsnet plan`: compute a contact plan, or read one; print, write, explain and draw it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import marsnet
from marsnet.clock import format_utc, parse_utc
from marsnet.commands.options import SET
from marsnet.commands.plan_report import Totals, explanation, passes_table
from marsnet.commands.tables import show, show_json
from marsnet.errors import InputError
from marsnet.model.scenario import load_scenario
from marsnet.model.source import read_yaml
from marsnet.model.templates import parse_settings
from marsnet.model.times import parse_when
from marsnet.model.topology import Site, Topology, load_topology
from marsnet.plan.files import FORMATS, as_format, format_of, read_plan, write_plan, write_plan_to
from marsnet.plan.stream import Chunk, PlanHeader, PlanStream
from marsnet.plan.types import ContactPlan
from marsnet.sky.budget_explain import explain_link
from marsnet.sky.marstime import local_time_instant
from marsnet.sky.planner import plan_contacts, stream_contacts
from marsnet.sky.plot import check_suffix, plot_plan
from marsnet.units import SOL, quantity

LONG = 20 * SOL
"""A longer interval is streamed, is reported by totals only, and shows a progress bar."""
_FORMATS = ", ".join(FORMATS)


@dataclass(frozen=True)
class _Interval:
    """What is to be planned."""

    topology: Topology
    base_dir: Path
    start: str | None
    duration: float | None

    def require(self) -> tuple[str, float]:
        """Start and duration.

        Raises:
            InputError: when one of them is not given.
        """
        if self.start is None:
            raise InputError("a topology does not say when", remedy="add --start, like --start 2026-10-01")
        if self.duration is None:
            raise InputError("a topology does not say for how long", remedy="add --duration, like --duration '1 sol'")
        return self.start, self.duration


def plan(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Topology or scenario to plan, or a plan to read.")],
    start: Annotated[str | None, typer.Option("--start", help="UTC instant; default: the scenario's.")] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", help="Like '1 sol' or '24 h'; default: the scenario's.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write: .json, .csv, .ionrc or .hdtn.json."),
    ] = None,
    format_name: Annotated[
        str | None, typer.Option("--format", help=f"Format of the output ({_FORMATS}); default: by its name.")
    ] = None,
    from_name: Annotated[
        str | None, typer.Option("--from", help=f"Read FILE as a plan of this format ({_FORMATS}).")
    ] = None,
    epoch: Annotated[
        str | None, typer.Option("--epoch", help="UTC instant of second 0, for ION and HDTN files that lack it.")
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="LINK@TIME",
            help="Print a link's budget line by line. TIME: '2 h' after the start, UTC, or 'sol 0 12:00 LTST at SITE'.",
        ),
    ] = None,
    settings: Annotated[list[str] | None, SET] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Picture to draw: .html or .png.")] = None,
    rows: Annotated[int, typer.Option("--rows", min=0, help="Most passes to list; 0 lists all.")] = 250,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan (or the explanation) as JSON.")] = False,
) -> None:
    """Compute the contact plan of a topology or scenario, or convert a plan between formats."""
    wanted = as_format(format_name) if format_name else None
    if plot is not None:
        check_suffix(plot)
    if output is not None and wanted is None:
        wanted = format_of(output)
    if from_name is not None or source.suffix not in {".yaml", ".yml"}:
        if explain is not None:
            raise InputError("a plan file has no link budgets to explain", remedy="give the topology")
        made = read_plan(source, as_format(from_name) if from_name else None, epoch=epoch)
        _put_out(made, output, wanted, plot, rows, as_json, None, source.parent)
        return
    asked = _interval(source, start, duration, parse_settings(settings or []))
    if explain is not None:
        _explain(asked, explain, as_json)
        return
    first, length = asked.require()
    if length > LONG and plot is None:
        _stream(asked, first, length, output, wanted, as_json)
        return
    with _progress(length) as progress:
        made = plan_contacts(asked.topology, first, length, base_dir=asked.base_dir, progress=progress)
    _put_out(made, output, wanted, plot, rows, as_json, asked.topology, asked.base_dir)


def _interval(source: Path, start: str | None, duration: str | None, settings: Mapping[str, object]) -> _Interval:
    length = None if duration is None else quantity(duration, "time")
    first = None if start is None else format_utc(parse_utc(start))
    if str(read_yaml(source).get("marsnet", "")).startswith("scenario/"):
        scenario, topology = load_scenario(source, settings)
        folder = (source.parent / scenario.topology).parent
        return _Interval(topology, folder, first or scenario.start, scenario.duration if length is None else length)
    return _Interval(load_topology(source, settings), source.parent, first, length)


def _put_out(
    made: ContactPlan,
    output: Path | None,
    wanted: str | None,
    plot: Path | None,
    rows: int,
    as_json: bool,
    topology: Topology | None,
    base_dir: Path,
) -> None:
    if plot is not None:
        plot_plan(made, plot, topology=topology, base_dir=base_dir)
    if output is not None:
        write_plan(made, output, as_format(wanted or "json"))
    if as_json:
        write_plan_to(made, sys.stdout, "json")
        return
    totals = Totals()
    totals.add(made)
    if made.end - made.start <= LONG:
        show(passes_table(made, rows))
    show(totals.table(made.end - made.start, [link.title for link in topology.links] if topology else []))
    for path in (output, plot):
        if path is not None:
            show(f"wrote {path}")


def _stream(
    asked: _Interval, start: str, length: float, output: Path | None, wanted: str | None, as_json: bool
) -> None:
    """Plan a long interval in constant memory."""
    totals = Totals()
    nodes = {name: node.number for name, node in asked.topology.nodes.items()}
    meta = {"topology": asked.topology.name, "generator": f"marsnet {marsnet.__version__}"}
    header = PlanHeader(start, 0.0, length, nodes, meta)

    with _progress(length) as progress:
        pieces = stream_contacts(asked.topology, start, length, base_dir=asked.base_dir, progress=progress)

        def counted() -> Iterator[Chunk]:
            for piece in pieces:
                totals.add(piece)
                yield piece

        stream = PlanStream(header, counted())
        if output is not None:
            write_plan(stream, output, as_format(wanted or "json"))
        elif as_json:
            write_plan_to(stream, sys.stdout, "json")
        else:
            for _ in stream.chunks:
                pass
    if not as_json:
        show(totals.table(length, [link.title for link in asked.topology.links]))
        if output is not None:
            show(f"wrote {output}")


@contextmanager
def _progress(length: float) -> Iterator[Callable[[float, float], None] | None]:
    """A progress bar on standard error for long intervals on a terminal."""
    console = Console(stderr=True)
    if length <= LONG or not console.is_terminal:
        yield None
        return
    with Progress(
        TextColumn("planning"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} sols"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("planning", total=length / SOL)
        yield lambda done, _total: bar.update(task, completed=done / SOL)


def _explain(asked: _Interval, what: str, as_json: bool) -> None:
    link, at, text = what.rpartition("@")
    if not at:
        raise InputError(f"{what!r} names no instant", remedy="write LINK@TIME, like 'dss14--mro@2 h'")
    try:
        when = parse_when(text)
    except ValueError as error:
        problem, _, remedy = str(error).partition("; ")
        raise InputError(problem, remedy=remedy) from None
    start = asked.start or when.utc
    if start is None:
        raise InputError(f"{text!r} counts from a start", remedy="add --start, or name a UTC instant")
    if when.offset is not None:
        time = when.offset
    elif when.utc is not None:
        time = (parse_utc(when.utc) - parse_utc(start)).total_seconds()
    else:
        site = asked.topology.nodes.get(when.site)
        if not isinstance(site, Site) or when.sol is None:
            raise InputError(f"{when.site!r} is no site", remedy="name a site of the topology")
        time = local_time_instant(start, when.sol, when.hour, site.longitude, when.scale)
    found = explain_link(asked.topology, link, start, time, base_dir=asked.base_dir)
    if as_json:
        show_json(
            [
                {
                    "link": one.link,
                    "source": one.source,
                    "target": one.target,
                    "transmitted_at": one.transmitted_at,
                    "open": one.open,
                    "light_time_s": one.light_time,
                    "budget": [line._asdict() for line in one.lines],
                }
                for one in found
            ]
        )
        return
    for one in found:
        show(*explanation(one))
