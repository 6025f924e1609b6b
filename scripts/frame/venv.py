"""The virtual environment: made of the distribution's Python, filled with pinned packages, and able to see Mininet."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from frame import say
from frame.packages import MININET

EXTRAS = "dev,sdn"


def key(root: Path, python: str) -> str:
    """A hash of all that decides what the environment holds: pins, build files, C sources, interpreter, place."""
    digest = hashlib.sha256(f"{root}\0{python}\0{sys.version}\0{EXTRAS}\0".encode())
    names = ["pyproject.toml", "setup.py", "constraints.txt"]
    native = (path for path in (root / "marsnet").rglob("*") if path.suffix in {".c", ".h"})
    for path in [*(root / name for name in names), *sorted(native)]:
        if path.is_file():
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def ensure(root: Path, python: str, log: Path) -> None:
    """Makes or refreshes `.venv`; does nothing when its stamp matches.

    Args:
        root: the checkout.
        python: the interpreter to make it of, the one that runs this.
        log: file that takes pip's output.
    """
    venv = root / ".venv"
    stamp, wanted = venv / "marsnet.stamp", key(root, python)
    if not (stamp.is_file() and stamp.read_text() == wanted):
        stamp.unlink(missing_ok=True)
        _install(root, venv, python, log)
        stamp.write_text(wanted)
    see_mininet(venv)


def _install(root: Path, venv: Path, python: str, log: Path) -> None:
    again = "make distclean setup"
    if not made_of(venv, python):
        say.step(f"making .venv of {python} (Python {sys.version.split()[0]})")
        say.run([python, "-m", "venv", "--clear", str(venv)], log, again)
    say.step("installing marsnet and the pinned Python packages into .venv")
    constraints = str(root / "constraints.txt")
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", constraints]
    say.run([*pip, "setuptools", "wheel"], log, again)
    say.run([*pip, "--no-build-isolation", "-e", f"{root}[{EXTRAS}]"], log, again)


def made_of(venv: Path, python: str) -> bool:
    """Whether the environment stands on this interpreter and still has its pip."""
    config = venv / "pyvenv.cfg"
    if not config.is_file() or not (venv / "bin" / "pip").exists():
        return False
    settings = (line.partition("=") for line in config.read_text().splitlines())
    fields = {name.strip(): value.strip() for name, _, value in settings}
    version = ".".join(str(part) for part in sys.version_info[:3])
    return fields.get("home") == str(Path(python).parent) and fields.get("version") == version


def see_mininet(venv: Path, mininet: Path = MININET) -> None:
    """Links the distribution's Mininet, and nothing else of the distribution's, into the environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    link = venv / "lib" / version / "site-packages" / "mininet"
    if mininet.is_dir() and not link.is_symlink():
        say.step(f"linking {mininet} into .venv")
        link.symlink_to(mininet)
