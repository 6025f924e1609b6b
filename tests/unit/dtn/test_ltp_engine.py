"""The LTP engine's procedures one by one (RFC 5326 section 6), on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
from ltp_world import Channel, World

from marsnet.dtn.ltp import (
    BlockSent,
    CancelReason,
    ConstantPeer,
    ExportCancelled,
    ExportCompleted,
    GreenSegmentReceived,
    ImportCancelled,
    LtpConfig,
    LtpEngine,
    PeerModel,
    PlanPeer,
    RedPartReceived,
    SessionId,
    SessionLimitError,
    WindowedPeer,
)
from marsnet.dtn.ltp.imports import RECORD
from marsnet.dtn.ltp.segments import (
    CancelAckSegment,
    CancelSegment,
    DataSegment,
    ReportAckSegment,
    ReportSegment,
    Segment,
    decode_segment,
    encode_segment,
)
from marsnet.errors import InputError
from marsnet.plan.types import Contact, ContactPlan, Range

OWLT, MARGIN = 100.0, 2.0
Log = list[tuple[float, int, int, bytes]]


def never(octets: bytes, when: float) -> bool:
    return False


def losing(kinds: Iterable[int], count: int) -> Callable[[bytes, float], bool]:
    """Lose the first `count` segments of these types."""
    left = [count]

    def lose(octets: bytes, when: float) -> bool:
        if octets[0] in kinds and left[0]:
            left[0] -= 1
            return True
        return False

    return lose


def world_of(
    config: LtpConfig | None = None,
    models: dict[int, PeerModel] | None = None,
    lose: Callable[[bytes, float], bool] = never,
    confirm_after: float | None = 0.0,
) -> World:
    config = config or LtpConfig(timer_margin=MARGIN, session_base=7)
    engines = {n: LtpEngine(n, config, random.Random(n)) for n in (1, 2)}
    for node, other in ((1, 2), (2, 1)):
        model = (models or {}).get(node) or ConstantPeer(mtu=1000, owlt=OWLT, rate=1e9)
        engines[node].add_peer(other, model)
    ways = {way: Channel(OWLT, lose=lose) for way in ((1, 2), (2, 1))}
    return World(engines, ways, confirm_after=confirm_after)


def kinds(log: Log) -> list[tuple[int, int]]:
    return [(source, octets[0]) for _, source, _, octets in log]


def flush(engine: LtpEngine, now: float = 0.0) -> list[Segment]:
    engine.advance(now)
    return [decode_segment(octets)[0] for _, octets, _ in engine.take_datagrams()]


def receiver(config: LtpConfig | None = None) -> LtpEngine:
    engine = LtpEngine(2, config, random.Random(2))
    engine.add_peer(1, ConstantPeer(mtu=1000, owlt=OWLT))
    return engine


def sender(config: LtpConfig | None = None, **model: float) -> LtpEngine:
    engine = LtpEngine(1, config or LtpConfig(session_base=7), random.Random(1))
    engine.add_peer(2, ConstantPeer(mtu=1000, owlt=OWLT))
    return engine


def red(offset: int, data: bytes, kind: int = 0, checkpoint: int = 0, report: int = 0, number: int = 5) -> bytes:
    return encode_segment(DataSegment(kind, SessionId(1, number), 1, offset, data, checkpoint, report))


def test_one_segment_one_report_one_acknowledgement() -> None:
    world = world_of()
    number = world.engines[1].send(2, b"hello", 0.0, tag="t")
    world.run()
    assert kinds(world.log) == [(1, 3), (2, 8), (1, 9)]
    first, second, third = (decode_segment(octets)[0] for *_, octets in world.log)
    assert isinstance(first, DataSegment)
    assert isinstance(second, ReportSegment)
    assert isinstance(third, ReportAckSegment)
    assert (number, first.session, first.service, bytes(first.data)) == (7, SessionId(1, 7), 1, b"hello")
    assert 0 < first.checkpoint < 2**14
    assert second.checkpoint == first.checkpoint
    assert (second.lower, second.upper, second.claims) == (0, 5, ((0, 5),))
    assert third.report == second.report
    assert [(when, event) for when, event in world.events[1]] == [
        (0.0, BlockSent(2, 7, ("t",))),
        (pytest.approx(2 * OWLT, abs=0.01), ExportCompleted(2, 7, ("t",), 0)),
    ]
    assert world.of(2, RedPartReceived) == [RedPartReceived(1, SessionId(1, 7), 1, b"hello", True)]
    assert [octets for engine in world.engines.values() for octets in engine.open_sessions()] == [0, 0, 0, 0]


def test_nothing_is_acknowledged_before_it_is_confirmed() -> None:
    world = world_of(confirm_after=None)
    world.engines[1].send(2, b"hello", 0.0)
    world.run(until=150.0)
    assert kinds(world.log) == [(1, 3)]
    world.engines[2].confirm(SessionId(1, 7), 150.0)
    world.now = 150.0
    world.run()
    assert kinds(world.log)[-2:] == [(2, 8), (1, 9)]
    assert len(world.of(1, ExportCompleted)) == 1
    assert len(world.of(2, RedPartReceived)) == 1


def test_repeated_checkpoints_wait_for_the_confirmation_too() -> None:
    engine = receiver()
    for _ in range(3):
        engine.receive(red(0, b"hello", 3, checkpoint=9), 0.0)
    assert flush(engine) == []
    engine.confirm(SessionId(1, 5), 1.0)
    (answer,) = flush(engine, 1.0)
    assert isinstance(answer, ReportSegment)
    assert answer.claims == ((0, 5),)


def test_without_require_confirm_the_report_leaves_at_once() -> None:
    engine = receiver(LtpConfig(require_confirm=False))
    engine.receive(red(0, b"hello", 3, checkpoint=9), 0.0)
    assert [segment.kind for segment in flush(engine)] == [8]


def test_what_the_node_refuses_is_cancelled() -> None:
    world = world_of(confirm_after=None)
    world.engines[1].send(2, b"hello", 0.0, tag="t")
    world.run(until=101.0)
    world.now = 101.0
    world.engines[2].refuse(SessionId(1, 7), 101.0)
    world.run()
    assert kinds(world.log) == [(1, 3), (2, 14), (1, 15)]
    assert world.of(1, ExportCancelled) == [ExportCancelled(2, 7, ("t",), CancelReason.SYSTEM, True)]
    assert world.of(2, ImportCancelled) == []
    assert world.engines[2].cancelling == 0


@pytest.mark.parametrize("kind", [3, 8, 9])
def test_each_lost_segment_is_repeated_when_its_answer_is_overdue(kind: int) -> None:
    world = world_of(lose=losing([kind], 1))
    world.engines[1].send(2, b"hello", 0.0)
    world.run()
    repeated = 3 if kind == 3 else 8
    times = [when for when, _, _, octets in world.log if octets[0] == repeated]
    # The sender's own timer may end too, while the receiver waits for its acknowledgement; never before a round trip.
    assert times[1] - times[0] == pytest.approx(2 * OWLT + MARGIN, abs=0.01)
    assert len(world.of(1, ExportCompleted)) == 1
    assert len(world.of(2, RedPartReceived)) == 1
    assert world.engines[1].open_sessions() == world.engines[2].open_sessions() == (0, 0)


def test_a_checkpoint_that_is_never_answered_cancels_the_session() -> None:
    config = LtpConfig(checkpoint_limit=3, cancel_limit=2, timer_margin=MARGIN, session_base=7)
    world = world_of(config, lose=lambda octets, when: True)
    world.engines[1].send(2, b"hello", 0.0, tag="t")
    world.run()
    assert kinds(world.log) == [(1, 3)] * 3 + [(1, 12)] * 2
    assert world.of(1, ExportCancelled) == [
        ExportCancelled(2, 7, ("t",), CancelReason.RETRANSMISSION_LIMIT, False),
    ]
    counters = world.engines[1].counters(2)
    assert (counters.checkpoint_expiries, counters.retransmitted_checkpoints) == (3, 2)
    assert (counters.cancel_expiries, counters.retransmitted_cancels) == (2, 1)
    assert counters.exports_cancelled == {CancelReason.RETRANSMISSION_LIMIT: 1}
    assert world.engines[1].cancelling == 0


def test_a_delivered_block_stays_delivered_when_its_report_is_never_acknowledged() -> None:
    config = LtpConfig(report_limit=3, timer_margin=MARGIN, session_base=7)
    world = world_of(config, lose=lambda octets, when: octets[0] == 8)
    world.engines[1].send(2, b"hello", 0.0)
    world.run(until=1500.0)
    assert world.engines[2].open_sessions() == (0, 0)
    assert world.of(2, ImportCancelled) == []
    assert len(world.of(2, RedPartReceived)) == 1
    # The sender's further checkpoints are answered from memory.
    assert (2, 8) in kinds([entry for entry in world.log if entry[0] > 3 * (2 * OWLT + MARGIN) + OWLT])


def test_an_unfinished_import_is_cancelled_when_its_report_is_never_acknowledged() -> None:
    config = LtpConfig(report_limit=2, cancel_limit=1)
    engine = receiver(config)
    engine.receive(red(0, b"hello", 1, checkpoint=9), 0.0)
    now, seen = 0.0, list[int]()
    while now is not None and len(seen) < 10:
        seen += [segment.kind for segment in flush(engine, now)]
        deadline = engine.next_deadline(now)
        if deadline is None:
            break
        now = deadline
    assert seen == [8, 8, 14]
    assert engine.take_events() == [ImportCancelled(1, SessionId(1, 5), CancelReason.RETRANSMISSION_LIMIT, False)]


def test_the_timer_waits_for_the_peers_contact() -> None:
    # The block arrives at 100 s; the peer can answer from 5,000 s on, so the answer is due at 5,100 s.
    model = WindowedPeer([(0.0, 1e9, 1e9)], [(5000.0, 6000.0)], owlt=OWLT)
    engine = LtpEngine(1, LtpConfig(timer_margin=MARGIN))
    engine.add_peer(2, model)
    engine.send(2, b"hello", 0.0)
    assert [segment.kind for segment in flush(engine)] == [3]
    assert engine.next_deadline(0.0) == pytest.approx(5000.0 + OWLT + MARGIN)
    assert [segment.kind for segment in flush(engine, 5000.0 + OWLT + MARGIN)] == [3]


def test_a_timer_without_a_planned_answer_is_suspended_until_the_plan_changes() -> None:
    engine = LtpEngine(1, LtpConfig(timer_margin=MARGIN))
    engine.add_peer(2, WindowedPeer([(0.0, 1e9, 1e9)], [], owlt=OWLT))
    engine.send(2, b"hello", 0.0)
    flush(engine)
    assert engine.next_deadline(0.0) is None
    engine.add_peer(2, WindowedPeer([(0.0, 1e9, 1e9)], [(7000.0, 8000.0)], owlt=OWLT))
    engine.plan_changed(500.0)
    assert engine.next_deadline(500.0) == pytest.approx(7000.0 + OWLT + MARGIN)
    assert flush(engine, 7000.0) == []
    assert [segment.kind for segment in flush(engine, 7000.0 + OWLT + MARGIN)] == [3]


def test_a_plan_change_does_not_move_an_answer_that_is_on_its_way() -> None:
    engine = sender()
    engine.send(2, b"hello", 0.0)
    flush(engine)
    before = engine.next_deadline(0.0)
    engine.add_peer(2, WindowedPeer([(0.0, 1e9, 1e9)], [(7000.0, 8000.0)], owlt=OWLT))
    engine.plan_changed(150.0, peer=2)
    assert engine.next_deadline(150.0) == before


def test_an_answer_that_is_still_to_leave_moves_with_the_plan() -> None:
    engine = sender()
    engine.send(2, b"hello", 0.0)
    flush(engine)
    engine.add_peer(2, WindowedPeer([(0.0, 1e9, 1e9)], [(7000.0, 8000.0)], owlt=OWLT))
    engine.plan_changed(50.0)
    assert engine.next_deadline(50.0) == pytest.approx(7000.0 + OWLT + MARGIN)


@pytest.mark.interpreted
def test_an_opportunistic_contact_opens_by_plan_changed() -> None:
    class Radio(ConstantPeer):
        up = False

        def can_send(self, now: float) -> bool:
            return self.up

    radio = Radio(mtu=1000, owlt=OWLT)
    engine = LtpEngine(1)
    engine.add_peer(2, radio)
    engine.send(2, b"hello", 0.0)
    assert flush(engine) == []
    assert engine.next_deadline(0.0) is None
    radio.up = True
    engine.plan_changed(33.0)
    assert engine.next_deadline(33.0) == 33.0
    assert [segment.kind for segment in flush(engine, 33.0)] == [3]


def test_a_block_goes_on_in_the_next_contact() -> None:
    windows = [(10.0, 10.5, 1e5), (50.0, 60.0, 1e5)]
    models: dict[int, PeerModel] = {1: WindowedPeer(windows, None, owlt=OWLT, mtu=1000)}
    world = world_of(models=models)
    data = random.Random(1).randbytes(20_000)
    world.engines[1].send(2, data, 0.0)
    world.run()
    (event,) = world.of(2, RedPartReceived)
    assert isinstance(event, RedPartReceived)
    assert event.data == data
    assert world.engines[1].counters(2).retransmitted_bytes == 0
    sent = [(when, 8 * (len(octets) + 28) / 1e5) for when, source, _, octets in world.log if source == 1]
    assert all(
        any(start <= when and when + length <= end + 1e-9 for start, end, _ in windows) for when, length in sent[:-1]
    )
    # The last segment of the first contact is cut to fill it.
    last = max(when + length for when, length in sent if when < 11.0)
    assert 10.5 - last < 96 * 8 / 1e5


def test_contacts_shorter_than_a_segment_are_used() -> None:
    windows = [(float(n), n + 0.02, 1e5) for n in range(200)]
    models: dict[int, PeerModel] = {1: WindowedPeer(windows, None, owlt=OWLT, mtu=1400)}
    world = world_of(models=models)
    world.engines[1].send(2, bytes(5000), 0.0)
    world.run(until=150.0)
    assert len(world.of(2, RedPartReceived)) == 1


def test_a_repeated_checkpoint_shrinks_to_a_short_contact() -> None:
    model = WindowedPeer([(0.0, 10.0, 1e9), (500.0, 500.02, 1e5), (900.0, 1000.0, 1e9)], None, owlt=OWLT)
    models: dict[int, PeerModel] = {1: model}
    world = world_of(models=models, lose=losing([3], 1))
    data = random.Random(2).randbytes(1300)
    world.engines[1].send(2, data, 0.0)
    world.run()
    sizes = [len(octets) for _, source, _, octets in world.log if source == 1 and octets[0] == 3]
    assert sizes[0] > 1300
    assert sizes[1] < 0.02 * 1e5 / 8
    (event,) = world.of(2, RedPartReceived)
    assert isinstance(event, RedPartReceived)
    assert event.data == data


def test_a_closed_import_answers_a_repeated_checkpoint_from_memory() -> None:
    engine = receiver()
    engine.receive(red(0, b"hello", 3, checkpoint=9), 0.0)
    engine.confirm(SessionId(1, 5), 0.0)
    (report,) = flush(engine)
    assert isinstance(report, ReportSegment)
    engine.receive(encode_segment(ReportAckSegment(SessionId(1, 5), report.report)), 1.0)
    assert engine.open_sessions() == (0, 0)
    engine.take_events()
    engine.receive(red(0, b"hello"), 2.0)
    assert flush(engine, 2.0) == []
    engine.receive(red(0, b"hello", 3, checkpoint=9), 3.0)
    (again,) = flush(engine, 3.0)
    assert isinstance(again, ReportSegment)
    assert (again.checkpoint, again.lower, again.upper, again.claims) == (9, 0, 5, ((0, 5),))
    assert again.report != report.report
    assert engine.take_events() == []
    assert engine.next_deadline(3.0) is None or engine.next_deadline(3.0) > 1000.0  # type: ignore[operator]


def test_a_closed_export_acknowledges_a_late_report_and_an_unknown_one_is_cancelled() -> None:
    engine = sender()
    engine.send(2, b"hello", 0.0)
    (data,) = flush(engine)
    assert isinstance(data, DataSegment)
    report = ReportSegment(data.session, 40, data.checkpoint, 5, 0, ((0, 5),))
    for now in (1.0, 2.0):
        engine.receive(encode_segment(report), now, 2)
        assert flush(engine, now) == [ReportAckSegment(data.session, 40)]
    unknown = ReportSegment(SessionId(1, 999), 41, 1, 5, 0, ((0, 5),))
    engine.receive(encode_segment(unknown), 3.0, 2)
    assert flush(engine, 3.0) == [
        ReportAckSegment(SessionId(1, 999), 41),
        CancelSegment(12, SessionId(1, 999), CancelReason.SYSTEM),
    ]
    assert engine.counters(2).late_segments == 2


def test_a_repeated_checkpoint_gets_its_own_report_again() -> None:
    engine = receiver()
    engine.receive(red(0, b"hello", 1, checkpoint=9), 0.0)
    (first,) = flush(engine)
    engine.receive(red(0, b"hello", 1, checkpoint=9), 1.0)
    (second,) = flush(engine, 1.0)
    assert first == second
    engine.receive(encode_segment(ReportAckSegment(SessionId(1, 5), first.report)), 2.0)  # type: ignore[union-attr]
    engine.receive(red(0, b"hello", 1, checkpoint=9), 3.0)
    assert flush(engine, 3.0) == [first]
    assert engine.counters(1).duplicate_checkpoints == 2
    assert engine.counters(1).duplicate_bytes == 10


def test_reports_tell_what_is_there_within_their_scope() -> None:
    engine = receiver()
    engine.receive(red(0, bytes(100)), 0.0)
    engine.receive(red(200, bytes(100), 1, checkpoint=9), 0.0)
    (primary,) = flush(engine)
    assert isinstance(primary, ReportSegment)
    assert (primary.lower, primary.upper, primary.claims) == (0, 300, ((0, 100), (200, 300)))
    engine.receive(red(400, bytes(100), 1, checkpoint=10), 0.0)
    (second,) = flush(engine)
    assert isinstance(second, ReportSegment)
    assert (second.lower, second.upper, second.claims) == (300, 500, ((400, 500),))
    # The answer to a checkpoint that a report asked for has that report's lower bound.
    engine.receive(red(100, bytes(50), 1, checkpoint=11, report=primary.report), 0.0)
    (secondary,) = flush(engine)
    assert isinstance(secondary, ReportSegment)
    assert (secondary.lower, secondary.upper, secondary.claims) == (0, 150, ((0, 150),))
    # A checkpoint that came after a later one is answered too.
    engine.receive(red(0, bytes(10), 1, checkpoint=8), 0.0)
    (overtaken,) = flush(engine)
    assert isinstance(overtaken, ReportSegment)
    assert (overtaken.lower, overtaken.upper) == (0, 10)


def test_long_reports_are_split_to_the_mtu() -> None:
    engine = LtpEngine(2, None, random.Random(2))
    engine.add_peer(1, ConstantPeer(mtu=200, owlt=OWLT))
    for n in range(300):
        engine.receive(red(n * 2000, bytes(1000)), 0.0)
    engine.receive(red(600_000, b"end", 3, checkpoint=9), 0.0)
    engine.advance(0.0)
    raw = [octets for _, octets, _ in engine.take_datagrams()]
    assert len(raw) > 3
    assert max(map(len, raw)) <= 200
    reports = [decode_segment(octets)[0] for octets in raw]
    claims = [claim for report in reports if isinstance(report, ReportSegment) for claim in report.claims]
    assert claims == [(n * 2000, n * 2000 + 1000) for n in range(300)] + [(600_000, 600_003)]


@pytest.mark.parametrize(
    "segments",
    [
        [red(0, b"hello", 2, checkpoint=9), red(5, b"x")],
        [red(0, b"hello", 2, checkpoint=9), red(0, b"hel", 3, checkpoint=10)],
        [red(10, b"hello"), red(0, b"hello", 3, checkpoint=9)],
        [red(10, b"hello", 2, checkpoint=9), red(12, b"green", 4)],
        [red(10, b"hello"), red(12, b"green", 7)],
        [red(0, b"a"), red(12, b"green", 4), red(12, b"red")],
    ],
)
def test_data_of_the_wrong_colour_cancels_the_session(segments: list[bytes]) -> None:
    engine = receiver()
    for octets in segments:
        engine.receive(octets, 0.0)
    assert flush(engine)[-1] == CancelSegment(14, SessionId(1, 5), CancelReason.MISCOLORED)
    assert engine.counters(1).imports_cancelled[CancelReason.MISCOLORED] == 1
    # What was delivered before is not taken back.
    assert [type(e) for e in engine.take_events() if not isinstance(e, GreenSegmentReceived)] in (
        [RedPartReceived],
        [ImportCancelled],
    )
    engine.receive(encode_segment(CancelAckSegment(15, SessionId(1, 5))), 1.0)
    assert engine.cancelling == 0
    assert engine.held_bytes == 0


def test_green_data_is_delivered_as_it_comes_and_needs_no_answer() -> None:
    world = world_of()
    data = random.Random(1).randbytes(2500)
    world.engines[1].send(2, data, 0.0, red_length=0, tag="g")
    world.run()
    assert [kind for _, kind in kinds(world.log)] == [4, 4, 7]
    events = [e for e in world.of(2, GreenSegmentReceived) if isinstance(e, GreenSegmentReceived)]
    assert b"".join(e.data for e in events) == data
    assert [e.end_of_block for e in events] == [False, False, True]
    assert [type(e) for _, e in world.events[1]] == [BlockSent, ExportCompleted]
    assert world.engines[2].open_sessions() == (0, 0)


def test_a_block_of_both_colours() -> None:
    world = world_of(lose=losing([4], 1))
    data = random.Random(1).randbytes(5000)
    world.engines[1].send(2, data, 0.0, red_length=2000)
    world.run()
    (part,) = world.of(2, RedPartReceived)
    assert part == RedPartReceived(1, SessionId(1, 7), 1, data[:2000], False)
    assert len(world.of(2, GreenSegmentReceived)) == 3
    assert len(world.of(1, ExportCompleted)) == 1


def test_a_user_cancels() -> None:
    world = world_of()
    number = world.engines[1].send(2, bytes(5000), 0.0, tag="t")
    world.run(until=50.0)
    world.now = 50.0
    assert world.engines[1].cancel(number, 50.0)
    assert not world.engines[1].cancel(number, 50.0)
    world.run(until=250.0)
    assert world.of(1, ExportCancelled) == [ExportCancelled(2, number, ("t",), CancelReason.USER, False)]
    assert (2, 13) in kinds(world.log)
    assert world.engines[1].cancelling == 0
    assert world.engines[1].open_sessions() == (0, 0)


def test_a_cancelled_import_is_forgotten_by_the_receiver() -> None:
    engine = receiver()
    engine.receive(red(0, b"hello"), 0.0)
    engine.receive(encode_segment(CancelSegment(12, SessionId(1, 5), 0)), 1.0)
    assert flush(engine, 1.0) == [CancelAckSegment(13, SessionId(1, 5))]
    assert engine.take_events() == [ImportCancelled(1, SessionId(1, 5), 0, True)]
    assert (engine.held_bytes, engine.open_sessions()) == (0, (0, 0))
    engine.receive(encode_segment(CancelSegment(12, SessionId(1, 5), 0)), 2.0)
    assert flush(engine, 2.0) == [CancelAckSegment(13, SessionId(1, 5))]
    engine.receive(red(0, b"hello"), 3.0)
    assert engine.open_sessions() == (0, 0)
    engine.receive(red(0, b"hello", 3, checkpoint=9), 3.0)
    assert flush(engine, 3.0) == [CancelSegment(14, SessionId(1, 5), CancelReason.SYSTEM)]


def test_limits_of_imports() -> None:
    engine = receiver(LtpConfig(max_imports=2, max_import_bytes=4000, max_block=10_000))
    engine.receive(red(0, bytes(10), number=1), 0.0)
    engine.receive(red(0, bytes(10), number=2), 0.0)
    engine.receive(red(0, bytes(10), number=3), 0.0)
    assert flush(engine) == [CancelSegment(14, SessionId(1, 3), CancelReason.SYSTEM)]
    assert engine.open_sessions(1) == (0, 2)
    engine.receive(red(9_995, bytes(10), number=1), 0.0)
    assert flush(engine) == [CancelSegment(14, SessionId(1, 1), CancelReason.SYSTEM)]
    engine.receive(red(10, bytes(2000), number=2), 0.0)
    assert engine.held_bytes == 2010 + 2 * RECORD
    engine.receive(red(2010, bytes(1000), number=2), 0.0)
    assert flush(engine) == [CancelSegment(14, SessionId(1, 2), CancelReason.SYSTEM)]
    assert engine.held_bytes == 0
    engine.receive(encode_segment(DataSegment(0, SessionId(1, 9), 77, 0, b"x")), 0.0)
    assert flush(engine) == [CancelSegment(14, SessionId(1, 9), CancelReason.UNREACHABLE)]


def test_limit_of_exports() -> None:
    engine = LtpEngine(1, LtpConfig(max_exports=2))
    engine.add_peer(2, ConstantPeer())
    assert engine.room(2) == 2
    engine.send(2, b"a", 0.0)
    engine.send(2, b"b", 0.0)
    assert engine.room(2) == 0
    with pytest.raises(SessionLimitError, match="2 LTP sessions to engine 2"):
        engine.send(2, b"c", 0.0)


def test_what_cannot_be_sent() -> None:
    engine = sender()
    with pytest.raises(InputError, match="at least one octet"):
        engine.send(2, b"", 0.0)
    with pytest.raises(InputError, match="red part of 9"):
        engine.send(2, b"hello", 0.0, red_length=9)
    with pytest.raises(InputError, match="engine 3 is no peer"):
        engine.send(3, b"hello", 0.0)
    with pytest.raises(InputError, match="engine id -1"):
        LtpEngine(-1)
    with pytest.raises(InputError, match="report_limit is 0"):
        LtpConfig(report_limit=0)
    with pytest.raises(InputError, match="timer_margin is nan"):
        LtpConfig(timer_margin=float("nan"))


def numbers_of(engine: LtpEngine, now: float) -> list[int]:
    return [segment.session.number for segment in flush(engine, now)]


def test_urgent_blocks_pass_between_the_segments_of_bulk_blocks() -> None:
    engine = LtpEngine(1, LtpConfig(session_base=1, pacing_burst=0.0))
    engine.add_peer(2, ConstantPeer(mtu=1000, rate=8 * 1028, owlt=OWLT))
    engine.send(2, bytes(50_000), 0.0, priority=0)
    sent = numbers_of(engine, 0.0) + numbers_of(engine, 1.0)
    engine.send(2, bytes(1500), 1.5, priority=2)
    engine.send(2, bytes(500), 1.5, priority=1)
    for step in range(2, 8):
        sent += numbers_of(engine, float(step))
    assert sent == [1, 1, 2, 2, 3, 1, 1, 1]


def test_nobody_starves() -> None:
    engine = LtpEngine(1, LtpConfig(session_base=1, starvation_bound=4))
    engine.add_peer(2, ConstantPeer(mtu=1000))
    for priority in (0, 1, 2):
        engine.send(2, bytes(20_000), 0.0, priority=priority)
    sent = numbers_of(engine, 0.0)
    assert sent[:15] == [3, 3, 3, 3, 1, 3, 3, 3, 3, 2, 3, 3, 3, 3, 1]
    assert sorted(set(sent)) == [1, 2, 3]


def test_datagrams_carry_the_priority_of_what_they_hold() -> None:
    engine = sender(LtpConfig(control_priority=9))
    engine.send(2, b"hello", 0.0, priority=1)
    engine.receive(red(0, b"x", number=1), 0.0)
    engine.advance(0.0)
    assert [priority for _, _, priority in engine.take_datagrams()] == [1]


def test_several_segments_in_one_datagram() -> None:
    engine = receiver()
    engine.receive(red(0, b"hello") + red(5, b"world", 3, checkpoint=9), 0.0, 1)
    assert engine.take_events() == [RedPartReceived(1, SessionId(1, 5), 1, b"helloworld", True)]
    engine.receive(red(0, b"hello", number=6) + b"\xff\xff", 0.0, 1)
    assert engine.malformed == 1
    assert engine.open_sessions() == (0, 2)


def test_segments_of_others_are_dropped() -> None:
    engine = receiver()
    engine.receive(encode_segment(DataSegment(0, SessionId(77, 5), 1, 0, b"x")), 0.0)
    engine.receive(encode_segment(ReportSegment(SessionId(99, 5), 1, 1, 5, 0, ())), 0.0)
    engine.receive(encode_segment(ReportSegment(SessionId(2, 5), 1, 1, 5, 0, ())), 0.0)
    assert engine.unknown_peers == 3
    engine.add_peer(3, ConstantPeer())
    engine.receive(red(0, b"x"), 0.0, 3)
    assert engine.counters(1).misdirected_segments == 1
    assert engine.open_sessions() == (0, 0)
    engine.receive(b"", 0.0)
    assert engine.malformed == 1


def test_a_peer_that_falls_silent_is_given_up() -> None:
    engine = receiver(LtpConfig(import_idle_limit=1000.0, cancel_limit=1))
    engine.receive(red(0, b"hello"), 0.0)
    now = 0.0
    while engine.open_sessions()[1]:
        deadline = engine.next_deadline(now)
        assert deadline is not None
        now = deadline
        engine.advance(now)
    assert 1000.0 <= now <= 1250.0
    assert engine.take_events() == [ImportCancelled(1, SessionId(1, 5), CancelReason.RETRANSMISSION_LIMIT, False)]


def test_a_peer_that_never_has_enough_is_cancelled() -> None:
    engine = sender(LtpConfig(round_limit=4))
    engine.send(2, b"hello", 0.0, tag="t")
    rounds = 0
    for now in range(20):
        for segment in flush(engine, float(now)):
            if isinstance(segment, DataSegment):
                rounds += 1
                nothing = ReportSegment(segment.session, 100 + now, segment.checkpoint, 5, 0, ())
                engine.receive(encode_segment(nothing), float(now), 2)
    assert rounds == 5
    assert [e.reason for e in engine.take_events() if isinstance(e, ExportCancelled)] == [CancelReason.CYCLES]


def test_a_peer_that_floods_reports_cannot_fill_the_memory() -> None:
    engine = sender()
    engine.send(2, bytes(5000), 0.0)
    (*_, last) = flush(engine)
    assert isinstance(last, DataSegment)
    for n in range(1, 50):
        lie = ReportSegment(last.session, n, last.checkpoint, 5000, 0, ())
        engine.receive(encode_segment(lie), 1.0, 2)
    assert [e.reason for e in engine.take_events() if isinstance(e, ExportCancelled)] == [CancelReason.CYCLES]
    assert engine.open_sessions() == (0, 0)


def test_reports_beyond_the_red_part_are_not_believed() -> None:
    engine = sender()
    engine.send(2, b"hello world", 0.0, red_length=5)
    (first, *_) = flush(engine)
    assert isinstance(first, DataSegment)
    engine.receive(encode_segment(ReportSegment(first.session, 1, first.checkpoint, 11, 0, ((0, 11),))), 1.0, 2)
    assert engine.counters(2).inconsistent_segments == 1
    assert engine.open_sessions() == (1, 0)
    assert flush(engine, 1.0) == []


def test_a_report_stops_the_checkpoints_that_it_overtook() -> None:
    config = LtpConfig(checkpoint_every=1000)
    engine = sender(config)
    engine.send(2, bytes(2000), 0.0)
    checkpoints = [s.checkpoint for s in flush(engine) if isinstance(s, DataSegment) and s.checkpoint]
    assert len(checkpoints) == 2
    whole = ReportSegment(SessionId(1, engine.next_number - 1), 1, checkpoints[1], 2000, 0, ((0, 1900),))
    engine.receive(encode_segment(whole), 1.0, 2)
    sent = flush(engine, 1.0)
    assert [s.kind for s in sent] == [9, 3]
    # Only the checkpoint of the retransmission is outstanding.
    assert [s.kind for s in flush(engine, 2 * OWLT + 50.0)] == [3]


def test_copies_of_control_segments() -> None:
    world = world_of(LtpConfig(control_copies=2), lose=losing([3, 8], 1))
    world.engines[1].send(2, b"hello", 0.0)
    world.run()
    (received,) = [when for when, event in world.events[2] if isinstance(event, RedPartReceived)]
    assert received == pytest.approx(OWLT, abs=0.01)
    assert world.engines[1].counters(2).checkpoint_expiries == 0
    assert world.engines[1].open_sessions() == world.engines[2].open_sessions() == (0, 0)


def test_session_numbers_do_not_repeat_over_a_restart() -> None:
    first, second = (LtpEngine(1, rng=random.Random(seed)) for seed in (1, 2))
    assert first.next_number != second.next_number
    assert max(first.next_number, second.next_number) < 2**31
    first.add_peer(2, ConstantPeer())
    first.send(2, b"a", 0.0)
    kept = first.next_number
    again = LtpEngine(1, LtpConfig(session_base=kept))
    again.add_peer(2, ConstantPeer())
    assert again.send(2, b"b", 0.0) == kept


def test_counters_have_flat_names() -> None:
    world = world_of()
    world.engines[1].send(2, b"hello", 0.0)
    world.run()
    sent = world.engines[1].counters(2).as_dict()
    assert (sent["sent_segments.red_block_end"], sent["sent_segments.report_ack"]) == (1, 1)
    assert (sent["received_segments.report"], sent["exports_completed"], sent["exported_bytes"]) == (1, 1, 5)
    assert sent["exports_cancelled.miscolored"] == sent["exports_cancelled.other"] == 0
    received = world.engines[2].counters(1).as_dict()
    assert (received["imports_completed"], received["imported_bytes"]) == (1, 5)
    assert received["received_bytes"] == sent["sent_bytes"]


def test_the_plan_as_a_peer() -> None:
    plan = ContactPlan(
        "2026-10-01T00:00:00Z",
        0.0,
        1000.0,
        {"a": 1, "b": 2},
        (
            Contact("l", "a", "b", 10.0, 20.0, 1e6),
            Contact("l", "b", "a", 15.0, 30.0, 2e6),
            Contact("l", "a", "b", 20.0, 25.0, 3e6),
        ),
        (Range("a", "b", 0.0, 1000.0, 5.0, 0.001),),
    )
    model = PlanPeer(plan, "a", "b", mtu=500)
    assert [model.can_send(t) for t in (9.9, 10.0, 20.0, 24.9, 25.0)] == [False, True, True, True, False]
    assert [model.rate(t) for t in (0.0, 10.0, 20.0, 25.0)] == [0.0, 1e6, 3e6, 0.0]
    assert [model.next_change(t) for t in (0.0, 10.0, 20.0, 25.0)] == [10.0, 20.0, 25.0, None]
    assert (model.peer_can_send(14.0), model.peer_can_send(29.0)) == (False, True)
    assert [model.peer_next_change(t) for t in (0.0, 15.0, 30.0)] == [15.0, 30.0, None]
    assert model.owlt(100.0) == pytest.approx(5.1)


def test_octets_of_any_kind_do_no_harm() -> None:
    rng = random.Random(9)
    config = LtpConfig(max_imports=50, max_import_bytes=100_000, closed_memory=50, cancel_limit=2)
    engine = LtpEngine(1, config, rng)
    engine.add_peer(2, ConstantPeer(mtu=300, owlt=1.0, rate=1e6))
    seeds: list[bytes] = []
    for step in range(4000):
        now = step * 0.1
        if step % 20 == 0 and engine.room(2):
            engine.send(2, rng.randbytes(rng.randrange(1, 2000)), now, red_length=0 if step % 60 == 0 else None)
        engine.advance(now)
        seeds += [octets for _, octets, _ in engine.take_datagrams()]
        seeds = seeds[-30:]
        octets = bytearray(rng.choice(seeds) if seeds and rng.random() < 0.8 else rng.randbytes(rng.randrange(40)))
        if octets and rng.random() < 0.5:
            octets[0] = rng.randrange(16)
        if len(octets) > 1 and rng.random() < 0.5:
            octets[1] = rng.choice((1, 2))
        for _ in range(rng.randrange(3)):
            if octets:
                octets[rng.randrange(len(octets))] = rng.randrange(256)
        engine.receive(bytes(octets), now, 2)
        for event in engine.take_events():
            if isinstance(event, RedPartReceived):
                engine.confirm(event.session, now)
        assert engine.held_bytes <= 100_000
        assert engine.open_sessions()[1] <= 50
    assert engine.malformed > 100
    assert sum(engine.counters(2).received_segments) > 500


def test_a_receiver_that_restarts_before_it_confirmed_gets_the_block_again() -> None:
    world = world_of(confirm_after=None)
    data = random.Random(3).randbytes(5000)
    world.engines[1].send(2, data, 0.0)
    world.run(until=150.0)
    assert len(world.of(2, RedPartReceived)) == 1
    fresh = LtpEngine(2, LtpConfig(timer_margin=MARGIN), random.Random(99))
    fresh.add_peer(1, ConstantPeer(mtu=1000, owlt=OWLT, rate=1e9))
    world.engines[2] = fresh
    world.confirm_after = 0.0
    world.run()
    again = world.of(2, RedPartReceived)[1:]
    assert [event.data for event in again if isinstance(event, RedPartReceived)] == [data]
    assert len(world.of(1, ExportCompleted)) == 1
    assert world.engines[1].open_sessions() == fresh.open_sessions() == (0, 0)


def test_what_a_restarted_sender_left_behind_is_cleared() -> None:
    world = world_of(lose=losing([0], 1))
    world.engines[1].send(2, bytes(5000), 0.0)
    world.run(until=50.0)
    fresh = LtpEngine(1, LtpConfig(timer_margin=MARGIN, session_base=5000), random.Random(99))
    fresh.add_peer(2, ConstantPeer(mtu=1000, owlt=OWLT, rate=1e9))
    world.engines[1] = fresh
    world.run(until=150.0)
    assert world.engines[2].open_sessions() == (0, 1)
    world.run()
    assert world.engines[2].open_sessions() == (0, 0)
    assert world.engines[2].held_bytes == 0
    (event,) = world.of(2, ImportCancelled)
    assert isinstance(event, ImportCancelled)
    assert event.by_peer


@pytest.mark.parametrize(("burst", "expected"), [(20.0, 121), (0.5, 14)])
def test_a_late_wake_up_is_caught_up_with_as_far_as_the_burst_allows(burst: float, expected: int) -> None:
    engine = LtpEngine(1, LtpConfig(pacing_burst=burst, datagram_overhead=0))
    engine.add_peer(2, ConstantPeer(mtu=1000, rate=8e4, owlt=OWLT))
    engine.send(2, bytes(1_000_000), 0.0)
    count = 0
    for now in (0.0, *(1.0 + n / 100 for n in range(11)), 12.0):
        engine.advance(now)
        count += len(engine.take_datagrams())
    # 10 segments/s, with 1 s and 11 s between wake-ups: all are made up for, or half a second of each.
    assert count == expected


def ahead_of(seconds: float) -> LtpEngine:
    """A link of 10 segments/s."""
    engine = LtpEngine(1, LtpConfig(pacing_burst=0.0, pacing_ahead=seconds, datagram_overhead=0, timer_margin=1.0))
    engine.add_peer(2, ConstantPeer(mtu=1000, rate=8e4, owlt=OWLT))
    return engine


def test_what_leaves_ahead_of_time_leaves_at_the_rate_of_the_link_and_wakes_the_engine_less() -> None:
    engine = ahead_of(1.0)
    engine.send(2, bytes(20_000), 0.0)
    now, sent = 0.0, []
    while not sent or sent[-1][1] < 20_000:
        engine.advance(now)
        sent.append((now, sum(len(s) for _, s, _ in engine.take_datagrams()) + (sent[-1][1] if sent else 0)))
        deadline = engine.next_deadline(now)
        assert deadline is not None
        now = deadline
    assert len(sent) < 6
    assert all(octets <= 1e4 * (when + 1.0) + 2000 for when, octets in sent)
    # The checkpoint leaves after all that was handed out before it.
    assert 2 * OWLT + 3.0 <= now <= 2 * OWLT + 3.1


def test_no_more_leaves_ahead_of_time_than_the_transmitter_holds() -> None:
    engine = ahead_of(1.0)
    engine.add_peer(2, ConstantPeer(mtu=1000, rate=8e6, owlt=OWLT), most_ahead=20_000)
    engine.send(2, bytes(200_000), 0.0)
    now, sent, wakes = 0.0, 0, 0
    while sent < 200_000:
        engine.advance(now)
        sent += sum(len(octets) for _, octets, _ in engine.take_datagrams())
        wakes += 1
        assert sent <= 1e6 * now + 21_000
        deadline = engine.next_deadline(now)
        assert deadline is not None
        now = deadline
    # Half of the 20 ms that it may be ahead pass between two wake-ups.
    assert 18 <= wakes <= 21


def test_a_slow_radio_wakes_the_engine_for_several_segments() -> None:
    engine = LtpEngine(1, LtpConfig(pacing_burst=0.0, pacing_ahead=0.01, segments_ahead=8, datagram_overhead=0))
    engine.add_peer(2, ConstantPeer(mtu=1000, rate=8000.0, owlt=OWLT))
    engine.send(2, bytes(100_000), 0.0)
    now, sent, wakes = 0.0, 0, 0
    while sent < 100_000:
        engine.advance(now)
        sent += sum(len(octets) for _, octets, _ in engine.take_datagrams())
        wakes += 1
        assert sent <= 1000 * now + 9000
        deadline = engine.next_deadline(now)
        assert deadline is not None
        now = deadline
    assert wakes <= 26


def test_what_is_urgent_leaves_ahead_of_what_waits_in_the_line() -> None:
    engine = ahead_of(1.0)
    engine.send(2, bytes(950), 0.0)
    engine.advance(0.0)
    assert engine.next_deadline(0.0) == pytest.approx(2 * OWLT + 1.0 + 0.0967, abs=0.01)
    engine.send(2, bytes(5000), 0.0, priority=3)
    engine.advance(0.0)
    assert sum(len(octets) for _, octets, _ in engine.take_datagrams()) > 5950
    # The checkpoint of what is less urgent leaves later by as much as overtakes it.
    assert engine.next_deadline(0.0) == pytest.approx(2 * OWLT + 1.0 + 0.51, abs=0.02)
    while engine.counters(2).checkpoint_expiries == 0:
        deadline = engine.next_deadline(0.0)
        assert deadline is not None
        engine.advance(deadline)
    assert deadline == pytest.approx(2 * OWLT + 1.0 + 0.51, abs=0.02)
    assert engine.next_deadline(deadline) is not None


def test_timers_that_end_together_do_not_revive_what_one_of_them_cancelled() -> None:
    config = LtpConfig(checkpoint_every=1000, checkpoint_limit=1, cancel_limit=1)
    engine = sender(config)
    engine.send(2, bytes(5000), 0.0)
    assert sum(segment.kind in (1, 3) for segment in flush(engine)) > 3
    assert [segment.kind for segment in flush(engine, 10 * OWLT)] == [12]
    assert sum(isinstance(event, ExportCancelled) for event in engine.take_events()) == 1
    assert engine.counters(2).checkpoint_expiries == 1


def test_a_peer_that_floods_checkpoints_cannot_fill_the_memory() -> None:
    engine = receiver()
    for n in range(9000):
        engine.receive(red(0, b"x", 1, checkpoint=n + 1), 0.0)
        engine.advance(0.0)
        engine.take_datagrams()
        if not engine.open_sessions()[1]:
            break
    assert n == 8192
    assert engine.take_events() == [ImportCancelled(1, SessionId(1, 5), CancelReason.CYCLES, False)]
    assert engine.held_bytes == 0


def test_a_sender_does_not_wait_for_ever_for_the_rest_of_a_report() -> None:
    engine = sender()
    engine.send(2, bytes(5000), 0.0)
    (*_, last) = flush(engine)
    assert isinstance(last, DataSegment)
    part = ReportSegment(last.session, 1, last.checkpoint, 2000, 0, ((0, 2000),))
    engine.receive(encode_segment(part), 1.0, 2)
    assert [segment.kind for segment in flush(engine, 1.0)] == [9]
    # The peer would repeat the missing report after a round trip, and once more after another.
    deadline = engine.next_deadline(1.0)
    assert deadline is not None
    assert 4 * OWLT < deadline < 7 * OWLT
    again = [segment for segment in flush(engine, deadline) if isinstance(segment, DataSegment)]
    assert (again[0].offset, again[-1].offset + len(again[-1].data), again[-1].kind) == (2000, 5000, 3)
    assert again[-1].report == 0
    assert engine.counters(2).stalls == 1


def test_what_waits_is_told_by_priority() -> None:
    engine = LtpEngine(1, LtpConfig(pacing_burst=0.0))
    engine.add_peer(2, ConstantPeer(mtu=1000, rate=8 * 1028, owlt=OWLT))
    engine.send(2, bytes(3000), 0.0, priority=1)
    engine.send(2, bytes(3000), 0.0, priority=0, red_length=1000)
    assert engine.backlog(2) == {1: 3000, 0: 3000}
    assert engine.running_timers == 0
    (first,) = flush(engine, 0.0)
    assert isinstance(first, DataSegment)
    assert engine.backlog(2) == {1: 3000 - len(first.data), 0: 3000}
    for now in range(1, 12):
        flush(engine, float(now))
    assert engine.backlog(2) == {}
    assert engine.running_timers == 2


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(
    "config", [LtpConfig(timer_margin=MARGIN), LtpConfig(timer_margin=MARGIN, checkpoint_every=4000)]
)
def test_a_block_that_counts_as_arrived_is_whole_at_one_receiver_however_often_it_restarts(
    seed: int, config: LtpConfig
) -> None:
    draw = random.Random(seed)
    world = world_of(config, lose=lambda octets, when: draw.random() < 0.3)
    received: list[bytes] = []

    def restart() -> None:
        received.extend(bytes(event.data) for event in world.of(2, RedPartReceived))  # type: ignore[attr-defined]
        world.events[2].clear()
        engine = LtpEngine(2, config, random.Random(draw.random()))
        engine.add_peer(1, ConstantPeer(mtu=1000, owlt=OWLT, rate=1e9))
        world.engines[2] = engine

    for _ in range(3):
        world.at(draw.uniform(0.0, 12 * OWLT), restart)
    blocks = [bytes([number]) * draw.choice((1, 900, 9000, 30_000)) for number in range(6)]
    for block in blocks:
        world.engines[1].send(2, block, 0.0, tag=block)
    world.run()
    restart()
    completed = [tag for event in world.of(1, ExportCompleted) for tag in event.tags]  # type: ignore[attr-defined]
    assert set(completed) <= set(received)
    assert world.engines[1].open_sessions()[0] == 0


def test_a_red_part_without_an_octet_is_no_block() -> None:
    engine = receiver()
    engine.receive(red(0, b"", kind=3, checkpoint=9), 0.0, 1)
    engine.advance(0.0)
    assert [event.data for event in engine.take_events() if isinstance(event, RedPartReceived)] == [b""]
