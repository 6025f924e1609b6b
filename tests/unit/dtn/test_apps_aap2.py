"""AAP 2.0 from the node's side: roles, order of answers, keepalives, and whatever octets a client may send."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsnet.dtn.apps.aap2 import GREETING, Aap2Session, Adu, Answered, Broken, Configure, Headers
from marsnet.dtn.apps.aap2_schema import MESSAGES, AduFlag, Status

NODE = "ipn:3.0"
HEADERS = Headers("ipn:1.5", "ipn:3.5", 812_000_000_000, 4, 3, 1000)


def framed(message: object, payload: bytes = b"") -> bytes:
    octets = message.SerializeToString()  # type: ignore[attr-defined]
    length, head = len(octets), bytearray()
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + octets + payload


def call(**fields: object) -> bytes:
    return framed(MESSAGES["AAPMessage"](**fields))


def adu(payload: bytes, **fields: object) -> bytes:
    body = {"dst_eid": "ipn:4.7", "payload_length": len(payload), **fields}
    return call(adu=body) + payload


def config(**fields: object) -> bytes:
    return call(config={"endpoint_id": "ipn:3.5", "secret": "s", **fields})


def answer(status: Status) -> bytes:
    return framed(MESSAGES["AAPResponse"](response_status=int(status)))


def frames(output: bytes, kind: str = "AAPResponse") -> list[object]:
    found = []
    while output:
        length = position = shift = 0
        while True:
            octet = output[position]
            length |= (octet & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if octet < 0x80:
                break
        found.append(MESSAGES[kind].FromString(output[position : position + length]))
        output = output[position + length :]
    return found


def statuses(output: bytes) -> list[int]:
    return [frame.response_status for frame in frames(output)]  # type: ignore[attr-defined]


def session(limit: int = 1000) -> Aap2Session:
    made = Aap2Session(NODE, 0.0, payload_limit=limit)
    made.take_output()
    return made


def active(**fields: object) -> Aap2Session:
    made = session()
    made.receive(config(**fields), 0.0)
    (wish,) = made.take_events()
    assert isinstance(wish, Configure)
    made.configured(wish, 0.0)
    made.take_output()
    return made


def passive(**fields: object) -> Aap2Session:
    return active(is_subscriber=True, **fields)


def test_the_node_greets_with_its_magic_octet_and_its_id() -> None:
    output = Aap2Session(NODE, 0.0, payload_limit=1).take_output()
    assert output[:1] == GREETING
    (welcome,) = frames(output[1:], "AAPMessage")
    assert welcome.welcome.node_id == NODE  # type: ignore[attr-defined]


def test_a_client_asks_for_its_role_and_is_told() -> None:
    made = session()
    made.receive(config(is_subscriber=True, auth_type=2, keepalive_seconds=9), 1.0)
    assert made.take_events() == [Configure(True, 2, "s", "ipn:3.5", 9)]
    assert made.take_output() == b""
    made.configured(Configure(True, 2, "s", "ipn:3.5", 9), 1.0)
    assert statuses(made.take_output()) == [Status.SUCCESS]
    assert made.idle


def test_bundles_come_whole_however_they_are_cut() -> None:
    octets = adu(b"payload", src_eid="ipn:3.5", report_to_eid="ipn:3.9", adu_flags=[2], creation_timestamp_ms=7)
    wanted = Adu("ipn:3.5", "ipn:4.7", "ipn:3.9", 7, 0, frozenset({2}), b"payload")
    for size in range(1, len(octets) + 1):
        made = active()
        for start in range(0, len(octets), size):
            made.receive(octets[start : start + size], 0.0)
        assert made.take_events() == [wanted]


def test_calls_that_come_together_are_answered_one_after_another() -> None:
    made = active()
    made.receive(adu(b"a") + call(keepalive={}) + adu(b"b"), 0.0)
    (first,) = made.take_events()
    assert isinstance(first, Adu)
    assert first.payload == b"a"
    assert made.take_output() == b""
    made.respond(Status.SUCCESS, HEADERS)
    (second,) = made.take_events()
    assert isinstance(second, Adu)
    made.respond(Status.ERROR)
    output = frames(made.take_output())
    assert [o.response_status for o in output] == [Status.SUCCESS, Status.ACK, Status.ERROR]  # type: ignore[attr-defined]
    assert output[0].bundle_headers.sequence_number == 4  # type: ignore[attr-defined]


def test_what_follows_the_request_for_a_role_is_read_in_that_role() -> None:
    made = session()
    made.receive(config() + adu(b"x"), 0.0)
    (wish,) = made.take_events()
    assert isinstance(wish, Configure)
    made.configured(wish, 0.0)
    (event,) = made.take_events()
    assert isinstance(event, Adu)


def test_a_passive_client_gets_one_bundle_at_a_time() -> None:
    made = passive()
    made.deliver(HEADERS, (AduFlag.NORMAL,), b"abc", 0.0)
    output = made.take_output()
    assert output.endswith(b"abc")
    (message,) = frames(output[:-3], "AAPMessage")
    assert (message.adu.src_eid, message.adu.payload_length) == ("ipn:1.5", 3)  # type: ignore[attr-defined]
    assert not made.idle
    made.receive(answer(Status.SUCCESS), 0.0)
    assert made.take_events() == [Answered(Status.SUCCESS)]
    assert made.idle


def test_a_passive_client_that_is_silent_is_probed_and_then_given_up() -> None:
    made = passive(keepalive_seconds=10)
    assert made.next_deadline() == 10.0
    made.advance(9.9)
    assert made.take_output() == b""
    made.advance(10.0)
    (message,) = frames(made.take_output(), "AAPMessage")
    assert message.WhichOneof("msg") == "keepalive"  # type: ignore[attr-defined]
    made.receive(answer(Status.ACK), 11.0)
    assert made.take_events() == []
    assert made.next_deadline() == 21.0
    made.advance(21.0)
    made.advance(41.0)
    assert made.take_events() == [Broken("silence")]


def test_an_active_client_must_be_heard_twice_as_often_as_it_said() -> None:
    made = active(keepalive_seconds=5)
    made.receive(call(keepalive={}), 6.0)
    assert statuses(made.take_output()) == [Status.ACK]
    made.advance(15.9)
    assert made.take_events() == []
    made.advance(16.0)
    assert made.take_events() == [Broken("silence")]


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"\xff" * 10, "bad length"),
        (b"\x80\x80\x08", "message too long"),
        (b"\x03\x0a\x05\x00", "no AAPMessage"),
        (b"\x00", "empty message out of place"),
        (call(welcome={"node_id": "ipn:9.0"}), "welcome message out of place"),
        (adu(b"x" * 1001), "payload too large"),
        (call(config={}), "config message out of place"),
    ],
)
def test_what_is_no_call_ends_the_connection_with_an_answer(octets: bytes, reason: str) -> None:
    made = active()
    made.receive(octets, 0.0)
    assert made.take_events() == [Broken(reason)]
    assert statuses(made.take_output()) == [Status.INVALID_REQUEST]
    made.receive(adu(b"late"), 0.0)
    assert made.take_events() == []


def test_bundles_before_the_role_is_known_are_out_of_place() -> None:
    made = session()
    made.receive(adu(b"x"), 0.0)
    assert made.take_events() == [Broken("adu message out of place")]


def test_an_answer_to_no_call_ends_the_connection() -> None:
    made = passive()
    made.receive(answer(Status.SUCCESS), 0.0)
    assert made.take_events() == [Broken("an answer to no call")]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=8), st.sampled_from([session, active, passive]))
def test_no_octets_crash_it_or_make_it_hoard(parts: list[bytes], make: object) -> None:
    made: Aap2Session = make()  # type: ignore[operator]
    given_octets = 0
    for part in parts:
        made.receive(part, 1.0)
        given_octets += len(part)
        for event in made.take_events():
            if isinstance(event, Configure):
                made.configured(event, 1.0)
            elif isinstance(event, Adu):
                made.respond(Status.SUCCESS)
    assert len(made._buffer) <= given_octets


_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "src_eid": st.text(max_size=20),
        "dst_eid": st.text(max_size=20),
        "sequence_number": st.integers(0, 2**64 - 1),
    },
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_FIELDS, st.binary(max_size=50)), max_size=6), st.integers(1, 40))
def test_every_bundle_that_is_sent_arrives_as_it_was(sent: list[tuple[dict[str, object], bytes]], cut: int) -> None:
    made = active()
    octets = b"".join(adu(payload, **fields) for fields, payload in sent)
    got: list[Adu] = []
    for start in range(0, len(octets), cut):
        made.receive(octets[start : start + cut], 0.0)
        while events := made.take_events():
            for event in events:
                assert isinstance(event, Adu)
                got.append(event)
                made.respond(Status.SUCCESS)
    assert [a.payload for a in got] == [payload for _, payload in sent]
    assert [a.source for a in got] == [fields.get("src_eid", "") for fields, _ in sent]
    assert statuses(made.take_output()) == [Status.SUCCESS] * len(sent)
