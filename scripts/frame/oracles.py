"""The environment of other people's DTN programs that the tests hold ours against: their pins and ours do not mix."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from frame import say, venv

PINS = Path(__file__).with_suffix(".txt")


def folder(root: Path) -> Path:
    """Where it lies; tests run `bin/python` and the commands beside it."""
    return root / ".cache" / "oracles"


def key(python: str) -> str:
    """A hash of all that decides what it holds."""
    return hashlib.sha256(f"{python}\0{sys.version}\0".encode() + PINS.read_bytes()).hexdigest()


def ensure(root: Path, python: str, log: Path) -> None:
    """Makes or refreshes it; does nothing when its stamp matches.

    Args:
        root: the checkout.
        python: the interpreter to make it of.
        log: file that takes pip's output.
    """
    place = folder(root)
    stamp, wanted = place / "marsnet.stamp", key(python)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    again = "make distclean setup-test"
    if not venv.made_of(place, python):
        say.run([python, "-m", "venv", "--clear", str(place)], log, again)
    say.step("installing the programs that tests compare with into .cache/oracles")
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    say.run([*pip, "-r", str(PINS)], log, again)
    stamp.write_text(wanted)
