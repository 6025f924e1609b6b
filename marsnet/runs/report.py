"""The report: one self-contained HTML file, the verdict first, that a person wants to read."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from marsnet.runs import report_figures as figures
from marsnet.runs.findings import excess
from marsnet.runs.judge import Judgement
from marsnet.runs.lives import Life
from marsnet.runs.page import COLOURS, figure, head, mark, seconds, section, table, warning, write_page
from marsnet.runs.report_axes import TimeUnit, time_unit
from marsnet.runs.stays import Halt, allowed, deaths, longest_wait, stays
from marsnet.units import format_duration, format_size
from marsnet.worlds.spec import Outcome, RunSpec

_LISTED = 100
"""Bundles that a table lists."""
_SLOWEST = 3
"""Bundles of each class that are listed although no requirement calls them late."""


def write_report(path: Path, spec: RunSpec, outcome: Outcome, judgement: Judgement, verdict: dict[str, Any]) -> None:
    """Write the report of a run."""
    lain = list(stays(outcome.records))
    parts = [
        _head(spec, verdict),
        *map(warning, verdict["invalid"]),
        section("Requirements", _requirements(judgement)),
        section("Classes of service", _classes(judgement)),
        section("Contacts and what they carried", figure(figures.contacts_and_traffic(spec, outcome, judgement))),
        section(
            "Latency against light time",
            figure(figures.latency_against_light(judgement)),
            figure(figures.latency_beyond_light(judgement, _allowed(spec, judgement))),
        ),
        section(
            "Queues and storage",
            figure(figures.queues(spec, outcome, judgement, lain)),
            figure(figures.stores(spec, outcome, judgement, lain)),
        ),
        section("Lost and late", _deaths(outcome, judgement), _late(spec, judgement)),
        section("Links", _links(outcome, judgement)),
        section("Fidelity", _fidelity(spec, outcome)),
        section("What was run", _provenance(spec, verdict), _traffic(spec), _faults(outcome)),
    ]
    write_page(path, f"{spec.scenario.name}: {_word(verdict)}", parts)


def _word(verdict: dict[str, Any]) -> str:
    if not verdict["valid"]:
        return "invalid"
    return "passed" if verdict["passed"] else "failed"


def _head(spec: RunSpec, verdict: dict[str, Any]) -> str:
    word = _word(verdict)
    colour = {"passed": "#1e8449", "failed": "#c0392b", "invalid": "#e08e0b"}[word]
    return head(
        spec.scenario.name,
        word.upper(),
        colour,
        f"{html.escape(spec.scenario.description)} {format_duration(verdict['elapsed'])} of mission time from "
        f"{spec.plan.epoch} in {format_duration(verdict['wall'])}, {html.escape(str(verdict['world']))} world.",
    )


def _requirements(judgement: Judgement) -> str:
    rows = ((html.escape(f.name), html.escape(f.measured), html.escape(f.required)) for f in judgement.findings)
    marks = (mark(finding.passed) for finding in judgement.findings)
    return table(
        ("requirement", "measured", "required", "verdict"),
        ((*row, passed) for row, passed in zip(rows, marks, strict=True)),
    )


def _classes(judgement: Judgement) -> str:
    return table(
        ("class", "accepted", "delivered", "volume", "beyond light time: median", "95th", "99th"),
        (
            (c.service_class, str(c.accepted), str(c.delivered), format_size(c.volume), *map(seconds, c.excess))
            for c in judgement.classes
        ),
    )


def _allowed(spec: RunSpec, judgement: Judgement) -> dict[str, float]:
    """The strictest limit beyond light time of each class."""
    found: dict[str, float] = {}
    for life in judgement.lives.values():
        limit = allowed(life, spec.scenario.requirements)
        found[life.service_class] = min(limit, found.get(life.service_class, math.inf))
    return found


def _deaths(outcome: Outcome, judgement: Judgement) -> str:
    """What was not delivered: how many where and why, and each with its way."""
    halts = deaths(judgement.lives, outcome.records)
    body = f"<p>{len(halts)} of {len(judgement.lives)} accepted bundles were not delivered.</p>"
    if not halts:
        return body
    places = Counter((halt.node, halt.reason, halt.life.service_class) for halt in halts)
    body += table(
        ("where", "what became of them", "class", "bundles"),
        ((*map(html.escape, place), str(count)) for place, count in places.most_common(_LISTED)),
    )
    unit = time_unit(outcome.elapsed)
    return body + "<p></p>" + _halts(judgement, halts[:_LISTED], "where and when", unit) + _more(len(halts))


def _late(spec: RunSpec, judgement: Judgement) -> str:
    """What came later than a requirement allows, else the slowest of each class, and where it waited."""
    everyone = judgement.lives.values()
    late = [
        life
        for life in everyone
        if life.delivered is not None and excess(life, judgement.light) > allowed(life, spec.scenario.requirements)
    ]
    told = f"<p>{len(late)} bundles came later than a requirement allows its class or flow."
    for name in COLOURS:
        arrived = [x for x in everyone if x.service_class == name and x.delivered is not None and x not in late]
        if not any(life.service_class == name for life in late):
            late += sorted(arrived, key=lambda x: -excess(x, judgement.light))[:_SLOWEST]
    late.sort(key=lambda life: -excess(life, judgement.light))
    told += f" The slowest of the other classes, {_SLOWEST} each, are listed with them.</p>"
    halts = [longest_wait(life, spec.plan) for life in late[:_LISTED]]
    return (
        told + _halts(judgement, halts, "where it waited longest", time_unit(spec.scenario.duration)) + _more(len(late))
    )


def _more(count: int) -> str:
    return f"<p>{count - _LISTED} more are in ledger.jsonl.</p>" if count > _LISTED else ""


def _halts(judgement: Judgement, halts: Iterable[Halt], where: str, unit: TimeUnit) -> str:
    return table(
        (
            "bundle",
            "flow",
            "created",
            where,
            "latency",
            "beyond light",
            f"way ({unit.name} at which each store took it)",
        ),
        (
            (
                html.escape(halt.life.bundle),
                html.escape(f"{halt.life.flow} ({halt.life.service_class})"),
                f"{halt.life.created / unit.seconds:.3f} {unit.short}",
                html.escape(
                    f"{halt.node}, {halt.time / unit.seconds:.3f} {unit.short}: {halt.reason}"
                    + (f", {format_duration(halt.waited)}" if halt.waited else "")
                ),
                "-" if halt.life.delivered is None else format_duration(halt.life.delivered - halt.life.created),
                seconds(excess(halt.life, judgement.light)),
                html.escape(" → ".join(f"{node} {time / unit.seconds:.3f}" for node, time in _way(halt.life))),
            )
            for halt in halts
        ),
    )


def _way(life: Life) -> list[tuple[str, float]]:
    """The stores that took a bundle until it was delivered; copies may go on."""
    return [(node, time) for node, time in life.hops if life.delivered is None or time <= life.delivered]


def _links(outcome: Outcome, judgement: Judgement) -> str:
    carried = figures.carried(outcome.records, judgement.lives)
    rows = []
    for f in outcome.frames:
        bundles, octets = carried.get((f.source, f.target), (0, 0))
        dropped = ", ".join(f"{n} {reason}" for reason, n in f.dropped.items() if n) or "0"
        name = html.escape(f"{f.source} → {f.target}")
        frames = (str(n) for n in (f.entered, f.delivered, f.queued, f.in_flight))
        rows.append((name, str(bundles), format_size(octets), *frames, html.escape(dropped), str(f.unaccounted)))
    return table(
        ("direction", "bundles", "payload", "frames in", "delivered", "queued", "in flight", "dropped", "unaccounted"),
        rows,
    )


def _fidelity(spec: RunSpec, outcome: Outcome) -> str:
    budget = spec.scenario.fidelity.model_dump()
    rows = [
        (html.escape(name), f"{value:.6g}", f"{budget[name]:g}" if name in budget else "")
        for name, value in outcome.fidelity.items()
    ]
    if not rows:
        return "<p>The virtual world computes every instant exactly: there is nothing to be late for.</p>"
    return table(("figure (host seconds, or a count)", "measured", "budget"), rows)


def _provenance(spec: RunSpec, verdict: dict[str, Any]) -> str:
    rows = [
        ("scenario", html.escape(spec.scenario.name)),
        ("topology", html.escape(f"{spec.topology.name}: {', '.join(spec.topology.nodes)}")),
        ("start", spec.plan.epoch),
        ("world", html.escape(str(verdict["world"]))),
        ("rate", str(verdict["rate"] or "virtual time")),
        ("seed", str(spec.seed)),
        ("marsnet", html.escape(verdict["version"])),
        ("machine", html.escape(str(verdict.get("machine", "")))),
        ("packages", html.escape(", ".join(f"{n} {v}" for n, v in verdict.get("packages", {}).items()))),
        ("ledger", f"<code>{verdict['ledger_hash']}</code>"),
    ]
    return table(("what", "value"), rows)


def _traffic(spec: RunSpec) -> str:
    rows = (
        (flow.name, f"{flow.source} → {flow.destination}", str(flow.service_class)) for flow in spec.scenario.traffic
    )
    return "<p></p>" + table(("flow", "from and to", "class"), (tuple(map(html.escape, row)) for row in rows))


def _faults(outcome: Outcome) -> str:
    if not outcome.incidents:
        return "<p>No faults.</p>"
    rows = (
        (
            html.escape(i.name or "-"),
            html.escape(i.kind.replace("_", " ") + (", planned" if i.planned else "")),
            html.escape(i.subject),
            format_duration(i.start),
            format_duration(i.end) if i.end <= outcome.elapsed else "beyond the end",
        )
        for i in outcome.incidents[:_LISTED]
    )
    return "<p></p>" + table(("name", "fault", "of", "from", "to"), rows) + _more(len(outcome.incidents))
