"""`marsnet warp`: what goes on inside the guests of the warp world."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from marsnet.commands.options import SET
from marsnet.commands.run import Bar, ended_like_by_a_person
from marsnet.errors import InputError
from marsnet.model.source import read_yaml
from marsnet.model.templates import parse_settings
from marsnet.runs.execute import execute as run_scenario
from marsnet.runs.execute import look_at
from marsnet.runs.folder import make_run_folder
from marsnet.runs.verdict import conclusion
from marsnet.worlds.programs import ERRORS, FOLDER, OUTPUT
from marsnet.worlds.warp.world import WAKERS

app = typer.Typer(help="What goes on inside the guests of the warp world.", no_args_is_help=True)

_COMPUTING = "sched/sched_stat_runtime"
_KINDS = {
    "sched/sched_wakeup": "program woken",
    "timer/hrtimer_expire_entry": "high-resolution timer",
    "timer/timer_expire_entry": "kernel timer",
    "workqueue/workqueue_execute_start": "kernel work",
}


@app.command()
def top(
    folder: Annotated[Path, typer.Argument(help="Run folder; default: the newest.")] = Path("runs/latest"),
    lines: Annotated[int, typer.Option("--lines", min=1, help="How many of each kind.")] = 10,
    setup: Annotated[bool, typer.Option("--setup", help="While the network was set up, not the mission.")] = False,
) -> None:
    """Show what woke the guest of a finished run most often, and what it computed: what makes a warp run slow."""
    try:
        content: dict[str, Any] = json.loads((folder / WAKERS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"there is no {WAKERS} in {str(folder)!r}", remedy="name the folder of a run of the warp world"
        ) from None
    part: dict[str, Any] = content["setup" if setup else "mission"]
    seconds = float(part["seconds"])
    title = f"{seconds:,.0f} s of the guest, {part['busy']:,.1f} s of them busy"
    table = Table("what", "who", "times", "a guest second", title=title)
    for kind, counts in part["counts"].items():
        for name, count in counts[:lines]:
            if kind == _COMPUTING:
                table.add_row("computing", name, f"{count * 1e-9:,.2f} s", f"{count * 1e-6 / seconds:.3g} ms")
            else:
                table.add_row(_KINDS.get(kind, kind), name, f"{count:,}", f"{count / seconds:.3g}")
    Console(highlight=False).print(table)


@app.command("exec")
def execute(
    file: Annotated[Path, typer.Argument(help="Topology or scenario file.")],
    command: Annotated[list[str], typer.Argument(help="Program and arguments, after '--'.")],
    node: Annotated[str, typer.Option("--node", help="In whose network it runs.")],
    at: Annotated[str, typer.Option("--at", help="When it is started.")] = "0 s",
    duration: Annotated[
        str | None, typer.Option("--for", help="How long the run lasts; default: 3 h, or as the scenario says.")
    ] = None,
    start: Annotated[str | None, typer.Option("--start", help="UTC instant of the start; for a topology.")] = None,
    debian: Annotated[list[str] | None, typer.Option("--debian", help="A Debian package that it needs.")] = None,
    python: Annotated[
        list[str] | None, typer.Option("--python", help="A Python package that it needs, as in 'aioquic==1.2.0'.")
    ] = None,
    files: Annotated[list[Path] | None, typer.Option("--file", help="Copied to its working directory.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="In place of the scenario's.")] = None,
    settings: Annotated[list[str] | None, SET] = None,
    output: Annotated[Path, typer.Option("--output", help="Folder that run folders are made in.")] = Path("runs"),
) -> None:
    """Run a program in a node's network at true light time; its output and its exit code are this command's.

    For example: marsnet warp exec topologies/first_light.yaml --start 2026-10-01 --node mcc -- ping -c 3 dss14
    """
    content: dict[str, Any] = {"marsnet": "scenario/1"}
    kind = str(read_yaml(file).get("marsnet", ""))
    if kind.startswith("scenario/"):
        content["include"] = str(file.resolve())
    elif start is None:
        raise InputError(f"{str(file)!r} says nothing of a start", remedy="give --start 2026-10-01")
    else:
        content |= {"name": "exec", "topology": str(file.resolve()), "start": start, "duration": "3 h"}
    if duration is not None:
        content["duration"] = duration
    program = {"name": "exec", "node": node, "at": at, "command": command, "exit": "any"}
    content["programs"] = [program | {"files": [str(path.resolve()) for path in files or ()]}]
    content["software"] = {"debian": debian or [], "python": python or []}
    chosen = parse_settings(settings or [])
    folder = make_run_folder(output, "exec")
    scenario = folder / "scenario.yaml"
    # JSON is YAML.
    scenario.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    console = Console(highlight=False, stderr=True)
    with Bar(console, f"{command[0]} at {node} (warp)") as bar, ended_like_by_a_person():
        finished = run_scenario(
            scenario, folder, "warp", seed=seed, settings=chosen, planning=bar.planning, progress=bar.running
        )
    own = folder / FOLDER / "exec"
    for name, stream in ((OUTPUT, sys.stdout), (ERRORS, sys.stderr)):
        if (own / name).exists():
            stream.write((own / name).read_text(encoding="utf-8", errors="replace"))
            stream.flush()
    (end,) = (end for end in finished.outcome.programs if end.name == "exec")
    if not finished.valid or end.code is None:
        console.print(conclusion(finished.verdict))
        raise typer.Exit(finished.exit_code or 1)
    # As a shell has it: a program that a signal has ended counts as 128 and the signal's number.
    raise typer.Exit(end.code if end.code >= 0 else 128 - end.code)


@app.command()
def debug(
    at: Annotated[str, typer.Option("--at", help="The moment, as '11 h' after the start.")],
    folder: Annotated[Path, typer.Argument(help="Folder of a run of the warp world; default: the newest.")] = Path(
        "runs/latest"
    ),
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also where marsnet, its packages or the scenario have changed since.")
    ] = False,
) -> None:
    """Make a run again, and open a shell in its guest at a moment of the mission; with its end the guest ends.

    Commands may come from a file: marsnet warp debug --at "11 h" <commands.sh
    """
    console = Console(highlight=False, stderr=True)
    with Bar(console, f"until {at}", still=sys.stdin.isatty()) as bar, ended_like_by_a_person():
        look_at(folder, at, anyway=anyway, progress=bar.running)
