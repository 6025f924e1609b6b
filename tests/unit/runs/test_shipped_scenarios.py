"""Every shipped scenario passes with the ledger that is committed, and fails when what it tests is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.forwarding import Forwarder
from marsnet.dtn.node.handling import Handler
from marsnet.dtn.node.queues import ClassQueue
from marsnet.runs.campaign import parse_axes, plan_for, points
from marsnet.runs.judge import Judgement, judge
from marsnet.runs.lives import ledger_hash
from marsnet.runs.prepare import prepare, spec_of
from marsnet.sky.budget import DirectedBudget
from marsnet.worlds.virtual import run_virtual

SCENARIOS = Path(__file__).resolve().parents[3] / "scenarios"
GOLDENS: dict[str, str] = json.loads(Path(__file__).with_name("goldens.json").read_text())
Mutation = Callable[[pytest.MonkeyPatch], dict[str, object]]


def run(name: str, folder: Path, settings: dict[str, object] | None = None) -> tuple[str, Judgement]:
    spec = prepare(SCENARIOS / f"{name}.yaml", folder, settings=settings)
    outcome = run_virtual(spec)
    return ledger_hash(outcome.records), judge(spec, outcome)


def trusting(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Routes go on leading by a neighbour that does not answer."""
    monkeypatch.setattr(Forwarder, "failed", lambda *arguments, **options: None)
    return {}


def forgetful(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What a convergence layer gives up is not routed again."""
    monkeypatch.setattr(Handler, "_goes_on", lambda *arguments: None)
    return {}


def upside_down(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The least urgent class leaves first."""
    monkeypatch.setattr(
        ClassQueue, "urgent", lambda self: next((c for c in reversed(ServiceClass) if self.count(c)), None)
    )
    return {}


def starving(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Strict priority: a less urgent class leaves only when no other waits."""
    monkeypatch.setattr(ClassQueue, "urgent", lambda self: next((c for c in ServiceClass if self.count(c)), None))
    return {}


def unanswered(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Nobody answers a request."""
    monkeypatch.setattr(BundleAgent, "_answer", lambda *arguments: None)
    return {}


def halved(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Every link budget has half the rate."""
    rate = DirectedBudget.rate

    def half(self: DirectedBudget, *arguments: Any) -> tuple[Any, ...]:
        whole, *errors = rate(self, *arguments)
        return (0.5 * whole, *errors)

    monkeypatch.setattr(DirectedBudget, "rate", half)
    return {}


def settings(**changed: object) -> Mutation:
    """Another value of a parameter."""
    return lambda monkeypatch: changed


# scenario: how to break it, and the requirement that notices
MUTATIONS: dict[str, tuple[Mutation, str]] = {
    # What the low orbiter does not answer for three hours stays where it is.
    "first_light": (forgetful, "delivery of expedited"),
    # The low relays alone: no relay that is seen all day.
    "architectures": (settings(architecture="low"), "habitat online to mcc"),
    "relay_loss": (forgetful, "delivery of critical"),
    "imagery_critical": (upside_down, "latency of critical, 99th percentile"),
    "bad_plan": (settings(rolled_back_after="7 h"), "recovery of telemetry after upload"),
    "goldstone_loss": (trusting, "latency of normal, 100th percentile"),
    "crew_emergency": (unanswered, "round trip of questions, 95th percentile"),
    "legacy_baseline": (settings(window=4), "volume of bulk via tgo"),
    "mtn_threshold": (halved, "completion of return"),
    "conjunction_2030": (settings(ka_cut="1 deg"), "latency of critical, 100th percentile"),
    "dust_storm": (settings(left="0 %"), "latency of critical, 95th percentile"),
    "edl": (settings(copies=1), "latency of descent, 100th percentile"),
    "dsn_oversubscribed": (settings(crew_class="bulk"), "latency of crew, 100th percentile"),
}
# further ways to break one
MORE_MUTATIONS: list[tuple[str, Mutation, str]] = [
    ("edl", settings(relays=1, failing=1), "delivery of critical"),
    ("dsn_oversubscribed", starving, "delivery of archive"),
]


# what tells architectures apart, in the order of the page
COLUMNS = (
    "habitat online to mcc",
    "latency of alarms, 95th percentile",
    "latency of commands, 90th percentile",
    "completion of images",
    "delivery of polar",
    "latency of polar, 95th percentile",
)


def test_every_scenario_has_a_golden_run_and_a_way_to_break_it() -> None:
    shipped = {path.stem for path in SCENARIOS.glob("*.yaml")}
    assert set(GOLDENS) == shipped
    assert set(MUTATIONS) == shipped


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(GOLDENS))
def test_a_scenario_passes_with_its_golden_ledger(name: str, tmp_path: Path) -> None:
    ledger, verdict = run(name, tmp_path)
    assert verdict.valid
    assert verdict.passed, [finding for finding in verdict.findings if not finding.passed]
    assert ledger == GOLDENS[name], "run: python tests/unit/runs/goldens.py, if the change is meant"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "mutation", "requirement"),
    [*((name, *MUTATIONS[name]) for name in sorted(MUTATIONS)), *MORE_MUTATIONS],
    ids=[*sorted(MUTATIONS), *(f"{name}, again" for name, *_ in MORE_MUTATIONS)],
)
def test_a_broken_network_fails(
    name: str, mutation: Mutation, requirement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verdict = run(name, tmp_path, mutation(monkeypatch))
    assert verdict.valid
    assert requirement in {finding.name for finding in verdict.findings if not finding.passed}, verdict.findings


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
