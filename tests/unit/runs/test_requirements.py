"""Every requirement passes when it holds and fails when it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marsnet.dtn.node.ledger import Record, Step
from marsnet.model.requirements import FidelityRequirement, VolumeRequirement
from marsnet.model.scenario import Scenario
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.runs.findings import Finding
from marsnet.runs.judge import judge
from marsnet.runs.waiting import storage_peaks
from marsnet.worlds.spec import Incident, Outcome, RunSpec

END = 5000.0
PLAN = ContactPlan(
    "2026-10-01T00:00:00.000Z",
    0.0,
    END,
    {"rover": 1, "relay": 2, "earth": 3},
    (
        Contact("up", "rover", "relay", 0.0, 500.0, 1e3),
        Contact("up", "rover", "relay", 2000.0, 2500.0, 1e3),
        Contact("down", "relay", "earth", 0.0, END, 1e3),
        Contact("down", "earth", "relay", 0.0, END, 1e3),
    ),
    tuple(
        Range(a, b, 0.0, END, owlt)
        for a, b, owlt in (
            ("rover", "relay", 1.0), ("relay", "rover", 1.0), ("relay", "earth", 800.0), ("earth", "relay", 800.0)
        )
    ),
)  # fmt: skip
FLOWS = [
    {"name": "t", "source": "rover", "destination": "earth", "class": "normal", "size": "1 kB", "every": "1 min",
     "lifetime": "1 h", "tenant": "agency", "reply": {"size": "10 B"}},
    {"name": "v", "source": "rover", "destination": "earth", "class": "bulk", "size": "1 kB", "volume": "2.5 kB",
     "lifetime": "1 h", "start": "100 s"},
]  # fmt: skip


def sent(name: str, time: float, **changes: Any) -> Record:
    details = {
        "flow": "t", "class": "normal", "source": "rover", "destination": "earth", "size": 1000, "lifetime": 3600.0
    }  # fmt: skip
    return Record(time, changes.get("source", "rover"), Step.ACCEPTED, name, details | changes)


def step(what: Step, node: str, name: str, time: float, **details: Any) -> Record:
    return Record(time, node, what, name, details)


def got(name: str, time: float, node: str = "earth", **details: Any) -> Record:
    return step(Step.DELIVERED, node, name, time, **({"intact": True} | details))


def found(requirement: dict[str, Any], records: list[Record], **changes: Any) -> Finding:
    scenario = Scenario.model_validate(
        {
            "marsnet": "scenario/1", "name": "s", "topology": "t.yaml", "start": "2026-10-01", "duration": "5000 s",
            "traffic": FLOWS, "requirements": [requirement],
        }
    )  # fmt: skip
    spec = RunSpec(scenario, None, PLAN, (), 1, 1.0, Path())  # type: ignore[arg-type]
    known = {"world": "virtual", "records": records, "stored": {}, "frames": [], "elapsed": END}
    return judge(spec, Outcome(**(known | changes))).findings[0]  # type: ignore[arg-type]


def test_a_deadline_leaves_aside_what_could_not_be_there_yet() -> None:
    wanted = {"kind": "deadline", "within": "60 s", "at_least": "50 %"}
    records = [sent("a", 0.0), got("a", 861.0), sent("b", 0.0), got("b", 862.0), sent("late", 4200.0)]
    finding = found(wanted, records)
    assert (finding.passed, finding.measured) == (True, "50.00 % (1 of 2)")
    assert not found(wanted | {"at_least": "51 %"}, records).passed
    assert not found(wanted, [sent("late", 4200.0)]).passed, "no bundle, no proof"
    assert not found(wanted, [sent("never", 10.0)]).passed


def test_a_round_trip_counts_the_unanswered_as_infinitely_late() -> None:
    wanted = {"kind": "round_trip", "flow": "t", "percentile": "100 %", "beyond_light_time": "60 s"}
    reply = sent("r", 801.0, flow="t.reply", source="earth", destination="rover", answers="a")
    records = [sent("a", 0.0), got("a", 801.0), reply]
    assert found(wanted, records).measured == "not delivered"
    answered = [*records, got("r", 1662.0, "rover")]
    assert found(wanted, answered).measured == "light time + 60.0 s"
    assert found(wanted, answered).passed
    assert not found(wanted | {"beyond_light_time": "59 s"}, answered).passed
    assert not found(wanted, [*answered, sent("b", 10.0)]).passed


def test_completion_wants_every_bundle_of_the_volume() -> None:
    wanted = {"kind": "completion", "flow": "v", "within": "1000 s"}
    records = [sent(name, 100.0, flow="v") for name in "abc"] + [got("a", 950.0), got("b", 950.0)]
    assert found(wanted, records).measured == "not complete (2 of 3 bundles)"
    finding = found(wanted, [*records, got("c", 1100.0)])
    assert (finding.passed, finding.value) == (True, 1000.0)
    assert not found(wanted, [*records, got("c", 1101.0)]).passed
    assert not found(wanted, [*records, got("c", 1100.0, intact=False)]).passed


def test_availability_is_a_share_of_intervals() -> None:
    wanted = {
        "kind": "availability", "site": "rover", "to": "earth", "class": "normal", "interval": "100 s",
        "within": "60 s", "at_least": "50 %",
    }  # fmt: skip
    records = [sent("a", 10.0), got("a", 850.0), sent("b", 110.0), got("b", 950.0), sent("c", 120.0), sent("z", 4900.0)]
    finding = found(wanted, records)
    assert (finding.passed, finding.measured) == (True, "50.00 % (1 of 2)")
    assert not found(wanted | {"at_least": "60 %"}, records).passed
    assert not found(wanted | {"class": "bulk"}, records).passed


def test_starvation_counts_open_time_in_which_others_passed_by() -> None:
    wanted = {"kind": "starvation", "class": "bulk", "at_most": "299 s"}
    records = [sent("old", 200.0, **{"class": "bulk"}), sent("first", 250.0), sent("second", 300.0)]
    records += [step(Step.RECEIVED, "relay", n, t + 1, peer="rover") for n, t in (("first", 260.0), ("second", 2000.0))]
    waiting = found(wanted, records)
    assert (waiting.passed, waiting.value) == (False, 300.0), "200 to 500 s, and nothing of the gap"
    left = step(Step.RECEIVED, "relay", "old", 271.0, peer="rover")
    assert found(wanted, [*records, left]).value == 60.0
    assert found(wanted, [*records, left]).passed
    own = [r._replace(details=r.details | {"class": "bulk"}) if "class" in r.details else r for r in records]
    assert found(wanted, own).value == 0.0, "those of its own class are no strangers"
    assert not found(wanted, [sent("a", 0.0)]).passed, "no bundle, no proof"
    silent = Incident("link_outage", "up", 200.0, 450.0, ("up",))
    assert found(wanted, records, incidents=(silent,)).value == 50.0


def test_volume_is_payload_delivered_perhaps_by_way_of_a_node() -> None:
    records = [sent("a", 0.0), sent("b", 1.0, size=500), sent("c", 2.0), got("a", 900.0), got("b", 901.0)]
    records.append(step(Step.RECEIVED, "relay", "a", 3.0, peer="rover"))
    assert found({"kind": "volume", "at_least": "1.5 kB"}, records).value == 1500, "c was not delivered"
    relayed = found({"kind": "volume", "via": "relay", "at_least": "1 kB", "at_most": "1.2 kB"}, records)
    assert (relayed.passed, relayed.measured) == (True, "1 kB")
    assert relayed.name == "volume of all bundles via relay"
    assert relayed.required == "at least 1 kB, at most 1.2 kB"
    assert not found({"kind": "volume", "via": "relay", "at_most": "0.9 kB"}, records).passed
    assert not found({"kind": "volume", "class": "bulk", "at_least": "1 B"}, records).passed


@pytest.mark.parametrize(
    ("bounds", "problem"),
    [({}, "has no bound"), ({"at_least": "2 MB", "at_most": "1 MB"}, "less than"), ({"at_most": "0 B"}, "at_most")],
)
def test_a_volume_needs_bounds_in_order(bounds: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        VolumeRequirement.model_validate({"kind": "volume"} | bounds)


def test_storage_peaks_follow_the_ledger() -> None:
    records = [
        sent("a", 0.0), sent("b", 1.0, size=500), step(Step.RECEIVED, "relay", "a", 2.0, peer="rover"),
        step(Step.FORWARDED, "rover", "a", 3.0, peer="relay"), sent("c", 4.0, size=700),
        step(Step.EXPIRED, "rover", "b", 5.0, reason="lifetime"), step(Step.DUPLICATE, "relay", "a", 6.0),
    ]  # fmt: skip
    assert storage_peaks(records) == {"rover": 1500, "relay": 1000}
    assert found({"kind": "storage", "node": "relay", "at_most": "1 kB"}, records).passed
    whole = found({"kind": "storage", "at_most": "1 kB"}, records)
    assert (whole.passed, whole.measured) == (False, "1.5 kB in rover")


def test_recovery_is_the_time_until_the_slowest_flow_delivers_again() -> None:
    wanted = {"kind": "recovery", "fault": "loss", "within": "100 s"}
    fault = (Incident("node_silent", "relay", 1000.0, 2000.0, ("up", "down"), name="loss"),)
    records = [sent("a", 0.0), got("a", 900.0), sent("b", 10.0), got("b", 2100.0)]
    assert found(wanted, records, incidents=fault).value == 100.0
    assert found(wanted, records, incidents=fault).passed
    assert not found(wanted | {"after": "start"}, records, incidents=fault).passed
    other = [*records, sent("c", 0.0, flow="v"), got("c", 1999.0)]
    assert found(wanted, other, incidents=fault).measured == "never (v)"
    assert found(wanted | {"flow": "t"}, other, incidents=fault).passed
    assert found(wanted, records).measured == "the fault did not happen"
    assert not found(wanted, [], incidents=fault).passed


def test_what_was_on_its_way_before_the_fault_is_no_recovery() -> None:
    fault = (Incident("node_silent", "relay", 1000.0, 9999.0, ("up", "down"), name="loss"),)
    wanted = {"kind": "recovery", "fault": "loss", "after": "start", "within": "1 h"}
    relayed = [
        step(Step.RECEIVED, "relay", "a", 901.0, peer="rover"),
        step(Step.RECEIVED, "earth", "a", 1700.0, peer="relay"),
    ]
    before = [sent("a", 900.0), *relayed, got("a", 1700.0)]
    assert not found(wanted, before, incidents=fault).passed
    assert found(wanted, before, incidents=fault).measured.startswith("no flow shows it")
    done = [sent("v", 100.0, flow="v"), got("v", 990.0)]
    waited = [step(Step.RECEIVED, "relay", "b", 2001.0, peer="rover"), got("b", 2900.0)]
    again = found(wanted, [*before, *done, sent("b", 950.0), *waited], incidents=fault)
    assert (again.passed, again.value) == (True, 1900.0), "it waited in its source's store, and left after the fault"


def test_a_fidelity_without_bounds_is_none() -> None:
    with pytest.raises(ValueError, match="the fidelity has no bound"):
        FidelityRequirement.model_validate({"kind": "fidelity"})


def cut(time: float, name: str, *parts: tuple[int, int]) -> list[Record]:
    return [step(Step.FRAGMENTED, "rover", f"{name}@{a}+{n}", time, of=name) for a, n in parts]


def test_fragments_fill_a_store_and_can_starve() -> None:
    name, other = "ipn:1.1/5-0", "ipn:1.1/6-0"
    parts = ((0, 400), (400, 600))
    records = [
        sent(name, 0.0), *cut(5.0, name, *parts), sent(other, 6.0, **{"class": "bulk"}),
        *(step(Step.RECEIVED, "relay", f"{name}@{a}+{n}", 10.0 + a / 100, peer="rover") for a, n in parts),
        step(Step.FORWARDED, "rover", f"{name}@0+400", 12.0, peer="relay"),
    ]  # fmt: skip
    assert storage_peaks(records) == {"rover": 2000, "relay": 1000}
    bulk_first = [*records, step(Step.RECEIVED, "relay", other, 13.0, peer="rover")]
    wanted = {"kind": "starvation", "class": "normal", "at_most": "5 s"}
    assert found(wanted, bulk_first).value == pytest.approx(12.0), "its second part waited since 0 and was passed at 12"
    assert not found(wanted, bulk_first).passed
    assert found(wanted, records).value == 0.0, "a bundle that was cut does not wait any more"


def test_fidelity_is_a_bound_in_host_time() -> None:
    wanted = {"kind": "fidelity", "link_lateness_p99": "5 ms"}
    assert found(wanted, [], fidelity={"link_lateness_p99": 0.005}).passed
    assert not found(wanted, [], fidelity={"link_lateness_p99": 0.006}).passed


@pytest.mark.parametrize(("tenant", "share"), [("agency", "100.00 % (1 of 1)"), ("nobody", "0.00 % (0 of 0)")])
def test_a_requirement_selects_by_tenant(tenant: str, share: str) -> None:
    records = [sent("a", 0.0, tenant="agency"), got("a", 900.0), sent("b", 0.0)]
    assert found({"kind": "delivery", "tenant": tenant, "at_least": "1 %"}, records).measured == share


def test_what_no_link_leads_to_is_late_and_not_left_aside() -> None:
    stranded = [sent("x", 0.0, destination="moon")]
    for wanted in (
        {"kind": "deadline", "within": "60 s", "at_least": "1 %"},
        {"kind": "latency", "percentile": "95 %", "beyond_light_time": "1 h"},
        {"kind": "availability", "site": "rover", "to": "moon", "class": "normal", "within": "60 s", "at_least": "1 %"},
    ):
        finding = found(wanted, stranded)
        assert (finding.passed, finding.measured) in {(False, "0.00 % (0 of 1)"), (False, "not delivered")}


def test_a_recovery_that_the_run_is_too_short_to_see_is_left_aside() -> None:
    wanted = {"kind": "recovery", "fault": "loss", "within": "1200 s"}
    first, last = (Incident("node_silent", "relay", t, t + 100.0, ("up",), name="loss") for t in (1000.0, 4000.0))
    records = [sent("a", 1150.0), got("a", 2000.0), sent("b", 4200.0)]
    assert found(wanted, records, incidents=(first,)).value == 900.0
    assert found(wanted, records, incidents=(first, last)).value == 900.0, "b may still come"
    assert not found(wanted, records, incidents=(last,)).passed, "and alone it proves nothing"
    assert not found(wanted | {"within": "800 s"}, records, incidents=(first, last)).passed, "b may not"
    # What had expired at its source before the fault needs no recovery, and who sends nothing after it neither.
    expired = [sent("old", 10.0), step(Step.EXPIRED, "rover", "old", 500.0, reason="lifetime")]
    assert not found(wanted, expired, incidents=(first,)).passed
    other = [sent("v", 20.0, flow="v"), step(Step.EXPIRED, "rover", "v", 900.0, reason="lifetime")]
    assert found(wanted, [*records, *other], incidents=(first,)).measured == "15 min 0.0 s (t)"


def test_requirements_of_one_name_are_told_apart() -> None:
    online = {"kind": "online", "site": "rover", "to": "earth", "at_least": "10 %"}
    scenario = Scenario.model_validate(
        {
            "marsnet": "scenario/1", "name": "s", "topology": "t.yaml", "start": "2026-10-01", "duration": "5000 s",
            "traffic": FLOWS, "requirements": [
                online, online | {"patience": "1 h"}, online | {"at_least": "20 %"}, {"kind": "nothing_lost"}
            ],
        }
    )  # fmt: skip
    spec = RunSpec(scenario, None, PLAN, (), 1, 1.0, Path())  # type: ignore[arg-type]
    findings = judge(spec, Outcome("virtual", [], {}, [], elapsed=END)).findings
    assert [finding.name for finding in findings] == [
        "rover online to earth (at least 10 %)",
        "rover online to earth (at least 10 %, 2)",
        "rover online to earth (at least 20 %)",
        "nothing accepted is lost",
    ]
    assert [finding.unit for finding in findings] == ["ratio", "ratio", "ratio", "bundles"]
