"""Writes goldens.json anew: `python tests/unit/runs/goldens.py [SCENARIO ...]`, where a ledger was meant to change."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from marsnet.runs.lives import ledger_hash
from marsnet.runs.prepare import prepare
from marsnet.worlds.virtual import run_virtual

SCENARIOS = Path(__file__).resolve().parents[3] / "scenarios"
FILE = Path(__file__).with_name("goldens.json")


def main(names: list[str]) -> None:
    """Run scenarios, all by default, and note the hashes of their ledgers."""
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    for path in sorted(SCENARIOS.glob("*.yaml")):
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            spec = prepare(path, Path(folder))
            known[path.stem] = ledger_hash(run_virtual(spec).records)
        print(path.stem, known[path.stem])
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
