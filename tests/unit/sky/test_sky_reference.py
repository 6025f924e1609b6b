"""Values that SPICE, Skyfield and Orekit computed; the tolerances are those of the figures' last digits."""

from __future__ import annotations

import numpy as np
import pytest
from sky_builders import EPOCH, h1

from marsnet.sky.conjunction import conjunctions
from marsnet.sky.earthframe import EarthRotation, GroundPoint
from marsnet.sky.lighttime import light_time
from marsnet.sky.lines import EarthPath
from marsnet.sky.marsframe import orientation
from marsnet.sky.marstime import clock_text, ls_deg, ltst, msd
from marsnet.sky.passes import passes
from marsnet.sky.planner import plan_contacts
from marsnet.sky.search import positive_windows
from marsnet.sky.timescale import Timeline
from marsnet.units import SOL

MONTH = 30 * SOL


@pytest.mark.parametrize(
    ("utc", "received", "transmitted"),
    [
        ("2026-01-09T12:00", 1199.309632, 1199.296314),
        ("2026-10-01T00:00", 831.061909, 831.148021),
        ("2027-02-19T16:00", 338.291208, 338.291691),
        ("2030-05-25T12:00", 1256.219960, 1256.238925),
    ],
)
def test_light_time_between_geocentre_and_mars(utc: str, received: float, transmitted: float) -> None:
    assert light_time("mars", "earth", received_at=utc) == pytest.approx(received, abs=1e-5)
    assert light_time("earth", "mars", transmitted_at=utc) == pytest.approx(transmitted, abs=1e-5)


@pytest.mark.parametrize(
    ("year", "instant", "least", "entry", "leave"),
    [
        (2028, "2028-03-21T02:36", 0.8103, "2028-03-07T18:41", "2028-04-03T16:55"),
        (2030, "2030-05-25T10:50", 0.2765, "2030-05-13T13:01", "2030-06-05T23:57"),
    ],
)
def test_conjunctions(year: int, instant: str, least: float, entry: str, leave: str) -> None:
    (found,) = conjunctions(f"{year}-01-01", f"{year}-12-01", 3.0)
    expected = Timeline.at(instant)
    assert found.instant is not None
    assert found.entry is not None
    assert found.exit is not None
    assert expected.seconds(found.instant) == pytest.approx(0.0, abs=30.0)
    assert expected.seconds(found.entry) == pytest.approx(expected.seconds(entry), abs=30.0)
    assert expected.seconds(found.exit) == pytest.approx(expected.seconds(leave), abs=30.0)
    assert found.least_deg == pytest.approx(least, abs=6e-5)


def test_station_view_of_mars() -> None:
    timeline = Timeline.at(EPOCH)
    node = h1().nodes["dss14"]
    assert node.kind == "station"
    centre = EarthPath.of_geocentre(timeline, 0.0, 90_000.0, 1)
    path = centre.with_station(GroundPoint.of(node), EarthRotation.over(timeline, -1e4, 1.1e5))

    def above(time: np.ndarray) -> np.ndarray:
        return path.sight(time, np.zeros((3, len(time)))).rise - np.sin(np.radians(10.0))

    (window,) = positive_windows(above, path.times, above(path.times))[:1]
    received = window + path.sight(window, np.zeros((3, 2))).delay
    rise, sets = (timeline.seconds(f"2026-10-01T{clock}") for clock in ("09:15:14.5", "21:33:14.7"))
    assert received == pytest.approx([rise, sets], abs=0.3)


@pytest.mark.parametrize(("orbiter", "count"), [("mro", 66), ("tgo", 83), ("maven", 73)])
def test_passes_over_jezero_in_a_month(orbiter: str, count: int) -> None:
    found = passes(h1(), "jezero", orbiter, EPOCH, MONTH)
    assert len(found) == count
    if orbiter == "mro":
        timeline = Timeline.at(EPOCH)
        assert found[0].start == pytest.approx(timeline.seconds("2026-10-01T01:15:13.90"), abs=0.01)
        assert found[0].end == pytest.approx(timeline.seconds("2026-10-01T01:20:38.46"), abs=0.01)


def test_crosslink_fraction_and_pass_counts_of_the_plan() -> None:
    plan = plan_contacts(h1(), EPOCH, MONTH)
    for source, target in (("mro", "tgo"), ("tgo", "mro")):
        seen = sum(contact.end - contact.start for contact in plan.between(source, target))
        assert seen / MONTH == pytest.approx(0.15776, abs=1e-5)
    for orbiter, count in (("mro", 66), ("tgo", 83), ("maven", 73)):
        assert len(list(plan.between("jezero", orbiter))) == count
        assert len(list(plan.between(orbiter, "jezero"))) == count


def test_orientation_of_mars() -> None:
    ascension, declination, meridian = orientation(Timeline.at(EPOCH).tdb(0.0))
    assert float(ascension) == pytest.approx(317.652128, abs=1e-6)
    assert float(declination) == pytest.approx(52.869719, abs=1e-6)
    assert float(meridian) % 360 == pytest.approx(296.13499, abs=1e-5)


def test_mars_time() -> None:
    assert msd("2000-01-06T00:00") == pytest.approx(44795.99976, abs=1e-5)
    assert msd(EPOCH) == pytest.approx(54299.73037, abs=1e-5)
    assert ls_deg(EPOCH) == pytest.approx(0.324, abs=5e-4)
    assert clock_text(ltst(EPOCH, 77.45)) == "22:00:17"
