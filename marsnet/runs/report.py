"""The report: one self-contained HTML file, the verdict first, that a person wants to read."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from marsnet.dtn.node.ledger import Record, Step
from marsnet.runs.findings import excess
from marsnet.runs.judge import Judgement
from marsnet.runs.lives import Life
from marsnet.units import format_duration, format_size
from marsnet.worlds.availability import real_contacts
from marsnet.worlds.spec import Outcome, RunSpec

_COLOURS = {"critical": "#c0392b", "expedited": "#e08e0b", "normal": "#2471a3", "bulk": "#7f8c8d"}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1180px;padding:24px;color:#1b2631;background:#fff}
h1{margin:0 0 4px}h2{margin:36px 0 8px;border-bottom:1px solid #d5d8dc;padding-bottom:4px}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:5px 10px;border-bottom:1px solid #eaecee}
th{background:#f4f6f7}.pass{color:#1e8449;font-weight:600}.fail{color:#c0392b;font-weight:600}
.badge{display:inline-block;padding:6px 18px;border-radius:6px;color:#fff;font-size:20px;font-weight:700}
.sub{color:#566573}.warn{background:#fef5e7;border-left:4px solid #e08e0b;padding:8px 12px;margin:8px 0}
"""


def write_report(path: Path, spec: RunSpec, outcome: Outcome, judgement: Judgement, verdict: dict[str, Any]) -> None:
    """Write the report of a run."""
    parts = [
        _head(spec, verdict),
        _section("Requirements", _requirements(judgement)),
        _section("Classes of service", _classes(judgement)),
        _section("Contacts and what they carried", _figure(_gantt(spec, outcome))),
        _section("Latency beyond light time", _figure(_latency(judgement))),
        _section("Bundles in store", _figure(_storage(outcome.records, list(spec.topology.nodes)))),
        _section("Late and lost", _late(judgement)),
        _section("Links", _links(outcome)),
        _section("Fidelity", _fidelity(spec, outcome)),
        _section("What was run", _provenance(spec, verdict)),
    ]
    path.write_text(
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f"<title>{html.escape(spec.scenario.name)}: {_word(verdict)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(parts)}</body></html>",
        encoding="utf-8",
    )


def _word(verdict: dict[str, Any]) -> str:
    if not verdict["valid"]:
        return "invalid"
    return "passed" if verdict["passed"] else "failed"


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>{body}"


def _figure(figure: go.Figure) -> str:
    figure.update_layout(margin={"l": 120, "r": 20, "t": 20, "b": 45}, template="plotly_white", font={"size": 13})
    return str(figure.to_html(full_html=False, include_plotlyjs=False))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _head(spec: RunSpec, verdict: dict[str, Any]) -> str:
    colour = {"passed": "#1e8449", "failed": "#c0392b", "invalid": "#e08e0b"}[_word(verdict)]
    doubts = "".join(f"<div class=warn>{html.escape(reason)}</div>" for reason in verdict["invalid"])
    return (
        f"<h1>{html.escape(spec.scenario.name)} <span class=badge style='background:{colour}'>"
        f"{_word(verdict).upper()}</span></h1><div class=sub>{html.escape(spec.scenario.description)} "
        f"{format_duration(verdict['elapsed'])} of mission time from {spec.plan.epoch} in "
        f"{format_duration(verdict['wall'])}, {html.escape(str(verdict['world']))} world.</div>{doubts}"
    )


def _requirements(judgement: Judgement) -> str:
    return _table(
        ("requirement", "measured", "required", "verdict"),
        (
            (
                html.escape(f.name),
                html.escape(f.measured),
                html.escape(f.required),
                "<span class=pass>pass</span>" if f.passed else "<span class=fail>FAIL</span>",
            )
            for f in judgement.findings
        ),
    )


def _time(seconds: float) -> str:
    return format_duration(seconds) if math.isfinite(seconds) else "-"


def _classes(judgement: Judgement) -> str:
    return _table(
        ("class", "accepted", "delivered", "volume", "beyond light time: median", "95th", "99th"),
        (
            (c.service_class, str(c.accepted), str(c.delivered), format_size(c.volume), *map(_time, c.excess))
            for c in judgement.classes
        ),
    )


def _gantt(spec: RunSpec, outcome: Outcome) -> go.Figure:
    """Contacts as bars, one row a direction; each bundle that crossed is a tick in its class's colour."""
    figure = go.Figure()
    rows = {f"{s} → {t}": (s, t) for s, t in spec.plan.pairs()}
    end = min(outcome.elapsed, spec.plan.end)
    up = real_contacts(spec.plan, outcome.incidents)
    for name, pair in rows.items():
        bars = [c for c in up if (c.source, c.target) == pair and c.start < end]
        figure.add_bar(
            y=[name] * len(bars),
            x=[(min(c.end, end) - c.start) / 3600 for c in bars],
            base=[c.start / 3600 for c in bars],
            orientation="h",
            marker_color="#d6eaf8",
            showlegend=False,
            hovertemplate="%{base:.3f} h, %{x:.3f} h long<extra>" + name + "</extra>",
        )
    classes = {r.bundle: r.details["class"] for r in outcome.records if r.step == Step.ACCEPTED}
    for service_class, colour in _COLOURS.items():
        hops = [
            r
            for r in outcome.records
            if r.step == Step.RECEIVED and classes.get(r.bundle) == service_class and r.details.get("peer")
        ]
        figure.add_scattergl(
            x=[r.time / 3600 for r in hops],
            y=[f"{r.details['peer']} → {r.node}" for r in hops],
            mode="markers",
            marker={"symbol": "line-ns-open", "size": 9, "color": colour},
            name=service_class,
        )
    for incident in outcome.incidents:
        figure.add_vrect(
            x0=incident.start / 3600,
            x1=incident.end / 3600,
            fillcolor="#c0392b",
            opacity=0.08,
            line_width=0,
            annotation_text=f"{incident.subject}: {incident.kind.replace('_', ' ')}",
        )
    figure.update_layout(height=120 + 24 * len(rows), barmode="overlay", legend={"orientation": "h", "y": 1.05})
    figure.update_xaxes(title="hours since the start", range=[0, end / 3600])
    figure.update_yaxes(autorange="reversed")
    return figure


def _latency(judgement: Judgement) -> go.Figure:
    """Cumulative share of bundles by latency beyond light time, one line a class."""
    figure = go.Figure()
    for service_class, colour in _COLOURS.items():
        chosen = [life for life in judgement.lives.values() if life.service_class == service_class]
        late = sorted(max(excess(life, judgement.light), 0.01) for life in chosen if life.delivered is not None)
        if late:
            figure.add_scatter(
                x=late,
                y=[100 * (i + 1) / len(chosen) for i in range(len(late))],
                mode="lines",
                line={"color": colour, "shape": "hv"},
                name=service_class,
            )
    figure.update_layout(height=380)
    figure.update_xaxes(type="log", title="seconds beyond light time")
    figure.update_yaxes(title="% of accepted bundles", range=[0, 101])
    return figure


def _storage(records: list[Record], nodes: list[str]) -> go.Figure:
    """Bytes in each node's store over time, as the ledger tells."""
    sizes = {r.bundle: int(r.details["size"]) for r in records if r.step == Step.ACCEPTED}
    figure = go.Figure()
    for node in nodes:
        held, times, values = 0, [0.0], [0.0]
        for record in sorted((r for r in records if r.node == node), key=lambda r: r.time):
            if record.step in {Step.ACCEPTED, Step.RECEIVED}:
                held += sizes.get(record.bundle, 0)
            elif record.step in {Step.FORWARDED, Step.DELIVERED, Step.EXPIRED, Step.DROPPED}:
                held -= sizes.get(record.bundle, 0)
            times.append(record.time / 3600)
            values.append(held / 1e6)
        figure.add_scattergl(x=times, y=values, mode="lines", line={"shape": "hv"}, name=node)
    figure.update_layout(height=360)
    figure.update_xaxes(title="hours since the start")
    figure.update_yaxes(title="MB")
    return figure


def _late(judgement: Judgement) -> str:
    """The bundles that were not delivered, and the latest of each class with the stores they waited in."""
    missing = [life for life in judgement.lives.values() if life.delivered is None]
    body = f"<p>{len(missing)} of {len(judgement.lives)} accepted bundles were not delivered.</p>"
    rows: list[Life] = missing[:50]
    for service_class in _COLOURS:
        arrived = [x for x in judgement.lives.values() if x.service_class == service_class and x.delivered is not None]
        rows += sorted(arrived, key=lambda x: -excess(x, judgement.light))[:3]
    return body + _table(
        ("bundle", "flow", "fate", "created", "latency", "way (hours at which each store took it)"),
        (
            (
                html.escape(life.bundle),
                html.escape(life.flow),
                life.fate + (f" in {', '.join(life.holders)}" if life.fate == "stored" else ""),
                f"{life.created / 3600:.3f} h",
                _time(life.delivered - life.created) if life.delivered is not None else "-",
                html.escape(" → ".join(f"{node} {time / 3600:.3f}" for node, time in life.hops)),
            )
            for life in rows
        ),
    )


def _links(outcome: Outcome) -> str:
    return _table(
        ("direction", "frames in", "delivered", "queued", "in flight", "dropped", "unaccounted"),
        (
            (
                html.escape(f"{f.source} → {f.target}"),
                str(f.entered),
                str(f.delivered),
                str(f.queued),
                str(f.in_flight),
                html.escape(", ".join(f"{n} {reason}" for reason, n in f.dropped.items() if n) or "0"),
                str(f.unaccounted),
            )
            for f in outcome.frames
        ),
    )


def _fidelity(spec: RunSpec, outcome: Outcome) -> str:
    budget = spec.scenario.fidelity.model_dump()
    rows = [
        (html.escape(name), f"{value:.6g}", f"{budget[name]:g}" if name in budget else "")
        for name, value in outcome.fidelity.items()
    ]
    if not rows:
        return "<p>The virtual world computes every instant exactly: there is nothing to be late for.</p>"
    return _table(("figure (host seconds, or a count)", "measured", "budget"), rows)


def _provenance(spec: RunSpec, verdict: dict[str, Any]) -> str:
    rows = [
        ("scenario", html.escape(spec.scenario.name)),
        ("topology", html.escape(spec.topology.name)),
        ("start", spec.plan.epoch),
        ("world", html.escape(str(verdict["world"]))),
        ("rate", str(verdict["rate"] or "virtual time")),
        ("seed", str(spec.seed)),
        ("marsnet", html.escape(verdict["version"])),
        ("machine", html.escape(str(verdict.get("machine", "")))),
        ("ledger", f"<code>{verdict['ledger_hash']}</code>"),
    ]
    return _table(("what", "value"), rows)
