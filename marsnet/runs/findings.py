"""One finding for each requirement: what was measured, and whether that is enough."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from marsnet.model.requirements import (
    AvailabilityRequirement,
    CompletionRequirement,
    DeadlineRequirement,
    DeliveryRequirement,
    FidelityRequirement,
    FramesRequirement,
    LatencyRequirement,
    NoLossRequirement,
    OnlineRequirement,
    PrintedRequirement,
    RecoveryRequirement,
    Requirement,
    RoundTripRequirement,
    Selection,
    StarvationRequirement,
    StorageRequirement,
    VolumeRequirement,
)
from marsnet.runs.lives import Life, LightTimes
from marsnet.runs.waiting import starvation, storage_peaks
from marsnet.units import format_duration, format_size
from marsnet.worlds.availability import online_intervals, real_contacts
from marsnet.worlds.programs import written
from marsnet.worlds.spec import Outcome, ProgramEnd, RunSpec, mission_time


@dataclass(frozen=True, slots=True)
class Finding:
    """One requirement and what was measured.

    Attributes:
        name: what is required, of whom.
        passed: whether it holds.
        measured: the figure, as text with unit.
        required: the threshold, as text with unit.
        value: the figure as a number, where it is one.
        unit: of the value: `ratio`, `s`, `B`, what is counted, or nothing where a program printed the number.
    """

    name: str
    passed: bool
    measured: str
    required: str
    value: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Case:
    """What a requirement is held against.

    Attributes:
        spec: of the run.
        outcome: what was observed.
        lives: of all accepted bundles, by id.
        light: light times between nodes.
    """

    spec: RunSpec
    outcome: Outcome
    lives: dict[str, Life]
    light: LightTimes

    def select(self, selection: Selection) -> list[Life]:
        """The bundles that a requirement looks at."""
        return [
            life
            for life in self.lives.values()
            if selection.service_class in (None, life.service_class)
            and selection.flow in (None, life.flow)
            and selection.tenant in (None, life.tenant)
        ]

    def light_time(self, life: Life) -> float:
        """Light time at a bundle's creation; infinite where no link leads."""
        return self.light.between(life.source, life.destination, life.created)

    def is_due(self, life: Life, deadline: float) -> bool:
        """Whether a time, plus light time, was within the run; always so of what no link can bring there."""
        light = self.light_time(life)
        return math.isinf(light) or deadline + light <= self.outcome.elapsed


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile: the least value that at least `share` of the values do not exceed; NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def excess(life: Life, light: LightTimes) -> float:
    """Seconds between creation and delivery beyond the light time; infinite where it was not delivered."""
    if life.delivered is None:
        return math.inf
    return life.delivered - life.created - light.between(life.source, life.destination, life.created)


def find(requirement: Requirement, case: Case) -> Finding:
    """Hold a requirement against what was observed."""
    match requirement:
        case DeliveryRequirement():
            return _delivery(requirement, case)
        case DeadlineRequirement():
            return _deadline(requirement, case)
        case LatencyRequirement():
            late = percentile((excess(life, case.light) for life in case.select(requirement)), requirement.percentile)
            name = f"latency of {_subject(requirement)}, {100 * requirement.percentile:g}th percentile"
            return _late(name, late, requirement.beyond_light_time)
        case RoundTripRequirement():
            return _round_trip(requirement, case)
        case CompletionRequirement():
            return _completion(requirement, case)
        case NoLossRequirement():
            return _no_loss(case)
        case FramesRequirement():
            return _frames(case)
        case OnlineRequirement():
            return _online(requirement, case)
        case AvailabilityRequirement():
            return _availability(requirement, case)
        case StarvationRequirement():
            longest = starvation(case.outcome, case.spec.plan, case.lives, requirement.service_class)
            return Finding(
                f"starvation of {requirement.service_class}",
                longest is not None and longest <= requirement.at_most,
                "no bundle" if longest is None else format_duration(longest),
                f"at most {format_duration(requirement.at_most)}",
                longest,
                "s",
            )
        case StorageRequirement():
            return _storage(requirement, case)
        case VolumeRequirement():
            return _volume(requirement, case)
        case RecoveryRequirement():
            return _recovery(requirement, case)
        case FidelityRequirement():
            return _fidelity(requirement, case)
        case PrintedRequirement():
            return _printed(requirement, case)


def programs_ended(case: Case) -> Iterable[Finding]:
    """One finding for each program of the scenario: how it ended."""
    ends = {end.name: end for end in case.outcome.programs}
    for program in case.spec.scenario.programs:
        end = ends.get(program.name, ProgramEnd(program.name, program.node))
        if end.code is None or end.started is None or end.ended is None:
            measured = "it did not run"
        else:
            how = f"exit code {end.code}" if end.code >= 0 else f"ended by {signal.Signals(-end.code).name}"
            measured = f"{how} after {format_duration(end.ended - end.started)}" + (", asked to end" * end.stopped)
        yield Finding(
            f"program {program.name} at {program.node}",
            end.code is not None and program.exit in ("any", end.code),
            measured,
            "any end" if program.exit == "any" else f"exit code {program.exit}",
            end.code,
            "exit code",
        )


def _printed(requirement: PrintedRequirement, case: Case) -> Finding:
    text = written(case.spec.folder, requirement.program)
    found = list(re.finditer(requirement.matches, text, re.MULTILINE))
    name = f"{requirement.program} printed {requirement.matches}"
    bounds = [
        f"{word} {bound:.12g}"
        for word, bound in (("at least", requirement.at_least), ("at most", requirement.at_most))
        if bound is not None
    ]
    required = ", ".join(bounds) or "once or more"
    if not found:
        return Finding(name, False, "nothing of the kind", required)
    if not bounds:
        return Finding(name, True, repr(found[-1][0]), required, float(len(found)), "matches")
    try:
        value = float(found[-1][1])
    except (TypeError, ValueError):
        return Finding(name, False, f"{found[-1][1]!r}, which is no number", required)
    least, most = requirement.at_least, requirement.at_most
    holds = (least is None or value >= least) and (most is None or value <= most)
    return Finding(name, holds, f"{value:.12g}", required, value)


def _ratio(name: str, good: int, of: int, at_least: float) -> Finding:
    """A share; of nothing it proves nothing, and fails."""
    ratio = good / of if of else 0.0
    return Finding(
        name,
        bool(of) and ratio >= at_least,
        f"{100 * ratio:.2f} % ({good} of {of})",
        f"at least {100 * at_least:g} %",
        ratio,
        "ratio",
    )


def _delivery(requirement: DeliveryRequirement, case: Case) -> Finding:
    chosen = case.select(requirement)
    arrived = sum(life.delivered is not None for life in chosen)
    return _ratio(f"delivery of {_subject(requirement)}", arrived, len(chosen), requirement.at_least)


def _deadline(requirement: DeadlineRequirement, case: Case) -> Finding:
    late = [
        excess(life, case.light)
        for life in case.select(requirement)
        if case.is_due(life, life.created + requirement.within)
    ]
    name = f"{_subject(requirement)} within light time + {format_duration(requirement.within)}"
    return _ratio(name, sum(value <= requirement.within for value in late), len(late), requirement.at_least)


def _late(name: str, late: float, bound: float) -> Finding:
    if math.isnan(late):
        measured = "no bundle"
    else:
        measured = "not delivered" if math.isinf(late) else f"light time + {format_duration(late)}"
    required = f"at most light time + {format_duration(bound)}"
    return Finding(name, late <= bound, measured, required, late if math.isfinite(late) else None, "s")


def _round_trip(requirement: RoundTripRequirement, case: Case) -> Finding:
    replies = {life.answers: life for life in case.lives.values() if life.answers}
    times = []
    for request in case.lives.values():
        if request.flow != requirement.flow:
            continue
        reply = replies.get(request.bundle)
        if reply is None or reply.delivered is None:
            times.append(math.inf)
        else:
            light = case.light_time(request) + case.light_time(reply)
            times.append(reply.delivered - request.created - light)
    name = f"round trip of {requirement.flow}, {100 * requirement.percentile:g}th percentile"
    return _late(name, percentile(times, requirement.percentile), requirement.beyond_light_time)


def _completion(requirement: CompletionRequirement, case: Case) -> Finding:
    (flow,) = (flow for flow in case.spec.scenario.traffic if flow.name == requirement.flow)
    whole = flow.file.stat().st_size if flow.file is not None else round(flow.volume or 0)
    expected = math.ceil(whole / round(flow.size or 1))
    chosen = [life for life in case.lives.values() if life.flow == flow.name]
    times = [life.delivered for life in chosen if life.delivered is not None and life.intact]
    complete = len(times) == expected and (flow.file is None or any(life.file for life in chosen))
    start = mission_time(flow.start, case.spec.scenario, case.spec.topology)
    took = max(times) - start if complete else math.inf
    return Finding(
        f"completion of {flow.name}",
        took <= requirement.within,
        format_duration(took) if complete else f"not complete ({len(times)} of {expected} bundles)",
        f"within {format_duration(requirement.within)}",
        took if complete else None,
        "s",
    )


def _no_loss(case: Case) -> Finding:
    fates = [life.fate for life in case.lives.values()]
    gone = fates.count("lost") + fates.count("dropped")
    broken = sum(not life.intact for life in case.lives.values())
    twice = sum(life.deliveries > 1 for life in case.lives.values())
    told = f"{gone} lost, {broken} corrupted, {twice} delivered twice of {len(fates)} accepted"
    return Finding(
        "nothing accepted is lost",
        bool(fates) and not gone + broken + twice,
        told,
        "none",
        gone + broken + twice,
        "bundles",
    )


def _frames(case: Case) -> Finding:
    missing = sum(abs(frames.unaccounted) for frames in case.outcome.frames)
    entered = sum(frames.entered for frames in case.outcome.frames)
    return Finding(
        "every frame accounted for",
        missing == 0 and entered > 0,
        f"{missing} of {entered} frames unaccounted for",
        "0 unaccounted for",
        missing,
        "frames",
    )


def _online(requirement: OnlineRequirement, case: Case) -> Finding:
    plan = case.spec.plan
    contacts = real_contacts(plan, case.outcome.incidents)
    up = online_intervals(plan, contacts, requirement.site, requirement.to, requirement.patience)
    span = min(case.outcome.elapsed, plan.end) - plan.start
    online = sum(min(end, plan.start + span) - start for start, end in up if start < span)
    share = online / span if span > 0 else 0.0
    return Finding(
        f"{requirement.site} online to {requirement.to}",
        share >= requirement.at_least,
        f"{100 * share:.2f} % of the time",
        f"at least {100 * requirement.at_least:g} %",
        share,
        "ratio",
    )


def _availability(requirement: AvailabilityRequirement, case: Case) -> Finding:
    good: dict[int, bool] = {}
    for life in case.lives.values():
        if (life.source, life.destination, life.service_class) != (
            requirement.site,
            requirement.to,
            requirement.service_class,
        ):
            continue
        interval = int(life.created // requirement.interval)
        end = (interval + 1) * requirement.interval
        if case.is_due(life, end + requirement.within):
            good[interval] = good.get(interval, True) and excess(life, case.light) <= requirement.within
    name = f"{requirement.service_class} available from {requirement.site} to {requirement.to}"
    return _ratio(name, sum(good.values()), len(good), requirement.at_least)


def _storage(requirement: StorageRequirement, case: Case) -> Finding:
    peaks = storage_peaks(case.outcome.records)
    if requirement.node is not None:
        peaks = {requirement.node: peaks.get(requirement.node, 0)}
    node = max(peaks, key=lambda name: peaks[name], default="")
    peak = peaks.get(node, 0)
    return Finding(
        f"storage peak of {requirement.node or 'any node'}",
        peak <= requirement.at_most + 0.5,
        format_size(peak) + (f" in {node}" if requirement.node is None and node else ""),
        f"at most {format_size(requirement.at_most)}",
        peak,
        "B",
    )


def _volume(requirement: VolumeRequirement, case: Case) -> Finding:
    via = requirement.via
    volume = sum(
        life.size
        for life in case.select(requirement)
        if life.delivered is not None and (via is None or via in (node for node, _ in life.hops))
    )
    least = 0.0 if requirement.at_least is None else requirement.at_least
    most = math.inf if requirement.at_most is None else requirement.at_most
    bounds = [f"at least {format_size(least)}"] if least else []
    bounds += [f"at most {format_size(most)}"] if math.isfinite(most) else []
    return Finding(
        f"volume of {_subject(requirement)}" + (f" via {via}" if via else ""),
        # Bounds with a unit are seldom whole numbers to the last bit, and volumes are.
        least - 0.5 <= volume <= most + 0.5,
        format_size(volume),
        ", ".join(bounds),
        volume,
        "B",
    )


def _recovery(requirement: RecoveryRequirement, case: Case) -> Finding:
    name = f"recovery of {_subject(requirement)} after {requirement.fault}"
    required = f"within {format_duration(requirement.within)}"
    happened = [incident for incident in case.outcome.incidents if incident.name == requirement.fault]
    if not happened:
        return Finding(name, True, "the fault did not happen", required)
    deliveries: dict[str, list[tuple[float, float]]] = {}
    for life in case.select(requirement):
        delivered = math.inf if life.delivered is None else life.delivered
        deliveries.setdefault(life.flow, []).append((_left(life, case.light), delivered))
    proven, worst, slowest = False, 0.0, ""
    for incident in happened:
        since = incident.end if requirement.after == "end" else incident.start
        for flow, times in deliveries.items():
            # What was on its way before the fault proves nothing; who sends nothing after it has nothing to recover.
            after = [time for left, time in times if left >= incident.start]
            took = min((time - since for time in after if time >= since), default=math.inf)
            if not after or (math.isinf(took) and since + requirement.within > case.outcome.elapsed):
                continue
            if not proven or took > worst:
                proven, worst, slowest = True, took, flow
    if not proven:
        return Finding(name, False, "no flow shows it: nothing is sent after the fault, or the run ends", required)
    measured = format_duration(worst) if math.isfinite(worst) else "never"
    return Finding(
        name,
        worst <= requirement.within,
        f"{measured} ({slowest})",
        required,
        worst if math.isfinite(worst) else None,
        "s",
    )


def _left(life: Life, light: LightTimes) -> float:
    """When a bundle had left its source: its arrival at the next node less the light time.

    Infinite while it waits there; what ended there counts by its creation.
    """
    if len(life.hops) > 1:
        node, time = life.hops[1]
    elif life.delivered is not None:
        node, time = life.destination, life.delivered
    else:
        return life.created if life.ends else math.inf
    return time - light.between(life.source, node, life.created)


def _fidelity(requirement: FidelityRequirement, case: Case) -> Finding:
    bounds = {
        name: bound
        for name in ("link_lateness_p99", "node_lateness_p99")
        if (bound := getattr(requirement, name)) is not None
    }
    # The virtual world is never late: its clock waits for the work.
    figures = {name: case.outcome.fidelity.get(name, 0.0) for name in bounds}
    return Finding(
        "fidelity",
        all(figures[name] <= bound for name, bound in bounds.items()),
        ", ".join(f"{name} {format_duration(value)}" for name, value in figures.items()),
        ", ".join(f"{name} at most {format_duration(bound)}" for name, bound in bounds.items()),
    )


def _subject(selection: Selection) -> str:
    words = [word for word in (selection.flow or selection.service_class, selection.tenant) if word]
    return " of ".join(words) or "all bundles"
