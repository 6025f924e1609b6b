"""The TCPCLv4 engine: octets derived by hand from RFC 9174, procedures, any cut of the stream, and hostile peers."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsnet.dtn.tcpcl import (
    RefuseReason,
    SessionEnded,
    SessionEstablished,
    StartTls,
    State,
    TcpclConfig,
    TcpclEngine,
    TcpclEvent,
    TermReason,
    TlsPolicy,
    TransferAcknowledged,
    TransferFailed,
    TransferInterrupted,
    TransferReceived,
    TransferRefused,
)
from marsnet.dtn.tcpcl.messages import (
    Extension,
    Keepalive,
    Message,
    MessageError,
    MessageReader,
    MsgReject,
    SegmentData,
    SegmentHead,
    SessInit,
    SessTerm,
    UnknownMessage,
    XferAck,
    XferRefuse,
    encode_ack,
    encode_refuse,
    encode_reject,
    encode_segment_head,
    encode_sess_init,
    encode_term,
    transfer_length,
)
from marsnet.errors import InputError

CONTACT = b"dtn!\x04\x00"
CONFIG = TcpclConfig("ipn:1.0", keepalive=10)


def messages(octets: bytes, *, contact: bool = False) -> list[Message]:
    reader = MessageReader()
    reader.feed(octets if contact else CONTACT + octets)
    found = []
    while (message := reader.next()) is not None:
        found.append(message)
    return found if contact else found[1:]


GOLDEN: list[tuple[bytes, str, Message]] = [
    # Type 7, keepalive 60 s, segment MRU 0x4000, transfer MRU 0x10000000, node id of 7 octets, no extension items.
    (
        encode_sess_init(SessInit(60, 0x4000, 0x10000000, "ipn:2.0")),
        "07 003c 0000000000004000 0000000010000000 0007 69706e3a322e30 00000000",
        SessInit(60, 0x4000, 0x10000000, "ipn:2.0"),
    ),
    # An extension item has a flag octet, two octets of type and two of length.
    (
        encode_sess_init(SessInit(0, 1, 2, "a", (Extension(1, 0x8000, b"xyz"),))),
        "07 0000 0000000000000001 0000000000000002 0001 61 00000008 01 8000 0003 78797a",
        SessInit(0, 1, 2, "a", (Extension(1, 0x8000, b"xyz"),)),
    ),
    (encode_ack(3, 5, 300), "02 03 0000000000000005 000000000000012c", XferAck(3, 5, 300)),
    (encode_refuse(RefuseReason.NO_RESOURCES, 5), "03 02 0000000000000005", XferRefuse(2, 5)),
    (b"\x04", "04", Keepalive()),
    (encode_term(1, TermReason.BUSY), "05 01 03", SessTerm(1, 3)),
    (encode_reject(3, 0x07), "06 03 07", MsgReject(3, 7)),
    # START without END: four octets of list length, then the transfer length item (type 1, 8 octets).
    (
        encode_segment_head(2, 5, 3, (transfer_length(10),)),
        "01 02 0000000000000005 0000000d 00 0001 0008 000000000000000a 0000000000000003",
        SegmentHead(2, 5, (Extension(0, 1, (10).to_bytes(8, "big")),), 3),
    ),
    # Neither: no extension items, not even their length.
    (
        encode_segment_head(0, 5, 3, (transfer_length(10),)),
        "01 00 0000000000000005 0000000000000003",
        SegmentHead(0, 5, (), 3),
    ),
    (encode_segment_head(3, 0, 3), "01 03 0000000000000000 00000000 0000000000000003", SegmentHead(3, 0, (), 3)),
    (b"\x63", "63", UnknownMessage(0x63)),
]


@pytest.mark.parametrize(("encoded", "octets", "message"), GOLDEN)
def test_golden_octets(encoded: bytes, octets: str, message: Message) -> None:
    assert encoded.hex() == octets.replace(" ", "")
    assert messages(encoded)[0] == message


def test_the_contact_header() -> None:
    engine = TcpclEngine(CONFIG, active=True, now=0.0)
    assert engine.data_to_send(0.0) == [bytes.fromhex("64746e21 04 00")]
    secure = TcpclEngine(replace(CONFIG, tls=TlsPolicy.OFFER), active=True, now=0.0)
    assert secure.data_to_send(0.0) == [bytes.fromhex("64746e21 04 01")]
    assert TcpclEngine(CONFIG, active=False, now=0.0).data_to_send(0.0) == []


class Pair:
    """Two engines and the octets between them, in cuts of random size."""

    def __init__(self, one: TcpclConfig = CONFIG, two: TcpclConfig | None = None, seed: int | None = None) -> None:
        two = two or TcpclConfig("ipn:2.0", keepalive=20)
        self.ends = [TcpclEngine(one, active=True, now=0.0), TcpclEngine(two, active=False, now=0.0)]
        self.events: list[list[TcpclEvent]] = [[], []]
        self.wire = [bytearray(), bytearray()]
        self.now = 0.0
        self.confirm = True
        self.on_received: Callable[[TransferReceived], None] | None = None
        self._rng = None if seed is None else random.Random(seed)

    def run(self) -> None:
        busy = True
        while busy:
            busy = False
            for side in (0, 1):
                octets = b"".join(self.ends[side].data_to_send(self.now, 1000))
                self.wire[side] += octets
                while octets:
                    cut = len(octets) if self._rng is None else self._rng.randrange(1, 40)
                    self.ends[1 - side].receive(octets[:cut], self.now)
                    octets, busy = octets[cut:], True
                for end in (0, 1):
                    for event in self.ends[end].take_events():
                        self.events[end].append(event)
                        busy = True
                        if isinstance(event, TransferReceived) and self.confirm:
                            self.ends[end].confirm(event.transfer, self.now)
                        elif isinstance(event, StartTls):
                            self.ends[end].tls_established((f"ipn:{2 - end}.0",), self.now)

    def of(self, end: int, kind: type) -> list[TcpclEvent]:
        return [event for event in self.events[end] if isinstance(event, kind)]


def opened(one: TcpclConfig = CONFIG, two: TcpclConfig | None = None) -> Pair:
    pair = Pair(one, two)
    pair.run()
    assert [engine.state for engine in pair.ends] == [State.OPEN, State.OPEN]
    return pair


def established(config: TcpclConfig = CONFIG, **peer: int) -> TcpclEngine:
    """A passive engine in a session with a peer that the test plays."""
    engine = TcpclEngine(config, active=False, now=0.0)
    init = SessInit(
        peer.get("keepalive", 0), peer.get("segment_mru", 1000), peer.get("transfer_mru", 10_000), "ipn:9.0"
    )
    engine.receive(CONTACT + encode_sess_init(init), 0.0)
    engine.data_to_send(0.0)
    engine.take_events()
    assert engine.state is State.OPEN
    return engine


def sent(engine: TcpclEngine, now: float = 0.0) -> list[Message]:
    return messages(b"".join(engine.data_to_send(now)))


def test_sessions_negotiate_the_lower_keepalive_and_tell_the_mrus() -> None:
    pair = opened(replace(CONFIG, segment_mru=500, transfer_mru=9000))
    assert pair.of(1, SessionEstablished) == [SessionEstablished("ipn:1.0", 10, 500, 9000, False)]
    assert pair.of(0, SessionEstablished) == [SessionEstablished("ipn:2.0", 10, 1 << 20, 1 << 28, False)]
    assert bytes(pair.wire[0][:7]) == CONTACT + b"\x07"


@pytest.mark.parametrize("seed", range(12))
def test_bundles_cross_both_ways_in_any_cut(seed: int) -> None:
    rng = random.Random(seed)
    pair = Pair(
        replace(CONFIG, segment_size=rng.choice([1, 37, 1000]), segment_mru=300),
        TcpclConfig("ipn:2.0", segment_size=rng.choice([100, 5000]), require_confirm=rng.random() < 0.5),
        seed,
    )
    bundles = [[rng.randbytes(rng.choice([1, 50, 300, 2000])) for _ in range(10)] for _ in range(2)]
    for side in (0, 1):
        for tag, data in enumerate(bundles[side]):
            pair.ends[side].send(data, 0.0, tag=tag)
    pair.run()
    for side in (0, 1):
        received = [e.data for e in pair.of(1 - side, TransferReceived) if isinstance(e, TransferReceived)]
        assert received == bundles[side]
        acknowledged = [e.tag for e in pair.of(side, TransferAcknowledged) if isinstance(e, TransferAcknowledged)]
        assert acknowledged == list(range(10))
        assert pair.ends[side].queued_octets == 0
        assert pair.ends[side].counters["protocol_errors"] == 0


def test_only_the_first_segment_announces_the_length_and_only_of_several() -> None:
    pair = opened(replace(CONFIG, segment_size=100))
    start = len(pair.wire[0])
    pair.ends[0].send(bytes(250), 0.0)
    pair.ends[0].send(bytes(80), 0.0)
    pair.run()
    heads = [m for m in messages(bytes(pair.wire[0][start:])) if isinstance(m, SegmentHead)]
    assert [(h.flags, h.transfer, h.length) for h in heads] == [(2, 0, 100), (0, 0, 100), (1, 0, 50), (3, 1, 80)]
    assert [h.extensions for h in heads] == [(Extension(0, 1, (250).to_bytes(8, "big")),), (), (), ()]


def test_segments_obey_the_peers_mru() -> None:
    engine = established(segment_mru=64)
    engine.send(bytes(200), 0.0)
    assert [m.length for m in sent(engine) if isinstance(m, SegmentHead)] == [64, 64, 64, 8]


def test_every_segment_is_acknowledged_and_the_last_when_it_is_confirmed() -> None:
    engine = established()
    head = encode_segment_head(2, 0, 3, (transfer_length(5),))
    engine.receive(head + b"abc" + encode_segment_head(1, 0, 2) + b"de", 0.0)
    assert engine.take_events() == [TransferReceived(0, b"abcde")]
    assert sent(engine) == [XferAck(2, 0, 3)]
    engine.confirm(0, 1.0)
    assert sent(engine) == [XferAck(1, 0, 5)]
    engine.confirm(0, 1.0)
    assert sent(engine) == []


def test_answers_leave_in_the_order_of_the_segments() -> None:
    engine = established()
    for transfer in range(3):
        engine.receive(encode_segment_head(3, transfer, 1) + b"x", 0.0)
    engine.confirm(2, 0.0)
    engine.refuse(1, RefuseReason.NO_RESOURCES, 0.0)
    assert sent(engine) == []
    engine.confirm(0, 0.0)
    assert sent(engine) == [XferAck(3, 0, 1), XferRefuse(2, 1), XferAck(3, 2, 1)]


def test_a_refused_bundle_comes_back() -> None:
    pair = opened()
    pair.confirm = False
    handle = pair.ends[0].send(b"bundle", 0.0, tag="t")
    pair.run()
    pair.ends[1].refuse(0, RefuseReason.NOT_ACCEPTABLE, 0.0)
    pair.run()
    assert pair.of(0, TransferRefused) == [TransferRefused(handle, "t", RefuseReason.NOT_ACCEPTABLE, 0)]
    assert pair.ends[1].counters["declined"] == 1


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("two", [False, True])
def test_sessions_resume_where_both_ends_do(one: bool, two: bool) -> None:
    pair = opened(replace(CONFIG, resume=one, segment_size=4), TcpclConfig("ipn:2.0", resume=two))
    assert [end.resumes for end in pair.ends] == [one and two] * 2
    handle = pair.ends[0].send(b"the rest", 0.0, tag="t", rest=70_000)
    pair.run()
    if two:
        assert pair.of(1, TransferReceived) == [TransferReceived(0, b"the rest", 70_000)]
    else:
        # It is critical: who does not know it must not take the rest for all there is.
        refused = TransferRefused(handle, "t", RefuseReason.EXTENSION_FAILURE, 0, 70_000)
        assert pair.of(0, TransferRefused) == [refused]
    pair.ends[0].send(b"a whole", 0.0)
    pair.run()
    assert pair.of(1, TransferReceived)[-1] == TransferReceived(1, b"a whole")


def test_a_rest_that_breaks_off_says_what_it_went_on_with() -> None:
    pair = opened(replace(CONFIG, resume=True, segment_size=4), TcpclConfig("ipn:2.0", resume=True))
    pair.ends[0].send(b"the rest", 0.0, rest=9)
    pair.ends[1].receive(b"".join(pair.ends[0].data_to_send(0.0, 1)), 0.0)
    pair.ends[1].connection_lost(0.0)
    assert TransferInterrupted(b"the ", 8, 9) in pair.ends[1].take_events()


def test_a_transfer_refused_under_way_stops_and_the_next_one_follows() -> None:
    engine = established(segment_mru=100)
    first = engine.send(bytes(9000), 0.0, tag="first")
    engine.send(b"second", 0.0, tag="second")
    heads = [m for m in messages(b"".join(engine.data_to_send(0.0, 300))) if isinstance(m, SegmentHead)]
    assert {h.transfer for h in heads} == {0}
    engine.receive(encode_ack(2, 0, 100) + encode_refuse(RefuseReason.NO_RESOURCES, 0), 0.0)
    assert engine.take_events() == [TransferRefused(first, "first", RefuseReason.NO_RESOURCES, 100)]
    assert [(m.flags, m.transfer) for m in sent(engine) if isinstance(m, SegmentHead)] == [(3, 1)]
    assert engine.queued_octets == 0


def test_a_bundle_that_the_peer_has_already_is_as_good_as_acknowledged() -> None:
    engine = established()
    handle = engine.send(b"bundle", 0.0, tag="t")
    engine.data_to_send(0.0)
    engine.receive(encode_refuse(RefuseReason.COMPLETED, 0), 0.0)
    assert engine.take_events() == [TransferAcknowledged(handle, "t")]


def test_a_bundle_larger_than_the_peers_mru_is_not_sent() -> None:
    engine = established(transfer_mru=100)
    handle = engine.send(bytes(101), 0.0, tag="large")
    engine.send(bytes(100), 0.0)
    assert [m.transfer for m in sent(engine) if isinstance(m, SegmentHead)] == [0]
    assert engine.take_events() == [TransferFailed(handle, "large", 0, True)]


@pytest.mark.parametrize("mru", [2**64 - 1, 2**63])
def test_huge_mrus_of_the_peer_are_no_trouble(mru: int) -> None:
    engine = established(segment_mru=mru, transfer_mru=mru)
    engine.send(bytes(300_000), 0.0)
    assert [m.length for m in sent(engine) if isinstance(m, SegmentHead)] == [131072, 131072]


def test_bundles_larger_than_our_mru_are_refused() -> None:
    engine = established(replace(CONFIG, transfer_mru=100))
    engine.receive(encode_segment_head(2, 0, 10, (transfer_length(101),)) + bytes(10), 0.0)
    assert sent(engine) == [XferRefuse(RefuseReason.NO_RESOURCES, 0)]
    engine.receive(encode_segment_head(0, 0, 10) + bytes(10), 0.0)
    assert sent(engine) == []
    engine.receive(encode_segment_head(2, 1, 60) + bytes(60) + encode_segment_head(0, 1, 60) + bytes(60), 0.0)
    assert sent(engine) == [XferAck(2, 1, 60), XferRefuse(RefuseReason.NO_RESOURCES, 1)]
    assert engine.take_events() == []
    engine.receive(encode_segment_head(3, 2, 2) + b"ok", 0.0)
    assert engine.take_events() == [TransferReceived(2, b"ok")]


def test_lengths_that_lie_are_refused() -> None:
    engine = established()
    engine.receive(
        encode_segment_head(2, 0, 3, (transfer_length(5),)) + b"abc" + encode_segment_head(1, 0, 1) + b"d", 0.0
    )
    engine.receive(encode_segment_head(2, 1, 3, (transfer_length(2),)) + b"abc", 0.0)
    assert sent(engine) == [
        XferAck(2, 0, 3),
        XferRefuse(RefuseReason.NOT_ACCEPTABLE, 0),
        XferRefuse(RefuseReason.NOT_ACCEPTABLE, 1),
    ]


def test_critical_extensions_that_are_unknown() -> None:
    engine = established()
    engine.receive(encode_segment_head(3, 0, 1, (Extension(1, 0x8000, b""),)) + b"x", 0.0)
    assert sent(engine) == [XferRefuse(RefuseReason.EXTENSION_FAILURE, 0)]
    engine.receive(encode_segment_head(3, 1, 1, (Extension(0, 0x8000, b""),)) + b"x", 0.0)
    assert engine.take_events() == [TransferReceived(1, b"x")]
    other = TcpclEngine(CONFIG, active=False, now=0.0)
    other.receive(CONTACT + encode_sess_init(SessInit(0, 1, 1, "a", (Extension(1, 0x8000, b""),))), 0.0)
    assert other.state is State.CLOSED
    assert messages(b"".join(other.data_to_send(0.0)), contact=True)[-1] == SessTerm(0, TermReason.CONTACT_FAILURE)


def test_segments_out_of_place_are_rejected() -> None:
    engine = established()
    engine.receive(encode_segment_head(0, 4, 1) + b"x", 0.0)
    engine.receive(encode_segment_head(2, 5, 1) + b"x", 0.0)
    engine.receive(encode_segment_head(2, 6, 1) + b"x", 0.0)
    engine.receive(encode_segment_head(1, 5, 1) + b"y", 0.0)
    engine.receive(encode_segment_head(3, 5, 1) + b"again", 0.0)
    assert sent(engine)[:3] == [MsgReject(3, 1), XferAck(2, 5, 1), MsgReject(3, 1)]
    assert engine.take_events()[0] == TransferReceived(5, b"xy")
    engine.receive(encode_ack(3, 77, 1) + encode_refuse(0, 77), 0.0)
    assert engine.counters["protocol_errors"] >= 4


def test_acknowledgements_of_more_than_was_sent_are_not_believed() -> None:
    engine = established()
    engine.send(b"bundle", 0.0)
    engine.data_to_send(0.0)
    for lie in (encode_ack(1, 0, 7), encode_ack(3, 0, 5)):
        engine.receive(lie, 0.0)
    assert engine.take_events() == []
    assert sent(engine) == [MsgReject(3, 2)] * 2
    engine.receive(encode_ack(3, 0, 6), 0.0)
    assert [type(e) for e in engine.take_events()] == [TransferAcknowledged]


def test_urgent_bundles_go_first_and_queued_ones_can_be_withdrawn() -> None:
    engine = established(segment_mru=10)
    low, middle, withdrawn = (engine.send(bytes(20), 0.0, priority=priority) for priority in (0, 1, 1))
    engine.data_to_send(0.0, 1)
    late = engine.send(bytes(20), 0.0, priority=5)
    assert engine.withdraw(withdrawn)
    assert not engine.withdraw(withdrawn)
    engine.data_to_send(0.0)
    for transfer in range(3):
        engine.receive(encode_ack(1, transfer, 20), 0.0)
    acknowledged = [e.handle for e in engine.take_events() if isinstance(e, TransferAcknowledged)]
    assert acknowledged == [middle, late, low]


def test_keepalives_are_sent_and_missed() -> None:
    engine = established(keepalive=8)
    assert engine.next_deadline(0.0) == 8.0
    engine.advance(8.0)
    assert sent(engine, 8.0) == [Keepalive()]
    assert engine.next_deadline(8.0) == 16.0
    engine.receive(b"\x04", 9.0)
    engine.advance(16.0)
    assert sent(engine, 16.0) == [Keepalive()]
    assert engine.next_deadline(16.0) == 24.0
    engine.advance(25.0)
    assert engine.state is State.CLOSED
    assert sent(engine, 25.0)[-1] == SessTerm(0, TermReason.IDLE_TIMEOUT)
    assert engine.finished
    (ended,) = engine.take_events()
    assert isinstance(ended, SessionEnded)
    assert ended.reason == TermReason.IDLE_TIMEOUT
    assert "16 s" in ended.detail


def test_no_keepalive_when_one_end_wants_none() -> None:
    engine = established(keepalive=0)
    assert engine.next_deadline(0.0) is None


def test_idle_sessions_end_in_order() -> None:
    pair = opened(replace(CONFIG, keepalive=0, idle_timeout=30.0))
    pair.ends[0].send(b"x", 10.0)
    pair.now = 10.0
    pair.run()
    assert pair.ends[0].next_deadline(10.0) == 40.0
    pair.now = 40.0
    pair.ends[0].advance(40.0)
    pair.run()
    assert pair.of(0, SessionEnded) == [SessionEnded(TermReason.IDLE_TIMEOUT, False)]
    assert pair.of(1, SessionEnded) == [SessionEnded(TermReason.IDLE_TIMEOUT, True)]
    assert all(end.finished for end in pair.ends)


def test_what_is_under_way_is_finished_before_the_session_ends() -> None:
    pair = opened(replace(CONFIG, segment_size=100), None)
    pair.confirm = False
    first = pair.ends[0].send(bytes(5000), 0.0, tag=1)
    pair.wire[0] += b"".join(octets := pair.ends[0].data_to_send(0.0, 300))
    second = pair.ends[0].send(b"x", 0.0, tag=2)
    pair.ends[0].terminate(0.0, TermReason.RESOURCE_EXHAUSTION)
    third = pair.ends[0].send(b"y", 0.0, tag=3)
    pair.ends[1].receive(b"".join(octets), 0.0)
    pair.run()
    assert pair.of(0, TransferFailed) == [TransferFailed(second, 2, 0, False), TransferFailed(third, 3, 0, False)]
    assert pair.of(0, SessionEnded) == []
    (received,) = pair.of(1, TransferReceived)
    assert isinstance(received, TransferReceived)
    assert len(received.data) == 5000
    pair.ends[1].confirm(received.transfer, 0.0)
    pair.run()
    assert pair.of(0, TransferAcknowledged) == [TransferAcknowledged(first, 1)]
    assert pair.of(0, SessionEnded) == [SessionEnded(TermReason.RESOURCE_EXHAUSTION, False)]
    assert pair.of(1, SessionEnded) == [SessionEnded(TermReason.RESOURCE_EXHAUSTION, True)]
    assert all(end.finished for end in pair.ends)
    terms = [m for m in messages(bytes(pair.wire[1][6:])) if isinstance(m, SessTerm)]
    assert terms == [SessTerm(1, TermReason.RESOURCE_EXHAUSTION)]


def test_new_transfers_are_refused_while_the_session_ends() -> None:
    engine = established()
    engine.terminate(0.0)
    engine.receive(encode_segment_head(3, 0, 1) + b"x", 0.0)
    assert sent(engine) == [SessTerm(0, 0), XferRefuse(RefuseReason.SESSION_TERMINATING, 0)]


def test_a_peer_that_does_not_end_is_left() -> None:
    engine = established()
    engine.terminate(0.0)
    assert engine.next_deadline(0.0) == 60.0
    engine.advance(60.0)
    assert engine.state is State.CLOSED


def test_both_ends_terminate_at_once() -> None:
    pair = opened()
    for end in pair.ends:
        end.terminate(0.0)
    pair.run()
    assert all(end.finished for end in pair.ends)
    assert [len(pair.of(side, SessionEnded)) for side in (0, 1)] == [1, 1]


def test_a_peer_that_acknowledges_nothing_is_left() -> None:
    engine = established(replace(CONFIG, ack_timeout=50.0))
    handle = engine.send(b"bundle", 5.0, tag="t")
    engine.data_to_send(5.0)
    assert engine.next_deadline(5.0) == 55.0
    engine.advance(55.0)
    failed, ended = engine.take_events()
    assert failed == TransferFailed(handle, "t", 0, False)
    assert isinstance(ended, SessionEnded)
    assert "nothing acknowledged for 50 s" in ended.detail


def test_a_lost_connection_gives_everything_back() -> None:
    engine = established(segment_mru=10)
    handles = [engine.send(bytes(25), 0.0, tag=n) for n in range(3)]
    engine.data_to_send(0.0, 50)
    engine.receive(encode_ack(2, 0, 10) + encode_segment_head(2, 0, 4, (transfer_length(9),)) + b"half", 0.0)
    engine.connection_lost(1.0)
    events = engine.take_events()
    failed = [e for e in events if isinstance(e, TransferFailed)]
    assert sorted(e.handle for e in failed) == handles
    assert failed[0] == TransferFailed(handles[0], 0, 10, False)
    assert TransferInterrupted(b"half", 9) in events
    assert events[-1] == SessionEnded(None, True, "the connection was lost")
    assert engine.finished
    engine.connection_lost(2.0)
    assert engine.take_events() == []


INIT = CONTACT + bytes.fromhex("07 0000 0000000000000001 0000000000000001 0001")


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"GET / HTTP/1.1", "speaks no TCPCL"),
        (b"dtnX", "speaks no TCPCL"),
        (b"dtn!\x03\x00", "version 3"),
        (CONTACT + b"\x63", "0x63 is unknown"),
        (CONTACT + encode_segment_head(3, 0, 1), "before SESS_INIT"),
        (CONTACT + encode_reject(1, 7), "rejects message 0x07"),
        (CONTACT + encode_sess_init(SessInit(0, 0, 1, "a")), "0 octets only"),
        (INIT + bytes.fromhex("ff 00000000"), "not UTF-8"),
        (INIT + bytes.fromhex("61 ffffffff"), "extension items of"),
        (
            CONTACT + bytes.fromhex("07 0000 0000000000000001 0000000000000001 0001 61 00000003 000001"),
            "inside an item",
        ),
        (INIT + bytes.fromhex("61 00000005 00 0001 0001"), "exceeds"),
    ],
)
def test_contacts_that_fail_say_why(octets: bytes, why: str) -> None:
    engine = TcpclEngine(CONFIG, active=False, now=0.0)
    engine.receive(octets, 0.0)
    (ended,) = engine.take_events()
    assert isinstance(ended, SessionEnded)
    assert why in ended.detail
    engine.data_to_send(0.0)
    assert engine.finished
    engine.receive(octets, 1.0)
    assert engine.take_events() == []


def test_version_mismatch_is_told() -> None:
    engine = TcpclEngine(CONFIG, active=False, now=0.0)
    engine.receive(b"dtn!\x05\x00", 0.0)
    assert b"".join(engine.data_to_send(0.0)) == CONTACT + bytes((5, 0, TermReason.VERSION_MISMATCH))


def test_no_session_in_time() -> None:
    engine = TcpclEngine(CONFIG, active=True, now=100.0)
    assert engine.next_deadline(100.0) == 160.0
    engine.advance(160.0)
    (ended,) = engine.take_events()
    assert isinstance(ended, SessionEnded)
    assert "no session after 60 s" in ended.detail


def test_segments_beyond_our_mru_end_the_session() -> None:
    engine = established(replace(CONFIG, segment_mru=100))
    engine.receive(encode_segment_head(3, 0, 2**63), 0.0)
    assert engine.state is State.CLOSED
    assert sent(engine) == [SessTerm(0, TermReason.RESOURCE_EXHAUSTION)]


def test_the_wrong_peer() -> None:
    pair = Pair(replace(CONFIG, expected_peer="ipn:3.0"))
    pair.run()
    (ended,) = pair.of(0, SessionEnded)
    assert isinstance(ended, SessionEnded)
    assert "'ipn:2.0', not 'ipn:3.0'" in ended.detail
    assert pair.ends[1].state is not State.OPEN


@pytest.mark.parametrize(
    ("one", "two", "secure"),
    [
        (TlsPolicy.NEVER, TlsPolicy.OFFER, False),
        (TlsPolicy.OFFER, TlsPolicy.OFFER, True),
        (TlsPolicy.OFFER, TlsPolicy.REQUIRE, True),
        (TlsPolicy.NEVER, TlsPolicy.REQUIRE, None),
        (TlsPolicy.REQUIRE, TlsPolicy.NEVER, None),
    ],
)
def test_tls_policies(one: TlsPolicy, two: TlsPolicy, secure: bool | None) -> None:
    pair = Pair(replace(CONFIG, tls=one), TcpclConfig("ipn:2.0", tls=two))
    pair.run()
    if secure is None:
        assert not any(end.state is State.OPEN for end in pair.ends)
        assert any("does not offer TLS" in e.detail for side in (0, 1) for e in pair.of(side, SessionEnded))  # type: ignore[union-attr]
    else:
        assert [e.secure for side in (0, 1) for e in pair.of(side, SessionEstablished)] == [secure] * 2  # type: ignore[union-attr]
        assert len(pair.of(0, StartTls)) == secure


def test_the_node_id_of_the_certificate_must_be_the_one_that_is_given() -> None:
    strict = replace(CONFIG, tls=TlsPolicy.REQUIRE, require_peer_id=True)
    good = Pair(strict, TcpclConfig("ipn:2.0", tls=TlsPolicy.OFFER))
    good.run()
    assert good.ends[0].state is State.OPEN
    bad = Pair(strict, TcpclConfig("ipn:66.0", tls=TlsPolicy.OFFER))
    bad.run()
    assert bad.ends[0].state is State.CLOSED
    assert any("not for 'ipn:66.0'" in e.detail for e in bad.of(0, SessionEnded))  # type: ignore[union-attr]


def test_octets_in_the_clear_before_tls_are_refused() -> None:
    engine = TcpclEngine(replace(CONFIG, tls=TlsPolicy.OFFER), active=False, now=0.0)
    engine.receive(b"dtn!\x04\x01" + encode_sess_init(SessInit(0, 1, 1, "a")), 0.0)
    assert engine.state is State.CLOSED


def test_octets_that_come_with_the_end_of_the_handshake_are_read() -> None:
    engine = TcpclEngine(replace(CONFIG, tls=TlsPolicy.OFFER), active=False, now=0.0)
    engine.receive(b"dtn!\x04\x01", 0.0)
    engine.receive(encode_sess_init(SessInit(0, 1, 1, "a")), 0.0)
    assert engine.take_events() == [StartTls()]
    engine.tls_established((), 0.0)
    assert engine.take_events() == [SessionEstablished("a", 0, 1, 1, True)]


def test_a_peer_that_writes_and_does_not_read_is_not_read_either() -> None:
    engine = established()
    segment = encode_segment_head(0, 0, 0)
    engine.receive(encode_segment_head(2, 0, 0) + segment * 65_534, 0.0)
    assert not engine.congested
    engine.receive(segment, 0.0)
    assert engine.congested
    engine.data_to_send(0.0)
    assert not engine.congested


def test_congestion_is_told_and_ends_with_the_confirmation() -> None:
    engine = established(replace(CONFIG, max_unconfirmed=100))
    for transfer in range(2):
        engine.receive(encode_segment_head(3, transfer, 80) + bytes(80), 0.0)
    assert engine.congested
    engine.confirm(0, 0.0)
    assert not engine.congested


@pytest.mark.parametrize(
    "options",
    [{"keepalive": 70_000}, {"segment_mru": 0}, {"transfer_mru": 2**64}, {"node_id": ""}, {"require_peer_id": True}],
)
def test_configurations_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="TCPCL"):
        TcpclConfig(**({"node_id": "ipn:1.0"} | options))  # type: ignore[arg-type]


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 99))
def test_any_octets_end_or_wait(octets: bytes, hello: bool, seed: int) -> None:
    engine = established() if hello else TcpclEngine(CONFIG, active=False, now=0.0)
    rng = random.Random(seed)
    while octets:
        cut = rng.randrange(1, 50)
        engine.receive(octets[:cut], 0.0)
        octets = octets[cut:]
        engine.take_events()
        engine.data_to_send(0.0)


@given(st.lists(st.sampled_from([octets for octets, *_ in GOLDEN]), max_size=12), st.randoms())
def test_messages_in_any_order_and_any_cut_are_survived(parts: list[bytes], rng: random.Random) -> None:
    engine, octets = established(), b"".join(parts)
    while octets:
        cut = rng.randrange(1, 30)
        engine.receive(octets[:cut], 0.0)
        octets = octets[cut:]
    for event in engine.take_events():
        if isinstance(event, TransferReceived):
            engine.confirm(event.transfer, 0.0)
    engine.advance(1.0)
    engine.data_to_send(1.0)


def test_a_lying_length_allocates_nothing() -> None:
    engine = established(replace(CONFIG, segment_mru=1 << 40, transfer_mru=1 << 40))
    tracemalloc.start()
    engine.receive(encode_segment_head(2, 0, 1 << 39, (transfer_length(1 << 39),)) + b"abc", 0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000


def test_the_reader_keeps_no_segment_data() -> None:
    reader = MessageReader()
    reader.feed(CONTACT + encode_segment_head(3, 0, 1000))
    assert isinstance(reader.next(), tuple)
    assert isinstance(reader.next(), SegmentHead)
    for n in range(10):
        reader.feed(bytes(100))
        part = reader.next()
        assert isinstance(part, SegmentData)
        assert (len(part.data), part.last) == (100, n == 9)
        assert reader.next() is None
        assert reader.pending == 0
    with pytest.raises(MessageError):
        messages(b"nonsense", contact=True)
