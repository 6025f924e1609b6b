"""Physics worked out by hand, for both pipelines."""

from __future__ import annotations

from typing import Any

import pytest

from marsnet.errors import InputError
from marsnet.links.config import ClassConfig, DirectionConfig
from marsnet.links.native import Reason
from marsnet.links.pipeline import LIGHT, PhysicsPipeline, Pipeline
from marsnet.links.reference import ReferencePipeline
from marsnet.links.timeline import Bursts, Segment

S = 10**9
MBIT = 8_000_000.0  # one byte per microsecond
KINDS = pytest.mark.parametrize("kind", [Pipeline, ReferencePipeline])


def line(kind: type[PhysicsPipeline], *segments: Segment, **config: Any) -> PhysicsPipeline:
    made = kind(DirectionConfig(**config))
    made.load(segments)
    return made


@KINDS
def test_frames_follow_each_other_and_arrive_a_light_time_later(kind: type[PhysicsPipeline]) -> None:
    pipe = line(kind, Segment(0, 100_000, rate_bps=MBIT))
    pipe.push(10, 0, 1000, "a")
    pipe.push(20, 0, 3000, "b")
    assert pipe.next_deadline() == 11_000
    assert pipe.poll(110_999) == []
    assert pipe.next_deadline() == 111_000
    assert [(o.handle, o.time_ns, o.sent_ns) for o in pipe.poll(131_000)] == [
        ("a", 111_000, 1000),
        ("b", 131_000, 11_000),
    ]
    assert pipe.next_deadline() is None


@KINDS
def test_six_hours_of_delay(kind: type[PhysicsPipeline]) -> None:
    pipe = line(kind, Segment(0, 6 * 3600 * S, slope=1e-5, rate_bps=MBIT))
    for i in range(1000):
        pipe.push(1000, 0, i * S, i)
    assert pipe.poll(6 * 3600 * S - 1) == []
    got = pipe.poll(7 * 3600 * S)
    assert [o.handle for o in got] == list(range(1000))
    assert all(abs(o.time_ns - (o.handle * S + 10**6) - 6 * 3600 * S - o.handle * 10**4 - 10) <= 1 for o in got)


@KINDS
def test_a_transmitter_that_goes_down_cuts_the_frame_and_holds_the_rest(kind: type[PhysicsPipeline]) -> None:
    pipe = line(kind, Segment(0, 0, rate_bps=MBIT), Segment(15_000, up=False), Segment(50_000, 0, rate_bps=MBIT))
    for name in "abc":
        pipe.push(10, 0, 0, name)
    assert [(o.handle, o.time_ns, o.reason) for o in pipe.poll(S)] == [
        ("b", 15_000, Reason.CUT),
        ("a", 10_000, None),
        ("c", 60_000, None),
    ]


@KINDS
def test_a_replacement_ends_the_frame_that_is_being_sent(kind: type[PhysicsPipeline]) -> None:
    pipe = line(kind, Segment(0, 0, rate_bps=MBIT))
    pipe.push(100, 0, 0, "a")
    pipe.poll(50_000)
    pipe.load([Segment(70_000, up=False)], replace_from_ns=70_000)
    assert pipe.next_deadline() == 70_000
    assert [(o.reason, o.time_ns) for o in pipe.poll(S)] == [(Reason.CUT, 70_000)]


@KINDS
def test_the_future_beyond_the_horizon_is_waited_for(kind: type[PhysicsPipeline]) -> None:
    pipe = kind(DirectionConfig())
    pipe.load([Segment(0, 5)], until_ns=1000)
    pipe.push(10, 0, 2000, "a")
    assert pipe.poll(3000) == []
    assert pipe.next_deadline() is None
    pipe.extend([Segment(1000, 7)])
    assert [o.time_ns for o in pipe.poll(3000)] == [2007]


@KINDS
def test_weights_share_the_rate(kind: type[PhysicsPipeline]) -> None:
    classes = (ClassConfig("x", weight=3), ClassConfig("y", weight=1))
    pipe = line(kind, Segment(0, 0, rate_bps=MBIT), classes=classes, scheduler="weighted")
    for i in range(400):
        pipe.push(500, i % 2, 0, i)
    got = [o.cls for o in pipe.poll(100 * 500_000)]
    assert len(got) == 100
    assert 70 <= got.count(0) <= 80


@KINDS
def test_losses_come_at_their_rate_and_in_bursts(kind: type[PhysicsPipeline]) -> None:
    pipe = line(kind, Segment(0, 0, bursts=Bursts(0.02, 0.2)), seed=5)
    for i in range(5000):
        pipe.push(100, 0, i * 1000, i)
    lost = sorted(o.handle for o in pipe.poll(S) if o.reason is Reason.LOSS)
    runs = sum(1 for i, n in enumerate(lost) if not i or lost[i - 1] != n - 1)
    assert len(lost) / 5000 == pytest.approx(0.02 / 0.22, rel=0.25)
    assert len(lost) / runs == pytest.approx(5, rel=0.25)


@KINDS
def test_bit_errors_grow_with_length(kind: type[PhysicsPipeline]) -> None:
    for corrupt in (True, False):
        pipe = line(kind, Segment(0, 0, ber=1e-4, corrupt=corrupt), seed=9)
        for i in range(4000):
            pipe.push(100 if i % 2 else 1000, 0, i * 1000, i)
        got = pipe.poll(S)
        hit = [o for o in got if o.corrupted or o.reason is Reason.BIT_ERROR]
        assert all(o.corrupted == corrupt for o in hit)
        assert sum(o.length == 100 for o in hit) / 2000 == pytest.approx(1 - (1 - 1e-4) ** 800, rel=0.2)
        assert sum(o.length == 1000 for o in hit) / 2000 == pytest.approx(1 - (1 - 1e-4) ** 8000, rel=0.1)


@KINDS
def test_truth(kind: type[PhysicsPipeline]) -> None:
    pipe = line(kind, Segment(1000, 2 * S, slope=-1e-5, up=False))
    assert pipe.truth(999) is None
    truth = pipe.truth(1000 + S)
    assert truth is not None
    assert abs(truth.delay_ns - (2 * S - 10**4)) <= 1
    assert truth.range_m(10.0) == pytest.approx(20 * LIGHT, rel=1e-4)
    assert truth.range_rate == pytest.approx(-1e-5 * LIGHT)
    assert truth.last_tx_ns is None


@KINDS
def test_bad_frames_and_intervals_are_refused(kind: type[PhysicsPipeline]) -> None:
    pipe = line(kind, Segment(0))
    for length, cls in ((0, 0), (-1, 0), (10, 1), (10, -1)):
        with pytest.raises(InputError, match="push a configured class"):
            pipe.push(length, cls, 0)
    for spans in ([(5, 5)], [(0, 10), (5, 20)]):
        with pytest.raises(InputError, match="interval"):
            pipe.receiver_down(spans)


def test_configuration_errors_name_the_value() -> None:
    for data, words in (
        ({"classes": []}, "0 classes"),
        ({"scheduler": "fair"}, "scheduler is 'fair'"),
        ({"default_class": "x"}, "default_class is 'x'"),
        ({"classes": [{"name": "a", "dscp": [64]}]}, "dscp is 64"),
        ({"classes": [{"name": "a", "limit_bytes": -1}]}, "limit_bytes is -1"),
        ({"classes": [{"name": "a"}, {"name": "a"}]}, "two classes are called 'a'"),
        ({"classes": 5}, "classes is 5"),
        ({"classes": [{"name": "a", "dscp": 7}]}, "dscp is 7"),
        ({"max_frame": 1.5}, "max_frame is 1.5"),
    ):
        with pytest.raises(InputError, match=words):
            DirectionConfig.from_json(data)
    both = DirectionConfig((ClassConfig("a", (5,)), ClassConfig("b", (5,))))
    with pytest.raises(InputError, match="dscp 5 belongs to two classes"):
        both.class_of()
