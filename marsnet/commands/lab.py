"""`marsnet up`, `down`, `inspect`, `exec` and `link`: labs that stay up until they are taken down.

The lab is imported when one of them runs: the other commands need no Mininet.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from marsnet.errors import InputError
from marsnet.units import quantity

if TYPE_CHECKING:
    from marsnet.worlds.lab import LabStatus

LabName = Annotated[str | None, typer.Option("--lab", help="Name of the lab; default: the only one that is up.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def up(
    file: Annotated[Path, typer.Argument(help="Topology file.")],
    start: Annotated[str, typer.Option("--start", help="UTC instant at which the mission clock starts.")],
    duration: Annotated[str, typer.Option("--duration", help="How long the contact plan reaches.")] = "1 sol",
    rate: Annotated[float, typer.Option("--rate", help="Mission seconds per second.")] = 1.0,
    lab: Annotated[str | None, typer.Option("--lab", help="Name of the lab; default: the topology's.")] = None,
    folder: Annotated[Path, typer.Option("--output", help="Folder for configurations, stores and logs.")] = Path(
        "runs/labs"
    ),
    prometheus: Annotated[
        str | None,
        typer.Option("--prometheus", help="Where its Prometheus listens; default: 127.0.0.1:9090, or a free port."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a topology up as a lab without traffic, on its contact plan, and leave it up. Idempotent."""
    from marsnet.worlds.lab import inspect as inspect_lab  # noqa: PLC0415
    from marsnet.worlds.standing import bring_up  # noqa: PLC0415

    console = Console(highlight=False, stderr=as_json)
    name, built = bring_up(
        file,
        start,
        quantity(duration, "time"),
        rate,
        lab,
        folder,
        lambda step: console.print(f"setting up: {step}"),
        prometheus,
    )
    status = inspect_lab(name)
    if as_json:
        print(json.dumps(_document(status) | {"built": built}))
        return
    console.print(f"lab {name} is up" + ("" if built else " already"))
    _show(console, status)


def down(
    lab: Annotated[str | None, typer.Argument(help="Name of the lab; default: the only one there is.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Take every lab down.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a lab away: everything that carries its label, and nothing else. Works after a killed run too."""
    from marsnet.worlds.lab import down_by_label, labs  # noqa: PLC0415

    names = [lab] if lab else [status.name for status in labs()]
    if not everything and len(names) > 1:
        raise InputError(f"{len(names)} labs are up", remedy=f"name one of {', '.join(names)}, or give --all")
    gone = {name: down_by_label(name) for name in names}
    if as_json:
        print(json.dumps({"labs": gone}))
        return
    console = Console(highlight=False)
    for name, existed in gone.items():
        console.print(f"lab {name} " + ("is gone" if existed else "was not there"))
    if not gone:
        console.print("there is no lab")


def inspect(
    lab: Annotated[str | None, typer.Argument(help="Name of a lab; default: all.")] = None, as_json: AsJson = False
) -> None:
    """Show labs: nodes, addresses, links, services."""
    from marsnet.worlds.lab import inspect as inspect_lab  # noqa: PLC0415
    from marsnet.worlds.lab import labs  # noqa: PLC0415

    found = [inspect_lab(the_lab(lab))] if lab else labs()
    if as_json:
        print(json.dumps({"labs": [_document(status) for status in found]}))
        return
    console = Console(highlight=False)
    if not found:
        console.print("no lab is up")
    for status in found:
        _show(console, status)


def execute(
    node: Annotated[str, typer.Argument(help="Name of the node.")],
    program: Annotated[list[str], typer.Argument(help="Program of its image, and arguments.")],
    lab: LabName = None,
) -> None:
    """Run a program in a node's container, as `marsnet exec rover cat /etc/hosts`; its exit code is this command's."""
    from marsnet.worlds.standing import attach  # noqa: PLC0415

    code, output = attach(the_lab(lab)).exec(node, program)
    print(output, end="")
    raise typer.Exit(code)


def link(
    name: Annotated[str | None, typer.Argument(help="Title of a link; default: all.")] = None,
    lab: LabName = None,
    outage: Annotated[
        str | None, typer.Option("--down", help="Take the link down without notice, for so much mission time.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the links carry and where their frames went, or take one down for a while."""
    from marsnet.worlds.standing import attach, take_link_down  # noqa: PLC0415

    chosen = the_lab(lab)
    if outage is not None:
        if name is None:
            raise InputError("--down needs a link", remedy="name one: marsnet link mro--rover --down '30 min'")
        until = take_link_down(chosen, name, quantity(outage, "time"))
        if as_json:
            print(json.dumps({"link": name, "down_until": until}))
        else:
            print(f"link {name} is down until {until}")
        return
    figures = attach(chosen).frames()
    if name is not None:
        figures = [frames for frames in figures if frames.link == name]
        if not figures:
            raise InputError(f"lab {chosen!r} has no link {name!r}", remedy=f"see 'marsnet inspect {chosen}'")
    if as_json:
        print(json.dumps({"directions": [asdict(frames) | {"unaccounted": frames.unaccounted} for frames in figures]}))
        return
    table = Table("link", "direction", "in", "delivered", "queued", "in flight", "dropped")
    for frames in figures:
        table.add_row(
            frames.link,
            f"{frames.source} → {frames.target}",
            str(frames.entered),
            str(frames.delivered),
            str(frames.queued),
            str(frames.in_flight),
            ", ".join(f"{count} {reason}" for reason, count in frames.dropped.items() if count) or "0",
        )
    Console(highlight=False).print(table)


def the_lab(lab: str | None) -> str:
    """The named lab, or the only one there is."""
    from marsnet.worlds.lab import labs  # noqa: PLC0415

    found = [status.name for status in labs()]
    if lab is not None:
        if lab not in found:
            raise InputError(f"there is no lab {lab!r}", remedy=f"labs: {', '.join(found) or 'none is up'}")
        return lab
    if len(found) != 1:
        remedy = f"name one of {', '.join(found)}" if found else "bring one up: marsnet up TOPOLOGY --start UTC"
        raise InputError(f"{len(found)} labs are up" if found else "no lab is up", remedy=remedy)
    return found[0]


def _document(status: LabStatus) -> dict[str, object]:
    return asdict(status) | {"run_dir": str(status.run_dir) if status.run_dir else None}


def _show(console: Console, status: LabStatus) -> None:
    state = "complete" if status.complete else "broken: take it down and up again"
    console.print(
        f"[bold]{status.name}[/]: {state}, {len(status.links)} links, datapath {status.datapath or 'unknown'}"
    )
    table = Table("node", "container", "data plane", "management")
    for node in status.nodes:
        table.add_row(node.name, node.container or "-", node.address, node.management)
    console.print(table)
    for name, facts in status.services.items():
        console.print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in facts.items()), soft_wrap=True)
