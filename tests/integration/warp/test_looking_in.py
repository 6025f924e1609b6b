"""`marsnet warp debug` in a real guest: the run up to the moment is the run that was. `make test-warp` runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.warp, pytest.mark.slow, pytest.mark.timeout(7200)]
SCENARIO = Path(__file__).parent / "self_check.yaml"
MOMENT = 90.0


def marsnet(*arguments: str, commands: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marsnet.cli", *arguments], input=commands, capture_output=True, text=True, check=False
    )


def test_a_run_is_the_same_up_to_the_moment(tmp_path: Path) -> None:
    first = marsnet("run", str(SCENARIO), "--world", "warp", "--output", str(tmp_path), "--json")
    assert first.returncode == 0, first.stderr
    run = tmp_path / "latest"
    commands = "cat nodes/*/state/ledger.jsonl\nnode mars ip -brief address show eth0 >&2\ncat /proc/uptime >&2\n"
    again = marsnet("warp", "debug", str(run), "--at", f"{MOMENT:g} s", commands=commands)
    assert again.returncode == 0, again.stderr
    seen = [line for line in again.stdout.splitlines() if line.startswith("{")]
    whole = [line for file in sorted(run.glob("nodes/*/state/ledger.jsonl")) for line in file.read_text().splitlines()]
    until = [line for line in whole if json.loads(line)["t"] <= MOMENT]
    assert len(until) > 10
    assert [line for line in seen if json.loads(line)["t"] <= MOMENT] == until
    assert "10.77." in again.stdout
