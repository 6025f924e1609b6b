"""A comparison as a table for a terminal and as a page."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import plotly.graph_objects as go
from rich import box
from rich.table import Table
from rich.text import Text

from marsnet.runs.compare import Comparison, ContactVolume, Group, Pair
from marsnet.runs.page import COLOURS, figure, head, mark, seconds, section, table, warning, write_page
from marsnet.units import format_duration, format_size

_HEADER = ("accepted", "delivered", "median", "90th", "99th", "hops", "same way")
_LISTED = 50
"""Bundles and contacts that a page lists."""


def groups_table(title: str, groups: Sequence[Group]) -> Table:
    """Classes or flows of both runs, for a terminal: latencies of the first, and differences in % of light time."""
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("", no_wrap=True)
    shown.add_column("name", no_wrap=True)
    for name in _HEADER:
        shown.add_column(name, justify="right", no_wrap=True)
    for group in groups:
        shown.add_row(Text("differs", "bold red") if _differs(group) else Text("same", "green"), *_brief(group))
    return shown


def contacts_table(comparison: Comparison, most: int = 10) -> Table:
    """The contacts whose volumes differ most, for a terminal."""
    shown = Table(title="Volume per contact", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in ("direction", "start", "end", "first", "second", "difference"):
        shown.add_column(name, justify="left" if name == "direction" else "right", no_wrap=True)
    for contact in _uneven(comparison)[:most]:
        shown.add_row(*_volume_cells(contact, "{} -> {}"))
    return shown


def told(pair: Pair) -> list[str]:
    """A bundle in both runs, in words."""
    lines = [f"bundle {pair.number} of {pair.flow}, created at {format_duration(pair.some.created)}:"]
    for name, life, way, latency in zip(("first", "second"), pair.lives, pair.ways, pair.latencies, strict=True):
        fate = "never accepted" if life is None else life.fate
        after = f" after {format_duration(latency)}" if math.isfinite(latency) else ""
        lines.append(f"  {name} run: {fate}{after}" + (f", by {', '.join(way)}" if way else ""))
    return lines


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a comparison as a page."""
    first, second = comparison.runs
    word, colour = ("HOLDS", "#1e8449") if comparison.holds else ("DIVERGES", "#c0392b")
    name = first.verdict["scenario"]
    below = f"{html.escape(first.title)}, against {html.escape(second.title)}"
    parts = [head(name, word, colour, below), *map(warning, comparison.beyond), *sections(comparison)]
    write_page(path, f"{name}: two runs", parts)


def sections(comparison: Comparison) -> list[str]:
    """The sections of a page that shows a comparison."""
    diverging = comparison.divergent
    first = "<br>".join(html.escape(line) for line in told(diverging[0])) if diverging else ""
    return [
        section("Classes", _groups(comparison.classes)),
        section("Flows", _groups(comparison.flows)),
        section("Latency", figure(_latency(comparison))),
        section(
            "Bundles that diverge",
            f"<p>{len(diverging)} of {len(comparison.pairs)} differ in fate, or in latency by more than "
            f"{100 * comparison.tolerance.p99:g} % of light time. {'The first:' if first else ''}</p><p>{first}</p>",
            _bundles(diverging[:_LISTED]),
        ),
        section("Volume per contact", figure(_volumes(comparison)), _contacts(_uneven(comparison)[:_LISTED])),
    ]


def _differs(group: Group) -> bool:
    return bool(group.beyond) or group.delivered[0] != group.delivered[1] or any(group.only)


def _cells(group: Group, percentiles: Iterable[str]) -> list[str]:
    return [
        group.name,
        _two(group.accepted),
        _two(group.delivered),
        *percentiles,
        "/".join(f"{value:.2f}" for value in group.hops),
        "-" if math.isnan(group.same_way) else f"{100 * group.same_way:.1f} %",
    ]


def _brief(group: Group) -> list[str]:
    """For a terminal of 120 columns."""
    told = []
    for index in range(3):
        first, difference = group.latency[0][index], group.difference(index)
        apart = f" {100 * difference:+.2f} %" if math.isfinite(difference) else ""
        told.append((f"{first:.1f} s" if math.isfinite(first) else "-") + apart)
    return _cells(group, told)


def _two(values: tuple[int, int]) -> str:
    return f"{values[0]}/{values[1]}"


def _percentile(group: Group, index: int) -> str:
    values = [latency[index] for latency in group.latency]
    difference = group.difference(index)
    apart = f" ({100 * difference:+.2f} %)" if math.isfinite(difference) else ""
    return " / ".join(f"{value:.1f}" if math.isfinite(value) else "-" for value in values) + " s" + apart


def _uneven(comparison: Comparison) -> list[ContactVolume]:
    uneven = [contact for contact in comparison.contacts if contact.volume[0] != contact.volume[1]]
    return sorted(uneven, key=lambda c: (-abs(c.volume[1] - c.volume[0]), c.start))


def _volume_cells(contact: ContactVolume, direction: str) -> list[str]:
    first, second = contact.volume
    return [
        direction.format(contact.source, contact.target),
        format_duration(contact.start),
        format_duration(contact.end),
        format_size(first),
        format_size(second),
        ("-" if second < first else "+") + format_size(abs(second - first)),
    ]


def _groups(groups: Iterable[Group]) -> str:
    header = ("name", *_HEADER, "within tolerance")
    return table(
        header,
        (
            [
                *map(html.escape, _cells(group, (_percentile(group, index) for index in range(3)))),
                mark(not _differs(group)),
            ]
            for group in groups
        ),
    )


def _bundles(pairs: Iterable[Pair]) -> str:
    return table(
        ("flow", "number", "created", "fate", "latency", "way in the first run", "in the second"),
        (
            (
                html.escape(pair.flow),
                str(pair.number),
                format_duration(pair.some.created),
                " / ".join(life.fate if life else "never accepted" for life in pair.lives),
                " / ".join(map(seconds, pair.latencies)),
                *(html.escape(" → ".join(way)) for way in pair.ways),
            )
            for pair in pairs
        ),
    )


def _contacts(contacts: Iterable[ContactVolume]) -> str:
    rows = ([html.escape(cell) for cell in _volume_cells(contact, "{} → {}")] for contact in contacts)
    return table(("direction", "start", "end", "first run", "second run", "difference"), rows)


def _latency(comparison: Comparison) -> go.Figure:
    """Cumulative shares of the latency of both runs, one colour a class, the second run dashed."""
    drawn = go.Figure()
    for group in comparison.classes:
        for run, dash in ((0, "solid"), (1, "dash")):
            late = sorted(
                pair.latencies[run]
                for pair in comparison.pairs
                if pair.some.service_class == group.name and pair.arrived[run]
            )
            drawn.add_scatter(
                x=late,
                y=[100 * (i + 1) / max(1, group.accepted[run]) for i in range(len(late))],
                mode="lines",
                line={"color": COLOURS[group.name], "shape": "hv", "dash": dash},
                name=f"{group.name}, {'first' if run == 0 else 'second'} run",
            )
    drawn.update_layout(height=380)
    drawn.update_xaxes(type="log", title="seconds from creation to delivery")
    drawn.update_yaxes(title="% of accepted bundles", range=[0, 101])
    return drawn


def _volumes(comparison: Comparison) -> go.Figure:
    """One mark a contact: bytes in the first run against bytes in the second."""
    drawn = go.Figure()
    drawn.add_scatter(
        x=[contact.volume[0] for contact in comparison.contacts],
        y=[contact.volume[1] for contact in comparison.contacts],
        text=[f"{c.source} → {c.target}, {c.start / 3600:.2f} h" for c in comparison.contacts],
        mode="markers",
        showlegend=False,
    )
    largest = max((max(contact.volume) for contact in comparison.contacts), default=1)
    drawn.add_scatter(x=[0, largest], y=[0, largest], mode="lines", line={"color": "#d5d8dc"}, showlegend=False)
    drawn.update_layout(height=380)
    drawn.update_xaxes(title="bytes in the first run")
    drawn.update_yaxes(title="bytes in the second")
    return drawn
