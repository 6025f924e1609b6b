"""Axes that a person reads: mission time in a fitting unit, durations in words, faults whose labels do not overlap."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import plotly.graph_objects as go

from marsnet.units import format_duration
from marsnet.worlds.availability import union
from marsnet.worlds.spec import Incident

_SHADED = 500
"""Times that are shaded at most."""
_LANES = 6
"""Rows of labels above a figure at most."""
_ROW, _LETTER, _WIDE = 14, 5.6, 1020
"""Pixels: a row of labels, a letter of one, the width of a figure on the page."""
_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LEVELS: tuple[dict[str, tuple[float, ...]], ...] = (
    {
        "ms": (1, 2, 5, 10, 20, 50, 100, 200, 500),
        "s": (1, 2, 5, 10, 20, 30),
        "min": (1, 2, 5, 10, 15, 20, 30, 45),
        "h": (1, 1.5, 2, 3, 4, 6, 9, 12, 18),
        "d": (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000),
    },
    {
        "ms": (1, 10, 100),
        "s": (1, 10, 30),
        "min": (1, 5, 10, 30),
        "h": (1, 3, 6, 12),
        "d": (1, 3, 10, 30, 100, 300, 1000),
    },
    {"ms": (1, 10, 100), "s": (1, 10), "min": (1, 10), "h": (1, 6), "d": (1, 10, 100, 1000)},
)
"""Ticks by unit, the finest first."""
_FEW, _MANY = 5, 13


class TimeUnit(NamedTuple):
    """The unit of a mission-time axis.

    Attributes:
        name: in the plural, as the axis says it.
        short: its symbol.
        seconds: that it has.
    """

    name: str
    short: str
    seconds: float


def time_unit(elapsed: float) -> TimeUnit:
    """The unit in which a run of so many seconds is drawn."""
    if elapsed < 7200:
        return TimeUnit("minutes", "min", 60.0)
    return TimeUnit("hours", "h", 3600.0) if elapsed <= 4 * 86400 else TimeUnit("days", "d", 86400.0)


def duration_axis(drawn: go.Figure, title: str, least: float, most: float, *, upright: bool = False) -> None:
    """Make an axis a logarithmic one of durations in seconds, with ticks in words.

    Args:
        drawn: the figure.
        title: of the axis.
        least: its lower end, more than 0.
        most: its upper end.
        upright: the vertical axis, in place of the horizontal one.
    """
    levels = [_ticks(level, least, most) for level in _LEVELS]
    ticks = next((found for found in levels if len(found) <= _MANY), levels[-1])
    if len(ticks) < _FEW:
        ticks = [(value, format_duration(value)) for value in _even(least, most)]
    # The range of a logarithmic axis is given in powers of ten.
    update = drawn.update_yaxes if upright else drawn.update_xaxes
    update(
        type="log",
        title=title,
        range=[math.log10(least), math.log10(most)],
        tickvals=[value for value, _ in ticks],
        ticktext=[text for _, text in ticks],
    )


def _ticks(level: dict[str, tuple[float, ...]], least: float, most: float) -> list[tuple[float, str]]:
    """Seconds and words of a level's ticks within a range."""
    every = ((value * _SECONDS[name], f"{value:g} {name}") for name, values in level.items() for value in values)
    return [tick for tick in every if least <= tick[0] <= most]


def _even(least: float, most: float) -> list[float]:
    """A few round values at even distances."""
    raw = (most - least) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(least / step)
    return [step * i for i in range(first, math.floor(most / step) + 1)]


def shade(drawn: go.Figure, incidents: Iterable[Incident], elapsed: float) -> None:
    """Shade the times of faults, and label each fault once, in rows above the figure.

    Args:
        drawn: the figure, whose horizontal axis is mission time in its `time_unit` from 0 to the end.
        incidents: in order of their starts.
        elapsed: mission seconds of the run.
    """
    unit = time_unit(elapsed).seconds
    times: dict[str, list[float]] = {}
    spans: list[tuple[float, float]] = []
    for incident in incidents:
        start = incident.start / unit
        spans.append((start, min(incident.end, elapsed) / unit))
        kind = "planned " * incident.planned + incident.kind.replace("_", " ")
        times.setdefault(f"{incident.name or incident.subject}: {kind}", []).append(start)
    # Each time once, however many faults it has: else many of them hide what they are drawn over.
    for start, end in union(spans)[:_SHADED]:
        drawn.add_vrect(x0=start, x1=end, fillcolor="#c0392b", opacity=0.08, line_width=0)
    rows: list[float] = []
    lost = 0
    for name, starts in times.items():
        label = name if len(starts) == 1 else f"{name} ({len(starts)} times)"
        wide = _LETTER * len(label) / _WIDE
        left = max(0.0, min(starts[0] * unit / max(elapsed, unit), 1 - wide))
        row = next((i for i, end in enumerate(rows) if end <= left), len(rows))
        if row == _LANES:
            lost += 1
            continue
        rows[row : row + 1] = [left + wide + 0.01]
        _label(drawn, left, row, label)
    if lost:
        rows.append(0.0)
        _label(drawn, 0.0, len(rows) - 1, f"and {lost} more, which the table of faults names")
    top = 8 + _ROW * len(rows)
    drawn.update_layout(margin={"t": 34 + top}, legend={"y": 1.0, "yanchor": "bottom"})
    drawn.update_layout(height=drawn.layout.height + top)
    room = drawn.layout.height - drawn.layout.margin.t - 45
    drawn.update_layout(legend={"orientation": "h", "y": 1 + top / room})


def _label(drawn: go.Figure, left: float, row: int, text: str) -> None:
    drawn.add_annotation(
        x=left, y=1, xref="paper", yref="paper", xanchor="left", yanchor="bottom", yshift=2 + _ROW * row,
        text=text, showarrow=False, font={"size": 10, "color": "#922b21"},
    )  # fmt: skip
