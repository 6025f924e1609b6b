"""Python packages that a scenario's programs need, collected once per set of pins and kept."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.worlds import images

Say = Callable[[str], None]
_PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")


def python_packages(pins: Sequence[str], say: Say) -> Path | None:
    """The folder that holds packages and all that they depend on, for the machine's own Python; None for none.

    Args:
        pins: names with versions, as in `aioquic==1.2.0`.
        say: told when something is fetched.

    Raises:
        InputError: there is no such package, or no such version.
        EnvironmentLacksError: packages made here do not fit the machine's own Python.
    """
    if not pins:
        return None
    python = images.host_distribution().python
    if python != f"{sys.version_info.major}.{sys.version_info.minor}":
        raise EnvironmentLacksError(
            f"packages made by {sys.executable} do not fit the Python {python} of this machine",
            fix="make distclean setup PYTHON=/usr/bin/python3",
        )
    cache = images.checkout() / ".cache" / "software"
    cache.mkdir(parents=True, exist_ok=True)
    recipe = {"pins": "\n".join(sorted(pins)).encode(), "python": python.encode()}
    folder = cache / f"python-{images.content_key(recipe)}"
    if folder.is_dir():
        return folder
    say(f"collecting the Python packages {', '.join(pins)}")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        target = Path(scratch) / "packages"
        done = subprocess.run(
            [*_PIP, "--target", str(target), *pins],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            told = " | ".join(line for line in done.stderr.splitlines() if line.startswith("ERROR")) or done.stderr
            raise InputError(
                f"pip cannot install {', '.join(pins)}: {told.strip()}",
                remedy="mend 'python' under 'software', or see that a package index can be reached",
            )
        target.rename(folder)
    return folder
