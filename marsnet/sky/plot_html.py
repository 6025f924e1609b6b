"""Pictures of a plan as one HTML page that needs no network, with plotly."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
from plotly.subplots import make_subplots

from marsnet.model.topology import Topology
from marsnet.plan.files import replacing
from marsnet.plan.types import ContactPlan
from marsnet.sky import plot_data
from marsnet.sky.plot_data import Curve, Lane

_LANE = 18  # pixels
_PANEL = 240
_GAP = 75
_MARS = 3.39619  # megametres


def draw(plan: ContactPlan, path: Path, topology: Topology | None, base_dir: Path) -> None:
    """Draw a plan into a self-contained HTML file.

    Raises:
        InputError: when the file cannot be written.
    """
    name = plan.meta.get("topology", "contact plan")
    figures = [_over_time(plan, f"{name} from {plan.epoch}")]
    if topology is not None:
        figures.append(_views(plan, topology, base_dir))
    with replacing(path) as out:
        out.write(
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(name)}</title></head><body>\n'
        )
        for number, figure in enumerate(figures):
            out.write(
                plotly.io.to_html(
                    figure,
                    include_plotlyjs=number == 0,
                    full_html=False,
                    config={"displaylogo": False, "responsive": True},
                )
            )
        out.write("\n</body></html>\n")


def _text(name: str) -> str:
    return name.replace("&", "&amp;").replace("<", "&lt;")


def _over_time(plan: ContactPlan, title: str) -> Any:
    rows = plot_data.lanes(plan)
    panels = plot_data.panels(plan)
    heights = [max(_LANE * len(rows), 120), *(_PANEL for _ in panels)]
    total = sum(heights)
    figure = make_subplots(
        rows=len(heights),
        cols=1,
        shared_xaxes=True,
        row_heights=[height / total for height in heights],
        vertical_spacing=_GAP / (total + _GAP * len(panels)),
        subplot_titles=["contacts, at the transmitter", *(panel.title for panel in panels)],
    )
    for trace in _bars(plan, rows):
        figure.add_trace(trace, row=1, col=1)
    figure.update_yaxes(
        row=1, col=1, autorange="reversed", tickvals=list(range(len(rows))), ticktext=[lane.label for lane in rows]
    )
    colours = plot_data.colours(plan)
    named: set[str] = set()
    for number, panel in enumerate(panels, start=2):
        for curve in panel.curves:
            figure.add_trace(_line(plan, curve, panel.unit, colours, named), row=number, col=1)
        figure.update_yaxes(row=number, col=1, type=panel.scale)
    ends = plot_data.instants(plan, np.array([plan.start, plan.end])).astype(str)
    figure.update_xaxes(range=list(ends), showticklabels=True)
    figure.update_layout(
        title={"text": title, "x": 0.01},
        template="plotly_white",
        height=total + _GAP * len(panels) + 130,
        hovermode="closest",
        margin={"l": 170, "r": 20, "t": 90, "b": 40},
    )
    figure.update_annotations(x=0.0, xanchor="left", font_size=13)
    return figure


def _bars(plan: ContactPlan, rows: list[Lane]) -> Iterable[Any]:
    """One trace a rate class: plotly slows down with the number of traces, not of points."""
    shades: dict[int, tuple[list[float], list[float], list[str]]] = {}
    for index, lane in enumerate(rows):
        for start, end, shade in lane.bars:
            time, level, label = shades.setdefault(shade, ([], [], []))
            time += [start, end, end]
            level += [index, index, float("nan")]
            label += [lane.label] * 3
    for shade, (time, level, label) in sorted(shades.items()):
        _, name, colour = plot_data.RATE_CLASSES[shade]
        yield go.Scattergl(
            x=plot_data.instants(plan, np.array(time)),
            y=level,
            mode="lines",
            line={"color": colour, "width": 0.6 * _LANE},
            name=name,
            text=label,
            hovertemplate="%{text}<br>%{x}<extra>" + name + "</extra>",
            legendgroup="rates",
            legendgrouptitle_text="rate of a contact",
        )


def _line(plan: ContactPlan, curve: Curve, unit: float, colours: dict[str, str], named: set[str]) -> Any:
    first = curve.source not in named
    named.add(curve.source)
    return go.Scatter(
        x=plot_data.instants(plan, curve.time),
        y=curve.value * unit,
        mode="lines",
        line={"color": colours.get(curve.source, "#666666"), "width": 1.5},
        name=f"from {curve.source}",
        legendgroup=curve.source,
        showlegend=first,
        hovertemplate=f"{curve.label}<br>%{{x}}<br>%{{y:.6g}}<extra></extra>",
    )


def _views(plan: ContactPlan, topology: Topology, base_dir: Path) -> Any:
    figure = make_subplots(
        rows=1,
        cols=2,
        subplot_titles=[
            "Mars from above its north pole, at the start, thousand km",
            "Earth and Mars from above the ecliptic, au (filled: start, open: end)",
        ],
    )
    colours = plot_data.colours(plan)
    figure.add_shape(
        type="circle",
        x0=-_MARS,
        y0=-_MARS,
        x1=_MARS,
        y1=_MARS,
        fillcolor="#d9a079",
        line_color="#a86b45",
        layer="below",
    )
    for track in plot_data.tracks(plan, topology, base_dir):
        colour = colours.get(track.name, "#666666")
        if not track.site:
            figure.add_trace(_path(track.path, colour, track.name), row=1, col=1)
        symbol = "triangle-up" if track.site else "circle"
        figure.add_trace(_mark(track.place, colour, track.name, symbol), row=1, col=1)
    found = plot_data.planets(plan)
    figure.add_trace(_mark(np.zeros(2), "#f5b301", "Sun", "circle"), row=1, col=2)
    for name, path, places, colour in (
        ("Earth", found.earth, found.earth_at, "#1f77b4"),
        ("Mars", found.mars, found.mars_at, "#b4552d"),
    ):
        figure.add_trace(_path(path, colour, name), row=1, col=2)
        figure.add_trace(_mark(places[:, 0], colour, name, "circle"), row=1, col=2)
        figure.add_trace(_mark(places[:, 1], colour, "", "circle-open"), row=1, col=2)
    figure.update_yaxes(scaleanchor="x", row=1, col=1)
    figure.update_yaxes(scaleanchor="x2", row=1, col=2)
    figure.update_layout(template="plotly_white", height=620, showlegend=False)
    return figure


def _path(path: plot_data.Array, colour: str, name: str) -> Any:
    return go.Scatter(x=path[0], y=path[1], mode="lines", line={"color": colour, "width": 1.2}, name=name)


def _mark(place: plot_data.Array, colour: str, name: str, symbol: str) -> Any:
    return go.Scatter(
        x=[place[0]],
        y=[place[1]],
        mode="markers+text",
        marker={"color": colour, "size": 11, "symbol": symbol},
        text=[name],
        textposition="top right",
        textfont={"color": "#222222"},
        name=name,
        hoverinfo="name",
    )
