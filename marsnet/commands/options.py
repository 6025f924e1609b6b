"""Options that several commands have."""

from __future__ import annotations

import typer

SET = typer.Option("--set", help="A parameter's value, as in 'orbiters=4'; may stand several times.")
