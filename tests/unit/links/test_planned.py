"""A contact plan becomes a timeline: up in contacts, rate steps, sloping light time, outages on top."""

from __future__ import annotations

import itertools

import pytest

from marsnet.clock import MissionClock
from marsnet.errors import InputError
from marsnet.links.planned import Outage, line_ns, segments, timeline_for
from marsnet.links.segment import ALWAYS, Segment
from marsnet.plan.types import Contact, ContactPlan, Range

CLOCK = MissionClock("2026-10-01T00:00:00.000Z", 100.0, 50.0)
CONTACTS = (
    Contact("l", "a", "b", 100.0, 200.0, 1000.0),
    Contact("l", "a", "b", 200.0, 300.0, 500.0, ber=1e-6, loss=0.01),
    Contact("l", "b", "a", 0.0, 1000.0, 7.0),
    Contact("l", "a", "b", 600.0, 700.0, 1000.0),
)
RANGES = (Range("a", "b", 50.0, 250.0, 800.0, 1e-3), Range("a", "b", 250.0, 350.0, 800.2, 0.0))


def plan(contacts: tuple[Contact, ...] = CONTACTS, ranges: tuple[Range, ...] = RANGES) -> ContactPlan:
    return ContactPlan("2026-10-01T00:00:00.000Z", 0.0, 1000.0, {"a": 1, "b": 2}, contacts, ranges)


def timeline(*outages: Outage, hold: bool = True) -> list[Segment]:
    return list(timeline_for(plan(), "a", "b", CLOCK, hold=hold, outages=outages))


def at(segments: list[Segment], mission: float) -> Segment:
    return [s for s in segments if s.t0_ns <= round(CLOCK.to_monotonic(mission) * 1e9)][-1]


def test_it_covers_all_time_and_starts_down() -> None:
    first = timeline()[0]
    assert (first.t0_ns, first.up, first.hold) == (ALWAYS, False, True)
    assert first.delay_ns == 8_000_000_000


def test_contacts_open_and_close_to_the_nanosecond() -> None:
    got = timeline()
    edges = [s.t0_ns for before, s in itertools.pairwise(got) if before.up != s.up]
    assert edges == [51_000_000_000, 53_000_000_000, 56_000_000_000, 57_000_000_000]


def test_rates_are_scaled_up_and_delays_down() -> None:
    got = timeline()
    assert at(got, 150.0).rate_bps == 100_000.0
    assert at(got, 220.0).rate_bps == 50_000.0
    assert (at(got, 220.0).ber, at(got, 220.0).loss) == (1e-6, 0.01)
    now = round(CLOCK.to_monotonic(150.0) * 1e9)
    assert at(got, 150.0).delay_at(now) == pytest.approx(8.001e9, abs=1)
    assert at(got, 150.0).slope == 1e-3


def test_light_time_stays_where_no_range_holds() -> None:
    assert at(timeline(), 650.0).delay_ns == pytest.approx(8.002e9, abs=1)


def test_an_outage_drops_whatever_the_plan_says() -> None:
    got = timeline(Outage(120.0, 250.0))
    assert at(got, 110.0).up
    assert not at(got, 130.0).up
    assert not at(got, 130.0).hold
    assert at(got, 260.0).up
    assert at(got, 400.0).hold


def test_without_hold_gaps_drop() -> None:
    assert not at(timeline(hold=False), 400.0).hold


def test_start_times_rise() -> None:
    starts = [s.t0_ns for s in timeline(Outage(100.0, 300.0), Outage(650.0, 650.5))]
    assert starts == sorted(set(starts))


def test_outages_may_overlap_and_the_longest_counts() -> None:
    got = timeline(Outage(110.0, 190.0), Outage(120.0, 130.0), Outage(150.0, 160.0))
    assert [at(got, t).up for t in (105.0, 125.0, 145.0, 185.0, 195.0)] == [True, False, False, False, True]


def test_an_outage_leaves_the_light_time_as_it_was() -> None:
    now = line_ns(CLOCK, 160.0)
    assert at(timeline(Outage(120.0, 150.0)), 160.0).delay_at(now) == at(timeline(), 160.0).delay_at(now)


def test_of_two_links_between_the_same_nodes_each_has_its_own_contacts() -> None:
    both = plan((Contact("x", "a", "b", 0, 10, 1e3), Contact("y", "a", "b", 5, 15, 2e3)))
    with pytest.raises(InputError, match=r"contacts of 'a' to 'b' overlap at 5 s"):
        list(timeline_for(both, "a", "b", CLOCK))
    only = list(timeline_for(both, "a", "b", CLOCK, link="y"))
    assert [at(only, t).rate_bps for t in (4.0, 7.0, 12.0, 16.0)] == [None, 2e5, 2e5, None]


def test_contacts_without_a_range_are_refused() -> None:
    with pytest.raises(InputError, match="no range from 'a' to 'b'"):
        timeline_for(plan(ranges=()), "a", "b", CLOCK)
    assert [s.up for s in timeline_for(plan((), ()), "a", "b", CLOCK)] == [False]


def test_of_changes_within_a_nanosecond_the_last_counts() -> None:
    close = (Contact("l", "a", "b", 100, 200, 1e3), Contact("l", "a", "b", 200 + 1e-11, 300, 2e3))
    assert at(list(timeline_for(plan(close), "a", "b", CLOCK)), 250.0).rate_bps == 2e5


def test_corruption_is_passed_on() -> None:
    assert all(s.corrupt for s in timeline_for(plan(), "a", "b", CLOCK, corrupt=True))


def test_a_long_plan_is_read_as_it_is_needed() -> None:
    taken = itertools.islice(
        segments((Contact("l", "a", "b", i, i + 0.5, 1e3) for i in itertools.count()), RANGES, CLOCK), 9
    )
    assert len(list(taken)) == 9
