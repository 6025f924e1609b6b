"""`marsnet warp`: what goes on inside the guests of the warp world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from marsnet.errors import InputError
from marsnet.worlds.warp.world import WAKERS

app = typer.Typer(help="What goes on inside the guests of the warp world.", no_args_is_help=True)

_KINDS = {
    "sched/sched_wakeup": "program woken",
    "timer/hrtimer_expire_entry": "high-resolution timer",
    "timer/timer_expire_entry": "kernel timer",
}


@app.command()
def top(
    folder: Annotated[Path, typer.Argument(help="Run folder; default: the newest.")] = Path("runs/latest"),
    lines: Annotated[int, typer.Option("--lines", min=1, help="How many of each kind.")] = 10,
) -> None:
    """Show what woke the guest of a finished run most often: what makes a warp run slow."""
    try:
        content: dict[str, Any] = json.loads((folder / WAKERS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"there is no {WAKERS} in {str(folder)!r}", remedy="name the folder of a run of the warp world"
        ) from None
    seconds = float(content["seconds"])
    table = Table("woken by", "who", "times", "a guest second", title=f"{seconds:,.0f} s of the guest")
    for kind, counts in content["counts"].items():
        for name, count in counts[:lines]:
            table.add_row(_KINDS.get(kind, kind), name, f"{count:,}", f"{count / seconds:.3g}")
    Console(highlight=False).print(table)
