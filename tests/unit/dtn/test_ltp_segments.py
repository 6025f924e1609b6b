"""LTP segments: octets derived by hand from RFC 5326 section 3, round trips, and input that is no segment."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsnet.dtn.ltp.imports import split_report
from marsnet.dtn.ltp.sdnv import MAX_VALUE, SegmentError, decode_sdnv, encode_sdnv, sdnv_size
from marsnet.dtn.ltp.segments import (
    CancelAckSegment,
    CancelReason,
    CancelSegment,
    DataSegment,
    Extension,
    ReportAckSegment,
    ReportSegment,
    Segment,
    SessionId,
    decode_segment,
    encode_segment,
)

SESSION = SessionId(3, 300)
"""Engine 3, session 300 = 0x12c: the SDNV 82 2c."""


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (0, "00"),
        (0x7F, "7f"),
        (0xABC, "953c"),
        (0x1234, "a434"),
        (0x4234, "818434"),
        (2**14 - 1, "ff7f"),
        (2**14, "818000"),
        (2**64 - 1, "81ffffffffffffffff7f"),
    ],
)
def test_sdnv_of_rfc_6256_and_of_its_bounds(value: int, octets: str) -> None:
    assert encode_sdnv(value).hex() == octets
    assert decode_sdnv(bytes.fromhex(octets), 0) == (value, len(octets) // 2)
    assert sdnv_size(value) == len(octets) // 2


@given(st.integers(0, MAX_VALUE), st.binary(max_size=3))
def test_sdnv_round_trip(value: int, before: bytes) -> None:
    octets = encode_sdnv(value)
    assert len(octets) == sdnv_size(value)
    assert decode_sdnv(before + octets + b"\xff", len(before)) == (value, len(before) + len(octets))


@pytest.mark.parametrize(
    "octets",
    ["", "80", "ffff", "82808080808080808000", "8181818181818181818101", "82ffffffffffffffff7f", "80" * 30 + "00"],
)
def test_sdnv_out_of_bounds(octets: str) -> None:
    with pytest.raises(SegmentError):
        decode_sdnv(bytes.fromhex(octets), 0)


def test_sdnv_that_does_not_fit() -> None:
    for value in (-1, 2**64):
        with pytest.raises(ValueError, match="64 bits"):
            encode_sdnv(value)


GOLDEN: list[tuple[Segment, str]] = [
    # Version and type, origin, number, extension counts; then service 1, offset 200 (81 48), length 2, "hi".
    (DataSegment(0, SESSION, 1, 200, b"hi"), "00 03 822c 00 01 8148 02 6869"),
    # A checkpoint adds its serial number 130 (81 02) and the serial number of the report it answers, 5.
    (DataSegment(1, SESSION, 1, 200, b"hi", 130, 5), "01 03 822c 00 01 8148 02 8102 05 6869"),
    (DataSegment(2, SESSION, 1, 200, b"hi", 130, 0), "02 03 822c 00 01 8148 02 8102 00 6869"),
    (DataSegment(3, SESSION, 2, 0, b"hi", 1, 0), "03 03 822c 00 02 00 02 01 00 6869"),
    (DataSegment(4, SESSION, 1, 200, b"hi"), "04 03 822c 00 01 8148 02 6869"),
    (DataSegment(7, SESSION, 1, 200, b"hi"), "07 03 822c 00 01 8148 02 6869"),
    # Report 9 on checkpoint 130: upper bound 1000 (87 68), lower bound 100, two claims: 0+50 and 100+800 (86 20).
    (
        ReportSegment(SESSION, 9, 130, 1000, 100, ((100, 150), (200, 1000))),
        "08 03 822c 00 09 8102 8768 64 02 00 32 64 8620",
    ),
    (ReportAckSegment(SESSION, 9), "09 03 822c 00 09"),
    (CancelSegment(12, SESSION, CancelReason.USER), "0c 03 822c 00 00"),
    (CancelAckSegment(13, SESSION), "0d 03 822c 00"),
    (CancelSegment(14, SESSION, CancelReason.MISCOLORED), "0e 03 822c 00 03"),
    (CancelAckSegment(15, SESSION), "0f 03 822c 00"),
    # One header extension of tag 0xc0 with three octets, two trailer extensions, one of them empty.
    (
        ReportAckSegment(SESSION, 9, (Extension(0xC0, b"abc"),), (Extension(1, b""), Extension(0, b"z"))),
        "09 03 822c 12 c0 03 616263 09 01 00 00 01 7a",
    ),
]


@pytest.mark.parametrize(("segment", "octets"), GOLDEN)
def test_golden_octets(segment: Segment, octets: str) -> None:
    raw = bytes.fromhex(octets)
    assert encode_segment(segment) == raw
    decoded, end = decode_segment(raw)
    assert (decoded, end) == (segment, len(raw))
    assert type(decoded) is type(segment)


def test_decoding_at_a_position_leaves_what_follows() -> None:
    raw = bytes.fromhex("09 03 822c 00 09")
    assert decode_segment(b"x" + raw + b"yz", 1) == (ReportAckSegment(SESSION, 9), 7)


numbers = st.one_of(st.integers(0, 300), st.integers(0, MAX_VALUE))
sessions = st.builds(SessionId, numbers, numbers)
extensions = st.lists(st.builds(Extension, st.integers(0, 255), st.binary(max_size=5)), max_size=15).map(tuple)
serials = st.integers(1, MAX_VALUE)


@st.composite
def reports(draw: st.DrawFn) -> ReportSegment:
    edges = sorted(draw(st.sets(st.integers(0, 2**40), min_size=2, max_size=20)))
    claims = tuple(zip(edges[:-1:2], edges[1::2], strict=False))
    lower, upper = draw(st.integers(0, edges[0])), edges[-1] + draw(st.integers(0, 1000))
    return ReportSegment(
        draw(sessions), draw(serials), draw(numbers), upper, lower, claims, draw(extensions), draw(extensions)
    )


segments = st.one_of(
    st.builds(
        DataSegment,
        kind=st.sampled_from([0, 4, 7]),
        session=sessions,
        service=numbers,
        offset=numbers,
        data=st.binary(max_size=40),
        checkpoint=st.just(0),
        report=st.just(0),
        header=extensions,
        trailer=extensions,
    ),
    st.builds(
        DataSegment,
        kind=st.sampled_from([1, 2, 3]),
        session=sessions,
        service=numbers,
        offset=numbers,
        data=st.binary(max_size=40),
        checkpoint=serials,
        report=numbers,
        header=extensions,
        trailer=extensions,
    ),
    reports(),
    st.builds(ReportAckSegment, sessions, serials, extensions, extensions, kind=st.just(9)),
    st.builds(CancelSegment, st.sampled_from([12, 14]), sessions, st.integers(0, 255), extensions, extensions),
    st.builds(CancelAckSegment, st.sampled_from([13, 15]), sessions, extensions, extensions),
)


@given(segments)
def test_round_trip(segment: Segment) -> None:
    raw = encode_segment(segment)
    assert decode_segment(raw) == (segment, len(raw))


@given(segments, st.data())
def test_every_truncation_is_refused(segment: Segment, data: st.DataObject) -> None:
    raw = encode_segment(segment)
    with pytest.raises(SegmentError):
        decode_segment(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: b"\x08\x01\x01\x00" + tail)))
def test_any_octets_decode_or_are_refused(octets: bytes) -> None:
    try:
        segment, end = decode_segment(octets)
    except SegmentError:
        return
    assert 0 < end <= len(octets)
    # A number may come padded with leading zeros, so only the meaning is compared.
    assert decode_segment(encode_segment(segment))[0] == segment


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        ("10 03 05 00 09", "version"),
        ("05 03 05 00 01 00 00", "undefined"),
        ("06 03 05 00 01 00 00", "undefined"),
        ("0a 03 05 00", "undefined"),
        ("0b 03 05 00", "undefined"),
        ("0c 03 05 00", "no reason"),
        ("00 03 05 00 01 00 03 6869", "does not fit"),
        ("00 03 05 00 01 00 ffffffff7f 6869", "does not fit"),
        ("09 03 05 10 c0 7f 61", "claims 127 octets"),
        ("09 03 05 10", "inside its extensions"),
        ("08 03 05 00 09 01 64 65 00", "empty"),
        ("08 03 05 00 09 01 64 00 ff7f 0001", "do not fit"),
        ("08 03 05 00 09 01 64 00 01 00 65", "out of order"),
        ("08 03 05 00 09 01 64 00 02 00 32 31 10", "out of order"),
        ("08 03 05 00 09 01 64 00 01 05 00", "out of order"),
    ],
)
def test_refusals_say_why(octets: str, why: str) -> None:
    with pytest.raises(SegmentError, match=why):
        decode_segment(bytes.fromhex(octets))


def test_a_lying_count_allocates_nothing() -> None:
    lie = bytes.fromhex("08 03 05 00 09 01") + encode_sdnv(2**62) + b"\0" + encode_sdnv(2**60) + bytes(100)
    tracemalloc.start()
    with pytest.raises(SegmentError):
        decode_segment(lie)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000


def test_data_is_a_view_into_the_datagram() -> None:
    raw = encode_segment(DataSegment(0, SESSION, 1, 0, bytes(1000)))
    segment, _ = decode_segment(raw)
    assert isinstance(segment, DataSegment)
    assert isinstance(segment.data, memoryview)
    assert segment.data.obj is raw


def test_too_many_extensions() -> None:
    with pytest.raises(ValueError, match="at most 15"):
        encode_segment(ReportAckSegment(SESSION, 1, (Extension(0, b""),) * 16))


@given(reports(), st.integers(80, 300))
def test_a_report_is_split_to_the_mtu_and_keeps_its_meaning(report: ReportSegment, mtu: int) -> None:
    report = report._replace(header=(), trailer=(), report=min(report.report, 2**30))
    parts = split_report(report, mtu)
    assert all(len(encode_segment(part)) <= mtu for part in parts)
    assert tuple(claim for part in parts for claim in part.claims) == report.claims
    assert [part.report for part in parts] == [report.report + n for n in range(len(parts))]
    edges = [parts[0].lower, *(part.upper for part in parts)]
    assert edges[0] == report.lower
    assert edges[-1] == report.upper
    assert [part.lower for part in parts] == edges[:-1]
    for part in parts:
        assert decode_segment(encode_segment(part))[0] == part
