"""From the contact plan to segments."""

from __future__ import annotations

import itertools
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marsnet.clock import MissionClock
from marsnet.errors import InputError
from marsnet.links.feed import TimelineFeed
from marsnet.links.segment import RawSegment
from marsnet.links.timeline import Bursts, Fault, Segment, faulted, line_ns, read_timeline, timeline_for, write_timeline
from marsnet.plan.types import Contact, ContactPlan, Range

S = 10**9
CLOCK = MissionClock("2026-10-01T00:00:00Z", 1.0, 1000.0)


def plan(contacts: list[Contact], ranges: list[Range]) -> ContactPlan:
    return ContactPlan("2026-10-01T00:00:00Z", 0.0, 1000.0, {"e": 1, "m": 2}, tuple(contacts), tuple(ranges))


def example() -> ContactPlan:
    return plan(
        [
            Contact("dte", "e", "m", 100, 200, 1e6, ber=1e-6),
            Contact("dte", "m", "e", 110, 210, 1e5),
            Contact("dte", "e", "m", 300, 400, 2e6, loss=0.1),
        ],
        [
            Range("e", "m", 0, 150, 600, 1e-5),
            Range("m", "e", 0, 150, 600, 1e-5),
            Range("e", "m", 150, 1000, 601, -1e-5),
        ],
    )


def test_contacts_and_ranges_become_segments() -> None:
    got = list(timeline_for(example(), "e", "m", CLOCK))
    assert [(s.t0_ns // S - 1000, s.up, s.rate_bps) for s in got] == [
        (0, False, None),
        (100, True, 1e6),
        (150, True, 1e6),
        (200, False, None),
        (300, True, 2e6),
        (400, False, None),
    ]
    assert got[1].delay_at(1100 * S) == 600 * S + 10**6
    assert got[2].delay_at(1250 * S) == pytest.approx(601 * S - 10**6, abs=1)
    assert got[1].ber == 1e-6
    assert got[4].loss == 0.1


def test_a_faster_clock_shortens_delays_and_raises_rates() -> None:
    fast = MissionClock(CLOCK.epoch, 20.0, 1000.0)
    got = list(timeline_for(example(), "e", "m", fast))
    assert got[1].t0_ns == 1005 * S
    assert got[1].rate_bps == 20e6
    assert got[1].delay_at(got[1].t0_ns) == round((600 + 100 * 1e-5) / 20 * 1e9)


def test_start_leaves_out_the_past() -> None:
    got = list(timeline_for(example(), "e", "m", CLOCK, start=310))
    assert [s.t0_ns // S - 1000 for s in got] == [300, 400]


def test_a_direction_without_range_is_refused() -> None:
    with pytest.raises(InputError, match="no range from 'm' to 'x'"):
        timeline_for(example(), "m", "x", CLOCK)


def test_overlapping_contacts_are_refused() -> None:
    both = plan([Contact("x", "e", "m", 0, 10, 1e3), Contact("y", "e", "m", 5, 15, 1e3)], [Range("e", "m", 0, 9, 1)])
    with pytest.raises(InputError, match=r"overlap at 5 s"):
        list(timeline_for(both, "e", "m", CLOCK))
    assert [s.up for s in timeline_for(both, "e", "m", CLOCK, link="y")] == [False, True, False]


def test_faults_overlap_and_leave_the_light_time_alone() -> None:
    base = [Segment(0, 50 * S, 1e-3, 1e6, up=True), Segment(100 * S, 60 * S, 0.0, 1e6, up=False)]
    faults = [
        Fault(10 * S, 30 * S, rate_factor=0.5, loss=0.5),
        Fault(20 * S, 120 * S, outage=True, hold=False),
        Fault(25 * S, 26 * S, loss=0.5, bursts=Bursts(0.1, 0.2)),
    ]
    got = list(faulted(base, faults))
    assert [s.t0_ns // S for s in got] == [0, 10, 20, 25, 26, 30, 100, 120]
    assert [s.up for s in got] == [True, True, False, False, False, False, False, False]
    assert [s.rate_bps for s in got] == [1e6, 5e5, 5e5, 5e5, 5e5, 1e6, 1e6, 1e6]
    assert [s.loss for s in got] == [0, 0.5, 0.5, 0.75, 0.5, 0, 0, 0]
    assert [s.hold for s in got] == [True, True, False, False, False, False, False, True]
    assert {s.delay_at(50 * S) for s in got[:6]} == {base[0].delay_at(50 * S)}


def test_a_fault_delays() -> None:
    assert [s.delay_ns for s in faulted([Segment(0, 7)], [Fault(5, 9, extra_delay_ns=2)])] == [7, 9, 7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"delay_ns": -1}, "delay_ns is -1"),
        ({"delay_ns": float("inf")}, "delay_ns is inf"),
        ({"slope": float("nan")}, "slope is nan"),
        ({"slope": 2}, "slope is 2"),
        ({"rate_bps": 0}, "rate_bps is 0"),
        ({"loss": 1.5}, "loss is 1.5"),
        ({"ber": -0.1}, "ber is -0.1"),
        ({"up": 1}, "up is 1"),
        ({"t0_ns": "x"}, "t0_ns is 'x'"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Segment(**({"t0_ns": 0} | change))


def test_json_round_trip_and_unknown_keys() -> None:
    segment = Segment(
        5, 6, 1e-6, 7.5, 0.1, 1e-9, up=False, hold=False, corrupt=True, bursts=Bursts(0.1, 0.2, 0.3), ref_ns=1
    )
    assert Segment.from_json(segment.to_json()) == segment
    assert Segment.from_json(Segment(5).to_json()) == Segment(5)
    with pytest.raises(InputError, match="unknown key 'delay'"):
        Segment.from_json({"t0_ns": 0, "delay": 3})


def test_files_keep_every_bit(tmp_path: Path) -> None:
    segments = [Segment(i * 7, i, i / 4000, 1e3 + i, i / 1e5) for i in range(3000)]
    path = tmp_path / "t"
    assert write_timeline(path, segments) == 3000
    assert list(read_timeline(path)) == [s.raw for s in segments]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="ends within a segment"):
        list(read_timeline(path))
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="no packed timeline"):
        read_timeline(path)


def test_files_refuse_disorder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="segment 1 of the timeline starts at 5 ns, not after its predecessor at 5 ns"):
        write_timeline(tmp_path / "t", [Segment(5), Segment(5)])


class Recorder:
    """What a pipeline would hold."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int], int]] = []

    def __call__(self, start: int, segments: list[RawSegment], horizon: int) -> None:
        self.calls.append((start, [s.t0 for s in segments], horizon))


def test_the_feed_reads_a_year_in_constant_memory() -> None:
    peak = 0

    def sink(_: int, segments: list[RawSegment], horizon: int) -> None:
        nonlocal peak, seen
        seen += len(segments)
        if segments:
            assert horizon > segments[-1].t0
        peak = max(peak, tracemalloc.get_traced_memory()[0])

    seen, count = 0, 60_000
    one = Segment(0, 10**12, 1e-5, 1e6).raw
    feed = TimelineFeed(sink)
    tracemalloc.start()
    try:
        feed.load(one._replace(t0=i * 60 * S) for i in range(count))
        early = peak
        while feed.refill_ns is not None:
            feed.refill(feed.refill_ns)
    finally:
        tracemalloc.stop()
    assert seen == count
    assert peak < early + 400_000


def test_replacement_beyond_the_window_keeps_what_comes_before() -> None:
    record = Recorder()
    feed = TimelineFeed(record, window=4)
    base = [Segment(i * 10).raw for i in range(20)]
    feed.load(base)
    feed.load([Segment(0).raw, Segment(155).raw], from_ns=123)
    while feed.refill_ns is not None:
        feed.refill(feed.refill_ns)
    loaded = list(itertools.chain.from_iterable(call[1] for call in record.calls))
    assert loaded == [*range(0, 130, 10), 123, 155]


def test_an_extension_must_follow() -> None:
    feed = TimelineFeed(Recorder())
    feed.load([Segment(10).raw], until_ns=20)
    with pytest.raises(InputError, match="extension starts at 5 ns"):
        feed.extend([Segment(5).raw])


def test_line_time_of_the_epoch_is_the_origin() -> None:
    assert line_ns(CLOCK, 0.0) == 1000 * S
    assert line_ns(replace(CLOCK, rate=2.0), 3.0) == 1001 * S + S // 2
