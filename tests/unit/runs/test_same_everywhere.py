"""A run in the virtual world comes to the same ledger, to the bit, whatever the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SHORT = ROOT / "tests" / "integration" / "runs" / "short.yaml"
HASH = f"""
from pathlib import Path
from marsnet import Scenario
print(Scenario.load(Path({str(SHORT)!r})).run().ledger_hash)
"""
# Each of these stands for another machine: other sums in BLAS, other vector instructions, another order of sets,
# another zone and language, another optimisation.
MACHINES = {
    "usual": {},
    "another processor": {
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL",
        "OPENBLAS_NUM_THREADS": "1",
    },
    "another hash seed, zone and language": {
        "PYTHONHASHSEED": "12345", "TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "LC_ALL": "C", "PYTHONUTF8": "0"
    },
    "optimised": {"PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "0"},
}  # fmt: skip


@pytest.mark.slow
def test_the_hash_does_not_depend_on_the_machine() -> None:
    found = {}
    for name, changes in MACHINES.items():
        environment = {k: v for k, v in os.environ.items() if k not in {"TZ", "LANG", "LC_ALL", "PYTHONHASHSEED"}}
        told = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", HASH], env=environment | changes | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found[name] = told.stdout.strip()
    assert set(found.values()) == {found["usual"]}, found
    assert len(found["usual"]) == 64
