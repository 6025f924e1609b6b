"""Which module has which command, and what the list of commands says of it.

A command is imported when it is called: `marsnet ping` has no use for the planner, and the list for none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class Entry(NamedTuple):
    """Where a command is.

    Attributes:
        module: of this package.
        attribute: of it: a function, or a Typer application.
        summary: its help, which the function or application says itself too.
    """

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "validate": Entry(
        "validate",
        "validate",
        "Check topology and scenario files; the first mistake is named with file, line, value and remedy.",
    ),
    "run": Entry("run", "run", "Run a scenario; ends in a verdict and a report."),
    "report": Entry("run", "report", "Show the verdict of a finished run and where its report is."),
    "compare": Entry(
        "compare",
        "compare",
        "Show where two runs diverge; exit code 0 where they are the same within the tolerance, else 1.",
    ),
    "campaign": Entry(
        "campaign",
        "campaign",
        "Run a scenario many times, in parallel; what the folder holds already is not repeated.",
    ),
    "up": Entry(
        "lab", "up", "Bring a topology up as a lab without traffic, on its contact plan, and leave it up. Idempotent."
    ),
    "down": Entry(
        "lab",
        "down",
        "Take a lab away: everything that carries its label, and nothing else. Works after a killed run too.",
    ),
    "inspect": Entry("lab", "inspect", "Show labs: nodes, addresses, links, services."),
    "exec": Entry(
        "lab",
        "execute",
        "Run a program in a node's container, as `marsnet exec rover cat /etc/hosts`; its exit code is this command's.",
    ),
    "link": Entry(
        "lab", "link", "Show what the links carry and where their frames went, or take one down for a while."
    ),
    "doctor": Entry(
        "doctor", "doctor", "Tell what this machine can do for an emulated run; exit with 4 when it cannot run one."
    ),
    "node": Entry("node", "node", "Run a bundle node until SIGTERM."),
    "ping": Entry(
        "talk",
        "ping_command",
        "Send bundles that come back. An answer is late only beyond the light time and the waits of the plan.",
    ),
    "trace": Entry(
        "talk",
        "trace_command",
        "Send a bundle and list what the nodes on its way report. They do where status reports are enabled.",
    ),
    "send": Entry("talk", "send_command", "Send a file as a bundle. Ends when the bundle is durable at the node."),
    "recv": Entry(
        "talk",
        "recv_command",
        "Receive bundles. Each leaves the node when what it carried has been written here, durably in a file.",
    ),
    "plan": Entry(
        "plan", "plan", "Compute the contact plan of a topology or scenario, or convert a plan between formats."
    ),
    "sky": Entry("sky", "app", "Light time, conjunctions, passes and Mars time."),
    "warp": Entry("warp", "app", "What goes on inside the guests of the warp world."),
}
_SETTINGS: dict[str, dict[str, Any]] = {"exec": {"ignore_unknown_options": True, "allow_interspersed_args": False}}
"""What follows `marsnet exec NODE` belongs to the program."""


def load(name: str) -> Any:
    """The command of a name, imported: a command or a group of Typer's."""
    entry = COMMANDS[name]
    found = getattr(import_module(f"marsnet.commands.{entry.module}"), entry.attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False)
    alone.command(name, context_settings=_SETTINGS.get(name))(found)
    return typer.main.get_command(alone)


class LoadingGroup(TyperGroup):
    """A group whose commands are placeholders with a name and a help, until one is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that arguments name, imported, and the arguments left for it."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, None if placeholder is None or name is None else load(name), rest


def enlist(app: typer.Typer) -> None:
    """Give an application, whose class is `LoadingGroup`, a placeholder for every command."""
    for name, entry in COMMANDS.items():
        app.command(name, help=entry.summary)(lambda: None)
