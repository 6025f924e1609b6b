"""What came out of a campaign: a table as Parquet, and a page that compares its runs."""

from __future__ import annotations

import html
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import plotly.graph_objects as go

from marsnet.runs.campaign import Axis
from marsnet.runs.page import COLOURS, figure, head, section, table, write_page
from marsnet.runs.report_axes import duration_axis
from marsnet.units import format_duration, format_size

_LISTED = 100
"""Runs that did not pass and that the page lists."""


def rows(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One flat record for each run.

    `key`, the axes' values by name, `seed`, `passed`, `valid`, `ledger_hash`, `elapsed` (mission seconds), `wall` (host
    seconds), `version`; for each class `<class>.accepted`, `.delivered`, `.bytes`, `.latency_p50` and so on, and
    `.beyond_p50` (seconds beyond light time); for each requirement `<name>: passed` and `<name>: value`.
    """
    return [_row(result) for result in results]


def units(results: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The unit of each column of `rows` that has one: `s`, `B`, `ratio`, or what is counted."""
    found = {"elapsed": "s", "wall": "s"}
    for result in results:
        for name, figures in result["classes"].items():
            found |= {f"{name}.accepted": "bundles", f"{name}.delivered": "bundles", f"{name}.bytes": "B"}
            for prefix, what in (("latency", "latency"), ("beyond", "beyond_light_time")):
                found |= {f"{name}.{prefix}_{p}": "s" for p in figures[what]}
        found |= {f"{r['name']}: value": r["unit"] for r in result["requirements"] if r.get("unit")}
    return found


def _told(value: float, unit: str) -> str:
    """A figure as a person reads it."""
    if not math.isfinite(value):
        return "-"
    match unit:
        case "s":
            return format_duration(value)
        case "B":
            return format_size(value)
        case "ratio":
            return f"{100 * value:.2f} %"
    return f"{value:.6g} {unit}".rstrip()


def _row(result: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"key": result["key"], **result["values"]}
    row |= {n: result[n] for n in ("seed", "passed", "valid", "ledger_hash", "elapsed", "wall", "version")}
    for name, figures in result["classes"].items():
        row |= {f"{name}.{what}": figures[what] for what in ("accepted", "delivered", "bytes")}
        for prefix, what in (("latency", "latency"), ("beyond", "beyond_light_time")):
            row |= {f"{name}.{prefix}_{p}": value for p, value in figures[what].items()}
    for requirement in result["requirements"]:
        row[f"{requirement['name']}: passed"] = requirement["passed"]
        row[f"{requirement['name']}: value"] = requirement["value"]
    return row


def write_parquet(path: Path, records: Sequence[dict[str, Any]], of: Mapping[str, str]) -> None:
    """Write the records as one Parquet file, a column for every name that one of them has.

    Args:
        path: of the file.
        records: one for each run.
        of: the unit of each column that has one; it becomes the column's metadata `unit`.
    """
    # Arrow is large, and only campaigns need it.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: _column([record.get(name) for record in records]) for name in names}
    table = pa.table(columns)
    for place, field in enumerate(table.schema):
        if field.name in of:
            told = field.with_metadata({"unit": of[field.name]})
            table = table.set_column(place, told, table.column(place))
    pq.write_table(table, path, compression="zstd")


def _column(values: list[Any]) -> list[Any]:
    """Values of one type: numbers of both kinds become floats, anything else that is mixed text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1:
        return [None if value is None else str(value) for value in values]
    return values


def write_comparison_page(
    path: Path,
    name: str,
    axes: Sequence[Axis],
    records: Sequence[dict[str, Any]],
    of: Mapping[str, str],
    told: str,
) -> None:
    """Write a page that compares the runs of a campaign along each axis; `of` is the unit of each column."""
    passed = sum(record["passed"] for record in records)
    colour = "#1e8449" if passed == len(records) else "#c0392b"
    varied = [axis for axis in axes if len(axis.values) > 1]
    along = [axis for axis in varied if axis.name != "seed"] or varied
    parts = [head(name, f"{passed} OF {len(records)} PASSED", colour, html.escape(told))]
    parts.append(section("Requirements", _requirements(records, of)))
    for axis in along:
        parts.append(section(f"Along {axis.name}", _by_value(axis, records), figure(_latency(axis, records))))
        drawn = _measures(axis, records, of)
        parts += [figure(one) for one in drawn]
    parts.append(section("Runs that did not pass", _failed(axes, records)))
    write_page(path, f"{name}: campaign", parts)


def _requirement_names(records: Iterable[dict[str, Any]]) -> list[str]:
    suffix = ": passed"
    return list(dict.fromkeys(n.removesuffix(suffix) for r in records for n in r if n.endswith(suffix)))


def _requirements(records: Sequence[dict[str, Any]], of: Mapping[str, str]) -> str:
    rows_ = []
    for name in _requirement_names(records):
        judged = [record[f"{name}: passed"] for record in records if f"{name}: passed" in record]
        values = sorted(v for r in records if (v := r.get(f"{name}: value")) is not None)
        spread = (values[0], median(values), values[-1]) if values else (math.nan,) * 3
        share = f"{sum(judged)} of {len(judged)}"
        unit = of.get(f"{name}: value", "")
        cells = (html.escape(_told(value, unit)) for value in spread)
        rows_.append((html.escape(name), share, *cells, str(len(judged) - len(values))))
    header = ("requirement", "passed", "least", "median", "largest", "runs without a figure (not delivered, never)")
    return table(header, rows_)


def _by_value(axis: Axis, records: Sequence[dict[str, Any]]) -> str:
    """A row for each value of an axis: how many runs passed, and the medians of the classes' latencies."""
    classes = [name for name in COLOURS if any(f"{name}.accepted" in record for record in records)]
    listed = []
    for value in axis.values[:_LISTED]:
        chosen = [record for record in records if record[axis.name] == value]
        cells = [html.escape(str(value)), f"{sum(r['passed'] for r in chosen)} of {len(chosen)}"]
        for name in classes:
            late = [v for r in chosen if (v := r.get(f"{name}.beyond_p50")) is not None]
            sent = sum(r.get(f"{name}.accepted", 0) for r in chosen)
            got = sum(r.get(f"{name}.delivered", 0) for r in chosen)
            delivered = f"{100 * got / sent:.2f} %" if sent else "-"
            cells.append(f"{delivered}, {format_duration(median(late))}" if late else delivered)
        listed.append(cells)
    return table((axis.name, "passed", *(f"{name}: delivered, median beyond light time" for name in classes)), listed)


def _latency(axis: Axis, records: Sequence[dict[str, Any]]) -> go.Figure:
    """The 95th percentile beyond light time of each class, a box for each value of the axis."""
    drawn = go.Figure()
    seen: list[float] = []
    for name, colour in COLOURS.items():
        found = [(str(r[axis.name]), v) for r in records if (v := r.get(f"{name}.beyond_p95")) is not None]
        points = [(x, max(y, 0.01)) for x, y in found]
        seen += [y for _, y in points]
        if points:
            drawn.add_box(x=[x for x, _ in points], y=[y for _, y in points], name=name, marker_color=colour)
    drawn.update_layout(height=380, boxmode="group")
    drawn.update_xaxes(title=axis.name, type="category")
    least, most = min(seen, default=1.0), max(seen, default=1.0)
    duration_axis(drawn, "95th percentile beyond light time", 0.7 * least, 1.4 * most, upright=True)
    return drawn


def _measures(axis: Axis, records: Sequence[dict[str, Any]], of: Mapping[str, str]) -> list[go.Figure]:
    """A figure for each requirement whose measure differs between runs."""
    figures = []
    for name in _requirement_names(records):
        unit = of.get(f"{name}: value", "")
        factor, title = (100, "%") if unit == "ratio" else (1, unit)
        values: dict[str, list[float]] = defaultdict(list)
        for record in records:
            if (value := record.get(f"{name}: value")) is not None:
                values[str(record[axis.name])].append(factor * value)
        if len({v for listed in values.values() for v in listed}) > 1:
            drawn = go.Figure()
            for at, listed in values.items():
                drawn.add_box(x=[at] * len(listed), y=listed, name=at, marker_color="#2471a3", showlegend=False)
            drawn.update_yaxes(title=title)
            drawn.update_layout(height=300, title={"text": name, "font": {"size": 14}})
            drawn.update_xaxes(title=axis.name, type="category")
            figures.append(drawn)
    return figures


def _failed(axes: Sequence[Axis], records: Sequence[dict[str, Any]]) -> str:
    failed = [record for record in records if not record["passed"]]
    names = _requirement_names(records)
    listed = (
        (
            *(html.escape(str(record[axis.name])) for axis in axes),
            html.escape("; ".join(n for n in names if record.get(f"{n}: passed") is False) or "invalid"),
        )
        for record in failed[:_LISTED]
    )
    return f"<p>{len(failed)} runs.</p>" + table((*(axis.name for axis in axes), "what did not hold"), listed)
