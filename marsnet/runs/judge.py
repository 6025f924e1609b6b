"""Judges a run: each requirement against what the ledger and the links say, and whether the run can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from marsnet.runs.findings import Case, Finding, excess, find, percentile, programs_ended
from marsnet.runs.lives import Life, LightTimes, lives
from marsnet.units import format_duration
from marsnet.worlds.spec import Outcome, RunSpec


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Figures of one class of service.

    Attributes:
        service_class: its name.
        accepted: bundles.
        delivered: bundles.
        volume: bytes delivered.
        excess: 50th, 95th and 99th percentile of latency beyond light time, seconds; NaN without deliveries.
        latency: the same percentiles of the latency itself.
    """

    service_class: str
    accepted: int
    delivered: int
    volume: int
    excess: tuple[float, float, float]
    latency: tuple[float, float, float]


@dataclass(frozen=True)
class Judgement:
    """What came out.

    Attributes:
        findings: one for each requirement.
        invalid: reasons why the run cannot be trusted; empty when it can.
        classes: figures by class.
        lives: every bundle's life.
        light: light times between nodes.
    """

    findings: tuple[Finding, ...]
    invalid: tuple[str, ...]
    classes: tuple[ClassFigures, ...]
    lives: dict[str, Life]
    light: LightTimes

    @property
    def passed(self) -> bool:
        """Whether every requirement holds."""
        return all(finding.passed for finding in self.findings)

    @property
    def valid(self) -> bool:
        """Whether the run can be trusted."""
        return not self.invalid


def judge(spec: RunSpec, outcome: Outcome) -> Judgement:
    """Compare what was observed with what the scenario requires."""
    everyone = lives(outcome.records, outcome.stored)
    light = LightTimes(spec.plan)
    case = Case(spec, outcome, everyone, light)
    findings = tuple(programs_ended(case)) + tuple(find(each, case) for each in spec.scenario.requirements)
    return Judgement(
        tuple(_distinct(findings)), tuple(_doubts(spec, outcome)), tuple(_classes(everyone, light)), everyone, light
    )


def _distinct(findings: Sequence[Finding]) -> Iterable[Finding]:
    """Findings by names of their own: those that require something else of the same say what, or are numbered."""
    names = Counter(finding.name for finding in findings)
    taken: set[str] = set()
    for finding in findings:
        name = finding.name if names[finding.name] == 1 else f"{finding.name} ({finding.required})"
        number = 1
        while name in taken:
            number += 1
            name = f"{finding.name} ({finding.required}, {number})"
        taken.add(name)
        yield replace(finding, name=name)


def _doubts(spec: RunSpec, outcome: Outcome) -> Iterable[str]:
    """Reasons why the run is invalid, each with the figure and the budget."""
    yield from outcome.invalid
    if outcome.interrupted:
        yield f"the run was broken off after {format_duration(outcome.elapsed)} of mission time"
    budget = spec.scenario.fidelity
    for name, limit in (
        ("link_lateness_p99", budget.link_lateness_p99),
        ("node_lateness_p99", budget.node_lateness_p99),
        ("ring_drops", float(budget.ring_drops)),
        ("switch_drops", float(budget.switch_drops)),
    ):
        value = outcome.fidelity.get(name, 0.0)
        if value > limit:
            yield f"{name} is {value:g}, the budget {limit:g}; try a lower rate than {spec.rate:g}"
    late = max(outcome.fidelity.get(name, 0.0) for name in ("link_lateness_p99", "node_lateness_p99"))
    if late * spec.rate > budget.mission_lateness_p99:
        yield (
            f"{format_duration(late)} of lateness are {format_duration(late * spec.rate)} of mission time, the budget "
            f"{format_duration(budget.mission_lateness_p99)}; try a lower rate than {spec.rate:g}"
        )


def _classes(everyone: dict[str, Life], light: LightTimes) -> Iterable[ClassFigures]:
    for name in ("critical", "expedited", "normal", "bulk"):
        chosen = [life for life in everyone.values() if life.service_class == name]
        arrived = [life for life in chosen if life.delivered is not None]
        if not chosen:
            continue
        beyond = [excess(life, light) for life in arrived]
        whole = [life.delivered - life.created for life in arrived if life.delivered is not None]
        yield ClassFigures(
            name,
            len(chosen),
            len(arrived),
            sum(life.size for life in arrived),
            (percentile(beyond, 0.5), percentile(beyond, 0.95), percentile(beyond, 0.99)),
            (percentile(whole, 0.5), percentile(whole, 0.95), percentile(whole, 0.99)),
        )
