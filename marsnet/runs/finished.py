"""A finished run, read back from the folder that it left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from marsnet.dtn.node.ledger import Record, read_ledgers
from marsnet.errors import InputError
from marsnet.plan.files import read_plan
from marsnet.plan.types import ContactPlan
from marsnet.runs.lives import Life, LightTimes, lives

LEDGER, VERDICT, PLAN, STORED = "ledger.jsonl", "verdict.json", "plan.json", "stored.json"
METRICS, REPORT = "metrics.om", "report.html"
"""Names of the files in a run's folder."""


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder says of it.

    Attributes:
        folder: where it lies.
        verdict: the JSON object.
        plan: contacts and ranges that it ran by.
        records: of all nodes, in order of time.
        stored: bundle ids in each node's store at the end.
    """

    folder: Path
    verdict: dict[str, Any]
    plan: ContactPlan
    records: list[Record]
    stored: Mapping[str, list[str]]

    @cached_property
    def lives(self) -> dict[str, Life]:
        """Every accepted bundle's life, by id."""
        return lives(self.records, self.stored)

    @cached_property
    def light(self) -> LightTimes:
        """Light times between nodes."""
        return LightTimes(self.plan)

    @property
    def title(self) -> str:
        """World, rate and seed, in a few words."""
        rate = f" at {self.verdict['rate']:g}" if self.verdict["rate"] else ""
        return f"{self.verdict['world']}{rate}, seed {self.verdict['seed']}"


def read_run(folder: Path) -> FinishedRun:
    """Read a run's folder.

    Raises:
        InputError: when it is none, or a file of it is missing or broken.
    """
    if not folder.is_dir():
        raise InputError(f"there is no run in {str(folder)!r}", remedy="name the folder of a finished run")
    for name in (VERDICT, PLAN, LEDGER, STORED):
        if not (folder / name).is_file():
            raise InputError(f"{str(folder)!r} has no {name}", remedy="name the folder of a finished run")
    verdict, stored = (_json(folder / name) for name in (VERDICT, STORED))
    return FinishedRun(folder, verdict, read_plan(folder / PLAN), list(read_ledgers([folder / LEDGER])), stored)


def write_stored(path: Path, stored: Mapping[str, list[str]]) -> None:
    """Write which bundles each node's store holds at the end of a run."""
    path.write_text(json.dumps({node: sorted(held) for node, held in stored.items()}, indent=0) + "\n", "utf-8")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"this is no JSON: {error}", remedy="run the scenario again", file=path) from None
