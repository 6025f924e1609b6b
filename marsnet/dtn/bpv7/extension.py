"""Type-specific data of the extension blocks: RFC 9171 section 4.4, and marsnet's class of service."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from marsnet.dtn.bpv7 import cbor
from marsnet.dtn.bpv7.eid import Eid
from marsnet.dtn.bpv7.errors import BundleError, Malformation


class BlockType(IntEnum):
    """Block type codes (IANA registry "Bundle Block Types", version 7)."""

    PAYLOAD = 1
    PREVIOUS_NODE = 6
    BUNDLE_AGE = 7
    HOP_COUNT = 10
    INTEGRITY = 11
    CONFIDENTIALITY = 12
    SERVICE_CLASS = 241
    """marsnet's own, in the range for private and experimental use (192 to 255). ION and dtn7 use 192 to 197 of it for
    blocks of theirs, and an ION node drops a bundle whose block 193 is not what it puts there."""
    COPIES = 242
    """marsnet's own likewise: how many copies of a critical bundle may be on their way at once."""
    AUDIENCE = 243
    """marsnet's own likewise: ipn numbers of the nodes of a group that this copy is to reach."""


class ServiceClass(IntEnum):
    """The class of service of a bundle, the most urgent first. A bundle without the block is NORMAL."""

    CRITICAL = 0
    EXPEDITED = 1
    NORMAL = 2
    BULK = 3

    @property
    def dscp(self) -> int:
        """The DiffServ code point of packets that carry it: EF, AF31, default, CS1 (RFC 3246, 2597, 2474)."""
        return (46, 26, 0, 8)[self]

    @staticmethod
    def from_dscp(dscp: int) -> ServiceClass:
        """The class whose packets carry a DiffServ code point; NORMAL for a code point that no class has."""
        return {46: ServiceClass.CRITICAL, 26: ServiceClass.EXPEDITED, 8: ServiceClass.BULK}.get(
            dscp, ServiceClass.NORMAL
        )


_CLASSES = tuple(ServiceClass)


class HopCount(NamedTuple):
    """RFC 9171 section 4.4.3.

    Attributes:
        limit: 1 to 255.
        hops: how often it was forwarded so far.
    """

    limit: int
    hops: int

    @property
    def exceeded(self) -> bool:
        """Whether the bundle must be deleted."""
        return self.hops > self.limit


@lru_cache(1024)
def encode_hop_count(hops: HopCount) -> bytes:
    """`[limit, count]`. Raises BundleError when the limit is not 1 to 255."""
    if not 1 <= hops.limit <= 255:
        raise BundleError(Malformation.EXTENSION, f"hop limit {hops.limit}; it is 1 to 255")
    return b"\x82" + cbor.uint(hops.limit) + cbor.uint(hops.hops)


@lru_cache(1024)
def decode_hop_count(data: bytes) -> HopCount:
    """The hop limit and count in a Hop Count block's data. Raises BundleError."""
    length, position = cbor.array_length(data, 0, 2, 2)
    limit, position = cbor.read_uint(data, position)
    count, position = cbor.read_uint(data, position)
    cbor.expect_end(data, cbor.expect_break(data, position) if length < 0 else position)
    if not 1 <= limit <= 255:
        raise BundleError(Malformation.EXTENSION, f"hop limit {limit}; it is 1 to 255")
    return HopCount(limit, count)


def decode_bundle_age(data: bytes) -> int:
    """Milliseconds since the bundle's creation in a Bundle Age block's data. Raises BundleError."""
    age, position = cbor.read_uint(data, 0)
    cbor.expect_end(data, position)
    return age


@lru_cache(64)
def decode_service_class(data: bytes) -> ServiceClass:
    """The class in the data of a block of type 241.

    Raises:
        BundleError: the data is no integer from 0 to 3; another use of the private block type, perhaps.
    """
    value, position = cbor.read_uint(data, 0)
    cbor.expect_end(data, position)
    if value >= len(_CLASSES):
        raise BundleError(Malformation.EXTENSION, f"class of service {value}; known are 0 to 3")
    return _CLASSES[value]


def decode_copies(data: bytes) -> int:
    """The number in the data of a block of type 242; 1 for any other content, which is another use of the number."""
    try:
        copies, position = cbor.read_uint(data, 0)
        cbor.expect_end(data, position)
    except BundleError:
        return 1
    return max(1, copies)


CHECKS: dict[int, Callable[[bytes], object]] = {
    BlockType.PREVIOUS_NODE.value: Eid.from_cbor,
    BlockType.BUNDLE_AGE.value: decode_bundle_age,
    BlockType.HOP_COUNT.value: decode_hop_count,
}
"""What the data of a block type must decode as, and of which a bundle has one at most (RFC 9171 section 4.4)."""


def bcb_targets(data: bytes) -> frozenset[int]:
    """Numbers of the blocks that a Block Confidentiality Block encrypts, the first item of its data (RFC 9172 3.6).

    Malformed data names none; what reads the block as a whole says what is wrong with it.
    """
    try:
        count, position = cbor.read_head(data, 0, cbor.ARRAY)
        numbers: set[int] = set()
        for _ in range(count):
            number, position = cbor.read_uint(data, position)
            numbers.add(number)
    except BundleError:
        return frozenset()
    return frozenset(numbers)
