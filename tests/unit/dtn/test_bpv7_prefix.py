"""Broken transfers: what each end makes of the octets that came, at every possible place."""

from __future__ import annotations

import pytest

from marsnet.dtn.bpv7 import (
    Bundle,
    BundleError,
    BundleFlags,
    CreationTimestamp,
    Eid,
    Reassembler,
    ServiceClass,
    decode,
    encode,
    fragment_at,
)
from marsnet.dtn.bpv7.prefix import leading_fragment, read_beginning, read_primary_block

PAYLOAD = bytes(range(200))


def make(**options: object) -> Bundle:
    stamp = CreationTimestamp(812_000_000_000, 5)
    fields = {"service_class": ServiceClass.BULK, **options}
    return Bundle.create(Eid.ipn(7, 1), Eid.ipn(9, 1), PAYLOAD, stamp, 10_000, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("bundle", [make(), fragment_at(make(), 20, 100)], ids=["whole", "fragment"])
def test_both_ends_of_a_broken_transfer_make_fragments_that_join(bundle: Bundle) -> None:
    octets = encode(bundle)
    at = read_beginning(octets).at
    assert octets[at : at + 5] == bundle.payload[:5]
    for length in range(len(octets)):
        for acknowledged in {0, length // 2, length}:
            try:
                kept = leading_fragment(octets[:length])
            except BundleError:
                assert length <= at
                continue
            if acknowledged <= at:
                continue
            offset = min(acknowledged - at, len(bundle.payload) - 1)
            rest = fragment_at(bundle, offset, len(bundle.payload) - offset)
            joiner = Reassembler()
            parts = [decode(encode(kept)), decode(encode(rest))]
            if bundle.is_fragment:
                parts += [fragment_at(make(), 0, 20), fragment_at(make(), 120, 80)]
            joined = [done for part in parts if (done := joiner.add(part, expiry=1.0)) is not None]
            assert [done.bundle.payload for done in joined] == [PAYLOAD]
            assert joined[0].bundle.id == make().id


def test_what_must_not_be_fragmented_is_not() -> None:
    octets = encode(make(flags=BundleFlags.MUST_NOT_FRAGMENT))
    with pytest.raises(BundleError, match="must not be fragmented"):
        leading_fragment(octets[:-40])


def test_the_primary_block_is_read_alone_only_when_its_checksum_fits() -> None:
    octets = encode(make())
    assert read_primary_block(octets[:50] + b"rubbish").id == make().id
    for place in range(1, 30):
        broken = bytearray(octets)
        broken[place] ^= 0x08
        with pytest.raises(BundleError):
            read_primary_block(bytes(broken))


def test_every_cut_and_flip_of_a_beginning_is_refused_or_read() -> None:
    octets = encode(make())
    for place in range(len(octets)):
        for bit in (1, 16, 128):
            broken = bytearray(octets)
            broken[place] ^= bit
            for data in (bytes(broken), bytes(broken[: place + 1])):
                try:
                    beginning = read_beginning(data)
                except BundleError:
                    continue
                assert len(beginning.bundle.payload) <= len(data)
