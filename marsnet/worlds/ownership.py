"""Whose a lab is: of the run that built it, for as long as that process lives, or nobody's and to stay.

A run that was killed cannot clear its lab away. The next one of the same name does: it finds the lock free, which the
kernel released with the process, and no word that the lab is to stay.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from marsnet.errors import InputError
from marsnet.worlds.lab import down_by_label, labs
from marsnet.worlds.lab.namespace import require_root
from marsnet.worlds.lab.spec import check_lab_name, runtime_dir

_STAYS = "stays"


@contextmanager
def owned(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Own a lab's name while something is built or runs under it; what a killed run left of it is cleared away first.

    Raises:
        InputError: another process owns it.
        EnvironmentLacksError: without root or Docker.
    """
    require_root()
    path = runtime_dir(check_lab_name(name)).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"lab {name!r} is in use by another run", remedy="wait for its end, or name another lab with --lab"
            ) from None
        try:
            if not stays(name) and name in {status.name for status in labs()}:
                say("clearing away what a run that was broken off has left")
                down_by_label(name)
            yield
        finally:
            path.unlink(missing_ok=True)


def let_stay(name: str) -> None:
    """Note that a lab is to stay when the process that built it has ended."""
    _marker(name).touch()


def stays(name: str) -> bool:
    """Whether a lab is up to stay."""
    return _marker(name).exists()


def _marker(name: str) -> Path:
    return runtime_dir(name) / _STAYS
