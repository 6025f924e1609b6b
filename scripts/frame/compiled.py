"""The machine code of the modules where bundles are handled: made once, and again only when it is asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path

from frame import say

_ASK = "import marsnet.compiled as c; print(bool(c.files()), any(c.ROOT.glob('compiled_*.so')))"


def ensure(root: Path, log: Path) -> None:
    """Compiles in a fresh checkout. Who edits the sources is told that they are interpreted from then on.

    Args:
        root: the checkout, whose `.venv` is there.
        log: file that takes the compiler's output.
    """
    python = str(root / ".venv" / "bin" / "python")
    asked = subprocess.run([python, "-c", _ASK], cwd=root, capture_output=True, text=True, check=True)
    current, any_at_all = (word == "True" for word in asked.stdout.split())
    if current:
        return
    if any_at_all:
        say.step("the sources are not those that were compiled, so Python interprets them; make compiled ends that")
        return
    say.step("compiling the modules where bundles are handled")
    say.run([python, str(root / "scripts" / "compile.py")], log, "make compiled")
