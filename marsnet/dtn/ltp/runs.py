"""Red segments that came in datagrams of their own and follow one another, taken in as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from marsnet.dtn.ltp.sdnv import SegmentError, decode_sdnv
from marsnet.dtn.ltp.segments import RED, DataSegment, SessionId


class Run:
    """Segments of a block, each of which begins where the one before it ends.

    Attributes:
        segment: all of them, as if they were one.
        count: how many they are.
        octets: of their datagrams.
    """

    __slots__ = ("count", "octets", "segment")

    def __init__(self, segment: DataSegment, count: int, octets: int) -> None:
        self.segment, self.count, self.octets = segment, count, octets


def runs(datagrams: Iterable[bytes]) -> Iterator[bytes | Run]:
    """The same datagrams in the same order, with those in one that follow one another with red data and nothing else.

    What is malformed comes as it is, for the engine to find.
    """
    head = first = b""
    pieces: list[memoryview] = []
    start = end = octets = 0
    for datagram in datagrams:
        if head and datagram.startswith(head):
            offset, data = _data(datagram, len(head))
            if data is not None and offset == end:
                pieces.append(data)
                end += len(data)
                octets += len(datagram)
                continue
        if head:
            yield _run(head, first, start, pieces, octets)
        head = _head(datagram)
        if head:
            start, data = _data(datagram, len(head))
            if data is not None:
                first, pieces, end, octets = datagram, [data], start + len(data), len(datagram)
                continue
            head = b""
        yield datagram
    if head:
        yield _run(head, first, start, pieces, octets)


def _run(head: bytes, first: bytes, start: int, pieces: list[memoryview], octets: int) -> bytes | Run:
    if len(pieces) == 1:
        return first
    origin, position = decode_sdnv(head, 1)
    number, position = decode_sdnv(head, position)
    service, _ = decode_sdnv(head, position + 1)
    segment = DataSegment(RED, SessionId(origin, number), service, start, b"".join(pieces))
    return Run(segment, len(pieces), octets)


def _head(datagram: bytes) -> bytes:
    """What all red segments of a block begin with: type, session, no extensions, client service. Empty of others."""
    if not datagram or datagram[0] != RED:
        return b""
    try:
        _, position = decode_sdnv(datagram, 1)
        _, position = decode_sdnv(datagram, position)
        if datagram[position : position + 1] != b"\0":
            return b""
        _, position = decode_sdnv(datagram, position + 1)
    except SegmentError:
        return b""
    return datagram[:position]


def _data(datagram: bytes, position: int) -> tuple[int, memoryview | None]:
    """Offset and data behind a head; None where the datagram does not end with them."""
    try:
        offset, position = decode_sdnv(datagram, position)
        length, position = decode_sdnv(datagram, position)
    except SegmentError:
        return 0, None
    if not length or position + length != len(datagram):
        return 0, None
    return offset, memoryview(datagram)[position:]
