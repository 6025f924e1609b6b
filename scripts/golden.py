"""Writes down what the shipped scenarios come to in the virtual world: `python scripts/golden.py [SCENARIO...]`.

`tests/golden/<scenario>.json` holds the hash of the ledger, the verdict and what each requirement measured. Write it
anew when the behaviour of the nodes, the links or a scenario changed on purpose, and read the difference before you
commit it.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"


def scenarios() -> list[Path]:
    """The scenarios that are shipped."""
    return sorted((ROOT / "scenarios").glob("*.yaml"))


def golden_of(scenario: Path) -> dict[str, Any]:
    """What a scenario comes to."""
    # Each process imports the engines for itself, and only when it has a run to make.
    from marsnet import Scenario  # noqa: PLC0415

    run = Scenario.load(scenario).run()
    return {
        "ledger_hash": run.ledger_hash,
        "passed": run.passed,
        "valid": run.valid,
        "bundles": len(run.lives),
        "requirements": {name: finding.measured for name, finding in run.requirements.items()},
    }


def main() -> None:
    """Run what is asked for, or everything, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", type=Path, metavar="SCENARIO", help="default: all that are shipped")
    chosen: list[Path] = parser.parse_args().scenarios or scenarios()
    GOLDEN.mkdir(exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for scenario, found in zip(chosen, pool.map(golden_of, chosen), strict=True):
            file = GOLDEN / f"{scenario.stem}.json"
            text = json.dumps(found, indent=2) + "\n"
            same = file.exists() and file.read_text(encoding="utf-8") == text
            file.write_text(text, encoding="utf-8")
            print(f"{scenario.stem}: {'as before' if same else 'written'}, {'passed' if found['passed'] else 'FAILED'}")


if __name__ == "__main__":
    main()
