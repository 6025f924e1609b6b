"""`marsnet validate`: read files as a run would, without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from marsnet.commands.options import SET
from marsnet.errors import InputError
from marsnet.model.scenario import load_scenario
from marsnet.model.source import read_yaml
from marsnet.model.templates import parse_settings
from marsnet.model.topology import load_topology
from marsnet.runs.prepare import check_times


def validate(
    files: Annotated[list[Path], typer.Argument(help="Topology and scenario files.")],
    settings: Annotated[list[str] | None, SET] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check topology and scenario files; the first mistake is named with file, line, value and remedy."""
    chosen = parse_settings(settings or [])
    found: list[dict[str, object]] = []
    for file in files:
        kind = str(read_yaml(file).get("marsnet", ""))
        if kind.startswith("scenario/"):
            scenario, topology = load_scenario(file, chosen)
            check_times(scenario, topology, file, chosen)
            found.append({"file": str(file), "kind": "scenario", "name": scenario.name, "flows": len(scenario.traffic)})
        elif kind.startswith("topology/"):
            topology = load_topology(file, chosen)
            found.append(
                {
                    "file": str(file),
                    "kind": "topology",
                    "name": topology.name,
                    "nodes": len(topology.nodes),
                    "links": len(topology.links),
                }
            )
        else:
            raise InputError(
                f"'marsnet: {kind}' is no kind of file" if kind else "the key 'marsnet' is missing",
                remedy="begin the file with 'marsnet: topology/1' or 'marsnet: scenario/1'",
                file=file,
                line=1,
            )
    if as_json:
        print(json.dumps({"valid": True, "files": found}))
        return
    console = Console(highlight=False)
    for entry in found:
        console.print(f"[green]ok[/] {entry['file']}: {entry['kind']} {entry['name']}", soft_wrap=True)
