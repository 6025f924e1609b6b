"""Judges a run: each requirement against what the ledger and the links say, and whether the run can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from marsnet.model.scenario import (
    DeliveryRequirement,
    FramesRequirement,
    LatencyRequirement,
    NoLossRequirement,
    OnlineRequirement,
    Requirement,
    Selection,
)
from marsnet.runs.lives import Life, LightTimes, lives
from marsnet.units import format_duration
from marsnet.worlds.availability import online_intervals, real_contacts
from marsnet.worlds.spec import Outcome, RunSpec


@dataclass(frozen=True, slots=True)
class Finding:
    """One requirement and what was measured.

    Attributes:
        name: what is required, of whom.
        passed: whether it holds.
        measured: the figure, as text with unit.
        required: the threshold, as text with unit.
        value: the figure as a number, where it is one: a ratio, seconds or a count.
    """

    name: str
    passed: bool
    measured: str
    required: str
    value: float | None = None


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


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile: the least value that at least `share` of the values do not exceed; NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def judge(spec: RunSpec, outcome: Outcome) -> Judgement:
    """Compare what was observed with what the scenario requires."""
    everyone = lives(outcome.records, outcome.stored)
    light = LightTimes(spec.plan)
    findings = tuple(_judge(r, spec, outcome, everyone, light) for r in spec.scenario.requirements)
    return Judgement(findings, tuple(_doubts(spec, outcome)), tuple(_classes(everyone, light)), everyone, light)


def excess(life: Life, light: LightTimes) -> float:
    """Seconds between creation and delivery beyond the light time; infinite where it was not delivered."""
    if life.delivered is None:
        return math.inf
    return life.delivered - life.created - light.between(life.source, life.destination, life.created)


def _judge(
    requirement: Requirement, spec: RunSpec, outcome: Outcome, everyone: dict[str, Life], light: LightTimes
) -> Finding:
    match requirement:
        case DeliveryRequirement():
            chosen = list(_select(everyone, requirement))
            arrived = sum(life.delivered is not None for life in chosen)
            ratio = arrived / len(chosen) if chosen else 0.0
            return Finding(
                f"delivery of {_subject(requirement)}",
                bool(chosen) and ratio >= requirement.at_least,
                f"{100 * ratio:.2f} % ({arrived} of {len(chosen)})",
                f"at least {100 * requirement.at_least:g} %",
                ratio,
            )
        case LatencyRequirement():
            late = percentile((excess(life, light) for life in _select(everyone, requirement)), requirement.percentile)
            return Finding(
                f"latency of {_subject(requirement)}, {100 * requirement.percentile:g}th percentile",
                late <= requirement.beyond_light_time,
                _beyond(late),
                f"at most light time + {format_duration(requirement.beyond_light_time)}",
                late if math.isfinite(late) else None,
            )
        case NoLossRequirement():
            return _no_loss(everyone)
        case FramesRequirement():
            missing = sum(abs(frames.unaccounted) for frames in outcome.frames)
            entered = sum(frames.entered for frames in outcome.frames)
            return Finding(
                "every frame accounted for",
                missing == 0 and entered > 0,
                f"{missing} of {entered} frames unaccounted for",
                "0 unaccounted for",
                missing,
            )
        case OnlineRequirement():
            contacts = real_contacts(spec.plan, spec.incidents)
            up = online_intervals(spec.plan, contacts, requirement.site, requirement.to, requirement.patience)
            span = min(outcome.elapsed, spec.plan.end) - spec.plan.start
            online = sum(min(end, spec.plan.start + span) - start for start, end in up if start < span)
            share = online / span if span > 0 else 0.0
            return Finding(
                f"{requirement.site} online to {requirement.to}",
                share >= requirement.at_least,
                f"{100 * share:.2f} % of the time",
                f"at least {100 * requirement.at_least:g} %",
                share,
            )


def _no_loss(everyone: dict[str, Life]) -> Finding:
    fates = [life.fate for life in everyone.values()]
    gone = fates.count("lost") + fates.count("dropped")
    broken = sum(not life.intact for life in everyone.values())
    twice = sum(life.deliveries > 1 for life in everyone.values())
    told = f"{gone} lost, {broken} corrupted, {twice} delivered twice of {len(fates)} accepted"
    return Finding(
        "nothing accepted is lost", bool(fates) and not gone + broken + twice, told, "none", gone + broken + twice
    )


def _select(everyone: dict[str, Life], selection: Selection) -> Iterable[Life]:
    return (
        life
        for life in everyone.values()
        if selection.service_class in (None, life.service_class) and selection.flow in (None, life.flow)
    )


def _subject(selection: Selection) -> str:
    return selection.flow or selection.service_class or "all bundles"


def _beyond(seconds: float) -> str:
    if math.isnan(seconds):
        return "no bundle"
    return "not delivered" if math.isinf(seconds) else f"light time + {format_duration(seconds)}"


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
