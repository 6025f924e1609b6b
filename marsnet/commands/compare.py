"""`marsnet compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marsnet.commands.tables import show, show_json
from marsnet.errors import EnvironmentLacksError
from marsnet.runs.compare import Tolerance, as_json
from marsnet.runs.compare import compare as put_side_by_side
from marsnet.runs.compare_page import contacts_table, groups_table, told, write_comparison
from marsnet.runs.finished import read_run

_USUAL = Tolerance()


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of another.")],
    median: Annotated[
        float, typer.Option("--median", min=0, help="Allowed difference of a class's median latency, % of light time.")
    ] = 100 * _USUAL.median,
    p99: Annotated[
        float, typer.Option("--p99", min=0, help="Allowed difference of its 99th percentile, % of light time.")
    ] = 100 * _USUAL.p99,
    deliveries: Annotated[
        int, typer.Option("--deliveries", min=0, help="Bundles that only one of the runs may deliver.")
    ] = _USUAL.deliveries,
    page: Annotated[Path | None, typer.Option("--html", help="Write the comparison as a page.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as one JSON object.")] = False,
) -> None:
    """Show where two runs diverge; exit code 0 where they are the same within the tolerance, else 1."""
    comparison = put_side_by_side(read_run(first), read_run(second), Tolerance(deliveries, median / 100, p99 / 100))
    if page is not None:
        try:
            write_comparison(page, comparison)
        except OSError as error:
            raise EnvironmentLacksError(
                f"cannot write {str(page)!r}: {error.strerror}", fix="give --html a file in a folder of yours"
            ) from None
    if json:
        show_json(as_json(comparison))
    else:
        one, other = comparison.runs
        show(f"first: {one.title} ({one.folder})", f"second: {other.title} ({other.folder})")
        show("Latency of the first run, and by how much of light time the second differs")
        show(groups_table("Classes", comparison.classes), groups_table("Flows", comparison.flows))
        show(contacts_table(comparison))
        if comparison.divergent:
            show(f"{len(comparison.divergent)} of {len(comparison.pairs)} bundles diverge. The first:")
            show(*told(comparison.divergent[0]))
        show(*(f"beyond tolerance: {what}" for what in comparison.beyond))
        show("[bold green]HOLDS[/]" if comparison.holds else "[bold red]DIVERGES[/]")
    raise typer.Exit(0 if comparison.holds else 1)
