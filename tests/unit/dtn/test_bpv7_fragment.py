"""Fragments, and putting them together in any order, repeated and overlapping."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsnet.dtn.bpv7 import (
    BlockFlags,
    BlockType,
    Bundle,
    BundleError,
    BundleFlags,
    CreationTimestamp,
    Eid,
    Malformation,
    Reassembler,
    ServiceClass,
    decode,
    encode,
    fragment,
    fragment_at,
)

PAYLOAD = bytes(range(256)) * 4


def make(flags: int = 0, sequence: int = 1) -> Bundle:
    stamp = CreationTimestamp(0, sequence)
    bundle = Bundle.create(
        Eid.ipn(1, 1), Eid.ipn(2, 1), PAYLOAD, stamp, 1000, flags=flags, service_class=ServiceClass.BULK
    )
    bundle = bundle.with_extension(200, b"everywhere", flags=BlockFlags.REPLICATE)
    return bundle.with_extension(201, b"first only")


def test_fragments_carry_what_they_must() -> None:
    parts = [decode(encode(part)) for part in fragment(make(), 300)]
    assert [(part.fragment_offset, len(part.payload)) for part in parts] == [
        (0, 300),
        (300, 300),
        (600, 300),
        (900, 124),
    ]
    assert all(part.total_length == 1024 and part.is_fragment for part in parts)
    assert all(part.service_class is ServiceClass.BULK and part.bundle_age == 0 for part in parts)
    assert all(part.block(200) is not None for part in parts)
    assert [part.block(201) is not None for part in parts] == [True, False, False, False]
    assert len({part.id for part in parts}) == 4


def test_a_bundle_that_fits_is_left_alone() -> None:
    bundle = make()
    assert fragment(bundle, 1024) == [bundle]


def test_fragments_of_fragments_keep_their_place() -> None:
    part = fragment_at(make(), 300, 300)
    inner = fragment_at(part, 100, 50)
    assert (inner.fragment_offset, inner.total_length, inner.payload) == (400, 1024, PAYLOAD[400:450])


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, 0), (1020, 5), (2000, 1)])
def test_parts_outside_the_payload_are_refused(offset: int, length: int) -> None:
    with pytest.raises(BundleError) as caught:
        fragment_at(make(), offset, length)
    assert caught.value.reason is Malformation.FRAGMENT


def test_what_must_not_be_fragmented_is_not() -> None:
    bundle = make(BundleFlags.MUST_NOT_FRAGMENT)
    with pytest.raises(BundleError, match="must not be fragmented"):
        fragment(bundle, 100)
    with pytest.raises(BundleError):
        fragment(make(), 0)


@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(1, 400)), max_size=30), st.randoms(use_true_random=False))
def test_any_order_with_overlaps_and_repetitions(extra: list[tuple[int, int]], shuffle: random.Random) -> None:
    bundle = make()
    parts = fragment(bundle, 256) + [fragment_at(bundle, at, min(length, 1024 - at)) for at, length in extra]
    shuffle.shuffle(parts)
    reassembler = Reassembler()
    done = None
    fed = 0
    for number, part in enumerate(parts):
        fed += 1
        done = reassembler.add(part, expiry=10.0, token=number)
        if done is not None:
            break
    assert done is not None
    assert done.bundle.payload == PAYLOAD
    assert done.bundle.block(201) is not None
    assert not done.bundle.is_fragment
    assert set(done.tokens) == set(range(fed))
    assert (reassembler.held_bytes, len(reassembler)) == (0, 0)
    assert encode(decode(encode(done.bundle))) == encode(done.bundle)


def test_the_first_octets_are_not_enough_without_the_first_fragments_blocks() -> None:
    reassembler = Reassembler()
    assert reassembler.add(fragment_at(make(), 1, 1023), expiry=1.0) is None
    done = reassembler.add(fragment_at(make(), 0, 1), expiry=1.0)
    assert done is not None
    assert done.bundle == make()


def test_bundles_are_kept_apart() -> None:
    reassembler = Reassembler()
    assert reassembler.add(fragment_at(make(sequence=1), 0, 512), expiry=1.0) is None
    assert reassembler.add(fragment_at(make(sequence=2), 512, 512), expiry=1.0) is None
    assert len(reassembler) == 2


def test_contradictions_and_bounds_are_refused_and_leave_nothing() -> None:
    reassembler = Reassembler(max_bytes=600, max_bundles=1, max_fragments=3)
    with pytest.raises(BundleError) as caught:
        reassembler.add(make(), expiry=1.0)
    assert caught.value.reason is Malformation.FRAGMENT
    reassembler.add(fragment_at(make(), 0, 500), expiry=1.0)
    shorter = decode(encode(fragment_at(make(), 600, 10)))
    lying = Bundle(
        shorter.destination, shorter.source, shorter.report_to, shorter.timestamp, 1000, shorter.blocks, shorter.flags,
        shorter.crc_type, 600, 900,
    )  # fmt: skip
    for wrong in (lying, fragment_at(make(), 500, 200), fragment_at(make(sequence=5), 0, 1)):
        with pytest.raises(BundleError):
            reassembler.add(wrong, expiry=1.0)
    assert (reassembler.held_bytes, len(reassembler)) == (500, 1)
    for _ in range(2):
        reassembler.add(fragment_at(make(), 0, 1), expiry=1.0)
    with pytest.raises(BundleError, match="more than 3 fragments"):
        reassembler.add(fragment_at(make(), 0, 1), expiry=1.0)


def test_what_expires_is_given_up() -> None:
    reassembler = Reassembler()
    reassembler.add(fragment_at(make(sequence=1), 0, 10), expiry=5.0, token="a")
    reassembler.add(fragment_at(make(sequence=2), 0, 10), expiry=9.0, token="b")
    assert reassembler.next_deadline() == 5.0
    assert reassembler.expire(5.0) == ("a",)
    assert reassembler.next_deadline() == 9.0
    assert reassembler.held_bytes == 10
    assert reassembler.add(fragment_at(make(sequence=2), 10, 1014), expiry=9.0) is not None
    assert reassembler.next_deadline() is None


def test_the_payload_block_alone_stays_last() -> None:
    assert fragment_at(make(), 5, 5).blocks[-1].type == BlockType.PAYLOAD
