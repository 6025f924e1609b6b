"""What pictures of a plan show, before they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marsnet.errors import InputError
from marsnet.model.topology import load_topology
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.sky.plot import plot_plan
from marsnet.sky.plot_data import lanes, light_time_curves, panels, planets, rate_class, rate_curves, tracks

TOPOLOGIES = Path(__file__).parents[3] / "topologies"

PLAN = ContactPlan(
    "2026-10-01T00:00:00.000Z",
    0.0,
    1000.0,
    {"mcc": 1, "dss": 14, "mro": 100},
    (
        Contact("dss--mro", "mro", "dss", 0.0, 100.0, 2e6),
        Contact("mcc--dss", "mcc", "dss", 0.0, 1000.0, 1e8),
        Contact("dss--mro", "mro", "dss", 100.0, 200.0, 3e6),
        Contact("dss--mro", "mro", "dss", 200.0, 300.0, 3e5),
        Contact("dss--mro", "dss", "mro", 400.0, 500.0, 2e3),
        Contact("dss--mro", "mro", "dss", 600.0, 700.0, 3e5),
    ),
    (
        Range("mcc", "dss", 0.0, 1000.0, 0.005),
        Range("mro", "dss", 0.0, 300.0, 800.0, 1e-5),
        Range("mro", "dss", 300.0, 500.0, 800.003, 2e-5),
        Range("mro", "dss", 600.0, 700.0, 800.009),
    ),
)


def test_rows_are_directions_side_by_side_and_steps_within_a_class_are_one_bar() -> None:
    assert [lane.label for lane in lanes(PLAN)] == ["mcc > dss", "dss > mro", "mro > dss"]
    fast, slow = rate_class(2e6), rate_class(3e5)
    assert fast != slow
    assert lanes(PLAN)[2].bars == ((0.0, 200.0, fast), (200.0, 300.0, slow), (600.0, 700.0, slow))


def test_light_time_breaks_where_nothing_is_known_and_leaves_wires_out() -> None:
    (far,), near = light_time_curves(PLAN)
    assert near == []
    assert far.time[np.isnan(far.value)].tolist() == [500.0, 700.0]
    assert far.value[:3] == pytest.approx([800.0, 800.003, 800.003])


def test_rates_leave_out_what_is_open_all_the_time() -> None:
    assert sorted(curve.label for curve in rate_curves(PLAN)) == ["dss > mro", "mro > dss"]
    assert [panel.title.split(",")[0] for panel in panels(PLAN)] == ["light time between the planets", "rate"]


def test_planets_are_where_they_belong() -> None:
    found = planets(PLAN)
    assert np.hypot(*found.earth_at[:, 0]) == pytest.approx(1.0, abs=0.02)
    assert 1.38 < np.hypot(*found.mars_at[:, 0]) < 1.67
    apart = np.hypot(*(found.earth_at[:, 0] - found.mars_at[:, 0]))
    assert apart * 499.004784 == pytest.approx(831.1, rel=0.002), "the light time of that day, seen from above"


def test_tracks_close_around_mars() -> None:
    topology = load_topology(TOPOLOGIES / "mtn_constellation.yaml")
    found = {track.name: track for track in tracks(PLAN, topology, TOPOLOGIES)}
    assert set(found) == {"areo1", "areo2", "areo3", "polar", "habitat", "rover1", "rover2", "phobos"}
    assert np.hypot(*found["areo1"].path).max() == pytest.approx(20.428, rel=1e-3)
    turned = found["areo1"].path[:, -1] - found["areo1"].path[:, 0]
    assert np.hypot(*turned) < 0.02 * 20.4
    assert found["rover1"].site
    assert np.hypot(*found["rover1"].place) < 3.4


def test_only_html_and_png_are_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name a file that ends in \.html or \.png"):
        plot_plan(PLAN, tmp_path / "plan.svg")
