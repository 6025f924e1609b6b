"""Segments that travel as trains are those that travel one by one, and do the same where they arrive."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marsnet.dtn.ltp import (
    SERVICE_BUNDLES,
    GreenSegmentReceived,
    ImportCancelled,
    LtpConfig,
    LtpEngine,
    LtpEvent,
    RedPartReceived,
    SessionId,
    Train,
    WindowedPeer,
)
from marsnet.dtn.ltp.runs import Run, runs
from marsnet.dtn.ltp.segments import RED, RED_BLOCK_END, DataSegment, encode_segment
from marsnet.dtn.ltp.trains import Extent, joined
from marsnet.dtn.recipe import Recipe, Rope


@dataclass(frozen=True)
class Case:
    """One block after another: when, octets, red octets, priority."""

    blocks: tuple[tuple[float, int, int, int], ...]
    windows: tuple[tuple[float, float, float], ...]
    loss: float
    ahead: float
    mtu: int
    bound: int
    checkpoint_every: int


CASES = st.builds(
    Case,
    st.lists(
        st.tuples(st.floats(0, 30), st.integers(1, 40_000), st.sampled_from([0, 1, 1, 1]), st.integers(0, 3)).map(
            lambda b: (b[0], b[1], b[1] * b[2], b[3])
        ),
        min_size=1,
        max_size=5,
    ).map(tuple),
    st.sampled_from([((0.0, 900.0, 2e5),), ((0.0, 3.0, 8e4), (8.0, 900.0, 1e6)), ((1.0, 900.0, 3e4),)]),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([0.0, 0.5, 3.0]),
    st.sampled_from([100, 300, 1400]),
    st.sampled_from([0, 3, 64]),
    st.sampled_from([0, 4000]),
)


def run(case: Case, *, trains: bool) -> tuple[list[tuple[float, int, bytes]], list[LtpEvent], dict[str, int]]:
    """What leaves, octet for octet; what happens; what is counted."""
    config = LtpConfig(
        trains=trains,
        pacing_ahead=case.ahead,
        starvation_bound=case.bound,
        checkpoint_every=case.checkpoint_every,
        session_base=7,
        checkpoint_limit=50,
        report_limit=50,
    )
    peer = WindowedPeer(case.windows, None, owlt=0.25, mtu=case.mtu)
    engines = {n: LtpEngine(n, config, random.Random(n)) for n in (1, 2)}
    engines[1].add_peer(2, peer)
    engines[2].add_peer(1, peer)
    chance, serial = random.Random(5), count()
    queue: list[tuple[float, int, int, object]] = []
    for number, (when, size, red, priority) in enumerate(case.blocks):
        heapq.heappush(queue, (when, next(serial), 0, (random.Random(number).randbytes(size), red, priority)))
    log: list[tuple[float, int, bytes]] = []
    events: list[LtpEvent] = []
    now = 0.0
    for _ in range(4000):
        for name, engine in engines.items():
            engine.advance(now)
            for target, octets, _ in engine.take_datagrams():
                alone = octets.datagrams() if isinstance(octets, Train) else [octets]
                log += [(now, name, each) for each in alone]
                kept = [chance.random() >= case.loss for _ in alone]
                for place in (place for place, kept_one in enumerate(kept) if kept_one):
                    heapq.heappush(queue, (now + 0.25, next(serial), target, (octets, place)))
            for event in engine.take_events():
                events.append(event)
                if isinstance(event, RedPartReceived):
                    engine.confirm(event.session, now)
        deadlines = [d for engine in engines.values() if (d := engine.next_deadline(now)) is not None]
        if not queue and not deadlines:
            break
        now = min([*deadlines, *(item[0] for item in queue[:1])])
        while queue and queue[0][0] <= now:
            _, _, target, what = heapq.heappop(queue)
            assert isinstance(what, tuple)
            if not target:
                engines[1].send(2, what[0], now, red_length=what[1], priority=what[2])
            elif isinstance(what[0], Train):
                train, first, together = what[0], what[1], 1
                while queue and queue[0][0] <= now and queue[0][3] == (train, first + together):
                    heapq.heappop(queue)
                    together += 1
                halves = [(train, first, together // 2), (train, first + together // 2, together - together // 2)]
                engines[target].receive_trains([half for half in halves if half[2]], now, 3 - target)
            else:
                engines[target].receive(what[0], now, 3 - target)
    # What is lost again and again may not get through before the last contact ends.
    assert case.loss or engines[1].open_sessions() == (0, 0) == engines[2].open_sessions()
    return log, events, engines[1].counters(2).as_dict() | engines[2].counters(1).as_dict()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(CASES)
def test_trains_change_nothing_but_the_number_of_objects(case: Case) -> None:
    assert run(case, trains=True) == run(case, trains=False)


def red(number: int, offset: int, length: int) -> bytes:
    segment = DataSegment(RED, SessionId(1, number), SERVICE_BUNDLES, offset, random.Random(number).randbytes(9000))
    return encode_segment(segment._replace(data=segment.data[offset : offset + length]))


STREAMS = st.lists(
    st.one_of(
        # Segments of two blocks, in order, in disorder, over one another, of which some follow one another.
        st.tuples(st.integers(1, 2), st.integers(0, 8), st.integers(1, 4)).map(
            lambda x: red(x[0], 1000 * x[1], 500 * x[2])
        ),
        st.tuples(st.integers(1, 2), st.integers(0, 4), st.integers(2, 5)).flatmap(
            lambda x: st.sampled_from([red(x[0], 1000 * (x[1] + i), 1000) for i in range(x[2])])
        ),
        st.sampled_from([red(1, 0, 100) + red(1, 100, 100), red(1, 0, 50)[:-1], b"", b"\0", b"\0\x81", b"\x11abc"]),
        st.sampled_from(
            [
                encode_segment(DataSegment(RED_BLOCK_END, SessionId(1, n), SERVICE_BUNDLES, 8000, bytes(1000), 3, 0))
                for n in (1, 2)
            ]
        ),
        st.binary(max_size=30),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STREAMS, st.booleans())
def test_segments_that_follow_one_another_are_taken_in_as_one(stream: list[bytes], sort: bool) -> None:
    """Together or one by one: the same events, answers and counts."""
    said = []
    datagrams = sorted(stream) if sort else stream
    for together in (True, False):
        engine = LtpEngine(2, LtpConfig(), random.Random(1))
        engine.add_peer(1, WindowedPeer([(0.0, 1e6, 1e6)], None, owlt=1.0))
        if together:
            engine.receive_all(datagrams, 5.0, 1)
        else:
            for each in datagrams:
                engine.receive(each, 5.0, 1)
        events = engine.take_events()
        for event in events:
            assert isinstance(event, RedPartReceived | ImportCancelled | GreenSegmentReceived)
            engine.confirm(event.session, 5.0)
        engine.advance(5.0)
        sent = engine.take_datagrams()
        said.append((events, sent, engine.counters(1).as_dict(), engine.malformed, engine.unknown_peers))
    assert said[0] == said[1]


def test_few_objects_stand_for_many_datagrams() -> None:
    datagrams = [red(1, 500 * place, 500) for place in range(10)]
    checkpoint = encode_segment(DataSegment(RED_BLOCK_END, SessionId(1, 1), SERVICE_BUNDLES, 5000, b"end", 3, 0))
    run, last = runs([*datagrams, checkpoint])
    assert isinstance(run, Run)
    assert (run.count, run.octets, run.segment.offset, len(run.segment.data)) == (10, sum(map(len, datagrams)), 0, 5000)
    assert last == checkpoint
    assert list(runs([checkpoint, datagrams[3], checkpoint])) == [checkpoint, datagrams[3], checkpoint]


def test_a_run_of_segments_is_one_object() -> None:
    engine = LtpEngine(1, LtpConfig(trains=True, pacing_ahead=1.0))
    engine.add_peer(2, WindowedPeer([(0.0, 10.0, 8e6)], None, owlt=1.0, mtu=1400))
    block = bytes(500_000)
    engine.send(2, block, 0.0)
    engine.advance(0.0)
    sent = [octets for _, octets, _ in engine.take_datagrams()]
    # The offsets of segments take one octet, two, and three; the checkpoint goes alone.
    assert len(sent) <= 6
    assert all(isinstance(train, Train) and train.block is block for train in sent)


def test_what_arrives_of_one_block_is_that_block() -> None:
    recipe = Recipe("images", 3, 5000)
    block = Rope(b"head", recipe, 0, 5000, b"tail")
    whole = bytes(block)
    halves = [(0, Extent(block, 0, 2000)), (2000, Extent(block, 2000, len(block)))]
    assert joined(halves) is block
    assert joined(halves[:1]) == whole[:2000]
    assert joined([halves[0], (2000, whole[2000:])]) == whole


@pytest.mark.parametrize("size", [1, 16, 17, 1000, 1040, 1041, 5000])
def test_a_recipe_makes_any_part_of_what_it_makes(size: int) -> None:
    whole = Recipe("images", 3, size).octets()
    assert len(whole) == size
    rope = Rope(b"ab", Recipe("images", 3, size), size // 3, size, b"cdef")
    octets = b"ab" + whole[size // 3 :] + b"cdef"
    assert (bytes(rope), len(rope)) == (octets, len(octets))
    chance = random.Random(size)
    for _ in range(200):
        begin, end = sorted(chance.randint(0, len(octets)) for _ in range(2))
        assert rope[begin:end] == octets[begin:end]
        inside = Recipe("images", 3, size).octets(min(begin, size), min(end, size))
        assert inside == whole[begin:end]
