"""The console script: thin commands over the rooms, and one place where errors become exit codes."""

from __future__ import annotations

import signal
import sys

import typer
from rich.console import Console

from marsnet import __version__
from marsnet.commands import campaign, compare, doctor, lab, node, plan, run, sky, talk, validate, warp
from marsnet.errors import MarsnetError

app = typer.Typer(
    name="marsnet",
    help="Rehearse the Mars network before it flies.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 passed, 1 requirement failed, 2 bad input, 3 run invalid, 4 environment lacks something.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"marsnet {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of every command."""


app.command("validate")(validate.validate)
app.command("run")(run.run)
app.command("report")(run.report)
app.command("compare")(compare.compare)
app.command("campaign")(campaign.campaign)
app.command("up")(lab.up)
app.command("down")(lab.down)
app.command("inspect")(lab.inspect)
app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(lab.execute)
app.command("link")(lab.link)
app.command("doctor")(doctor.doctor)
app.command("node")(node.node)
app.command("ping")(talk.ping_command)
app.command("trace")(talk.trace_command)
app.command("send")(talk.send_command)
app.command("recv")(talk.recv_command)
app.command("plan")(plan.plan)
app.add_typer(sky.app, name="sky")
app.add_typer(warp.app, name="warp")


def main() -> None:
    """Entry point. Errors that marsnet raises on purpose are one line on standard error."""
    try:
        app(standalone_mode=True)
    except MarsnetError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"marsnet: {error}", markup=False, style="red")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
