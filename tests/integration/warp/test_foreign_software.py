"""Unmodified programs of other people in a real guest, 1,334.9 s one-way. `make test-warp` runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.warp, pytest.mark.slow, pytest.mark.timeout(7200)]
SHIPPED = Path(__file__).resolve().parents[3] / "scenarios" / "foreign_software"


def marsnet(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marsnet.cli", *arguments], capture_output=True, text=True, check=False
    )


def test_programs_of_others_meet_true_light_time(tmp_path: Path) -> None:
    done = marsnet("run", str(SHIPPED / "programs.yaml"), "--world", "warp", "--output", str(tmp_path), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert verdict["valid"]
    own = tmp_path / "latest" / "programs"
    assert "5 packets transmitted, 5 received" in (own / "ping" / "output.txt").read_text()
    told = {entry["name"]: entry for entry in verdict["requirements"]}
    # tcp(7): a SYN and six more, after 1, 2, 4, ... 32 s, and 64 s of patience with the last one, are 127 s.
    assert re.match(r"exit code 1 after 2 min \d+\.\d s$", told["program iperf3_tcp at mars"]["measured"])


def test_one_program_from_the_command_line(tmp_path: Path) -> None:
    network = str(SHIPPED / "network.yaml")
    options = ["--start", "2026-10-01", "--node", "mars", "--output", str(tmp_path)]
    done = marsnet("warp", "exec", network, *options, "--", "ping", "-c", "5", "-W", "3000", "earth")
    assert done.returncode == 0, done.stderr
    assert "5 packets transmitted, 5 received" in done.stdout


def test_the_root_checks_itself(tmp_path: Path) -> None:
    """What `make test-vm` does."""
    scenario = str(Path(__file__).with_name("self_check.yaml"))
    done = marsnet("run", scenario, "--world", "warp", "--output", str(tmp_path), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
