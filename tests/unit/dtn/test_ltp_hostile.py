"""A peer that lies, floods or stalls: memory stays within limits, all is counted, honest peers are served."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable

import pytest

from marsnet.dtn.ltp import (
    CancelReason,
    ConstantPeer,
    ExportCompleted,
    ImportCancelled,
    LtpConfig,
    LtpEngine,
    RedPartReceived,
    SessionId,
    WindowedPeer,
)
from marsnet.dtn.ltp.segments import CancelSegment, DataSegment, ReportSegment, decode_segment, encode_segment

MEGABYTE = 1 << 20


def red(session: int, offset: int, data: bytes, kind: int = 0, checkpoint: int = 0) -> bytes:
    return encode_segment(DataSegment(kind, SessionId(1, session), 1, offset, data, checkpoint, 0))


def engine_of(config: LtpConfig, *, opens: float = 0.0) -> LtpEngine:
    """Engine 2, with a neighbour 1 to which its contact opens at an instant, and an honest one, 3."""
    engine = LtpEngine(2, config, random.Random(2))
    engine.add_peer(1, WindowedPeer([(opens, 1e9, 1e9)], [(0.0, 1e9)], mtu=1000, owlt=1.0))
    engine.add_peer(3, ConstantPeer(mtu=1000, owlt=1.0))
    return engine


def memory_of(engine: LtpEngine, datagrams: Iterable[bytes]) -> int:
    """Octets that the engine holds after these, sent at once."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for count, datagram in enumerate(datagrams):
            engine.receive(datagram, 0.0, 1)
            if count % 128 == 127:
                engine.advance(0.0)
                engine.take_datagrams()
                engine.take_events()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def serves_others(engine: LtpEngine) -> bool:
    """Whether a block of the honest neighbour still arrives."""
    segment = DataSegment(3, SessionId(3, 1), 1, 0, b"honest", 5, 0)
    engine.receive(encode_segment(segment), 1.0, 3)
    return any(isinstance(event, RedPartReceived) and event.peer == 3 for event in engine.take_events())


def test_single_octets_count_with_what_they_cost() -> None:
    engine = engine_of(LtpConfig(max_import_bytes=MEGABYTE))
    used = memory_of(engine, (red(5 + n // 1000, 2 * (n % 1000) + 1, b"x") for n in range(8_000)))
    assert used < 2 * MEGABYTE
    assert engine.held_bytes <= MEGABYTE
    assert engine.counters(1).imports_cancelled[CancelReason.SYSTEM]


def test_reports_that_a_peer_provokes_count_too() -> None:
    engine = engine_of(LtpConfig(max_import_bytes=MEGABYTE), opens=1e6)
    gaps = [red(5, 2 * n + 1, b"x") for n in range(300)]
    used = memory_of(engine, gaps + [red(5, 700 + n, b"x", 1, n + 1) for n in range(4000)])
    assert used < 3 * MEGABYTE
    assert engine.counters(1).imports_cancelled[CancelReason.SYSTEM] == 1


def test_a_flood_of_sessions_is_refused_and_counted() -> None:
    engine = engine_of(LtpConfig(max_imports=100))
    used = memory_of(engine, (red(n, 0, b"x") for n in range(1, 5_001)))
    assert engine.open_sessions(1) == (0, 100)
    assert engine.counters(1).refused_imports == 4_900
    assert used < MEGABYTE
    assert serves_others(engine)


@pytest.mark.parametrize("kind", [12, 14])
def test_a_storm_of_cancellations_over_a_closed_contact(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marsnet.dtn.ltp.link.MAX_CONTROL", 2000)
    engine = engine_of(LtpConfig(), opens=1e6)
    origin = 1 if kind == 12 else 2
    storm = (encode_segment(CancelSegment(kind, SessionId(origin, n), 0)) for n in range(1, 8_001))
    used = memory_of(engine, storm)
    assert engine.counters(1).late_segments == 8_000
    assert engine.counters(1).dropped_answers == 6_000
    assert used < MEGABYTE // 2
    assert serves_others(engine)


def test_sessions_opened_only_to_be_cancelled() -> None:
    engine = engine_of(LtpConfig(closed_memory=200), opens=1e6)
    contradictions = (red(n // 2, 10 if n % 2 else 0, b"xyz", 3, 1) for n in range(4, 6_004))
    used = memory_of(engine, contradictions)
    assert engine.cancelling <= 200
    assert used < 2 * MEGABYTE
    assert serves_others(engine)


def test_segments_beyond_every_bound_are_cancelled() -> None:
    engine = engine_of(LtpConfig(max_block=10_000))
    engine.receive(red(5, (1 << 63) - 1, b"far out"), 0.0, 1)
    engine.receive(red(6, 9_999, b"over the edge"), 0.0, 1)
    assert [e.reason for e in engine.take_events() if isinstance(e, ImportCancelled)] == [CancelReason.SYSTEM] * 2
    assert engine.open_sessions() == (0, 0)


def test_what_has_not_left_cannot_have_been_received() -> None:
    engine = LtpEngine(1, LtpConfig(session_base=7), random.Random(1))
    engine.add_peer(2, ConstantPeer(mtu=1000, owlt=1.0, rate=80_000.0))
    engine.send(2, bytes(50_000), 0.0)
    engine.advance(0.0)
    sent = [decode_segment(octets)[0] for _, octets, _ in engine.take_datagrams()]
    assert 0 < len(sent) < 10
    lie = ReportSegment(SessionId(1, 7), 1, 0, 50_000, 0, ((0, 50_000),))
    engine.receive(encode_segment(lie), 0.0, 2)
    assert engine.counters(2).inconsistent_segments == 1
    assert not any(isinstance(event, ExportCompleted) for event in engine.take_events())
    assert engine.open_sessions() == (1, 0)
    last = sent[-1]
    assert isinstance(last, DataSegment)
    honest = ReportSegment(SessionId(1, 7), 2, 0, last.offset + len(last.data), 0, ((0, 900),))
    engine.receive(encode_segment(honest), 0.0, 2)
    assert engine.counters(2).inconsistent_segments == 1


def test_a_peer_that_stalls_is_given_up_and_its_memory_freed() -> None:
    engine = engine_of(LtpConfig(import_idle_limit=100.0))
    for session in range(1, 50):
        engine.receive(red(session, 0, bytes(900)), 0.0, 1)
    assert engine.held_bytes > 40_000
    now = 0.0
    while engine.open_sessions()[1] and (deadline := engine.next_deadline(now)) is not None:
        now = deadline
        engine.advance(now)
        engine.take_datagrams()
    assert 100.0 <= now <= 126.0
    assert engine.held_bytes == 0
    assert engine.counters(1).imports_cancelled[CancelReason.RETRANSMISSION_LIMIT] == 49
