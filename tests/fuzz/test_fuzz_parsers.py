"""Every parser takes any octets: without a crash, without a hang, and without more memory than its input is worth."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, mutated
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).resolve().parent
SECONDS = 20
"""That the coverage-guided fuzzer runs."""


@pytest.mark.parametrize("name", TARGETS)
def test_any_octets(name: str) -> None:
    @given(st.binary(max_size=300))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def run(data: bytes) -> None:
        TARGETS[name].check(data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_examples(name: str) -> None:
    damage(name, 60, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_damaged_examples(name: str) -> None:
    damage(name, 1000, seed=2)


def damage(name: str, count: int, seed: int) -> None:
    target, draw = TARGETS[name], random.Random(f"{seed}/{name}")
    for data in target.seeds:
        target.check(data)
    for _ in range(count):
        target.check(mutated(draw.choice(target.seeds), draw))


@pytest.mark.slow
def test_coverage_guided_fuzzing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed (it has wheels for CPython on x86-64 Linux); pip install atheris")
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzz_parsers.py"), str(tmp_path), str(SECONDS)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        timeout=SECONDS + 60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = next(line for line in done.stderr.splitlines() if line.startswith("Done "))
    assert int(runs.split()[1]) > 1000, runs
