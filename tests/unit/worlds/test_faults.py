"""Every kind of fault, from the file to its effect, in the virtual world; and every way to say when."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from marsnet.clock import MissionClock
from marsnet.dtn.node.ledger import Step
from marsnet.errors import InputError
from marsnet.model.faults import DustStorm
from marsnet.model.scenario import load_scenario
from marsnet.model.topology import load_topology
from marsnet.plan.files import write_plan
from marsnet.plan.types import ContactPlan
from marsnet.runs.judge import Judgement, judge
from marsnet.runs.lives import ledger_hash
from marsnet.runs.prepare import contact_plan, prepare
from marsnet.worlds.channels import channels
from marsnet.worlds.dust import fades_of
from marsnet.worlds.incidents import incidents
from marsnet.worlds.spec import Outcome, RunSpec
from marsnet.worlds.virtual import run_virtual

ROOT = Path(__file__).resolve().parents[3]
MORNING: dict[str, Any] = {
    "marsnet": "scenario/1", "name": "faults", "topology": str(ROOT / "topologies" / "first_light.yaml"),
    "start": "2026-10-01T10:00:00Z", "duration": "4 h",
    "traffic": [
        {"name": "telemetry", "source": "habitat", "destination": "mcc", "class": "expedited", "size": "10 kB",
         "every": "5 min", "lifetime": "4 h", "stop": "3 h"},
        {"name": "commands", "source": "mcc", "destination": "habitat", "class": "critical", "size": "1 kB",
         "every": "10 min", "lifetime": "4 h", "stop": "3 h"},
    ],
    "requirements": [{"kind": "nothing_lost"}, {"kind": "frames_accounted"}, {"kind": "delivery", "at_least": "100 %"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ContactPlan:
    path = written(tmp_path_factory.mktemp("plan"))
    return contact_plan(*load_scenario(path), path)


def written(folder: Path, *faults: dict[str, Any], **changes: Any) -> Path:
    file = folder / "scenario.yaml"
    with file.open("w") as stream:
        YAML().dump(MORNING | {"faults": list(faults)} | changes, stream)
    return file


def play(
    folder: Path, plan: ContactPlan, *faults: dict[str, Any], **changes: Any
) -> tuple[RunSpec, Outcome, Judgement]:
    spec = prepare(written(folder, *faults, **changes), folder, plan=plan)
    outcome = run_virtual(spec)
    return spec, outcome, judge(spec, outcome)


def arrivals(verdict: Judgement, flow: str = "telemetry") -> list[float]:
    return sorted(life.delivered for life in verdict.lives.values() if life.flow == flow and life.delivered is not None)


def sound(verdict: Judgement) -> bool:
    """Nothing lost, every frame accounted for."""
    return all(finding.passed for finding in verdict.findings[:2])


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, plan: ContactPlan) -> Judgement:
    return play(tmp_path_factory.mktemp("calm"), plan)[2]


HOUR = {"at": "1 h", "duration": "1 h"}


def test_a_partial_rate_slows_but_loses_nothing(tmp_path: Path, plan: ContactPlan, calm: Judgement) -> None:
    _, _, verdict = play(tmp_path, plan, {"kind": "partial_rate", "link": "areo--habitat", "rate": "1 %", **HOUR})
    assert verdict.passed
    late = [a - b for a, b in zip(arrivals(verdict), arrivals(calm), strict=True)]
    assert max(late) > 20
    assert late[0] == pytest.approx(0, abs=1)


def test_partial_rates_that_leave_less_than_a_bit_a_second_let_nothing_pass(tmp_path: Path, plan: ContactPlan) -> None:
    slow = {"kind": "partial_rate", "link": "areo--habitat", "rate": "0.1 %", **HOUR}
    _, outcome, verdict = play(
        tmp_path, plan, slow, slow, {"kind": "partial_rate", "node": "areo", "rate": "1 %", **HOUR}
    )
    assert sound(verdict)
    dark = [frames.dropped.get("loss", 0) for frames in outcome.frames if frames.link == "areo--habitat"]
    assert any(dark), "three faults at once, and each frame has its reason"


def test_bit_errors_and_losses_cost_retransmissions(tmp_path: Path, plan: ContactPlan) -> None:
    _, outcome, verdict = play(
        tmp_path, plan,
        {"kind": "bit_errors", "link": "areo--habitat", "ber": 1e-5, **HOUR},
        {"kind": "bit_errors", "link": "dss43--areo", "loss": "10 %", **HOUR},
    )  # fmt: skip
    assert verdict.passed
    dropped = {frames.link: frames.dropped for frames in outcome.frames if frames.source in ("habitat", "areo")}
    assert dropped["areo--habitat"]["bit_error"] > 0


def test_an_unannounced_outage_is_found_out_and_a_planned_one_is_known(tmp_path: Path, plan: ContactPlan) -> None:
    outage = {"kind": "link_outage", "link": "areo--habitat", **HOUR}
    _, surprised, verdict = play(tmp_path, plan, outage)
    spec, warned, informed = play(tmp_path, plan, outage | {"planned": True})
    assert sound(verdict)
    assert informed.passed
    drops = [sum(sum(f.dropped.values()) for f in o.frames if f.link == "areo--habitat") for o in (surprised, warned)]
    assert drops[0] > 0 == drops[1], "who knows the outage sends nothing into it"
    assert not [c for c in spec.plan.contacts if c.link == "areo--habitat" and c.start < 7200 and c.end > 3600]


def test_a_node_that_missed_the_update_sends_into_a_planned_outage(tmp_path: Path, plan: ContactPlan) -> None:
    outage = {"name": "works", "kind": "link_outage", "link": "areo--habitat", "planned": True, **HOUR}
    stale = {"kind": "stale_plan", "nodes": ["habitat"], "misses": ["works"], "at": "0 s", "duration": "4 h"}
    _, informed, _ = play(tmp_path, plan, outage)
    _, misled, verdict = play(tmp_path, plan, outage, stale)
    assert sound(verdict)
    unheard = [
        {f.source: f.dropped["no_contact"] for f in o.frames if "no_contact" in f.dropped} for o in (informed, misled)
    ]
    assert not unheard[0]
    assert list(unheard[1]) == ["habitat"], "it speaks to nobody, and sends again what nobody answers"
    assert unheard[1]["habitat"] > 5
    assert all(life.fate == "delivered" for life in verdict.lives.values())


def test_what_comes_to_a_node_that_is_down_is_counted(tmp_path: Path, plan: ContactPlan) -> None:
    crash = {"kind": "node_crash", "node": "areo", "duration": "30 min"}
    for when in ({"at": "1 h"}, {"when": {"delivered": {"flow": "telemetry", "count": 10}}}):
        _, outcome, verdict = play(tmp_path, plan, crash | when)
        assert verdict.passed
        assert outcome.incidents[0].start > 0
        deaf = {f.target for f in outcome.frames if f.dropped.get("receiver_down")}
        assert deaf == {"areo"}
        assert {f.source for f in outcome.frames if f.dropped.get("receiver_down")} >= {"habitat"}


def test_a_wrong_plan_stops_traffic_until_it_is_rolled_back(tmp_path: Path, plan: ContactPlan, calm: Judgement) -> None:
    wrong = {"kind": "wrong_plan", "nodes": ["habitat"], "without": ["areo--habitat", "mro--habitat"], **HOUR}
    _, _, verdict = play(tmp_path, plan, wrong)
    assert verdict.passed
    made = {life.created: life.delivered for life in verdict.lives.values() if life.flow == "telemetry"}
    assert all((made[t] or 0) > 7200 + 800 for t in made if 3600 < t < 7200)
    assert len(arrivals(verdict)) == len(arrivals(calm))


@pytest.mark.parametrize("wrong", [{"shift": "6 h"}, {"plan": "other.csv"}])
def test_a_shifted_or_foreign_plan_misleads(tmp_path: Path, plan: ContactPlan, wrong: dict[str, str]) -> None:
    write_plan(ContactPlan(plan.epoch, plan.start, plan.end, plan.nodes, (), plan.ranges), tmp_path / "other.csv")
    fault = {"kind": "wrong_plan", "nodes": ["mcc", "dss43", "areo"], **HOUR, **wrong}
    _, outcome, verdict = play(tmp_path, plan, fault)
    assert sound(verdict)
    assert ledger_hash(outcome.records) != ledger_hash(play(tmp_path, plan)[1].records)


def test_a_power_cycle_repeats(tmp_path: Path, plan: ContactPlan) -> None:
    cycle = {"kind": "power_cycle", "node": "areo", "off": "10 min", "on": "20 min", "at": "30 min", "duration": "2 h"}
    spec, outcome, verdict = play(tmp_path, plan, cycle | {"planned": True})
    assert [(i.start, i.end) for i in outcome.incidents] == [(1800.0 * i, 1800.0 * i + 600) for i in (1, 2, 3, 4)]
    assert sound(verdict)
    assert all(life.fate == "delivered" for life in verdict.lives.values())
    assert not [c for c in spec.plan.contacts if c.source == "areo" and c.start < 2000 < c.end]
    for record in outcome.records:
        assert record.node != "areo" or not any(i.start < record.time < i.end for i in outcome.incidents)


def test_a_planned_power_cycle_leaves_the_times_out_in_which_nobody_would_hear(
    tmp_path: Path, plan: ContactPlan
) -> None:
    off = {"kind": "power_cycle", "node": "areo", "off": "10 min", "on": "1 h", "planned": True, **HOUR}
    spec, _, verdict = play(tmp_path, plan, off)
    assert verdict.passed
    light = plan.owlt("dss63", "areo", 3600.0)
    assert light > 600, "a light time after they left, the relay is off"
    heard = [(c.start, c.end) for c in spec.plan.contacts if c.target == "areo" and c.source.startswith("dss")]
    assert not [span for span in heard if span[0] < 3600 - light + 300 < span[1]]
    assert not [span for span in heard if span[0] < 3600 - light - 1 and span[1] > 3600 - light + 1]
    downlink = [(c.start, c.end) for c in spec.plan.contacts if c.source == "areo"]
    assert not [span for span in downlink if span[0] < 3900 < span[1]]


def test_a_dust_storm_weakens_the_links_of_its_sites_by_band(tmp_path: Path, plan: ContactPlan) -> None:
    storm = {"kind": "dust_storm", "sites": ["habitat"], "rise": "30 min", "decay": "30 min", "at": "30 min",
             "duration": "2 h", "attenuation": {"Ka": "10 dB"}, "power": "50 %"}  # fmt: skip
    spec, _, verdict = play(tmp_path, plan, storm)
    assert verdict.passed
    clock = MissionClock(plan.epoch, 1.0, 0.0)
    rates: dict[tuple[str, str], set[float]] = {}
    for channel in channels(spec, clock):
        rates[channel.source, channel.target] = {round(s.rate_bps) for s in channel.segments if s.up and s.rate_bps}
    assert min(rates["habitat", "areo"]) == pytest.approx(256e3 * 0.5 * 0.1)
    assert min(rates["areo", "habitat"]) == pytest.approx(256e3 * 0.1)
    assert len(rates["habitat", "areo"]) == 14, "twelve steps up, the peak, the calm"
    assert min(rates["areo", "rover"]) == 3e3


def test_what_a_silent_node_had_sent_still_arrives(tmp_path: Path, plan: ContactPlan) -> None:
    spec, outcome, _ = play(tmp_path, plan, {"kind": "node_silent", "node": "areo", **HOUR})
    (silence,) = outcome.incidents
    clock = MissionClock(plan.epoch, 1.0, 0.0)
    interval = (round(silence.start * 1e9), round(silence.end * 1e9))
    for channel in channels(spec, clock):
        if "areo" not in (channel.source, channel.target):
            continue
        assert channel.deaf == ((interval,) if channel.target == "areo" else ())
        cut = any(s.t0_ns == interval[0] and not s.up for s in channel.segments)
        assert cut == (channel.source == "areo"), channel.link


def test_light_does_not_pass_a_dust_storm() -> None:
    storm = DustStorm.model_validate(
        {"kind": "dust_storm", "sites": ["habitat"], "rise": "0 s", "decay": "0 s", "at": "0 s", "duration": "1 d"}
    )
    topology = load_topology(ROOT / "topologies" / "mtn_constellation.yaml")
    fades = {(f.link, f.source): f for f in fades_of(storm, 0.0, topology)}
    assert fades["areo1--habitat", "habitat"].rate == pytest.approx(10**-0.3)
    assert ("polar--habitat", "habitat") not in fades, "dust is nothing at UHF"
    assert ("habitat--rover1", "habitat") not in fades


def test_a_drifting_clock_makes_wrong_creation_times_and_is_set_right(tmp_path: Path, plan: ContactPlan) -> None:
    drift = {"kind": "clock_drift", "node": "habitat", "drift": "10000 ppm", **HOUR}
    _, outcome, verdict = play(tmp_path, plan, drift)
    assert sound(verdict)
    sent = [r for r in outcome.records if r.step == Step.ACCEPTED and r.node == "habitat"]
    gaps = [b.time - a.time for a, b in pairwise(sent)]
    during = [gap for record, gap in zip(sent, gaps, strict=False) if 3700 < record.time < 6600]
    assert during == pytest.approx([300 / 1.01] * len(during), abs=0.01), "it counts 300 s in 297 s"
    after = [r.time for r in sent if r.time > 7600]
    assert [t % 300 for t in after] == pytest.approx([0.0] * len(after), abs=0.01)


def test_a_full_store_refuses_and_recovers(tmp_path: Path, plan: ContactPlan) -> None:
    full = {"kind": "storage_full", "node": "habitat", "left": "0 %", **HOUR}
    _, outcome, verdict = play(tmp_path, plan, full)
    refused = [r.time for r in outcome.records if r.step == Step.REFUSED and r.node == "habitat"]
    assert refused
    assert min(refused) >= 3600
    assert max(refused) <= 7200
    assert sound(verdict)
    assert arrivals(verdict)[-1] > 7200


def test_corrupted_bundles_are_refused_and_sent_again(tmp_path: Path, plan: ContactPlan) -> None:
    fault = {"kind": "corrupted_bundles", "link": "areo--habitat", "share": "50 %", "at": "0 s", "duration": "3 h"}
    spec, outcome, verdict = play(tmp_path, plan, fault)
    assert verdict.passed, verdict.findings
    crossings = [r for r in outcome.records if r.step == Step.RECEIVED and r.node == "areo"]
    assert len(crossings) >= 36
    assert ledger_hash(outcome.records) == ledger_hash(run_virtual(spec).records), "chance comes from the seed"


def test_replayed_bundles_are_delivered_once(tmp_path: Path, plan: ContactPlan) -> None:
    fault = {"kind": "replayed_bundles", "link": "areo--habitat", "share": "50 %", "at": "0 s", "duration": "4 h"}
    _, outcome, verdict = play(tmp_path, plan, fault)
    assert verdict.passed, verdict.findings
    assert sum(r.step == Step.DUPLICATE for r in outcome.records) > 5


def test_a_lost_controller_needs_the_emulated_world(tmp_path: Path, plan: ContactPlan) -> None:
    path = written(tmp_path, {"kind": "controller_loss", "segment": "mars", **HOUR})
    with pytest.raises(InputError) as caught:
        prepare(path, tmp_path, plan=plan)
    assert str(caught.value).partition(": the virtual")[2] == (
        " world has no network controllers that could be lost; run it with '--world emulated', or leave the fault out"
    )


# When

OUTAGE = {"name": "storm", "kind": "link_outage", "link": "areo--habitat", "duration": "10 min"}


def times(folder: Path, plan: ContactPlan | None, *faults: dict[str, Any], seeds: int = 1) -> list[list[float]]:
    """Starts of the incidents, for seeds from 0 on."""
    scenario, topology = load_scenario(written(folder, *faults))
    return [[i.start for i in incidents(scenario, topology, plan, seed)] for seed in range(seeds)]


def test_a_probability_is_drawn_from_the_seed(tmp_path: Path) -> None:
    fault = OUTAGE | {"probability": "50 %"}
    starts = times(tmp_path, None, fault, seeds=60)
    assert 20 <= sum(map(len, starts)) <= 40
    assert len({s[0] for s in starts if s}) > 15, "at any time of the run"
    assert starts == times(tmp_path, None, fault, seeds=60)
    assert times(tmp_path, None, fault | {"at": "1 h"}, seeds=9).count([3600.0]) in range(1, 9)


def test_a_rate_of_faults_is_a_poisson_process_without_overlaps(tmp_path: Path) -> None:
    runs = times(tmp_path, None, OUTAGE | {"every": "20 min"}, seeds=30)
    assert all(b - a >= 600 for starts in runs for a, b in pairwise(starts))
    assert 6.5 < sum(map(len, runs)) / 30 < 9.5, "four hours, 20 min and 10 min each"


def test_a_fault_follows_another_or_a_contact(tmp_path: Path, plan: ContactPlan) -> None:
    opens = min(c.start for c in plan.contacts if c.link == "mro--rover" and c.start >= 3600)
    chain = [
        OUTAGE | {"when": {"contact_opens": {"link": "mro--rover", "after": "1 h"}, "delay": "1 min"}},
        {"kind": "node_silent", "node": "mro", "duration": "5 min", "when": {"ends": "storm", "delay": "2 min"}},
    ]
    assert times(tmp_path, plan, *chain)[0] == pytest.approx([opens + 60, opens + 60 + 600 + 120])


def test_a_fault_waits_for_deliveries_and_others_for_it(tmp_path: Path, plan: ContactPlan) -> None:
    tenth = OUTAGE | {"duration": "1 h", "when": {"delivered": {"flow": "telemetry", "count": 10}}}
    crash = {"kind": "node_crash", "node": "habitat", "duration": "5 min",
             "when": {"begins": "storm", "delay": "3 min"}}  # fmt: skip
    spec, outcome, verdict = play(tmp_path, plan, tenth, crash)
    assert spec.incidents == ()
    tenth_arrival = arrivals(verdict)[9]
    assert [(i.kind, i.start) for i in outcome.incidents] == [
        ("link_outage", pytest.approx(tenth_arrival)), ("node_crash", pytest.approx(tenth_arrival + 180)),
    ]  # fmt: skip
    assert sound(verdict)
    late = [t for t in arrivals(verdict) if tenth_arrival + 1000 < t < tenth_arrival + 3600]
    assert not late, "the link is really down, without anybody having planned it"
    assert arrivals(verdict)[-1] > tenth_arrival + 3600
    again = run_virtual(spec)
    assert again.incidents == outcome.incidents
    assert ledger_hash(again.records) == ledger_hash(outcome.records)


def test_a_fault_waits_for_storage(tmp_path: Path, plan: ContactPlan) -> None:
    silent = {"kind": "node_silent", "node": "areo", "at": "30 min", "duration": "3 h"}
    # The habitat may hold 2 GB: 100 kB are 0.005 %.
    follow = {"kind": "node_crash", "node": "dss14", "duration": "5 min",
              "when": {"storage": {"node": "habitat", "above": "0.005 %"}}}  # fmt: skip
    _, outcome, _ = play(tmp_path, plan, silent, follow)
    assert [i.kind for i in outcome.incidents] == ["node_silent", "node_crash"]
    assert outcome.incidents[1].start > 4000
