"""What a plan promises: both directions, constraints, rates, ranges, and the same plan however it is cut."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sky_builders import EPOCH, MAVEN, MRO, TGO, areostationary, h1, orbiter, site, station, topology

from marsnet.errors import InputError
from marsnet.model.topology import Topology
from marsnet.plan.types import Contact, ContactPlan
from marsnet.sky import planner
from marsnet.sky.budget import directed_budget
from marsnet.sky.directions import EarthDirection, LocalDirection
from marsnet.sky.ephemeris import LIGHT_SPEED
from marsnet.sky.nodes import Sky, Span
from marsnet.sky.planner import plan_contacts, stream_contacts
from marsnet.sky.timescale import Timeline
from marsnet.units import SOL


def edges(plan: ContactPlan, source: str, target: str) -> np.ndarray:
    return np.array([(contact.start, contact.end) for contact in plan.between(source, target)]).reshape(-1, 2)


def windows(plan: ContactPlan, source: str, target: str) -> np.ndarray:
    """Contacts with those that touch joined."""
    merged: list[list[float]] = []
    for contact in plan.between(source, target):
        if merged and abs(contact.start - merged[-1][1]) < 1e-6:
            merged[-1][1] = contact.end
        else:
            merged.append([contact.start, contact.end])
    return np.array(merged).reshape(-1, 2)


@pytest.fixture(scope="module")
def month() -> ContactPlan:
    return plan_contacts(h1(), EPOCH, 3 * SOL)


def test_both_directions_are_planned_a_light_time_apart(month: ContactPlan) -> None:
    down, up = edges(month, "tgo", "dss14"), edges(month, "dss14", "tgo")
    assert len(down) > 15
    # What Mars sends during its view of the station arrives while the station still sees it, and the reverse.
    heard = np.array([[start + month.owlt("tgo", "dss14", start) for start in row] for row in down])
    timeline = Timeline.at(EPOCH)
    rise, sets = timeline.seconds("2026-10-01T09:15:14.5"), timeline.seconds("2026-10-01T21:33:14.7")
    first_day = heard[heard[:, 0] < 86400.0]
    assert first_day[0, 0] >= rise - 5.0
    assert first_day[-1, 1] == pytest.approx(sets, abs=5.0)
    sent = up[up[:, 0] < 86400.0]
    assert rise - 40.0 <= sent[0, 0]
    assert sent[-1, 1] <= sets + 40.0


def test_local_directions_differ_by_milliseconds_only(month: ContactPlan) -> None:
    one, two = edges(month, "mro", "tgo"), edges(month, "tgo", "mro")
    assert one == pytest.approx(two, abs=0.1)
    assert (one != two).any()


@pytest.mark.parametrize(
    ("source", "target"), [("mro", "tgo"), ("jezero", "maven"), ("mro", "dss14"), ("dss14", "tgo")]
)
def test_ranges_stay_within_their_bound_and_meet(month: ContactPlan, source: str, target: str) -> None:
    check_ranges(month, h1(), source, target, 1e-3)


def check_ranges(plan: ContactPlan, topo: Topology, source: str, target: str, bound: float) -> None:
    lines = [line for line in plan.ranges if (line.source, line.target) == (source, target)]
    for earlier, later in pairwise(lines):
        assert later.start >= earlier.end - 1e-6
        if later.start - earlier.end < 1e-6:
            assert earlier.at(earlier.end) == pytest.approx(later.owlt, abs=1e-7)
    starts = [line.start for line in lines]
    for contact in list(plan.between(source, target))[::4]:
        for part in (0.0, 0.31, 0.5, 1.0):
            time = contact.start + part * (contact.end - contact.start)
            line = lines[max(bisect_right(starts, time) - 1, 0)]
            assert line.start - 1e-6 <= time <= line.end + 1e-6
            assert line.at(time) == pytest.approx(exact_delay(topo, plan.epoch, source, target, time), abs=bound)


def exact_delay(topo: Topology, epoch: str, source: str, target: str, sent: float) -> float:
    """Light time by fixed-point iteration between barycentric positions, independent of the planner's paths."""
    from marsnet.sky.lighttime import light_time

    return light_time(source, target, transmitted_at=Timeline.at(epoch).utc(sent), topology=topo)


def test_a_finer_bound_gives_finer_ranges() -> None:
    topo = topology({"mro": orbiter(*MRO), "maven": orbiter(*MAVEN)}, [("mro", "maven")])
    coarse = plan_contacts(topo, EPOCH, 0.5 * SOL)
    fine = plan_contacts(topo, EPOCH, 0.5 * SOL, range_error=1e-5)
    assert len(fine.ranges) > 4 * len(coarse.ranges)
    check_ranges(fine, topo, "mro", "maven", 1e-5 + 5e-7)


def test_a_plan_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plan_contacts(h1(), EPOCH, 3 * SOL)
    monkeypatch.setattr(planner, "CHUNK", 0.31 * SOL)
    cut = plan_contacts(h1(), EPOCH, 3 * SOL)
    assert [(c.source, c.target) for c in whole.contacts] == [(c.source, c.target) for c in cut.contacts]
    for one, two in zip(whole.contacts, cut.contacts, strict=True):
        assert (one.start, one.end) == pytest.approx((two.start, two.end), abs=5e-3)
    chunks = list(stream_contacts(h1(), EPOCH, 3 * SOL))
    assert [chunk.start for chunk in chunks] == sorted(chunk.start for chunk in chunks)
    streamed = [contact for chunk in chunks for contact in chunk.contacts]
    starts = [contact.start for contact in streamed]
    assert starts == sorted(starts)
    assert len(streamed) == len(whole.contacts)


def test_permanent_contacts_are_whole_in_a_plan_and_cut_in_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    topo = topology({"areo": areostationary(80.0), "base": site(10.0, 70.0)}, [("areo", "base")])
    monkeypatch.setattr(planner, "CHUNK", SOL)
    assert edges(plan_contacts(topo, EPOCH, 3 * SOL), "areo", "base").tolist() == [[0.0, 3 * SOL]]
    streamed = [c for chunk in stream_contacts(topo, EPOCH, 3 * SOL) for c in chunk.contacts if c.source == "areo"]
    assert [(c.start, c.end) for c in streamed] == [(k * SOL, (k + 1) * SOL) for k in range(3)]


@given(shift=st.floats(0.0, 3e5))
@settings(max_examples=8, deadline=None)
def test_a_later_start_shifts_the_plan(shift: float) -> None:
    topo = topology(
        {"mro": orbiter(*MRO), "tgo": orbiter(*TGO), "base": site(-40.0, 10.0), "dss43": station("dss43")},
        [("mro", "tgo"), ("mro", "base"), ("tgo", "dss43")],
    )
    timeline = Timeline.at(EPOCH)
    later = timeline.utc(shift)
    moved = timeline.seconds(later)
    early, late = plan_contacts(topo, EPOCH, moved + SOL), plan_contacts(topo, later, SOL)
    for source, target in (("mro", "tgo"), ("base", "mro"), ("tgo", "dss43"), ("dss43", "tgo")):
        known = edges(early, source, target) - moved
        known = known[known[:, 1] > 1.0]
        known[:, 0] = np.maximum(known[:, 0], 0.0)
        fresh = edges(late, source, target)
        fresh = fresh[fresh[:, 1] > 1.0]
        assert fresh == pytest.approx(known, abs=5e-3)


def test_the_order_of_a_links_ends_changes_nothing() -> None:
    nodes: dict[str, dict[str, Any]] = {"mro": orbiter(*MRO), "base": site(60.0, -120.0), "dss63": station("dss63")}
    one = plan_contacts(topology(nodes, [("mro", "base"), ("dss63", "mro")]), EPOCH, SOL)
    two = plan_contacts(topology(nodes, [("base", "mro"), ("mro", "dss63")]), EPOCH, SOL)
    for pair in one.pairs():
        assert edges(one, *pair).tolist() == edges(two, *pair).tolist()


@given(tilt=st.floats(20.0, 160.0), node=st.floats(0.0, 360.0), eccentricity=st.floats(0.0, 0.6))
@settings(max_examples=6, deadline=None)
def test_contacts_hold_at_their_middle_and_fail_beyond_their_edges(
    tilt: float, node: float, eccentricity: float
) -> None:
    axis = 3700.0 / (1 - eccentricity)
    nodes = {"one": orbiter(axis, eccentricity, tilt, node, 50.0), "two": orbiter(*TGO), "base": site(-20.0, 5.0, 15.0)}
    topo = topology(nodes, [("one", "base"), ("one", "two")])
    plan = plan_contacts(topo, EPOCH, SOL)
    span = Span.over(Sky.of(topo, EPOCH), 0.0, SOL)

    def rise(time: float) -> float:
        craft = span.motion("one", np.array([time]))
        base = span.motion("base", np.array([time]))
        line = craft.place - base.place
        assert base.up is not None
        return float(np.degrees(np.arcsin((line * base.up).sum() / np.linalg.norm(line))))

    def clearance(time: float) -> float:
        a, b = (span.motion(name, np.array([time])).place[:, 0] for name in ("one", "two"))
        part = np.clip(-a @ (b - a) / ((b - a) @ (b - a)), 0.0, 1.0)
        return float(np.linalg.norm(a + part * (b - a))) - 3_496_190.0

    for source, target, above in (("one", "base", lambda t: rise(t) - 15.0), ("one", "two", clearance)):
        for start, end in edges(plan, source, target):
            assert above(0.5 * (start + end)) > 0
            if start > 0:
                assert above(start - 0.5) < 0
            if end < SOL:
                assert above(end + 0.5) < 0
    times = np.arange(30.0, SOL, 61.0)
    seen = np.array([rise(time) > 15.0 for time in times])
    inside = edges(plan, "one", "base")
    planned = ((times[:, None] > inside[:, 0]) & (times[:, None] < inside[:, 1])).any(axis=1)
    assert (seen == planned).mean() > 0.999


def test_receive_and_transmit_masks_apply_to_their_own_direction() -> None:
    nodes = {
        "tgo": orbiter(*TGO),
        "base": site(0.0, 0.0, mask=5.0) | {"mask": {"receive": "5 deg", "transmit": "30 deg"}},
        "dss63": station("dss63", receive=6.0, transmit=20.0),
        "high": areostationary(0.0),
    }
    plan = plan_contacts(topology(nodes, [("tgo", "base"), ("high", "dss63")]), EPOCH, 2 * SOL)
    for heard, sent in ((("tgo", "base"), ("base", "tgo")), (("high", "dss63"), ("dss63", "high"))):
        longer, shorter = (sum(np.diff(edges(plan, *pair))[:, 0]) for pair in (heard, sent))
        assert longer > 1.1 * shorter


def test_terrain_hides_what_the_flat_mask_shows() -> None:
    wall = [{"azimuth": f"{a} deg", "elevation": f"{e} deg"} for a, e in ((0, 10), (80, 10), (90, 60), (100, 10))]
    flat = topology({"tgo": orbiter(*TGO), "base": site(10.0, 20.0)}, [("tgo", "base")])
    walled = topology({"tgo": orbiter(*TGO), "base": site(10.0, 20.0, terrain=wall)}, [("tgo", "base")])
    open_, hidden = (edges(plan_contacts(topo, EPOCH, 5 * SOL), "tgo", "base") for topo in (flat, walled))
    assert 0 < np.diff(hidden).sum() < np.diff(open_).sum()
    for start, end in hidden:
        assert ((open_[:, 0] <= start + 1e-3) & (end <= open_[:, 1] + 1e-3)).any()


def test_level_terrain_is_a_mask_in_both_directions() -> None:
    """Far enough away for the light time, 20 to 50 ms, to show in the edges."""
    wall = [{"azimuth": "0 deg", "elevation": "15 deg"}]
    far = orbiter(13_000.0, 0.3, 50.0, 10.0, 20.0)
    high, walled = (
        plan_contacts(topology({"far": far, "base": place}, [("far", "base")]), EPOCH, 5 * SOL)
        for place in (site(10.0, 20.0, mask=15.0), site(10.0, 20.0, mask=5.0, terrain=wall))
    )
    for ends in (("far", "base"), ("base", "far")):
        assert len(edges(high, *ends)) > 5
        np.testing.assert_allclose(edges(walled, *ends), edges(high, *ends), rtol=0, atol=2e-3)


@pytest.mark.parametrize("day", range(1, 9))
def test_a_contact_that_is_open_at_both_ends_of_a_plan_begins_and_ends_with_it(day: int) -> None:
    topo = topology({"high": areostationary(100.0), "dss43": station("dss43")}, [("high", "dss43")])
    plan = plan_contacts(topo, f"2026-10-{day:02}T20:05:07.125Z", 3600.1)
    for ends in (("high", "dss43"), ("dss43", "high")):
        assert edges(plan, *ends).tolist() == [[0.0, 3600.1]]
        ranges = [one for one in plan.ranges if (one.source, one.target) == ends]
        assert (ranges[0].start, ranges[-1].end) == (0.0, 3600.1)


def test_mars_hides_an_orbiter_from_the_earth() -> None:
    topo = topology({"low": orbiter(*TGO), "dss14": station("dss14")}, [("low", "dss14")])
    plan = plan_contacts(topo, EPOCH, SOL)
    span = Span.over(Sky.of(topo, EPOCH), 0.0, SOL)
    gaps = [(a[1], b[0]) for a, b in pairwise(edges(plan, "low", "dss14").tolist()) if b[0] - a[1] < 3600.0]
    assert len(gaps) >= 5
    for start, end in gaps:
        time = np.array([start, 0.5 * (start + end), end])
        place = span.motion("low", time).place
        towards = span.path("dss14", 1).sight(time, place).vector
        towards /= np.linalg.norm(towards, axis=0)
        along = np.einsum("in,in->n", place, towards)
        distance = np.linalg.norm(place - along * towards, axis=0)
        assert along[1] < 0
        assert distance[1] < 3_376_200.0
        assert (distance[[0, 2]] > 3_376_100.0).all()
        assert (distance[[0, 2]] < 3_396_290.0).all()


def test_the_sun_cuts_a_band_and_slows_it_around() -> None:
    limits = {"X": {"cut": "1 deg", "clear": "3 deg", "loss": 0.5}}
    topo = topology({"high": areostationary(0.0), "dss63": station("dss63")}, [("high", "dss63")], sep=limits)
    plan = plan_contacts(topo, "2030-05-10T00:00:00Z", 30 * 86400.0)
    received = [c for c in plan.contacts if c.source == "high"]
    from marsnet.sky.conjunction import conjunctions, sep_deg

    (dark,) = conjunctions("2030-05-01", "2030-07-01", 1.0)
    assert dark.entry is not None
    assert dark.exit is not None
    timeline = Timeline.at(plan.epoch)
    first, last = timeline.seconds(dark.entry), timeline.seconds(dark.exit)
    for contact in received:
        heard = contact.start + plan.owlt("high", "dss63", contact.start)
        assert not first + 60 < heard < last - 60
        angle = float(sep_deg(timeline, np.array([heard]))[0])
        share = min(max((angle - 1.0) / 2.0, 0.0), 1.0)
        assert contact.rate <= 2e6 * share * (1 + 1e-3) + 1
        assert contact.loss >= 0.5 * (1 - share) - 1e-3
    assert {contact.rate for contact in received} > {2e6}


def test_tracks_are_the_only_time_of_a_station() -> None:
    booked = [
        {"station": "dss14", "start": "2026-10-01T12:00:00Z", "end": "2026-10-01T14:00:00Z", "spacecraft": "high"},
        {"station": "dss14", "start": "2026-10-01T15:00:00Z", "end": "2026-10-01T16:00:00Z"},
        {"station": "dss14", "start": "2026-10-01T17:00:00Z", "end": "2026-10-01T18:00:00Z", "spacecraft": "other"},
    ]
    nodes = {"high": areostationary(-60.0), "other": areostationary(-150.0), "dss14": station("dss14")}
    topo = topology(nodes, [("high", "dss14"), ("other", "dss14")], tracks=booked)
    plan = plan_contacts(topo, EPOCH, 86400.0)
    hour = 3600.0
    allowed = {
        "high": [(12 * hour, 14 * hour), (15 * hour, 16 * hour)],
        "other": [(15 * hour, 16 * hour), (17 * hour, 18 * hour)],
    }
    for name, spans in allowed.items():
        sent, heard = edges(plan, "dss14", name), edges(plan, name, "dss14")
        heard = np.array([[t + plan.owlt(name, "dss14", t) for t in row] for row in heard])
        for found in (sent, heard):
            assert len(found)
            for start, end in found:
                assert any(low - 0.01 <= start and end <= high + 0.01 for low, high in spans)
            if len(found) == 2:
                assert found == pytest.approx(np.array(spans), abs=0.01)
    assert not plan_contacts(topology(nodes, [("high", "dss14")], tracks=[]), EPOCH, 86400.0).contacts


UHF = {
    "band": "UHF", "frequency": "401.6 MHz", "power": "8.5 W", "gain": "2 dBi", "noise_temperature": "526 K",
    "coding": "conv-1/2",
}  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {"steps": ["8 kbit/s", "32 kbit/s", "64 kbit/s", "128 kbit/s", "256 kbit/s", "1024 kbit/s", "2048 kbit/s"]},
        {"cap": "1600 kbit/s"},
        {},
    ],
    ids=["steps", "cap", "continuous"],
)
def test_contacts_never_promise_more_than_the_budget(more: dict[str, Any]) -> None:
    nodes = {"tgo": orbiter(*TGO) | {"radios": ["uhf"]}, "base": site(30.0, 40.0) | {"radios": ["uhf"]}}
    topo = topology(nodes, [("tgo", "base")], radios={"uhf": UHF | more})
    plan = plan_contacts(topo, EPOCH, 2 * SOL)
    budget = directed_budget(topo, topo.links[0], "base", "tgo")
    direction = LocalDirection(Span.over(Sky.of(topo, EPOCH), 0.0, 2 * SOL), "base", "tgo")
    contacts = list(plan.between("base", "tgo"))
    assert len(contacts) > len(windows(plan, "base", "tgo")) > 3
    for contact in contacts:
        times = np.linspace(contact.start + 1e-6, contact.end - 1e-6, 9)
        rate, ber, _ = budget.rate(direction.sample(times).delay * LIGHT_SPEED)
        assert (rate >= contact.rate * (1 - 1e-6)).all()
        same = np.isclose(rate, contact.rate, rtol=1e-6)
        assert (ber[same] <= contact.ber * (1 + 1e-4)).all()
        if "steps" in more:
            assert contact.rate in topo.radios["uhf"].steps
        elif contact.end - contact.start > 0.1 and rate.max() < budget.cap:
            assert 10 * np.log10(rate.max() / contact.rate) < 0.52
    flat = plan_contacts(
        topology(nodes, [("tgo", "base")], radios={"uhf": {"band": "UHF", "rate": "1 kbit/s"}}), EPOCH, 2 * SOL
    )
    if "cap" not in more:
        assert windows(plan, "base", "tgo") == pytest.approx(windows(flat, "base", "tgo"), abs=0.02)


def test_the_elevation_at_the_station_moves_the_rate() -> None:
    space = {
        "band": "X",
        "frequency": "8.44 GHz",
        "power": "100 W",
        "gain": "46.7 dBi",
        "noise_temperature": "500 K",
        "cap": "50 Mbit/s",
    }
    ground = {"band": "X", "frequency": "7.18 GHz", "power": "20 kW", "gain": "67 dBi", "noise_temperature": "33 K"}
    ground |= {"atmosphere": {"10 %": "2 dB"}}
    nodes = {
        "high": areostationary(0.0) | {"radios": ["space"]},
        "dss63": station("dss63", 6.0, 6.0) | {"radios": ["ground"]},
    }
    topo = topology(nodes, [("high", "dss63")], radios={"space": space, "ground": ground})
    plan = plan_contacts(topo, EPOCH, SOL)
    direction = EarthDirection(Span.over(Sky.of(topo, EPOCH), 0.0, SOL), "high", "dss63")
    budget = directed_budget(topo, topo.links[0], "high", "dss63")
    contacts = list(plan.between("high", "dss63"))
    assert len(contacts) > 3
    for contact in contacts:
        sample = direction.sample(np.linspace(contact.start + 1e-6, contact.end - 1e-6, 9))
        rate, _, _ = budget.rate(sample.delay * LIGHT_SPEED, sample.elevation)
        assert (rate >= contact.rate * (1 - 1e-6)).all()


def test_wires_last_for_the_whole_interval() -> None:
    nodes = {"mcc": {"kind": "hub"}, "cloud": {"kind": "hub"}}
    topo = topology(nodes, [{"between": ["mcc", "cloud"], "wired": {"delay": "20 ms", "rate": "1 Gbit/s"}}])
    plan = plan_contacts(topo, EPOCH, 100.0)
    assert [(c.source, c.target, c.start, c.end, c.rate) for c in plan.contacts] == [
        ("mcc", "cloud", 0.0, 100.0, 1e9),
        ("cloud", "mcc", 0.0, 100.0, 1e9),
    ]
    assert plan.owlt("mcc", "cloud", 50.0) == 0.02


def test_links_of_two_bands_share_their_ranges() -> None:
    links = [{"between": ["mro", "tgo"], "name": band.lower(), "band": band} for band in ("UHF", "X")]
    plan = plan_contacts(topology({"mro": orbiter(*MRO), "tgo": orbiter(*TGO)}, links), EPOCH, SOL)
    assert {contact.link for contact in plan.contacts} == {"uhf", "x"}
    lines = [(line.source, line.start) for line in plan.ranges]
    assert len(lines) == len(set(lines))


def test_a_moon_is_seen_and_hidden() -> None:
    nodes = {
        "rover": site(0.0, 0.0) | {"body": "phobos"},
        "tgo": orbiter(*TGO),
        "base": site(5.0, 30.0),
        "dss14": station("dss14"),
    }
    plan = plan_contacts(topology(nodes, [("rover", "tgo"), ("rover", "base"), ("rover", "dss14")]), EPOCH, 2 * SOL)
    # Longitude 0 of Phobos looks at Mars: the Earth is there only when Mars does not fill the view.
    for other in ("tgo", "base"):
        assert len(windows(plan, "rover", other)) >= 3


def test_progress_ends_at_the_whole() -> None:
    seen: list[tuple[float, float]] = []
    plan_contacts(h1(), EPOCH, 1000.0, progress=lambda done, whole: seen.append((done, whole)))
    assert seen[-1] == (1000.0, 1000.0)


ORBITER, BASE = orbiter(*MRO), site(0.0, 0.0)


@pytest.mark.parametrize(
    ("nodes", "links", "start", "duration", "words"),
    [
        ({"a": ORBITER, "b": BASE}, [("a", "b")], EPOCH, 0.0, "positive duration"),
        ({"a": ORBITER, "b": BASE}, [("a", "b")], EPOCH, float("nan"), "positive duration"),
        ({"a": ORBITER, "b": BASE}, [("a", "b")], "2055-01-01T00:00:00Z", 1e5, "outside the ephemeris"),
        ({"a": ORBITER, "b": BASE}, [("a", "b")], "2040-12-30T00:00:00Z", 1e6, "between 2025-01-01 and 2040-12-31"),
        ({"a": ORBITER, "b": BASE}, [("a", "b")], "yesterday", 1e5, "not a UTC instant"),
        (
            {"a": ORBITER, "b": BASE | {"body": "phobos", "terrain": [{"azimuth": "0 deg", "elevation": "9 deg"}]}},
            [("a", "b")],
            EPOCH,
            1e5,
            "site 'b' on phobos has a terrain mask",
        ),
        ({"a": BASE, "b": BASE}, [("a", "b")], EPOCH, 1e5, "two sites on mars"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    nodes: dict[str, Any], links: list[Any], start: str, duration: float, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        stream_contacts(topology(nodes, links), start, duration)


def test_contacts_and_ranges_are_ordered(month: ContactPlan) -> None:
    def starts(rows: tuple[Contact, ...] | tuple[Any, ...]) -> list[float]:
        return [row.start for row in rows]

    assert starts(month.contacts) == sorted(starts(month.contacts))
    assert starts(month.ranges) == sorted(starts(month.ranges))
    assert all(0 <= contact.start < contact.end <= month.end + 1e-6 for contact in month.contacts)
