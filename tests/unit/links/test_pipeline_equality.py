"""The compiled core and the plain-Python reference agree to the nanosecond on whatever is thrown at them."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marsnet.links.config import ClassConfig, DirectionConfig
from marsnet.links.pipeline import PhysicsPipeline, Pipeline
from marsnet.links.reference import ReferencePipeline
from marsnet.links.segment import Bursts, Segment

TIME = st.integers(0, 20_000) | st.integers(0, 200)
PROBABILITY = st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]) | st.floats(0, 1)


@st.composite
def timelines(draw: st.DrawFn, start: int = 0) -> list[Segment]:
    """One to eight segments over some microseconds."""
    result, t0 = [], start + draw(st.integers(0, 300))
    for _ in range(draw(st.integers(1, 8))):
        result.append(
            Segment(
                t0,
                delay_ns=draw(st.integers(0, 50_000)),
                slope=draw(st.sampled_from([0.0, 1e-5, -0.25, 1.0, -1.0]) | st.floats(-1, 1)),
                rate_bps=draw(st.none() | st.sampled_from([1e9, 3e9, 7.77e9, 1e11])),
                loss=draw(PROBABILITY),
                ber=draw(st.sampled_from([0.0, 1e-6, 1e-4, 0.01])),
                up=draw(st.booleans() | st.just(True)),
                hold=draw(st.booleans()),
                corrupt=draw(st.booleans()),
                bursts=draw(st.none() | st.builds(Bursts, PROBABILITY, PROBABILITY, PROBABILITY)),
                ref_ns=draw(st.none() | st.integers(-1000, 30_000)),
            )
        )
        t0 += draw(st.integers(1, 9000))
    return result


@st.composite
def configs(draw: st.DrawFn) -> DirectionConfig:
    """One to three classes with queues that overflow soon."""
    classes = tuple(
        ClassConfig(
            f"c{i}",
            limit_bytes=draw(st.integers(1, 6000)),
            limit_frames=draw(st.integers(1, 8)),
            weight=draw(st.integers(1, 5)),
        )
        for i in range(draw(st.integers(1, 3)))
    )
    return DirectionConfig(
        classes, draw(st.sampled_from(["strict", "weighted"])), max_frame=1600, seed=draw(st.integers(0, 2**64 - 1))
    )


ACTION = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 1700), st.integers(0, 2)),
    st.tuples(st.just("push"), st.integers(1, 1700), st.integers(0, 2)),
    st.tuples(st.just("poll")),
    st.tuples(st.just("replace"), st.integers(-3000, 8000), timelines(), st.none() | st.integers(0, 9000)),
    st.tuples(st.just("extend"), st.none() | st.integers(0, 9000)),
    st.tuples(
        st.just("deaf"),
        st.integers(-2000, 20_000),
        st.lists(st.integers(1, 9000), max_size=6),
        st.none() | st.integers(-3000, 3000),
    ),
)


def act(pipe: PhysicsPipeline, now: int, action: tuple[Any, ...], log: list[Any]) -> None:
    """Do one action and note everything that shows."""
    kind = action[0]
    if kind == "push":
        pipe.push(action[1], action[2] % len(pipe.config.classes), now, len(log))
    elif kind == "poll":
        log.append(pipe.poll(now))
    elif kind == "replace":
        moved = [Segment(**{**s.__dict__, "t0_ns": s.t0_ns + now + action[1]}) for s in (clean(s) for s in action[2])]
        until = None if action[3] is None else moved[-1].t0_ns + 1 + action[3]
        pipe.load(moved, now + action[1], until)
    elif kind == "extend":
        pipe.extend([Segment(now + 10**6, delay_ns=5)], None if action[1] is None else now + 10**6 + 1 + action[1])
    else:
        start, spans = now + action[1], []
        for size in action[2]:
            spans.append((start, start + size))
            start += 2 * size
        pipe.receiver_down(spans, None if action[3] is None else now + action[1] + action[3])
    log.append(pipe.next_deadline())


def clean(segment: Segment) -> Segment:
    """A copy without cached integers."""
    return Segment(**{name: getattr(segment, name) for name in Segment.__dataclass_fields__})


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs(), timelines(), st.lists(st.tuples(TIME, ACTION), max_size=30), st.integers(2, 6))
def test_core_equals_reference(
    config: DirectionConfig, timeline: list[Segment], actions: list[tuple[int, tuple[Any, ...]]], window: int
) -> None:
    logs = []
    for make in (Pipeline, ReferencePipeline):
        pipe, now, log = make(config, window), 0, []
        pipe.load(timeline)
        for step, action in actions:
            now += step
            try:
                act(pipe, now, action, log)
            except Exception as error:  # both must refuse the same things in the same words
                log.append(repr(error))
        log.append(pipe.poll(now + 10**7))
        stats = pipe.stats()
        log.append((stats.entered, stats.delivered, stats.queued, stats.in_flight, stats.dropped, stats.classes))
        log.append((stats.corrupted, stats.broken))
        log.append(pipe.truth(now))
        balance = [stats.delivered, stats.queued, stats.in_flight, *stats.dropped.values()]
        assert stats.entered == tuple(map(sum, zip(*balance, strict=True)))
        logs.append(log)
    assert logs[0] == logs[1]
