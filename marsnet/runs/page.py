"""Pieces of a self-contained HTML page: frame, sections, tables and figures. Nothing is fetched from anywhere."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from marsnet.units import format_duration

COLOURS = {"critical": "#c0392b", "expedited": "#e08e0b", "normal": "#2471a3", "bulk": "#7f8c8d"}
"""Of the classes of service."""
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1180px;padding:24px;color:#1b2631;background:#fff}
h1{margin:0 0 4px}h2{margin:36px 0 8px;border-bottom:1px solid #d5d8dc;padding-bottom:4px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:5px 10px;border-bottom:1px solid #eaecee;vertical-align:top}
th{background:#f4f6f7}.pass{color:#1e8449;font-weight:600}.fail{color:#c0392b;font-weight:600}
.badge{display:inline-block;padding:6px 18px;border-radius:6px;color:#fff;font-size:20px;font-weight:700}
.sub{color:#566573}.warn{background:#fef5e7;border-left:4px solid #e08e0b;padding:8px 12px;margin:8px 0}
"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page; its parts are HTML."""
    path.write_text(
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(parts)}</body></html>",
        encoding="utf-8",
    )


def head(title: str, word: str, colour: str, below: str) -> str:
    """The heading, with one word on a coloured ground and a line of HTML below it."""
    return (
        f"<h1>{html.escape(title)} <span class=badge style='background:{colour}'>{html.escape(word)}</span></h1>"
        f"<div class=sub>{below}</div>"
    )


def section(title: str, *bodies: str) -> str:
    """A heading with HTML below it."""
    return f"<h2>{html.escape(title)}</h2>{''.join(bodies)}"


def warning(text: str) -> str:
    """A line that stands out."""
    return f"<div class=warn>{html.escape(text)}</div>"


def figure(drawn: go.Figure) -> str:
    """A Plotly figure."""
    margin = {"l": 120, "r": 20, "t": drawn.layout.margin.t or 30, "b": 45}
    drawn.update_layout(margin=margin, template="plotly_white", font={"size": 13}, showlegend=drawn.layout.showlegend)
    return str(drawn.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False}))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def mark(passed: bool) -> str:
    """`pass` or `FAIL`, coloured."""
    return "<span class=pass>pass</span>" if passed else "<span class=fail>FAIL</span>"


def seconds(value: float) -> str:
    """A duration, or a dash where there is none."""
    return format_duration(value) if math.isfinite(value) else "-"
