"""`marsnet doctor`: what this machine can do, what is missing, and the commands that mend it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from marsnet.errors import EnvironmentLacksError
from marsnet.worlds.machine import Machine, detect

_MARKS = {"ok": Text("ok", "green"), "limited": Text("limited", "yellow"), "missing": Text("missing", "bold red")}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
    spill: Annotated[Path, typer.Option(help="Folder that takes the frames in flight beyond memory.")] = Path("runs"),
) -> None:
    """Tell what this machine can do for an emulated run; exit with 4 when it cannot run one."""
    machine = detect(spill)
    if as_json:
        typer.echo(json.dumps(machine.to_json(), indent=2))
    else:
        _show(machine, Console())
    if machine.lacks:
        raise typer.Exit(EnvironmentLacksError.exit_code)


def _show(machine: Machine, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("what", "state", "found"):
        table.add_column(column)
    for finding in machine.findings:
        table.add_row(finding.name, _MARKS[finding.state], Text(finding.value))
    console.print(table)
    mendable = [finding for finding in machine.findings if finding.fix]
    if mendable:
        console.print()
    for finding in mendable:
        need = "needed" if finding.required else "optional"
        console.print(Text(f"{finding.name} ({need}): {finding.fix}"), soft_wrap=True)
    verdict = "cannot run here yet" if machine.lacks else "can run here"
    warp = "can run here" if machine.warps else "cannot run here yet"
    console.print(f"\nThe virtual world can run here. The emulated world {verdict}. The warp world {warp}.")
