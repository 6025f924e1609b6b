"""Pictures of a plan as PNG, with matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import dates
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch
from matplotlib.patheffects import withStroke

from marsnet.errors import InputError
from marsnet.model.topology import Topology
from marsnet.plan.types import ContactPlan
from marsnet.sky import plot_data
from marsnet.sky.plot_data import Lane, Panel

_DPI = 120
_WIDTH = 15.0
_LANE = 0.2  # inches
_PANEL = 2.3
_VIEW = 5.0
_MARS = 3.39619  # megametres


def draw(plan: ContactPlan, path: Path, topology: Topology | None, base_dir: Path) -> None:
    """Draw a plan into a PNG file.

    Raises:
        InputError: when the file cannot be written.
    """
    rows = plot_data.lanes(plan)
    panels = plot_data.panels(plan)
    heights = [max(_LANE * len(rows), 1.0), *(_PANEL for _ in panels), *((_VIEW,) if topology is not None else ())]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.55 * len(heights) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    name = plan.meta.get("topology", "contact plan")
    figure.suptitle(f"{name} from {plan.epoch}", x=0.01, ha="left", fontsize=13, weight="bold")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    colours = plot_data.colours(plan)
    gantt = figure.add_subplot(grid[0, :])
    _gantt(gantt, plan, rows)
    for number, panel in enumerate(panels, start=1):
        _curves(figure.add_subplot(grid[number, :], sharex=gantt), plan, panel, colours)
    if topology is not None:
        _mars(figure.add_subplot(grid[-1, 0]), plan, topology, base_dir, colours)
        _planets(figure.add_subplot(grid[-1, 1]), plan)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI)
    try:
        path.write_bytes(picture.getvalue())
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}", remedy="give a writable folder") from None


def _gantt(axes: Any, plan: ContactPlan, rows: list[Lane]) -> None:
    shades: dict[int, list[np.ndarray[Any, Any]]] = {}
    for index, lane in enumerate(rows):
        for start, end, shade in lane.bars:
            left, right = dates.date2num(plot_data.instants(plan, np.array([start, end])))
            box = [[left, index - 0.4], [left, index + 0.4], [right, index + 0.4], [right, index - 0.4]]
            shades.setdefault(shade, []).append(np.array(box))
    for shade, boxes in sorted(shades.items()):
        axes.add_collection(PolyCollection(boxes, facecolors=plot_data.RATE_CLASSES[shade][2], edgecolors="none"))
    for index in range(1, len(rows)):
        apart = rows[index].link != rows[index - 1].link
        axes.axhline(index - 0.5, color="0.75" if apart else "0.93", linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(rows)), [lane.label for lane in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title("contacts, at the transmitter", loc="left", fontsize=10)
    axes.legend(
        handles=[Patch(color=plot_data.RATE_CLASSES[s][2], label=plot_data.RATE_CLASSES[s][1]) for s in sorted(shades)],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=6,
        frameon=False,
        fontsize=8,
    )
    _time_axis(axes, plan)


def _curves(axes: Any, plan: ContactPlan, panel: Panel, colours: dict[str, str]) -> None:
    named: set[str] = set()
    for curve in panel.curves:
        axes.plot(
            plot_data.instants(plan, curve.time),
            curve.value * panel.unit,
            color=colours.get(curve.source, "0.4"),
            linewidth=1.4,
            solid_capstyle="butt",
            label="_" if curve.source in named else f"from {curve.source}",
        )
        named.add(curve.source)
    axes.set_yscale(panel.scale)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    _time_axis(axes, plan)


def _time_axis(axes: Any, plan: ContactPlan) -> None:
    axes.set_xlim(*plot_data.instants(plan, np.array([plan.start, plan.end])))
    locator = dates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mars(axes: Any, plan: ContactPlan, topology: Topology, base_dir: Path, colours: dict[str, str]) -> None:
    axes.add_patch(Circle((0, 0), _MARS, facecolor="#d9a079", edgecolor="#a86b45"))
    for track in plot_data.tracks(plan, topology, base_dir):
        colour = colours.get(track.name, "0.4")
        if track.site:
            axes.plot(*track.place, marker="^", color=colour, markersize=7, markeredgecolor="white", linestyle="none")
        else:
            axes.plot(*track.path, color=colour, linewidth=1.0)
            axes.plot(*track.place, marker="o", color=colour, markersize=6, markeredgecolor="white")
        label = axes.annotate(track.name, track.place, xytext=(6, 5), textcoords="offset points", fontsize=8, zorder=5)
        label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    _square(axes, "Mars from above its north pole, at the start, thousand km")


def _planets(axes: Any, plan: ContactPlan) -> None:
    found = plot_data.planets(plan)
    axes.plot(0, 0, marker="o", markersize=11, color="#f5b301", markeredgecolor="#b58100")
    axes.annotate("Sun", (0, 0), xytext=(9, 6), textcoords="offset points", fontsize=8)
    for name, path, places, colour in (
        ("Earth", found.earth, found.earth_at, "#1f77b4"),
        ("Mars", found.mars, found.mars_at, "#b4552d"),
    ):
        axes.plot(*path, color=colour, linewidth=0.9)
        axes.plot(*places[:, 0], marker="o", color=colour, markersize=7)
        axes.annotate(name, places[:, 0], xytext=(8, 6), textcoords="offset points", fontsize=8, color=colour)
        if np.hypot(*(places[:, 1] - places[:, 0])) > 0.05:
            axes.plot(*places[:, 1], marker="o", color=colour, markersize=7, fillstyle="none")
    axes.plot(*np.stack([found.earth_at[:, 0], found.mars_at[:, 0]], axis=1), color="0.5", linestyle=":", linewidth=1.0)
    _square(axes, "Earth and Mars from above the ecliptic, au (filled: start, open: end)")


def _square(axes: Any, title: str) -> None:
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
