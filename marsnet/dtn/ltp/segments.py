"""LTP segments and their encoding (RFC 5326 section 3; CCSDS 734.1-B-1 section 3)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from marsnet.dtn.ltp.sdnv import SegmentError, decode_sdnv, encode_sdnv

if TYPE_CHECKING:
    from marsnet.dtn.ltp.trains import Extent

RED = 0
RED_CHECKPOINT = 1
RED_END = 2
"""Checkpoint, end of red part, a green part follows."""
RED_BLOCK_END = 3
"""Checkpoint, end of red part and of block."""
GREEN = 4
GREEN_BLOCK_END = 7
REPORT = 8
REPORT_ACK = 9
CANCEL_BY_SENDER = 12
CANCEL_ACK_TO_SENDER = 13
CANCEL_BY_RECEIVER = 14
CANCEL_ACK_TO_RECEIVER = 15

KIND_NAMES = {
    RED: "red",
    RED_CHECKPOINT: "red_checkpoint",
    RED_END: "red_end",
    RED_BLOCK_END: "red_block_end",
    GREEN: "green",
    GREEN_BLOCK_END: "green_block_end",
    REPORT: "report",
    REPORT_ACK: "report_ack",
    CANCEL_BY_SENDER: "cancel_by_sender",
    CANCEL_ACK_TO_SENDER: "cancel_ack_to_sender",
    CANCEL_BY_RECEIVER: "cancel_by_receiver",
    CANCEL_ACK_TO_RECEIVER: "cancel_ack_to_receiver",
}


class CancelReason(IntEnum):
    """Why a session was cancelled (RFC 5326 section 3.2.4)."""

    USER = 0
    """The client service asked for it."""
    UNREACHABLE = 1
    """The client service is not there."""
    RETRANSMISSION_LIMIT = 2
    """A checkpoint or a report was sent too often without an answer."""
    MISCOLORED = 3
    """Red data beyond the red part, or green data inside it."""
    SYSTEM = 4
    """The engine lacks a resource."""
    CYCLES = 5
    """Too many rounds of retransmission."""


class SessionId(NamedTuple):
    """A session: the engine that sends the block, and that engine's number for it."""

    origin: int
    number: int


class Extension(NamedTuple):
    """A header or trailer extension (RFC 5326 section 3.1.4): carried, not interpreted."""

    tag: int
    value: bytes


class DataSegment(NamedTuple):
    """Types 0 to 4 and 7. `checkpoint` and `report` are serial numbers and 0 on what is no checkpoint.

    `data` is a view into the datagram that was decoded, or a part of the block that a train brings.
    """

    kind: int
    session: SessionId
    service: int
    offset: int
    data: bytes | memoryview | Extent
    checkpoint: int = 0
    report: int = 0
    header: tuple[Extension, ...] = ()
    trailer: tuple[Extension, ...] = ()


class ReportSegment(NamedTuple):
    """Type 8. `claims` are (start, end) offsets in the block, ascending, inside [lower, upper)."""

    session: SessionId
    report: int
    checkpoint: int
    upper: int
    lower: int
    claims: tuple[tuple[int, int], ...]
    header: tuple[Extension, ...] = ()
    trailer: tuple[Extension, ...] = ()
    kind: int = REPORT


class ReportAckSegment(NamedTuple):
    """Type 9."""

    session: SessionId
    report: int
    header: tuple[Extension, ...] = ()
    trailer: tuple[Extension, ...] = ()
    kind: int = REPORT_ACK


class CancelSegment(NamedTuple):
    """Types 12 and 14. `reason` is the octet received, which may be outside of `CancelReason`."""

    kind: int
    session: SessionId
    reason: int
    header: tuple[Extension, ...] = ()
    trailer: tuple[Extension, ...] = ()


class CancelAckSegment(NamedTuple):
    """Types 13 and 15."""

    kind: int
    session: SessionId
    header: tuple[Extension, ...] = ()
    trailer: tuple[Extension, ...] = ()


Segment = DataSegment | ReportSegment | ReportAckSegment | CancelSegment | CancelAckSegment


def encode_segment(segment: Segment) -> bytes:
    """The segment as it travels.

    Raises:
        ValueError: when a number does not fit, or there are more than 15 extensions of one sort.
    """
    if len(segment.header) > 15 or len(segment.trailer) > 15:
        raise ValueError("a segment has at most 15 header and 15 trailer extensions")
    parts: list[bytes | memoryview] = [
        bytes((segment.kind,)),
        encode_sdnv(segment.session.origin),
        encode_sdnv(segment.session.number),
        bytes((len(segment.header) << 4 | len(segment.trailer),)),
    ]
    for extension in segment.header:
        parts += (bytes((extension.tag,)), encode_sdnv(len(extension.value)), extension.value)
    match segment:
        case DataSegment():
            parts += (encode_sdnv(segment.service), encode_sdnv(segment.offset), encode_sdnv(len(segment.data)))
            if 0 < segment.kind < GREEN:
                parts += (encode_sdnv(segment.checkpoint), encode_sdnv(segment.report))
            parts.append(segment.data if isinstance(segment.data, bytes | memoryview) else bytes(segment.data))
        case ReportSegment():
            parts += (encode_sdnv(segment.report), encode_sdnv(segment.checkpoint))
            parts += (encode_sdnv(segment.upper), encode_sdnv(segment.lower), encode_sdnv(len(segment.claims)))
            for start, end in segment.claims:
                parts += (encode_sdnv(start - segment.lower), encode_sdnv(end - start))
        case ReportAckSegment():
            parts.append(encode_sdnv(segment.report))
        case CancelSegment():
            parts.append(bytes((segment.reason,)))
        case CancelAckSegment():
            pass
    for extension in segment.trailer:
        parts += (bytes((extension.tag,)), encode_sdnv(len(extension.value)), extension.value)
    return b"".join(parts)


def _extensions(view: memoryview, position: int, count: int) -> tuple[tuple[Extension, ...], int]:
    extensions = []
    for _ in range(count):
        if position >= len(view):
            raise SegmentError("the segment ends inside its extensions")
        tag = view[position]
        length, position = decode_sdnv(view, position + 1)
        if length > len(view) - position:
            raise SegmentError(f"extension {tag} claims {length} octets, {len(view) - position} are left")
        extensions.append(Extension(tag, bytes(view[position : position + length])))
        position += length
    return tuple(extensions), position


def _claims(view: memoryview, position: int, lower: int, upper: int) -> tuple[tuple[tuple[int, int], ...], int]:
    count, position = decode_sdnv(view, position)
    if 2 * count > len(view) - position:
        raise SegmentError(f"{count} reception claims do not fit {len(view) - position} octets")
    claims, floor = [], lower
    for _ in range(count):
        offset, position = decode_sdnv(view, position)
        length, position = decode_sdnv(view, position)
        start, end = lower + offset, lower + offset + length
        if start < floor or end > upper or not length:
            raise SegmentError(f"reception claim {start}+{length} is out of order or of scope [{lower}, {upper})")
        claims.append((start, end))
        floor = end
    return tuple(claims), position


def decode_segment(buffer: bytes | memoryview, position: int = 0) -> tuple[Segment, int]:
    """The segment at `position` and the position after it. Allocates at most a small multiple of the buffer's size.

    Raises:
        SegmentError: when there is no well-formed segment of version 0 and a defined type.
    """
    view = memoryview(buffer)
    size = len(buffer)
    if position >= size:
        raise SegmentError("no octets")
    kind = buffer[position]
    if kind > 15:
        raise SegmentError(f"LTP version {kind >> 4} is not 0")
    if kind not in KIND_NAMES:
        raise SegmentError(f"segment type {kind} is undefined")
    origin, position = decode_sdnv(buffer, position + 1)
    number, position = decode_sdnv(buffer, position)
    if position >= size:
        raise SegmentError("the segment ends inside its header")
    session, counts = SessionId(origin, number), buffer[position]
    position += 1
    header: tuple[Extension, ...] = ()
    if counts >> 4:
        header, position = _extensions(view, position, counts >> 4)
    segment: Segment
    if kind < REPORT:
        service, position = decode_sdnv(buffer, position)
        offset, position = decode_sdnv(buffer, position)
        length, position = decode_sdnv(buffer, position)
        checkpoint = report = 0
        if 0 < kind < GREEN:
            checkpoint, position = decode_sdnv(buffer, position)
            report, position = decode_sdnv(buffer, position)
        end = position + length
        if end > size:
            raise SegmentError(f"data of {length} octets does not fit the {size - position} left")
        segment = DataSegment(kind, session, service, offset, view[position:end], checkpoint, report, header)
        position = end
    elif kind == REPORT:
        report, position = decode_sdnv(buffer, position)
        checkpoint, position = decode_sdnv(buffer, position)
        upper, position = decode_sdnv(buffer, position)
        lower, position = decode_sdnv(buffer, position)
        if lower > upper:
            raise SegmentError(f"report scope [{lower}, {upper}) is empty")
        claims, position = _claims(view, position, lower, upper)
        segment = ReportSegment(session, report, checkpoint, upper, lower, claims, header)
    elif kind == REPORT_ACK:
        report, position = decode_sdnv(buffer, position)
        segment = ReportAckSegment(session, report, header)
    elif kind in (CANCEL_BY_SENDER, CANCEL_BY_RECEIVER):
        if position >= size:
            raise SegmentError("the cancellation has no reason")
        segment = CancelSegment(kind, session, view[position], header)
        position += 1
    else:
        segment = CancelAckSegment(kind, session, header)
    if counts & 15:
        trailer, position = _extensions(view, position, counts & 15)
        segment = segment._replace(trailer=trailer)
    return segment, position
