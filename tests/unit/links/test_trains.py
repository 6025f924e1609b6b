"""Frames pushed and taken many at a time meet the fate that they meet one by one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marsnet.errors import InputError
from marsnet.links.config import ClassConfig, DirectionConfig
from marsnet.links.pipeline import Pipeline
from marsnet.links.segment import Segment

S = 10**9
MBIT = 8_000_000.0  # one byte per microsecond
QUIET, LOUD = 1, 0
FRAME = st.tuples(
    st.integers(1, 1500), st.integers(0, 2), st.sampled_from([QUIET, QUIET, LOUD]), st.sampled_from([1, 1, 2, 5])
)
CONFIG = DirectionConfig(
    tuple(ClassConfig(f"c{i}", limit_bytes=20_000, limit_frames=30) for i in range(3)), "strict", seed=7
)


@st.composite
def passes(draw: st.DrawFn) -> list[Segment]:
    """Contacts and the gaps between them, at a changing distance."""
    result: list[Segment] = []
    t0 = 0
    for _ in range(draw(st.integers(1, 6))):
        slope = draw(st.sampled_from([0.0, 1e-5, -1e-5, 0.01, -0.01]))
        delay, rate = draw(st.integers(0, 3_000_000)), draw(st.sampled_from([MBIT, 3e6, 7.7e7, None]))
        loss, held = draw(st.sampled_from([0.0, 0.3])), draw(st.booleans())
        result.append(
            Segment(t0, delay, slope=slope, rate_bps=rate, loss=loss, up=draw(st.booleans()) or not result, hold=held)
        )
        t0 += draw(st.integers(10_000, 4_000_000))
    return result


def frames_of(taken: list[tuple[int, int, int]]) -> list[int]:
    return [handle + place for handle, first, count in taken for place in range(first, first + count)]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    passes(),
    st.lists(st.tuples(st.integers(0, 2_000_000), st.lists(FRAME, min_size=1, max_size=12)), max_size=8),
    st.lists(st.integers(1, 3_000_000), max_size=4),
)
def test_whoever_wakes_at_the_alarm_sees_each_loud_frame_when_it_arrives(
    timeline: list[Segment], bursts: list[tuple[int, list[tuple[int, int, int, int]]]], deaf: list[int]
) -> None:
    plain, train = Pipeline(CONFIG), Pipeline(CONFIG)
    spans, edge = [], 0
    for width in deaf:
        spans.append((edge + width, edge + 2 * width))
        edge += 3 * width
    for pipe in (plain, train):
        pipe.load(timeline)
        pipe.receiver_down(spans)
    loud: set[int] = set()
    seen: list[tuple[int, int]] = []
    now = serial = 0

    def run_to(until: int) -> None:
        nonlocal now
        while (alarm := train.alarm()) is not None and alarm <= until:
            before = train.stats()
            taken = train.take(alarm)
            # A frame over no distance arrives at once, or is missed at once; else each alarm is later than the last.
            assert alarm > now or (alarm == now and train.stats() != before)
            now = alarm
            seen.extend((alarm, frame) for frame in frames_of(taken))

    for wait, frames in bursts:
        start = now + wait
        run_to(start)
        now = start
        firsts = []
        for length, cls, quietly, count in frames:
            firsts.append(serial)
            for number in range(serial, serial + count):
                plain.push(length, cls, now, number)
            if quietly == LOUD:
                loud.update(range(serial, serial + count))
            serial += count
        for (length, cls, quietly, count), first in zip(frames, firsts, strict=True):
            train.push_train(length, count, cls, now, first, quiet=quietly == QUIET)
    end = now + 60 * S
    run_to(end)
    seen.extend((end, frame) for frame in frames_of(train.take(end)))
    due = [(o.time_ns, o.handle) for o in plain.poll(end) if o.reason is None]
    assert [handle for _, handle in seen] == [handle for _, handle in due]
    assert [pair for pair in seen if pair[1] in loud] == [pair for pair in due if pair[1] in loud]
    assert plain.stats() == train.stats()


def test_an_outage_that_cuts_a_frame_brings_the_next_one_forward() -> None:
    pipe = Pipeline(DirectionConfig())
    pipe.load([Segment(0, 0, rate_bps=MBIT), Segment(20_000, 0, up=False), Segment(30_000, 0, rate_bps=MBIT)])
    pipe.push_train(30, 1, 0, 0, "a", quiet=True)
    pipe.push_train(1, 1, 0, 0, "b", quiet=False)
    seen = []
    while (alarm := pipe.alarm()) is not None:
        seen += [(alarm, handle) for handle, _, _ in pipe.take(alarm)]
    assert seen == [(31_000, "b")]


def test_a_frame_that_may_be_lost_does_not_hide_one_that_overtakes_it() -> None:
    # The second frame leaves over a shorter way and is there before the first one, which is lost, would have been.
    pipe = Pipeline(DirectionConfig())
    pipe.load([Segment(0, 50_000, rate_bps=MBIT, loss=1.0), Segment(20_000, 0, rate_bps=MBIT)])
    pipe.push_train(30, 1, 0, 0, "a", quiet=False)
    pipe.push_train(1, 1, 0, 0, "b", quiet=False)
    seen = []
    while (alarm := pipe.alarm()) is not None:
        seen += [(alarm, handle) for handle, _, _ in pipe.take(alarm)]
    assert seen == [(31_000, "b")]


def test_no_alarm_for_frames_that_are_quiet() -> None:
    pipe = Pipeline(DirectionConfig())
    pipe.load([Segment(0, 100_000, rate_bps=MBIT)])
    pipe.push_train(1000, 2, 0, 0, "a", quiet=True)
    pipe.push_train(1000, 1, 0, 0, "b", quiet=True)
    assert pipe.alarm() is None
    pipe.push_train(10, 1, 0, 0, "c", quiet=False)
    assert pipe.alarm() == 3_110_000
    assert pipe.take(3_109_999) == [("a", 0, 2), ("b", 0, 1)]
    assert pipe.take(3_110_000) == [("c", 0, 1)]
    assert pipe.alarm() is None


@pytest.mark.parametrize(("length", "cls"), [(0, 0), (2**31, 0), (100, 4)])
def test_what_cannot_be_pushed_is_refused(length: int, cls: int) -> None:
    pipe = Pipeline(DirectionConfig())
    with pytest.raises(InputError):
        pipe.push_train(length, 1, cls, 0, "a", quiet=False)
