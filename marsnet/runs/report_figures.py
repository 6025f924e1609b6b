"""The figures of a run's report. Each is bounded in size, whatever the run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from marsnet.dtn.node.ledger import Record, Step
from marsnet.runs.judge import Judgement
from marsnet.runs.lives import Life
from marsnet.runs.page import COLOURS
from marsnet.runs.report_axes import duration_axis, shade, time_unit
from marsnet.runs.stays import Stay
from marsnet.worlds.availability import real_contacts
from marsnet.worlds.spec import Outcome, RunSpec

_TICKS = 20_000
"""Bundles drawn one by one; more of them share marks."""
_LEAST = 0.01
"""Seconds at which a logarithmic axis of what is beyond light time begins."""
_PREFIXES = (("G", 1e9), ("M", 1e6), ("k", 1e3))
_HUES, _DASHES = 10, ("solid", "dot", "dash", "dashdot")
"""Colours that Plotly has before it begins again, and what then tells lines apart."""
_POINTS = 2000
"""Points of a line. Figures are given arrays: Plotly looks at each item of a list, copies it, and writes it as text."""


def contacts_and_traffic(spec: RunSpec, outcome: Outcome, judgement: Judgement) -> go.Figure:
    """Contacts as bars, one row a direction; what a bundle crossed is a tick in its class's colour; faults shaded."""
    drawn = go.Figure()
    end, unit = min(outcome.elapsed, spec.plan.end), time_unit(outcome.elapsed)
    rows = [f"{source} → {target}" for source, target in spec.plan.pairs()]
    bars = [c for c in real_contacts(spec.plan, outcome.incidents) if c.start < end]
    drawn.add_bar(
        y=[f"{c.source} → {c.target}" for c in bars],
        x=np.array([(min(c.end, end) - c.start) / unit.seconds for c in bars]),
        base=np.array([c.start / unit.seconds for c in bars]),
        customdata=np.array([c.rate / 1e3 for c in bars]),
        orientation="h",
        marker_color="#d6eaf8",
        name="contact",
        hovertemplate=f"%{{y}}: from %{{base:.3f}} {unit.short} for %{{x:.3f}} {unit.short} at "
        "%{customdata:.0f} kbit/s<extra></extra>",
    )
    crossed = [
        (record, judgement.lives[record.bundle])
        for record in outcome.records
        if record.step == Step.RECEIVED and record.details.get("peer") and record.bundle in judgement.lives
    ]
    shared = len(crossed) > _TICKS
    for name, colour in COLOURS.items():
        marks: dict[tuple[float, str], list[int]] = defaultdict(list)
        for record, life in crossed:
            if life.service_class == name:
                at = round(1000 * record.time / end) * end / 1000 if shared else record.time
                marks[at / unit.seconds, f"{record.details['peer']} → {record.node}"].append(life.size)
        if marks:
            drawn.add_scattergl(
                x=np.array([x for x, _ in marks]),
                y=[y for _, y in marks],
                customdata=np.array([[len(sizes), sum(sizes) / 1e3] for sizes in marks.values()]),
                mode="markers",
                marker={"symbol": "line-ns-open", "size": 9, "color": colour},
                name=name,
                hovertemplate=f"%{{y}}, %{{x:.3f}} {unit.short}: "
                "%{customdata[0]} bundles, %{customdata[1]:.1f} kB<extra>" + name + "</extra>",
            )
    drawn.update_layout(height=110 + 24 * len(rows), barmode="overlay")
    shade(drawn, outcome.incidents, outcome.elapsed)
    drawn.update_xaxes(title=f"{unit.name} since the start", range=[0, end / unit.seconds])
    drawn.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=rows)
    return drawn


def latency_against_light(judgement: Judgement) -> go.Figure:
    """Cumulative shares of the latency of each class; the band is the light time that none can beat."""
    drawn = go.Figure()
    lights: list[float] = []
    for name, chosen in _by_class(judgement).items():
        late = sorted(life.delivered - life.created for life in chosen if life.delivered is not None)
        times = (judgement.light.between(x.source, x.destination, x.created) for x in chosen)
        lights += [light for light in times if math.isfinite(light)]
        _cumulative(drawn, name, late, len(chosen))
    if lights:
        x1 = max(*lights, 1.002 * min(lights))
        drawn.add_vrect(x0=min(lights), x1=x1, fillcolor="#1b2631", opacity=0.25, line_width=0)
    took = [x.delivered - x.created for x in judgement.lives.values() if x.delivered is not None]
    least = min(lights) if lights and min(lights) > 0 else _LEAST
    most = max([1.2 * least, *took, *lights])
    return _shares(drawn, "from creation to delivery (grey: light time)", 0.9 * least, 1.1 * most)


def latency_beyond_light(judgement: Judgement, allowed: Mapping[str, float]) -> go.Figure:
    """The same beyond light time, with what the requirements allow each class as a dotted line."""
    drawn = go.Figure()
    ends: list[float] = []
    for name, chosen in _by_class(judgement).items():
        late = sorted(
            max(x.delivered - x.created - judgement.light.between(x.source, x.destination, x.created), _LEAST)
            for x in chosen
            if x.delivered is not None
        )
        ends += late[:1] + late[-1:]
        _cumulative(drawn, name, late, len(chosen))
        if math.isfinite(limit := allowed.get(name, math.inf)) and limit > 0:
            drawn.add_vline(x=limit, line={"color": COLOURS[name], "dash": "dot"})
            ends.append(limit)
    return _shares(
        drawn,
        "beyond light time (dotted: what a requirement allows)",
        0.8 * min(ends, default=_LEAST),
        1.2 * max(ends, default=1.0),
    )


def stores(spec: RunSpec, outcome: Outcome, judgement: Judgement, lain: Iterable[Stay]) -> go.Figure:
    """Payload in each node's store over time."""
    events: dict[str, list[tuple[float, float]]] = {node: [] for node in spec.topology.nodes}
    for stay in lain:
        life = judgement.lives.get(stay.whole)
        if life is not None:
            first, last = life.part(stay.bundle)
            size = float(last - first)
            events.setdefault(stay.node, []).extend(((stay.begin, size), (stay.end, -size)))
    return _levels(events, outcome, "in the store", octets=True)


def queues(spec: RunSpec, outcome: Outcome, judgement: Judgement, lain: Iterable[Stay]) -> go.Figure:
    """Bundles that wait in each node's store to be handed on."""
    events: dict[str, list[tuple[float, float]]] = {node: [] for node in spec.topology.nodes}
    for stay in lain:
        life = judgement.lives.get(stay.whole)
        if life is not None and stay.node != life.destination:
            events.setdefault(stay.node, []).extend(((stay.begin, 1.0), (stay.end, -1.0)))
    return _levels(events, outcome, "bundles waiting")


def _by_class(judgement: Judgement) -> dict[str, list[Life]]:
    found: dict[str, list[Life]] = {name: [] for name in COLOURS}
    for life in judgement.lives.values():
        found.setdefault(life.service_class, []).append(life)
    return {name: chosen for name, chosen in found.items() if chosen}


def _cumulative(drawn: go.Figure, name: str, late: Sequence[float], accepted: int) -> None:
    """A line that ends below 100 % where bundles are missing, thinned out to a bounded number of points."""
    if late:
        picked = sorted({*np.linspace(0, len(late) - 1, min(len(late), _POINTS)).round().astype(int).tolist()})
        drawn.add_scatter(
            x=np.array([late[i] for i in picked]),
            y=np.array([100 * (i + 1) / accepted for i in picked]),
            mode="lines+markers" if len(picked) < 30 else "lines",
            line={"color": COLOURS.get(name), "shape": "hv"},
            name=name,
        )


def _shares(drawn: go.Figure, title: str, least: float, most: float) -> go.Figure:
    drawn.update_layout(height=340, legend={"orientation": "h", "y": 1.12}, showlegend=True)
    duration_axis(drawn, title, least, most)
    drawn.update_yaxes(title="% of accepted bundles", range=[0, 101])
    return drawn


def _levels(
    events: Mapping[str, list[tuple[float, float]]], outcome: Outcome, title: str, *, octets: bool = False
) -> go.Figure:
    """A line for each node: the sum of what came less what went. Thinned lines keep the peak of each piece."""
    elapsed, unit = outcome.elapsed, time_unit(outcome.elapsed)
    drawn = go.Figure()
    lines: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for node, changes in events.items():
        # What changes at one instant, as a bundle into its fragments, changes at once.
        steps: dict[float, float] = defaultdict(float)
        for at, amount in sorted(changes):
            if at <= elapsed:
                steps[at] += amount
        times = np.array([0.0, *steps, elapsed]) / unit.seconds
        levels = np.concatenate(([0.0], np.cumsum(list(steps.values())), [sum(steps.values())])).round(3)
        if len(times) > _POINTS:
            pieces = np.array_split(np.arange(len(times)), _POINTS // 2)
            picked = sorted({i for p in pieces for i in (int(p[levels[p].argmax()]), int(p[-1]))})
            times, levels = times[picked], levels[picked]
        lines[node] = times, levels
    peak = max((float(levels.max()) for _, levels in lines.values()), default=0.0)
    prefix, factor = next(((p, f) for p, f in _PREFIXES if peak >= f), ("", 1.0)) if octets else ("", 1.0)
    for place, (node, (times, levels)) in enumerate(lines.items()):
        line = {"shape": "hv", "dash": _DASHES[place // _HUES % len(_DASHES)]}
        drawn.add_scatter(x=times, y=levels / factor, mode="lines", line=line, name=node)
    drawn.update_layout(height=320, showlegend=True)
    # A legend of many nodes takes another row for every eight.
    shade(drawn, outcome.incidents, elapsed)
    drawn.update_layout(margin={"t": drawn.layout.margin.t + 20 * (len(lines) // 8)})
    drawn.update_xaxes(title=f"{unit.name} since the start", range=[0, elapsed / unit.seconds])
    drawn.update_yaxes(title=f"{prefix}B {title}" if octets else title, rangemode="tozero")
    return drawn


def carried(records: Iterable[Record], lives: Mapping[str, Life]) -> dict[tuple[str, str], tuple[int, int]]:
    """Bundles and bytes of payload that each direction carried."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for record in records:
        peer = record.details.get("peer")
        if record.step == Step.RECEIVED and peer and record.bundle in lives:
            bundles, octets = found.get((str(peer), record.node), (0, 0))
            found[str(peer), record.node] = bundles + 1, octets + lives[record.bundle].size
    return found
