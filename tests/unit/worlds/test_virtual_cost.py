"""What the virtual world costs: memory that payloads do not fill, work that grows with bundles and not faster."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from marsnet.dtn.node.ledger import Step
from marsnet.runs.prepare import prepare
from marsnet.worlds.spec import Outcome, RunSpec
from marsnet.worlds.virtual import run_virtual

SCENARIOS = Path(__file__).parents[3] / "scenarios"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    return prepare(SCENARIOS / "first_light.yaml", tmp_path_factory.mktemp("run"), without_faults=True)


def of_one_flow(base: RunSpec, name: str, **changes: Any) -> RunSpec:
    flow = next(flow for flow in base.scenario.traffic if flow.name == name)
    flow = flow.model_copy(update={"stop": None, "lifetime": 3 * 86400.0, **changes})
    return replace(base, scenario=base.scenario.model_copy(update={"traffic": (flow,), "requirements": ()}))


def peak(spec: RunSpec) -> tuple[int, Outcome]:
    """Octets that Python held at most while the scenario ran."""
    tracemalloc.start()
    try:
        outcome = run_virtual(spec)
        return tracemalloc.get_traced_memory()[1], outcome
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_payloads_ten_times_as_large_need_about_as_much_memory(base: RunSpec) -> None:
    few = {"every": 4 * 3600.0, "burst": 8}
    small, outcome = peak(of_one_flow(base, "habitat-imagery", size=50_000.0, **few))
    large, larger = peak(of_one_flow(base, "habitat-imagery", size=500_000.0, **few))
    accepted = [sum(r.step == Step.ACCEPTED for r in o.records) for o in (outcome, larger)]
    delivered = [sum(r.step == Step.DELIVERED for r in o.records) for o in (outcome, larger)]
    assert accepted[0] == accepted[1] >= 50
    assert min(delivered) > 40
    assert all(r.details["intact"] for o in (outcome, larger) for r in o.records if r.step == Step.DELIVERED)
    # A few payloads at a time are made to be sent, checked and delivered; 28 MB were accepted.
    assert large - small < 6 * 500_000


def calls(spec: RunSpec) -> int:
    """Functions that Python called while the scenario ran, those of C included."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        run_virtual(spec)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.slow
def test_cost_is_linear_in_bundles(base: RunSpec) -> None:
    spans = [calls(of_one_flow(base, "habitat-telemetry", size=1000.0, every=64_800.0 / n)) for n in (40, 80, 160)]
    first, second = (later - earlier for earlier, later in pairwise(spans))
    # Twice the bundles more are at most twice the calls more; contacts and ranges cost what they cost without any.
    assert second < 2.1 * first
