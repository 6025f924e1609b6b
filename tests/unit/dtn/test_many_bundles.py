"""Very many stored bundles: a node takes them up and lets them expire in bounded memory, and goes on meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FEW, MANY = 2_000, 40_000
"""The benchmark of the same name takes a million."""


def figures(count: int, folder: Path) -> dict[str, float]:
    """What the benchmark says of so many bundles."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "store_million.py"), str(count), str(folder)],
        capture_output=True, text=True, timeout=250, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = [line.rsplit(maxsplit=1) for line in done.stdout.splitlines()[1:]]
    return {name.strip(): float(value) for name, value in lines}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_memory_and_time_grow_no_faster_than_the_number_of_bundles(tmp_path: Path) -> None:
    few, many = figures(FEW, tmp_path / "few"), figures(MANY, tmp_path / "many")
    each = (many["memory"] - few["memory"]) * 1024**2 / (MANY - FEW)
    assert each < 1200, f"{each:.0f} octets of memory for each stored bundle"
    assert many["take up, us a bundle"] < 5 * few["take up, us a bundle"]
    assert many["expire, us a bundle"] < 5 * few["expire, us a bundle"]
    assert many["open"] < 2.0
    # The node works before it has taken all of them up.
    assert many["start"] < many["take up"] / 5
    # That and expiry come in portions: what arrives meanwhile is not kept waiting for all of them.
    assert many["advances"] >= 2 * (MANY - FEW) / 500
    assert many["longest advance"] < 3.0
