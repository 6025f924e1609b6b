"""Bundles to octets and back, checksums over the octets received, and everything that is refused."""

from __future__ import annotations

import cbor2
import google_crc32c
import pytest

from marsnet.dtn.bpv7 import (
    NULL_EID,
    BlockFlags,
    BlockType,
    Bundle,
    BundleError,
    BundleFlags,
    CanonicalBlock,
    CrcType,
    CreationTimestamp,
    DecodeLimits,
    Eid,
    HopCount,
    Malformation,
    ServiceClass,
    decode,
    decode_from,
    encode,
)
from marsnet.dtn.bpv7.crc import crc16_x25, crc32c

SOURCE, DESTINATION = Eid.parse("ipn:977.1"), Eid.parse("dtn://base/inbox")
STAMP = CreationTimestamp(812_345_678_901, 7)


def make(payload: bytes = b"telemetry", **options: object) -> Bundle:
    return Bundle.create(SOURCE, DESTINATION, payload, STAMP, 3_600_000, **options)  # type: ignore[arg-type]


def refusal(data: bytes, limits: DecodeLimits | None = None) -> Malformation:
    with pytest.raises(BundleError) as caught:
        decode(data, limits or DecodeLimits())
    return caught.value.reason


def raw_bundle(*blocks: object) -> bytes:
    return b"\x9f" + b"".join(block if isinstance(block, bytes) else cbor2.dumps(block) for block in blocks) + b"\xff"


def primary(**changes: object) -> list[object]:
    fields: dict[str, object] = {
        "version": 7,
        "flags": 0,
        "crc": 0,
        "destination": [2, [2, 1]],
        "source": [2, [1, 1]],
        "report": [2, [1, 1]],
        "time": [1000, 0],
        "lifetime": 5000,
    }
    return list({**fields, **changes}.values())


PAYLOAD = [1, 1, 0, 0, b"x"]


def test_checksums_have_their_published_check_values() -> None:
    assert crc16_x25(b"123456789") == 0x906E
    assert crc16_x25(b"1234", b"56789") == 0x906E
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"12345", b"6789") == 0xE3069283


def test_the_encoding_is_what_an_independent_cbor_library_writes() -> None:
    data = encode(make(b"hello", service_class=ServiceClass.BULK))
    items = cbor2.loads(data)
    assert items[0][:8] == [7, 0, 2, [1, "//base/inbox"], [2, [977, 1]], [2, [977, 1]], list(STAMP), 3_600_000]
    assert items[1] == [10, 2, 1, 0, cbor2.dumps([64, 0])]
    assert items[2] == [241, 3, 1, 0, cbor2.dumps(3)]
    assert items[3][:5] == [1, 1, 0, 2, b"hello"]
    for block in (items[0], items[3]):
        zeroed = cbor2.dumps([*block[:-1], bytes(4)])
        assert block[-1] == google_crc32c.value(zeroed).to_bytes(4, "big")
    assert data[0] == 0x9F
    assert data[-1] == 0xFF


@pytest.mark.parametrize("crc_type", list(CrcType))
@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65_536])
def test_round_trip(crc_type: CrcType, size: int) -> None:
    bundle = make(bytes(size), crc_type=crc_type, service_class=ServiceClass.CRITICAL, age_ms=12, hop_limit=3)
    data = encode(bundle)
    again = decode(data)
    assert again == bundle
    assert encode(again) == data
    assert (again.hop_count, again.bundle_age, again.service_class) == (HopCount(3, 0), 12, ServiceClass.CRITICAL)
    assert again.previous_node is None


@pytest.mark.parametrize("crc_type", [CrcType.CRC16, CrcType.CRC32C])
def test_any_changed_octet_of_a_protected_block_is_noticed(crc_type: CrcType) -> None:
    data = encode(make(b"abcdef", crc_type=crc_type, hop_limit=None))
    for at in range(1, len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 0x01
        with pytest.raises(BundleError):
            decode(bytes(changed))
    flipped = data.replace(b"abcdef", b"abcdeg")
    assert refusal(flipped) is Malformation.CRC


def test_the_checksum_covers_the_octets_received_not_a_canonical_form() -> None:
    # An array of indefinite length is legal and would be re-encoded otherwise.
    body = b"\x9f" + cbor2.dumps(1) + b"\x01\x00\x02" + cbor2.dumps(b"x")
    crc = google_crc32c.value(body + b"\x44\0\0\0\0\xff").to_bytes(4, "big")
    data = raw_bundle(primary(), body + b"\x44" + crc + b"\xff")
    bundle = decode(data)
    assert bundle.payload == b"x"
    assert encode(bundle) == data
    canonical = google_crc32c.value(cbor2.dumps([1, 1, 0, 2, b"x", bytes(4)])).to_bytes(4, "big")
    assert refusal(raw_bundle(primary(), body + b"\x44" + canonical + b"\xff")) is Malformation.CRC


def test_indefinite_strings_and_primary_blocks_are_read_and_kept() -> None:
    chunked = b"\x85\x01\x01\x00\x00\x5f\x42ab\x41c\xff"
    indefinite_primary = b"\x9f" + cbor2.dumps(primary())[1:] + b"\xff"
    data = raw_bundle(indefinite_primary, chunked)
    bundle = decode(data)
    assert bundle.payload == b"abc"
    assert encode(bundle) == data
    assert encode(bundle.with_block(bundle.blocks[-1].with_data(b"z"))) == raw_bundle(
        indefinite_primary, [1, 1, 0, 0, b"z"]
    )


def test_unknown_blocks_flags_and_bits_are_kept_verbatim() -> None:
    unknown = [200, 9, 0x55, 0, b"\x01\x02"]
    flags = 1 << 63 | 1 << 20
    data = raw_bundle(primary(flags=flags), unknown, PAYLOAD)
    bundle = decode(data)
    block = bundle.block_numbered(9)
    assert block == CanonicalBlock(200, 9, 0x55, 0, b"\x01\x02")
    assert bundle.flags == flags
    assert encode(bundle) == data
    forwarded = bundle.forwarded(Eid.ipn(5, 0))
    assert cbor2.dumps(unknown) in encode(forwarded)
    assert decode(encode(forwarded)).previous_node == Eid.ipn(5, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Malformation.TYPE),
        (b"\x9f", Malformation.TRUNCATED),
        (b"\x82" + cbor2.dumps(primary()) + cbor2.dumps(PAYLOAD), Malformation.TYPE),
        (raw_bundle(primary(), PAYLOAD) + b"\x00", Malformation.TRAILING),
        (raw_bundle(primary()), Malformation.BLOCKS),
        (raw_bundle(primary(), [1, 2, 0, 0, b""]), Malformation.BLOCKS),
        (raw_bundle(primary(), [200, 1, 0, 0, b""]), Malformation.BLOCKS),
        (raw_bundle(primary(), PAYLOAD, [200, 2, 0, 0, b""]), Malformation.BLOCKS),
        (raw_bundle(primary(), PAYLOAD, PAYLOAD), Malformation.BLOCKS),
        (raw_bundle(primary(), [200, 2, 0, 0, b""], [201, 2, 0, 0, b""], PAYLOAD), Malformation.BLOCKS),
        (raw_bundle(primary(), [200, 0, 0, 0, b""], PAYLOAD), Malformation.BLOCKS),
        (raw_bundle(primary(), [1, 2, 0, 0, b""], PAYLOAD), Malformation.BLOCKS),
        (raw_bundle(primary(version=6), PAYLOAD), Malformation.VERSION),
        (raw_bundle(primary(version="7"), PAYLOAD), Malformation.TYPE),
        (raw_bundle(primary(lifetime=-1), PAYLOAD), Malformation.TYPE),
        (raw_bundle(primary(crc=3), PAYLOAD), Malformation.CRC_TYPE),
        (raw_bundle(primary(crc=1), PAYLOAD), Malformation.LENGTH),
        (raw_bundle([*primary(), 1], PAYLOAD), Malformation.LENGTH),
        (raw_bundle([*primary(crc=1), b"\0\0\0\0"], PAYLOAD), Malformation.TYPE),
        (raw_bundle(primary(), [1, 1, 0, 0, "x"]), Malformation.TYPE),
        (raw_bundle(primary(), [1, 1, 0, 0, b"x", b"\0\0"]), Malformation.LENGTH),
        (raw_bundle(primary(), [1, 1, 0, 9, b"x"]), Malformation.CRC_TYPE),
        (raw_bundle(primary(source=[3, 1]), PAYLOAD), Malformation.EID),
        (raw_bundle(primary(source=[1, 0]), PAYLOAD), Malformation.FLAGS),
        (raw_bundle(primary(source=[1, 0], flags=0x4004), PAYLOAD), Malformation.FLAGS),
        (raw_bundle(primary(flags=0x4002), PAYLOAD), Malformation.FLAGS),
        (raw_bundle(primary(flags=0x5, time=[1, 0], offset=0, total=1), PAYLOAD), Malformation.FLAGS),
        (raw_bundle([*primary(flags=1), 1, 1], PAYLOAD), Malformation.FRAGMENT),
        (raw_bundle(primary(time=[0, 1]), PAYLOAD), Malformation.EXTENSION),
        (raw_bundle(primary(), [10, 2, 0, 0, b"\x82\x00\x00"], PAYLOAD), Malformation.EXTENSION),
        (raw_bundle(primary(), [7, 2, 0, 0, b"\x01\x01"], PAYLOAD), Malformation.TRAILING),
        (raw_bundle(primary(), [6, 2, 0, 0, b"\x82\x01\x00"], [6, 3, 0, 0, b"\x82\x01\x00"], PAYLOAD),
         Malformation.EXTENSION),
        (raw_bundle(primary(), b"\x85\x01\x01\x00\x00\x58\x01x"), Malformation.NOT_CANONICAL),
        (raw_bundle(primary(), b"\x85\x01\x01\x18\x00\x00\x41x"), Malformation.NOT_CANONICAL),
        (raw_bundle(primary(), b"\x85\x01\x01\x00\x00\x5b\xff\xff\xff\xff\xff\xff\xff\xff"), Malformation.TRUNCATED),
        (raw_bundle(primary(), b"\x85\x01\x01\x00\x00\x5f\x5f\x41a\xff\xff"), Malformation.TYPE),
        (raw_bundle(primary(), b"\x9f\x01\x01\x00\x00\x41x\x01\xff"), Malformation.LENGTH),
    ],
)  # fmt: skip
def test_refused(data: bytes, reason: Malformation) -> None:
    assert refusal(data) is reason


def test_every_truncation_is_refused() -> None:
    data = encode(make(service_class=ServiceClass.BULK))
    for length in range(len(data)):
        with pytest.raises(BundleError):
            decode(data[:length])


def test_limits() -> None:
    data = encode(make(bytes(1000)))
    assert refusal(data, DecodeLimits(size=len(data) - 1)) is Malformation.TOO_LARGE
    assert decode(data, DecodeLimits(size=len(data))).payload == bytes(1000)
    extensions = [[200, number, 0, 0, b""] for number in range(2, 10)]
    many = raw_bundle(primary(), *extensions, PAYLOAD)
    assert refusal(many, DecodeLimits(blocks=8)) is Malformation.TOO_LARGE
    assert len(decode(many, DecodeLimits(blocks=9)).blocks) == 9


def test_several_bundles_in_one_block_are_read_one_after_another() -> None:
    first, second = encode(make(b"a" * 100)), encode(make(b"b"))
    joined = first + second
    bundle, end = decode_from(joined, 0)
    assert (bundle.payload, end) == (b"a" * 100, len(first))
    limits = DecodeLimits(size=len(first))
    bundle, end = decode_from(joined, end, limits)
    assert (bundle.payload, end) == (b"b", len(joined))
    assert decode_from(joined, 0, limits)[1] == len(first)


def test_time_0_needs_an_age_and_expiry_counts_from_reception() -> None:
    bundle = Bundle.create(SOURCE, DESTINATION, b"", CreationTimestamp(0, 3), 60_000)
    assert bundle.bundle_age == 0
    aged = decode(encode(bundle.forwarded(Eid.ipn(9, 0), age_ms=20_000)))
    assert aged.bundle_age == 20_000
    assert aged.expiry_ms(received_ms=1_000_000) == 1_040_000
    assert make().expiry_ms(received_ms=5) == STAMP.time_ms + 3_600_000
    with pytest.raises(BundleError, match="no age"):
        bundle.forwarded(Eid.ipn(9, 0))


def test_forwarding_counts_the_hop_and_names_the_node() -> None:
    bundle = decode(encode(make(hop_limit=2)))
    for hop in (1, 2, 3):
        bundle = decode(encode(bundle.forwarded(Eid.ipn(hop, 0))))
        assert bundle.hop_count == HopCount(2, hop)
        assert bundle.previous_node == Eid.ipn(hop, 0)
    assert bundle.hop_count is not None
    assert bundle.hop_count.exceeded
    assert len([block for block in bundle.blocks if block.type == BlockType.PREVIOUS_NODE]) == 1


def test_anonymous_bundles_get_the_flags_they_must_have() -> None:
    flags = BundleFlags.REPORT_DELIVERY | BundleFlags.ACK_REQUESTED
    bundle = Bundle.create(NULL_EID, DESTINATION, b"x", STAMP, 1000, flags=flags)
    assert bundle.flags == BundleFlags.MUST_NOT_FRAGMENT | BundleFlags.ACK_REQUESTED
    assert decode(encode(bundle)).source.is_null


def test_extension_blocks_are_sent_without_checksum_and_never_flagged_for_removal() -> None:
    bundle = Bundle.create(
        SOURCE, DESTINATION, b"", CreationTimestamp(0, 0), 1, service_class=ServiceClass.BULK
    ).forwarded(Eid.ipn(3, 0), 5)
    assert len(bundle.blocks) == 5
    for block in bundle.blocks[:-1]:
        assert block.crc_type == CrcType.NONE
        assert not block.flags & BlockFlags.REMOVE_UNPROCESSED


def test_a_foreign_use_of_the_private_class_block_is_no_class() -> None:
    bundle = decode(raw_bundle(primary(), [241, 2, 0, 0, b"\x82\x01\x02"], PAYLOAD))
    assert bundle.service_class is ServiceClass.NORMAL


@pytest.mark.parametrize(
    ("block_type", "data"),
    [(193, [0, 2, 5, 0]), (194, 7), (195, [1, 2]), (192, 3)],
    ids=["ION's quality of service", "ION's spray and wait", "ION's multicast", "dtn7's binary spray"],
)
def test_private_blocks_of_other_makes_are_no_blocks_of_ours(block_type: int, data: object) -> None:
    octets = raw_bundle(primary(), [block_type, 2, 0, 0, cbor2.dumps(data)], PAYLOAD)
    bundle = decode(octets)
    assert bundle.service_class == ServiceClass.NORMAL
    assert block_type not in {block.value for block in BlockType}
    assert encode(bundle) == octets


def test_classes_map_to_code_points_and_back() -> None:
    assert [kind.dscp for kind in ServiceClass] == [46, 26, 0, 8]
    assert [ServiceClass.from_dscp(kind.dscp) for kind in ServiceClass] == list(ServiceClass)
    assert ServiceClass.from_dscp(63) is ServiceClass.NORMAL


def test_blocks_are_replaced_added_and_removed() -> None:
    bundle = make().with_extension(200, b"a", flags=BlockFlags.REPLICATE)
    assert bundle.block(200) == CanonicalBlock(200, 3, 1, 0, b"a")
    changed = bundle.with_extension(200, b"b")
    assert [block.data for block in changed.blocks if block.type == 200] == [b"b"]
    assert changed.without_block(3).block(200) is None
    with pytest.raises(BundleError):
        changed.without_block(1)
    assert changed.blocks[-1].type == BlockType.PAYLOAD


def test_ids_tell_fragments_apart_and_keys_do_not_depend_on_the_ipn_form() -> None:
    plain = make()
    assert str(plain.id) == "ipn:977.1/812345678901-7"
    three = Bundle.create(Eid.ipn(977, 1, elements=3), DESTINATION, b"", STAMP, 1)
    assert three.id == plain.id
    assert three.id.key == plain.id.key


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_numbers_that_do_not_fit_are_refused_when_encoding(number: int) -> None:
    with pytest.raises(BundleError) as caught:
        encode(Bundle.create(SOURCE, DESTINATION, b"", STAMP, number))
    assert caught.value.reason is Malformation.VALUE
