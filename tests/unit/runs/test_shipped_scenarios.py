"""Every shipped scenario passes with the ledger that is committed, and each of its requirements can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from broken_networks import (
    Mutation,
    both,
    careless,
    forgetful,
    miscounting,
    scaled,
    settings,
    shut_out,
    starving,
    thinner,
    trusting,
    unseen,
    upside_down,
)

from marsnet.runs.campaign import parse_axes, plan_for, points
from marsnet.runs.judge import Judgement, judge
from marsnet.runs.lives import ledger_hash
from marsnet.runs.prepare import prepare, spec_of
from marsnet.worlds.virtual import run_virtual

SCENARIOS = Path(__file__).resolve().parents[3] / "scenarios"
GOLDENS: dict[str, str] = json.loads(Path(__file__).with_name("goldens.json").read_text())


def run(name: str, folder: Path, settings: dict[str, object] | None = None) -> tuple[str, Judgement]:
    spec = prepare(SCENARIOS / f"{name}.yaml", folder, settings=settings)
    outcome = run_virtual(spec)
    return ledger_hash(outcome.records), judge(spec, outcome)


def failures(verdict: Judgement) -> set[str]:
    return {finding.name for finding in verdict.findings if not finding.passed}


NOTHING, FRAMES = "nothing accepted is lost", "every frame accounted for"
LOSS = both(careless, miscounting)
"""Fails what every scenario requires: that nothing is lost, and that all frames are accounted for."""
# scenario: ways to break it, and the requirements that notice; together they are all that it has
BROKEN: dict[str, list[tuple[Mutation, set[str]]]] = {
    "architectures": [
        (LOSS, {NOTHING, FRAMES}),
        # No relay that is seen all day; none that sees the pole.
        (
            settings(architecture="low"),
            {
                "habitat online to mcc",
                "latency of alarms, 95th percentile",
                "latency of commands, 90th percentile",
                "completion of images",
            },
        ),
        (settings(architecture="areostationary"), {"delivery of polar", "latency of polar, 95th percentile"}),
    ],
    "bad_plan": [
        (LOSS, {NOTHING, FRAMES, "delivery of all bundles"}),
        (
            settings(rolled_back_after="7 h"),
            {"recovery of telemetry after upload", "recovery of commands after upload"},
        ),
    ],
    "conjunction_2030": [
        (LOSS, {NOTHING, FRAMES, "delivery of critical", "delivery of bulk"}),
        # Ka band ends where X band does.
        (
            settings(ka_cut="1 deg"),
            {
                "latency of relay-health, 80th percentile",
                "latency of critical, 100th percentile",
                "latency of bulk, 100th percentile",
                "storage peak of mtn1",
            },
        ),
    ],
    "crew_emergency": [
        (LOSS, {NOTHING, FRAMES, "delivery of crew"}),
        (
            upside_down,
            {
                "vitals within light time + 60.0 s",
                "round trip of questions, 100th percentile",
                "completion of scans",
                "critical available from habitat to mcc",
            },
        ),
    ],
    "dsn_oversubscribed": [
        (LOSS, {NOTHING, FRAMES, "delivery of crew", "delivery of survey"}),
        (upside_down, {"latency of crew, 100th percentile", "delivery of science", "starvation of normal"}),
        (starving, {"delivery of archive"}),
    ],
    "dust_storm": [
        (LOSS, {NOTHING, FRAMES, "delivery of expedited", "delivery of bulk"}),
        (
            settings(left="0 %"),
            {"delivery of critical", "latency of critical, 95th percentile", "storage peak of habitat"},
        ),
    ],
    "edl": [
        (LOSS, {NOTHING, FRAMES}),
        # What was on its way when the plasma came is not sent again.
        (forgetful, {"delivery of critical", "latency of entry, 100th percentile"}),
        (settings(copies=1), {"latency of descent, 100th percentile", "critical available from lander to mcc"}),
    ],
    "first_light": [
        (LOSS, {NOTHING, FRAMES, "delivery of critical", "delivery of normal"}),
        # What the low orbiter does not answer for three hours stays where it is.
        (forgetful, {"delivery of expedited", "delivery of bulk"}),
        (
            unseen("areo"),
            {
                "latency of critical, 95th percentile",
                "latency of expedited, 95th percentile",
                "rover online to mcc",
            },
        ),
    ],
    "goldstone_loss": [
        (LOSS, {NOTHING, FRAMES, "delivery of all bundles"}),
        (trusting, {"latency of normal, 100th percentile"}),
        (unseen("madrid"), {"latency of critical, 100th percentile", "mtn1 online to mcc"}),
    ],
    "imagery_critical": [
        (LOSS, {NOTHING, FRAMES, "delivery of critical"}),
        (
            upside_down,
            {
                "latency of critical, 99th percentile",
                "latency of expedited, 99th percentile",
                "round trip of commands, 100th percentile",
            },
        ),
        (shut_out, {"starvation of bulk", "completion of images"}),
    ],
    "legacy_baseline": [
        (LOSS, {NOTHING, FRAMES, "delivery of critical"}),
        (thinner(0.5), {f"volume of bulk via {relay}" for relay in ("odyssey", "mro", "tgo")}),
    ],
    "mtn_threshold": [
        (LOSS, {NOTHING, FRAMES}),
        (scaled(0.5), {"completion of return", "completion of forward"}),
        (upside_down, {"round trip of commands, 100th percentile"}),
    ],
    "relay_loss": [
        (LOSS, {NOTHING, FRAMES}),
        (forgetful, {"delivery of critical", "delivery of expedited", "delivery of bulk"}),
        # A pass has room for a fifth, and images leave first: telemetry waits for the pass after it.
        (both(upside_down, thinner(0.2)), {"recovery of habitat-telemetry after loss"}),
    ],
}
RUNS = [(name, *way) for name, ways in BROKEN.items() for way in ways]


# what tells architectures apart, in the order of the page
COLUMNS = (
    "habitat online to mcc",
    "latency of alarms, 95th percentile",
    "latency of commands, 90th percentile",
    "completion of images",
    "delivery of polar",
    "latency of polar, 95th percentile",
)


def test_every_scenario_has_a_golden_run_and_ways_to_break_it() -> None:
    shipped = {path.stem for path in SCENARIOS.glob("*.yaml")}
    assert set(GOLDENS) == shipped
    assert set(BROKEN) == shipped


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(GOLDENS))
def test_a_scenario_passes_with_its_golden_ledger(name: str, tmp_path: Path) -> None:
    ledger, verdict = run(name, tmp_path)
    assert verdict.valid
    assert verdict.passed, [finding for finding in verdict.findings if not finding.passed]
    assert {finding.name for finding in verdict.findings} == set().union(*(noticed for _, noticed in BROKEN[name]))
    assert ledger == GOLDENS[name], "run: python tests/unit/runs/goldens.py, if the change is meant"


@pytest.mark.interpreted
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "mutation", "noticed"), RUNS, ids=[f"{name}, {sorted(n)[0]}" for name, _, n in RUNS])
def test_a_broken_network_fails(
    name: str, mutation: Mutation, noticed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verdict = run(name, tmp_path, mutation(monkeypatch))
    assert verdict.valid
    assert noticed <= failures(verdict), verdict.findings


@pytest.mark.interpreted
@pytest.mark.slow
def test_a_slow_recovery_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation, noticed = BROKEN["relay_loss"][-1]
    assert failures(run("relay_loss", tmp_path, mutation(monkeypatch))[1]) == noticed


COMPARED = "marsnet campaign scenarios/architectures.yaml --vary architecture=areostationary,low,hybrid"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_architectures_differ_as_the_page_says(tmp_path: Path) -> None:
    told: dict[str, list[str]] = {}
    for point in points(SCENARIOS / "architectures.yaml", parse_axes([COMPARED.rsplit(maxsplit=1)[-1]])):
        plan = plan_for(point.topology, point.scenario.start, point.scenario.duration, point.base)
        spec = spec_of(point.scenario, point.topology, plan, point.seed, 1.0, tmp_path / point.key)
        found = {finding.name: finding for finding in judge(spec, run_virtual(spec)).findings}
        figures = [found.pop(name) for name in COLUMNS]
        assert all(finding.passed for finding in found.values()), "the rest holds for any architecture"
        told[str(point.values["architecture"])] = [
            finding.measured if finding.passed else f"**{finding.measured}**" for finding in figures
        ]
    page = (SCENARIOS.parent / "docs" / "scenarios.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    assert {row[0].strip("`"): row[1:] for row in rows if row[0].strip("`") in told} == told
