"""Several bundles in one LTP block, sending and receiving (CCSDS 734.1-B-1 section 7)."""

from __future__ import annotations

import random

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsnet.dtn.ltp import (
    ConstantPeer,
    ExportCancelled,
    ExportCompleted,
    LtpConfig,
    LtpEngine,
    RedPartReceived,
    SegmentError,
    WindowedPeer,
    split_block,
)
from marsnet.dtn.ltp.aggregate import cbor_end
from marsnet.errors import InputError

BUNDLES = [b"\x9f\x01\x42hi\xff", b"\x9f\x82\x01\x9f\x41a\xff\xff", cbor2.dumps([1, {"k": bytes(300)}])]
"""CBOR items of the shapes that bundles have; the engine looks no deeper."""


def pair(**options: object) -> tuple[LtpEngine, LtpEngine]:
    config = LtpConfig(**options)  # type: ignore[arg-type]
    engines = [LtpEngine(n, config, random.Random(n)) for n in (1, 2)]
    engines[0].add_peer(2, WindowedPeer([(10.0, 1e9, 1e6)], None, owlt=0.0))
    engines[1].add_peer(1, ConstantPeer())
    return engines[0], engines[1]


def exchange(sender: LtpEngine, receiver: LtpEngine, now: float) -> list[RedPartReceived]:
    received = []
    for _ in range(6):
        for source, target, name in ((sender, receiver, 1), (receiver, sender, 2)):
            source.advance(now)
            for _, octets, _ in source.take_datagrams():
                target.receive(octets, now, name)
        for event in receiver.take_events():
            if isinstance(event, RedPartReceived):
                receiver.confirm(event.session, now)
                received.append(event)
        now += 0.01
    return received


@pytest.mark.parametrize("service", [1, 2])
def test_what_waits_for_a_contact_shares_a_block(service: int) -> None:
    sender, receiver = pair(aggregate_size=10_000, aggregate_time=100.0, aggregate_service=service)
    numbers = {sender.send(2, bundle, 0.0, tag=n) for n, bundle in enumerate(BUNDLES)}
    assert len(numbers) == 1
    assert exchange(sender, receiver, 0.0) == []
    assert sender.next_deadline(0.0) == 10.0
    (event,) = exchange(sender, receiver, 10.0)
    assert event.service == service
    assert [bytes(bundle) for bundle in split_block(event.service, event.data)] == BUNDLES
    (completed,) = [e for e in sender.take_events() if isinstance(e, ExportCompleted)]
    assert completed.tags == (0, 1, 2)
    assert {completed.number} == numbers


def test_a_block_is_closed_by_size_and_by_time() -> None:
    sender, _ = pair(aggregate_size=400, aggregate_time=3.0)
    assert sender.send(2, bytes(300), 0.0) == sender.send(2, bytes(300), 0.0)
    assert sender.open_sessions() == (1, 0)
    sender.send(2, bytes(300), 1.0)
    sender.advance(3.5)
    assert sender.open_sessions() == (1, 0)
    sender.advance(4.0)
    assert sender.open_sessions() == (2, 0)


def test_an_idle_open_link_is_not_kept_waiting() -> None:
    sender, receiver = pair(aggregate_size=10_000, aggregate_time=100.0)
    sender.send(2, BUNDLES[0], 20.0)
    assert sender.next_deadline(20.0) == 20.0
    assert len(exchange(sender, receiver, 20.0)) == 1


def test_blocks_of_each_priority_and_green_blocks_stay_apart() -> None:
    sender, _ = pair(aggregate_size=10_000, aggregate_time=100.0)
    numbers = [
        sender.send(2, b"\x01", 0.0, priority=0),
        sender.send(2, b"\x01", 0.0, priority=1),
        sender.send(2, b"\x01", 0.0, red_length=0),
    ]
    assert len(set(numbers)) == 3
    assert sender.open_sessions() == (1, 0)
    assert sender.room(2) == sender.config.max_exports - 3


def test_an_aggregate_in_the_making_can_be_cancelled() -> None:
    sender, receiver = pair(aggregate_size=10_000, aggregate_time=5.0)
    number = sender.send(2, b"\x01", 0.0, tag="a")
    assert sender.cancel(number, 1.0)
    assert sender.take_events() == [ExportCancelled(2, number, ("a",), 0, False)]
    assert exchange(sender, receiver, 20.0) == []
    assert sender.next_deadline(20.0) is None


def test_no_third_service() -> None:
    with pytest.raises(InputError, match="aggregate_service is 3"):
        LtpConfig(aggregate_service=3)
    with pytest.raises(SegmentError, match="service 3"):
        split_block(3, b"\x01")
    with pytest.raises(SegmentError, match="client service 9"):
        split_block(2, b"\x09\x01")


items = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.binary() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.integers(100, 2**32), inner)
    ),
    max_leaves=12,
)


@given(st.lists(items, max_size=6))
def test_items_are_found_again(values: list[object]) -> None:
    encoded = [cbor2.dumps(value) for value in values]
    assert [bytes(part) for part in split_block(1, b"".join(encoded))] == encoded


@given(items, st.data())
def test_a_truncated_item_is_refused(value: object, data: st.DataObject) -> None:
    encoded = cbor2.dumps(value)
    with pytest.raises(SegmentError):
        cbor_end(memoryview(encoded[: data.draw(st.integers(0, len(encoded) - 1))]), 0)


@given(st.binary(max_size=200))
def test_any_octets_are_split_or_refused(octets: bytes) -> None:
    try:
        parts = split_block(1, octets)
    except SegmentError:
        return
    assert b"".join(parts) == octets


@pytest.mark.parametrize(
    "octets", ["ff", "9f", "81", "9bffffffffffffffff", "5a7fffffff00", "1c", "3f", "81" * 100 + "01", "82ff"]
)
def test_items_that_are_not_well_formed(octets: str) -> None:
    with pytest.raises(SegmentError):
        split_block(1, bytes.fromhex(octets))
