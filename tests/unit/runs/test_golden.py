"""Every shipped scenario comes to what is written down in `tests/golden`, to the bit, whatever the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
from golden import GOLDEN, golden_of, scenarios  # noqa: E402  (a script beside the package)

SHORT = ROOT / "tests" / "integration" / "runs" / "short.yaml"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", scenarios(), ids=lambda path: path.stem)
def test_a_shipped_scenario_comes_to_what_is_written_down(scenario: Path) -> None:
    file = GOLDEN / f"{scenario.stem}.json"
    remedy = f"if that is meant: .venv/bin/python scripts/golden.py {scenario.relative_to(ROOT)}"
    assert file.exists(), remedy
    assert golden_of(scenario) == json.loads(file.read_text()), remedy


def test_nothing_is_written_down_that_is_not_shipped() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} <= {path.stem for path in scenarios()}


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
