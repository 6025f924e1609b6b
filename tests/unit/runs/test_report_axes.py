"""Axes of the report: units that fit, ticks in words, labels of faults that leave each other room."""

from __future__ import annotations

from itertools import combinations, pairwise

import plotly.graph_objects as go
import pytest

from marsnet.runs.report_axes import duration_axis, shade, time_unit
from marsnet.worlds.spec import Incident


def fault(name: str, start: float, kind: str = "link_outage") -> Incident:
    return Incident(kind, "a--b", start, start + 60.0, ("a--b",), name=name)


@pytest.mark.parametrize(
    ("elapsed", "unit"), [(1800.0, "minutes"), (7200.0, "hours"), (4 * 86400.0, "hours"), (30 * 86400.0, "days")]
)
def test_mission_time_is_told_in_a_unit_that_fits(elapsed: float, unit: str) -> None:
    assert time_unit(elapsed).name == unit


@pytest.mark.parametrize(
    ("least", "most", "first", "last"),
    [
        (0.01, 4e5, "10 ms", "1 d"),
        (0.3, 90.0, "500 ms", "1 min"),
        (520.0, 720.0, "9 min 10.0 s", "11 min 40.0 s"),
        (1100.0, 3e6, "30 min", "30 d"),
    ],
)
def test_durations_are_ticked_in_words(least: float, most: float, first: str, last: str) -> None:
    drawn = go.Figure()
    duration_axis(drawn, "t", least, most)
    axis = drawn.layout.xaxis
    assert (axis.ticktext[0], axis.ticktext[-1]) == (first, last)
    assert 4 <= len(axis.tickvals) <= 13
    assert all(least <= value <= most for value in axis.tickvals)


def test_each_fault_is_labelled_once_and_labels_leave_each_other_room() -> None:
    drawn = go.Figure(layout={"height": 300})
    faults = [fault("often", 600.0 * i) for i in range(20)] + [fault(f"other{i}", 100.0 * i) for i in range(40)]
    shade(drawn, faults, 12_000.0)
    shaded = [(shape.x0, shape.x1) for shape in drawn.layout.shapes]
    assert all(a[1] < b[0] for a, b in pairwise(shaded)), "no time twice"
    assert len(shaded) == 53, "seven of the others begin with one of the twenty"
    texts = [note.text for note in drawn.layout.annotations]
    assert texts[0] == "often: link outage (20 times)"
    assert texts[-1] == f"and {41 - (len(texts) - 1)} more, which the table of faults names"
    spans = [(note.yshift, note.x, note.x + 5.6 * len(note.text) / 1020) for note in drawn.layout.annotations]
    assert all(a[0] != b[0] or a[2] <= b[1] or b[2] <= a[1] for a, b in combinations(spans, 2))
    assert all(end <= 1 for _, _, end in spans)
    assert drawn.layout.margin.t > 14 * len({row for row, _, _ in spans})


def test_a_run_that_was_broken_off_at_once_is_drawn() -> None:
    drawn = go.Figure(layout={"height": 300})
    shade(drawn, [fault("late", 500.0)], 0.0)
    assert len(drawn.layout.annotations) == 1
