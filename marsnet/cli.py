"""The console script: thin commands over the rooms, and one place where errors become exit codes."""

from __future__ import annotations

import signal
import sys
import traceback

import typer

from marsnet import __version__
from marsnet.commands.catalogue import LoadingGroup, enlist
from marsnet.errors import MarsnetError

_DEFECT = 70
"""Exit code where marsnet itself is at fault: EX_SOFTWARE of sysexits.h, so that nobody takes it for a verdict."""

app = typer.Typer(
    name="marsnet",
    cls=LoadingGroup,
    help="Rehearse the Mars network before it flies.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 passed, 1 requirement failed, 2 bad input, 3 run invalid, 4 environment lacks something, "
    "70 a defect of marsnet.",
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


enlist(app)


def main() -> None:
    """Entry point. Errors that marsnet raises on purpose are one line on standard error."""
    try:
        app(standalone_mode=True)
    except MarsnetError as error:
        from rich.console import Console  # noqa: PLC0415

        Console(stderr=True, soft_wrap=True, highlight=False).print(f"marsnet: {error}", markup=False, style="red")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception:
        traceback.print_exc()
        sys.exit(_DEFECT)


if __name__ == "__main__":
    main()
