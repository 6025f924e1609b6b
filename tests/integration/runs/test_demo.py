"""`make demo`: the whole of first light on containers, as a new user runs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from run_harness import assert_sound

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.timeout(900)
def test_the_demo_passes(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "-s", "demo", f"ARGS=--json --lab demo-under-test --output {tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert "{" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    verdict = json.loads(done.stdout[done.stdout.index("{") :])
    assert_sound(verdict, 3 if "Error 3" in done.stderr else done.returncode)
    assert verdict["world"] == "emulated"
    assert verdict["elapsed"] == pytest.approx(88_775.244)
    assert {name: figures["accepted"] for name, figures in verdict["classes"].items()} == {
        "critical": 72,
        "expedited": 1440,
        "normal": 329,
        "bulk": 216,
    }
    assert json.loads((tmp_path / "latest" / "verdict.json").read_text()) == verdict
