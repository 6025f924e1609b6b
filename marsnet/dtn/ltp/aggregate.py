"""Several service data in one block, and back: concatenated bundles, and CCSDS 734.1-B-1 section 7 capsules."""

from __future__ import annotations

from collections.abc import Callable

from marsnet.dtn.ltp.config import SERVICE_AGGREGATED, SERVICE_BUNDLES
from marsnet.dtn.ltp.sdnv import SegmentError, decode_sdnv
from marsnet.dtn.ltp.timers import Timer

MAX_DEPTH = 32
"""Nesting of CBOR items in a bundle that is looked through."""


class Aggregate(Timer):
    """A block that waits for more service data.

    Attributes:
        peer: engine it is for.
        priority: of its data.
        number: of its session to be.
        parts: octets so far.
        size: how many.
        tags: of its service data.
    """

    name = "aggregate"
    __slots__ = ("flush", "number", "parts", "peer", "priority", "size", "tags")

    def __init__(self, peer: int, priority: int, number: int, flush: Callable[[Aggregate, float], None]) -> None:
        super().__init__()
        self.peer, self.priority, self.number, self.flush = peer, priority, number, flush
        self.parts: list[bytes] = []
        self.size = 0
        self.tags: list[object] = []

    def add(self, prefix: bytes, data: bytes, tag: object) -> None:
        """Append service data, with what goes before it."""
        self.parts += (prefix, data)
        self.size += len(prefix) + len(data)
        self.tags.append(tag)

    def waits_for(self) -> int:
        """The engine it is for."""
        return self.peer

    def expire(self, now: float) -> None:
        """It has waited long enough."""
        self.flush(self, now)


def split_block(service: int, data: bytes | memoryview) -> list[memoryview]:
    """The bundles of a block, each as a view into it.

    Args:
        service: 1 for bundles one after another, 2 for bundles each preceded by the number of its client service.
        data: the block.

    Raises:
        SegmentError: when the block is not made of whole CBOR items, or holds data of another client service.
    """
    if service not in (SERVICE_BUNDLES, SERVICE_AGGREGATED):
        raise SegmentError(f"client service {service} carries no bundles")
    view = memoryview(data)
    bundles, position = [], 0
    while position < len(view):
        if service == SERVICE_AGGREGATED:
            client, position = decode_sdnv(view, position)
            if client != SERVICE_BUNDLES:
                raise SegmentError(f"an aggregated block holds data of client service {client}")
        end = cbor_end(view, position)
        bundles.append(view[position:end])
        position = end
    return bundles


def cbor_end(view: memoryview, position: int) -> int:
    """The position after the CBOR item (RFC 8949 section 3) at `position`. Contents of strings are not looked at.

    Raises:
        SegmentError: when the item is not whole, malformed or nested too deep.
    """
    size = len(view)
    open_items: list[int] = []
    while True:
        if position >= size:
            raise SegmentError("the block ends inside a CBOR item")
        initial = view[position]
        major, low = initial >> 5, initial & 31
        position += 1
        if initial == 0xFF:
            if not open_items or open_items[-1] != _INDEFINITE:
                raise SegmentError(f"CBOR break at octet {position - 1} ends nothing")
            open_items.pop()
        else:
            value = low
            if 24 <= low <= 27:
                width = 1 << (low - 24)
                if width > size - position:
                    raise SegmentError("the block ends inside a CBOR item")
                value = int.from_bytes(view[position : position + width], "big")
                position += width
            elif low > 27 and (low < 31 or major not in (2, 3, 4, 5)):
                raise SegmentError(f"CBOR octet {initial:#04x} at {position - 1} is not well-formed")
            children = 0
            if low == 31:
                children = _INDEFINITE
            elif major in (2, 3):
                if value > size - position:
                    raise SegmentError(f"CBOR string of {value} octets does not fit the {size - position} left")
                position += value
            elif major in (4, 5):
                children = value * (major - 3)
                if children > size - position:
                    raise SegmentError(f"CBOR collection of {value} items does not fit {size - position} octets")
            elif major == 6:
                children = 1
            if children:
                if len(open_items) >= MAX_DEPTH:
                    raise SegmentError(f"CBOR items nested deeper than {MAX_DEPTH}")
                open_items.append(children)
                continue
        while open_items and open_items[-1] != _INDEFINITE:
            open_items[-1] -= 1
            if open_items[-1]:
                break
            open_items.pop()
        if not open_items:
            return position


_INDEFINITE = -1
