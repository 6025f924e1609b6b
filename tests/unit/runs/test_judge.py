"""Verdicts follow from the ledger: every requirement passes when it holds and fails when it does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from marsnet.dtn.node.ledger import Record, Step
from marsnet.model.scenario import Scenario
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.runs.findings import percentile
from marsnet.runs.judge import judge
from marsnet.runs.lives import LightTimes, ledger_hash, lives
from marsnet.worlds.spec import Frames, Incident, Outcome, RunSpec

PLAN = ContactPlan(
    "2026-10-01T00:00:00.000Z",
    0.0,
    1000.0,
    {"rover": 1, "relay": 2, "earth": 3},
    (Contact("up", "rover", "relay", 0.0, 500.0, 1e3), Contact("down", "relay", "earth", 0.0, 2000.0, 1e3)),
    (Range("rover", "relay", 0.0, 1000.0, 1.0), Range("relay", "earth", 0.0, 1000.0, 800.0)),
)
FLOW = {
    "name": "t", "source": "rover", "destination": "earth", "class": "normal", "size": "1 kB", "every": "1 min",
    "lifetime": "1 h",
}  # fmt: skip


def accepted(name: str, time: float = 0.0, service_class: str = "normal") -> Record:
    details = {
        "flow": "t", "class": service_class, "source": "rover", "destination": "earth", "size": 1000, "lifetime": 3600.0
    }  # fmt: skip
    return Record(time, "rover", Step.ACCEPTED, name, details)


def delivered(name: str, time: float, *, intact: bool = True) -> Record:
    return Record(time, "earth", Step.DELIVERED, name, {"intact": intact})


def verdict_of(requirement: dict[str, Any], records: list[Record], **changes: Any) -> tuple[bool, str]:
    scenario = Scenario.model_validate(
        {
            "marsnet": "scenario/1", "name": "s", "topology": "t.yaml", "start": "2026-10-01", "duration": "1000 s",
            "traffic": [FLOW], "requirements": [requirement],
        }
    )  # fmt: skip
    incidents = changes.pop("incidents", ())
    spec = RunSpec(scenario, None, PLAN, incidents, 1, 1.0, Path())  # type: ignore[arg-type]
    outcome = Outcome(
        **(
            {"world": "virtual", "records": records, "stored": {}, "frames": [], "elapsed": 1000.0}
            | {"incidents": incidents}
            | changes
        )
    )
    judgement = judge(spec, outcome)
    return judgement.findings[0].passed, judgement.findings[0].measured


def test_delivery_counts_what_arrived() -> None:
    records = [accepted("a"), accepted("b"), delivered("a", 900.0)]
    assert verdict_of({"kind": "delivery", "at_least": "50 %"}, records) == (True, "50.00 % (1 of 2)")
    assert not verdict_of({"kind": "delivery", "at_least": "51 %"}, records)[0]
    assert not verdict_of({"kind": "delivery", "class": "bulk", "at_least": "0 %"}, records)[0], "no bundle, no proof"


def test_latency_is_measured_beyond_light_time_and_counts_the_missing_as_infinite() -> None:
    one = [accepted("a", 10.0), delivered("a", 10.0 + 801.0 + 60.0)]
    within = {"kind": "latency", "percentile": "100 %", "beyond_light_time": "1 min"}
    assert verdict_of(within, one) == (True, "light time + 60.0 s")
    assert not verdict_of(within | {"beyond_light_time": "59 s"}, one)[0]
    assert verdict_of(within, [*one, accepted("b")]) == (False, "not delivered")
    assert verdict_of(within | {"percentile": "50 %"}, [*one, accepted("b")])[0]


@pytest.mark.parametrize(
    ("extra", "stored", "passed"),
    [
        ([delivered("a", 900.0)], {}, True),
        ([], {"relay": ["a"]}, True),
        ([Record(5.0, "relay", Step.EXPIRED, "a", {"reason": "lifetime"})], {}, True),
        ([], {}, False),
        ([Record(5.0, "relay", Step.DROPPED, "a", {"reason": "evicted"})], {}, False),
        ([delivered("a", 900.0, intact=False)], {}, False),
        ([delivered("a", 900.0), delivered("a", 950.0)], {}, False),
    ],
)
def test_nothing_lost(extra: list[Record], stored: dict[str, list[str]], passed: bool) -> None:
    assert verdict_of({"kind": "nothing_lost"}, [accepted("a"), *extra], stored=stored)[0] is passed


def test_frames_must_balance_and_exist() -> None:
    balanced = Frames("l", "a", "b", 10, 7, 1, 1, {"down": 1})
    assert verdict_of({"kind": "frames_accounted"}, [], frames=[balanced])[0]
    assert not verdict_of({"kind": "frames_accounted"}, [], frames=[balanced, Frames("l", "b", "a", 10, 9, 0, 0, {})])[
        0
    ]
    assert not verdict_of({"kind": "frames_accounted"}, [], frames=[])[0]


def test_online_counts_the_time_with_a_path_less_the_incidents() -> None:
    wanted = {"kind": "online", "site": "rover", "to": "earth", "at_least": "50 %"}
    assert verdict_of(wanted, []) == (True, "50.00 % of the time")
    silent = Incident("node_silent", "relay", 100.0, 200.0, ("up", "down"))
    passed, measured = verdict_of(wanted, [], incidents=(silent,))
    assert not passed
    assert float(measured.split()[0]) == pytest.approx(39.9, abs=0.2)


def test_fidelity_beyond_the_budget_makes_a_run_invalid_not_failed() -> None:
    scenario = Scenario.model_validate(
        {
            "marsnet": "scenario/1", "name": "s", "topology": "t.yaml", "start": "2026-10-01", "duration": "1000 s",
            "traffic": [FLOW], "requirements": [{"kind": "nothing_lost"}], "fidelity": {"link_lateness_p99": "5 ms"},
        }
    )  # fmt: skip
    spec = RunSpec(scenario, None, PLAN, (), 1, 600.0, Path())  # type: ignore[arg-type]
    records = [accepted("a"), delivered("a", 900.0)]
    outcome = Outcome("emulated", records, {}, [], fidelity={"link_lateness_p99": 0.006}, elapsed=1000.0)
    judgement = judge(spec, outcome)
    assert judgement.passed
    assert not judgement.valid
    assert judgement.invalid == ("link_lateness_p99 is 0.006, the budget 0.005; try a lower rate than 600",)
    outcome.interrupted = True
    assert len(judge(spec, outcome).invalid) == 2


def test_lives_tell_the_way_and_the_fate() -> None:
    records = [
        accepted("a"),
        Record(1.0, "relay", Step.RECEIVED, "a", {"peer": "rover"}),
        Record(2.0, "rover", Step.FORWARDED, "a", {"peer": "relay"}),
    ]
    life = lives(records, {"relay": ["a"]})["a"]
    assert life.hops == [("rover", 0.0), ("relay", 1.0)]
    assert life.fate == "stored"
    assert lives(records, {})["a"].fate == "lost"


def test_light_time_adds_up_along_the_shortest_chain() -> None:
    assert LightTimes(PLAN).between("rover", "earth", 50.0) == 801.0
    assert LightTimes(PLAN).between("earth", "rover", 0.0) == math.inf  # no link leads there


def test_percentiles_are_nearest_rank() -> None:
    assert [percentile(range(1, 101), share) for share in (0.0, 0.5, 0.95, 1.0)] == [1, 50, 95, 100]
    assert math.isnan(percentile([], 0.5))


def test_the_ledger_hash_does_not_depend_on_the_order_of_files() -> None:
    records = [accepted("a"), delivered("a", 1.0)]
    assert ledger_hash(records) == ledger_hash(records[::-1]) != ledger_hash(records[:1])
