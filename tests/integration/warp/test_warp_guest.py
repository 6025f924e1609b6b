"""The warp world for real: a QEMU guest with containers, switches and delay lines. `make test-warp` runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.warp, pytest.mark.slow, pytest.mark.timeout(7200)]
SCENARIO = Path(__file__).parent / "hour.yaml"


def warped(output: Path) -> dict[str, Any]:
    options = ["--world", "warp", "--output", str(output), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "marsnet.cli", "run", str(SCENARIO), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict


def test_the_same_seed_gives_the_same_ledger(tmp_path: Path) -> None:
    first, second = warped(tmp_path / "first"), warped(tmp_path / "second")
    assert first["world"] == "warp"
    assert first["valid"]
    assert first["ledger_hash"] == second["ledger_hash"]
    assert (tmp_path / "first" / "latest" / "wakers.json").exists()
