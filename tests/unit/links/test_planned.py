"""A contact plan becomes a timeline: up in contacts, rate steps, sloping light time, outages on top."""

from __future__ import annotations

import itertools

import pytest

from marsnet.clock import MissionClock
from marsnet.links.planned import Outage, timeline_for
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


def timeline(*outages: Outage, hold: bool = True) -> list[Segment]:
    plan = ContactPlan("2026-10-01T00:00:00.000Z", 0.0, 1000.0, {"a": 1, "b": 2}, CONTACTS, RANGES)
    return list(timeline_for(plan, "a", "b", CLOCK, hold=hold, outages=outages))


def at(segments: list[Segment], mission: float) -> Segment:
    return [s for s in segments if s.t0_ns <= round(CLOCK.to_monotonic(mission) * 1e9)][-1]


def test_it_covers_all_time_and_starts_down() -> None:
    first = timeline()[0]
    assert (first.t0_ns, first.up, first.hold) == (ALWAYS, False, True)
    assert first.delay_ns == 8_000_000_000


def test_contacts_open_and_close_to_the_nanosecond() -> None:
    segments = timeline()
    edges = [s.t0_ns for before, s in itertools.pairwise(segments) if before.up != s.up]
    assert edges == [51_000_000_000, 53_000_000_000, 56_000_000_000, 57_000_000_000]


def test_rates_are_scaled_up_and_delays_down() -> None:
    segments = timeline()
    assert at(segments, 150.0).rate_bps == 100_000.0
    assert at(segments, 220.0).rate_bps == 50_000.0
    assert (at(segments, 220.0).ber, at(segments, 220.0).loss) == (1e-6, 0.01)
    now = round(CLOCK.to_monotonic(150.0) * 1e9)
    assert at(segments, 150.0).delay_at(now) == pytest.approx(8.001e9, abs=1)
    assert at(segments, 150.0).slope == 1e-3


def test_light_time_stays_where_no_range_holds() -> None:
    assert at(timeline(), 650.0).delay_ns == pytest.approx(8.002e9, abs=1)


def test_an_outage_drops_whatever_the_plan_says() -> None:
    segments = timeline(Outage(120.0, 250.0))
    assert at(segments, 110.0).up
    assert not at(segments, 130.0).up
    assert not at(segments, 130.0).hold
    assert at(segments, 260.0).up
    assert at(segments, 400.0).hold


def test_without_hold_gaps_drop() -> None:
    assert not at(timeline(hold=False), 400.0).hold


def test_start_times_rise() -> None:
    starts = [s.t0_ns for s in timeline(Outage(100.0, 300.0), Outage(650.0, 650.5))]
    assert starts == sorted(set(starts))
