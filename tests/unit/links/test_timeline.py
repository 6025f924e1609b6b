"""Segments, files of them, faults over them, and the window of them that is loaded."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from marsnet.errors import InputError
from marsnet.links.feed import TimelineFeed
from marsnet.links.segment import RawSegment
from marsnet.links.timeline import Bursts, Fault, Segment, faulted, read_timeline, write_timeline

S = 10**9


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
