"""What the set-up tells the person who waits for it, and how it gives up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

LACKS = 4
"""Exit code when the machine lacks something, as everywhere in marsnet."""


def step(text: str) -> None:
    """One line about what is being installed or started, and only when something is."""
    print(f"set-up: {text}", file=sys.stderr, flush=True)


def lacks(missing: str, fix: str) -> NoReturn:
    """Ends the set-up with the thing that is missing and the command that mends it."""
    print(f"set-up: {missing}\n  to fix it: {fix}", file=sys.stderr, flush=True)
    sys.exit(LACKS)


def is_root() -> bool:
    """Whether this process may install packages and start daemons."""
    return os.geteuid() == 0


def run(command: Sequence[str], log: Path, fix: str, *, env: dict[str, str] | None = None) -> None:
    """Runs a command with its output in a log file; on failure shows the end of the log and exits with 4."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        out.write(f"$ {' '.join(command)}\n".encode())
        out.flush()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, check=False
        )
    if done.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-25:]
        print("\n".join(tail), file=sys.stderr)
        lacks(f"{command[0]} ended with {done.returncode} (whole output: {log})", fix)
