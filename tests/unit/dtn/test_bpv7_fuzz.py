"""Generated bundles round-trip; damaged ones end in a bundle or a BundleError, soon and without great allocations."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marsnet.dtn.bpv7 import (
    Bundle,
    BundleError,
    CanonicalBlock,
    CreationTimestamp,
    DecodeLimits,
    Eid,
    ServiceClass,
    StatusReport,
    decode,
    decode_admin_record,
    encode,
    encode_status_report,
)
from marsnet.dtn.bpv7.blocks import REPORT_FLAGS

U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"), min_size=1, max_size=20)
DEMUXES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
EIDS = st.one_of(
    st.builds(Eid.dtn, NAMES, DEMUXES),
    st.builds(lambda n, s, a, e: Eid.ipn(n, s, a, elements=e), st.integers(1, 99), U64, U32, st.sampled_from((2, 3))),
)
EXTENSIONS = st.lists(
    st.tuples(st.one_of(st.integers(13, 240), st.integers(244, 1 << 64 - 1)), U64, U64, st.integers(0, 2), st.binary()),
    max_size=6,
    unique_by=lambda extension: extension[1],
)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    flags = draw(U64) & ~0x05
    if flags & 0x02:
        flags &= ~REPORT_FLAGS
    bundle = Bundle.create(
        draw(EIDS),
        draw(st.one_of(EIDS, st.just(Eid.parse("dtn:none")))),
        draw(st.binary(max_size=300)),
        CreationTimestamp(draw(U64), draw(U64)),
        draw(U64),
        report_to=draw(EIDS),
        flags=flags,
        crc_type=draw(st.integers(0, 2)),
        service_class=draw(st.sampled_from(ServiceClass)),
        hop_limit=draw(st.one_of(st.none(), st.integers(1, 255))),
        age_ms=draw(st.one_of(st.none(), U64)),
    )
    taken = {block.number for block in bundle.blocks}
    for kind, number, block_flags, crc_type, data in draw(EXTENSIONS):
        if number not in taken and number:
            bundle = bundle.with_block(CanonicalBlock(kind, number, block_flags, crc_type, data))
    return bundle


@given(bundles())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_generated_bundles_round_trip(bundle: Bundle) -> None:
    data = encode(bundle)
    again = decode(data)
    assert again == bundle
    assert [eid.elements for eid in (again.source, again.destination)] == [
        eid.elements for eid in (bundle.source, bundle.destination)
    ]
    assert encode(again) == data
    assert encode(again.with_blocks(block.with_data(block.data) for block in again.blocks)) == data


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_any_octets_are_a_bundle_or_refused(data: bytes) -> None:
    for candidate in (data, b"\x9f\x88\x07" + data):
        try:
            bundle = decode(candidate)
        except BundleError:
            continue
        assert encode(bundle) == candidate


@given(st.binary(max_size=100))
def test_any_octets_are_an_administrative_record_or_refused(data: bytes) -> None:
    for candidate in (data, b"\x82\x01\x84\x84" + data):
        try:
            record = decode_admin_record(candidate)
        except BundleError:
            continue
        if isinstance(record, StatusReport) and all(item.asserted or item.time_ms is None for item in record.items):
            assert decode_admin_record(encode_status_report(record)) == record


def damaged(seeds: list[bytes], count: int, seed: int) -> list[bytes]:
    """Bundles with octets changed, removed, inserted, repeated or put together from two."""
    draw = random.Random(seed)
    results = []
    for _ in range(count):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data) + 1)
            kind = draw.randrange(5)
            if kind == 0 and at < len(data):
                data[at] = draw.choice((0x00, 0x1B, 0x5B, 0x5F, 0x7F, 0x9B, 0x9F, 0xBB, 0xFF, draw.randrange(256)))
            elif kind == 1:
                del data[at : at + draw.randint(1, 8)]
            elif kind == 2:
                data[at:at] = draw.randbytes(draw.randint(1, 8))
            elif kind == 3:
                data[at:at] = data[at : at + draw.randint(1, 40)]
            else:
                data[at:] = draw.choice(seeds)[at:]
        results.append(bytes(data))
    return results


def seeds() -> list[bytes]:
    stamp = CreationTimestamp(812_000_000_000, 1)
    return [
        encode(
            Bundle.create(
                Eid.ipn(3, 1),
                Eid.parse("dtn://x/y"),
                b"p" * 40,
                stamp,
                1000,
                crc_type=crc_type,
                age_ms=5,
                service_class=kind,
            ).forwarded(Eid.ipn(4, 0), 6)
        )
        for crc_type in range(3)
        for kind in (ServiceClass.NORMAL, ServiceClass.BULK)
    ]


def check_damaged(count: int, seed: int) -> None:
    survivors = 0
    for data in damaged(seeds(), count, seed):
        try:
            bundle = decode(data)
        except BundleError:
            continue
        survivors += 1
        assert encode(bundle) == data
        assert bundle.id.key
        assert bundle.expiry_ms(0) is not None
        bundle.forwarded(Eid.ipn(1, 0), 1)
    assert 0 < survivors < count


def test_damaged_bundles_are_read_or_refused() -> None:
    check_damaged(3000, 1)


@pytest.mark.slow
def test_many_damaged_bundles_are_read_or_refused() -> None:
    for seed in range(2, 12):
        check_damaged(20_000, seed)


@pytest.mark.parametrize(
    "data",
    [
        b"\x9f\x88\x07" + b"\x5b" + b"\xff" * 8,
        seeds()[0][:-1] + b"\x5f" * 200_000,
        b"\x9f" + b"\x9f" * 200_000,
        seeds()[0][:60] + b"\x9f" * 100_000,
        b"\x9f" + seeds()[0][1:40] + b"\x85\x01\x01\x00\x00\x5f" + b"\x41a" * 100_000,
        b"\x9f" + seeds()[0][1:40] + b"\x85\x18\xc8\x02\x00\x00\x40" * 30_000,
    ],
)
def test_hostile_octets_cost_no_more_than_their_size(data: bytes) -> None:
    tracemalloc.start()
    begin = time.perf_counter()
    with pytest.raises(BundleError):
        decode(data, DecodeLimits(size=1 << 22))
    elapsed = time.perf_counter() - begin
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A chunk of one octet costs an object of about 41 in place of the 2 octets that it comes in.
    assert peak < 40 * len(data) + 100_000
    assert elapsed < 5.0
