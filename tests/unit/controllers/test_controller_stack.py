"""The choice of the OpenFlow stack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def choose(stack: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from controllers import stack; print(stack.NAME, stack.App.__name__)"],
        env={"MARSNET_SDN_STACK": stack, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_os_ken_comes_first() -> None:
    assert choose("").stdout.split() == ["os_ken", "OSKenApp"]


def test_a_stack_that_is_missing_is_named() -> None:
    done = choose("no_such_stack")
    assert done.returncode != 0
    assert "no OpenFlow stack: no_such_stack is not installed" in done.stderr
