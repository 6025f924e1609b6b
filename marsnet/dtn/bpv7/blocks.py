"""The parts of a bundle: flags, creation timestamp, identity, canonical blocks (RFC 9171 sections 4.2 and 4.3.2)."""

from __future__ import annotations

import re
from dataclasses import replace
from enum import IntFlag
from typing import NamedTuple

from marsnet.dtn.bpv7 import cbor
from marsnet.dtn.bpv7.eid import Eid
from marsnet.dtn.bpv7.errors import BundleError, Malformation
from marsnet.dtn.recipe import Rope

_ID = re.compile(r"(.+)/([0-9]{1,20})-([0-9]{1,20})(?:@([0-9]{1,20})\+([0-9]{1,20}))?")


class BundleFlags(IntFlag):
    """Bundle processing control flags (RFC 9171 section 4.2.3)."""

    FRAGMENT = 0x000001
    ADMIN_RECORD = 0x000002
    MUST_NOT_FRAGMENT = 0x000004
    ACK_REQUESTED = 0x000020
    STATUS_TIME = 0x000040
    REPORT_RECEPTION = 0x004000
    REPORT_FORWARDING = 0x010000
    REPORT_DELIVERY = 0x020000
    REPORT_DELETION = 0x040000


class BlockFlags(IntFlag):
    """Block processing control flags (RFC 9171 section 4.2.4)."""

    REPLICATE = 0x01
    REPORT_UNPROCESSED = 0x02
    DELETE_BUNDLE_UNPROCESSED = 0x04
    REMOVE_UNPROCESSED = 0x10


REPORT_FLAGS = 0x074000
"""All requests for status reports."""


class CreationTimestamp(NamedTuple):
    """RFC 9171 section 4.2.7.

    Attributes:
        time_ms: DTN time, milliseconds since 2000-01-01T00:00Z; 0 when the source had no accurate clock.
        sequence: tells apart what one source created at the same time.
    """

    time_ms: int
    sequence: int


class BundleId(NamedTuple):
    """What tells a bundle from all others (RFC 9171 section 4.2.7); `str` is for logs, `key` for storage.

    Attributes:
        source: source node ID or endpoint.
        timestamp: creation timestamp.
        fragment_offset: of a fragment, its offset in the original payload, bytes; else None.
        payload_length: of a fragment, its payload's length, bytes; else None.
    """

    source: Eid
    timestamp: CreationTimestamp
    fragment_offset: int | None = None
    payload_length: int | None = None

    def __str__(self) -> str:
        part = "" if self.fragment_offset is None else f"@{self.fragment_offset}+{self.payload_length}"
        return f"{self.source}/{self.timestamp.time_ms}-{self.timestamp.sequence}{part}"

    @staticmethod
    def parse(text: str) -> BundleId:
        """The ID that `str` wrote.

        Raises:
            BundleError: it is none.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise BundleError(Malformation.VALUE, f"{text[:80]!r} is no bundle ID; write it as ipn:1.5/812000000000-3")
        source, time, sequence, offset, length = match.groups()
        stamp = CreationTimestamp(int(time), int(sequence))
        if offset is None:
            return BundleId(Eid.parse(source), stamp)
        return BundleId(Eid.parse(source), stamp, int(offset), int(length))

    @property
    def key(self) -> bytes:
        """A canonical encoding: equal for equal IDs, different for different ones."""
        parts = [self.source.cbor, cbor.uint(self.timestamp.time_ms), cbor.uint(self.timestamp.sequence)]
        if self.source.elements == 3:
            parts[0] = replace(self.source, elements=2).cbor
        if self.fragment_offset is not None and self.payload_length is not None:
            parts += [cbor.uint(self.fragment_offset), cbor.uint(self.payload_length)]
        return b"".join(parts)


class CanonicalBlock:
    """A block other than the primary one (RFC 9171 section 4.3.2): a value, that nobody changes.

    Attributes:
        type: block type code, `BlockType` for the known ones.
        number: 1 for the payload, unique in the bundle.
        flags: bits of `BlockFlags`; others are kept.
        crc_type: `CrcType`.
        raw: the encoding that was received, or that `encode` made; None in a block that is new.
        rope: the encoding of a payload block whose data a recipe makes whenever somebody looks at it; else None.
    """

    __slots__ = ("_data", "crc_type", "flags", "number", "raw", "rope", "type")

    def __init__(self, block_type: int, number: int, flags: int, crc_type: int, data: bytes) -> None:
        """A new block of this type-specific data, without its CBOR head."""
        self.type, self.number, self.flags, self.crc_type = block_type, number, flags, crc_type
        self._data = data
        self.raw: bytes | None = None
        self.rope: Rope | None = None

    @property
    def data(self) -> bytes:
        """Type-specific data, without its CBOR head."""
        return self._data if self.rope is None else self.rope.made()

    @property
    def size(self) -> int:
        """Octets of its data."""
        return len(self._data) if self.rope is None else self.rope.end - self.rope.begin

    def with_data(self, data: bytes) -> CanonicalBlock:
        """The block with other data."""
        return CanonicalBlock(self.type, self.number, self.flags, self.crc_type, data)

    def with_rope(self, rope: Rope) -> CanonicalBlock:
        """The block whose encoding is this rope, the made part of it the data."""
        block = self.with_data(b"")
        block.rope = rope
        return block

    def _value(self) -> tuple[int, int, int, int, bytes]:
        return self.type, self.number, self.flags, self.crc_type, self.data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CanonicalBlock) and self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self._value())

    def __repr__(self) -> str:
        return f"CanonicalBlock{self._value()!r}"
