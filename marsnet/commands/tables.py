"""How commands print: tables that fold nothing when they are piped, and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta

from rich import box
from rich.console import Console
from rich.table import Table

from marsnet.clock import parse_utc

_PIPED_WIDTH = 180
"""Columns of a table that is not printed on a terminal."""


def show(*what: object) -> None:
    """Print tables and text on standard output."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    for one in what:
        console.print(one)


def show_json(what: object) -> None:
    """Print one JSON value on standard output."""
    print(json.dumps(what, indent=1))


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """A table of names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table


def columns(title: str, names: Sequence[str], *, right: Iterable[str] = ()) -> Table:
    """A table with a heading; columns in `right` are set to the right."""
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    to_right = set(right)
    for name in names:
        table.add_column(name, justify="right" if name in to_right else "left")
    return table


def to_second(instant: str) -> str:
    """A UTC instant rounded to the second, for a table."""
    return (parse_utc(instant) + timedelta(seconds=0.5)).strftime("%Y-%m-%d %H:%M:%S")
