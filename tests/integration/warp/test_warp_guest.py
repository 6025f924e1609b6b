"""The warp world for real: a QEMU guest with containers, switches and delay lines. `make test-warp` runs it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.warp, pytest.mark.slow, pytest.mark.timeout(7200)]
SCENARIO = Path(__file__).parent / "hour.yaml"


def marsnet(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "marsnet.cli", *words, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def warped(output: Path, *options: str) -> dict[str, Any]:
    return marsnet("run", str(SCENARIO), "--world", "warp", "--output", str(output), *options)


def where_they_part(one: Path, other: Path) -> str:
    """The first lines of console and ledger in which two runs differ; the console has the guest's nanoseconds."""
    told = []
    for name in ("guest-console.log", "ledger.jsonl"):
        pairs = itertools.zip_longest(*((folder / "latest" / name).read_text().splitlines() for folder in (one, other)))
        parted = next((pair for pair in enumerate(pairs, 1) if pair[1][0] != pair[1][1]), None)
        told.append(f"{name} is the same" if parted is None else f"{name}, line {parted[0]}: {parted[1]}")
    return "\n".join(told)


def test_the_same_seed_gives_the_same_ledger(tmp_path: Path) -> None:
    first, second = (warped(tmp_path / name) for name in ("first", "second"))
    assert first["world"] == "warp"
    assert first["valid"]
    assert first["ledger_hash"] == second["ledger_hash"], where_they_part(tmp_path / "first", tmp_path / "second")
    parts = json.loads((tmp_path / "first" / "latest" / "wakers.json").read_text())
    assert parts["mission"]["seconds"] > 3600
    assert parts["mission"]["busy"] < 0.01 * parts["mission"]["seconds"]

    seeds = ["--vary", "seed=1,2", "--jobs", "2"]
    campaign = marsnet("campaign", str(SCENARIO), "--world", "warp", *seeds, "--output", str(tmp_path / "campaign"))
    assert campaign["passed"] == 2
    made = [json.loads(file.read_text()) for file in (tmp_path / "campaign" / "runs").glob("*.json")]
    hashes = {run["seed"]: run["ledger_hash"] for run in made}
    assert hashes[1] == first["ledger_hash"]
    assert hashes[2] != hashes[1]
