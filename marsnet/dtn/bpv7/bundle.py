"""Bundles as immutable values (RFC 9171 section 4), and what their primary blocks must obey."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from marsnet.dtn.bpv7 import cbor
from marsnet.dtn.bpv7.blocks import (
    REPORT_FLAGS,
    BlockFlags,
    BundleFlags,
    BundleId,
    CanonicalBlock,
    CreationTimestamp,
)
from marsnet.dtn.bpv7.crc import CrcType
from marsnet.dtn.bpv7.eid import NULL_EID, Eid
from marsnet.dtn.bpv7.errors import BundleError, Malformation
from marsnet.dtn.bpv7.extension import (
    BlockType,
    HopCount,
    ServiceClass,
    bcb_targets,
    decode_bundle_age,
    decode_hop_count,
    decode_service_class,
    encode_hop_count,
)

_BCB = BlockType.CONFIDENTIALITY.value


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle: the primary block's fields, and the other blocks with the payload last.

    A bundle is a value: methods that change something return a new one. What was decoded re-encodes to the octets
    received, block by block, unless that block was changed; `with_blocks` and what builds on it keep the primary block.

    Attributes:
        destination: endpoint to deliver to.
        source: source endpoint; the null endpoint for an anonymous bundle.
        report_to: endpoint of status reports.
        timestamp: creation timestamp.
        lifetime_ms: milliseconds after creation when the bundle expires.
        blocks: the canonical blocks.
        flags: bits of `BundleFlags`; others are kept.
        crc_type: of the primary block.
        fragment_offset: of a fragment: offset of its payload in the original one, bytes.
        total_length: of a fragment: length of the original payload, bytes.
        raw_primary: the primary block's encoding that was received, or made.
    """

    destination: Eid
    source: Eid
    report_to: Eid
    timestamp: CreationTimestamp
    lifetime_ms: int
    blocks: tuple[CanonicalBlock, ...]
    flags: int = 0
    crc_type: int = CrcType.CRC32C
    fragment_offset: int | None = None
    total_length: int | None = None
    raw_primary: bytes | None = field(default=None, init=False, compare=False, repr=False)
    _key: bytes = field(default=b"", init=False, compare=False, repr=False)

    @staticmethod
    def create(
        source: Eid,
        destination: Eid,
        payload: bytes,
        timestamp: CreationTimestamp,
        lifetime_ms: int,
        *,
        report_to: Eid | None = None,
        flags: int = 0,
        crc_type: int = CrcType.CRC32C,
        service_class: ServiceClass = ServiceClass.NORMAL,
        hop_limit: int | None = 64,
        age_ms: int | None = None,
    ) -> Bundle:
        """A new bundle with a payload and the extension blocks that its source adds.

        Args:
            source: the null endpoint makes the bundle anonymous, with the flags that RFC 9171 section 4.2.3 demands.
            destination: where to.
            payload: application data unit.
            timestamp: creation timestamp; with time 0 a Bundle Age block is added.
            lifetime_ms: milliseconds.
            report_to: default: the source.
            flags: bits of `BundleFlags`.
            crc_type: of the primary block and the payload; extension blocks are sent without (RFC 9171 lets them, and
                a peer is known to fail on a checksum in blocks flagged 0x10).
            service_class: a class of service block is added unless it is NORMAL.
            hop_limit: of the Hop Count block; None leaves it out.
            age_ms: of the Bundle Age block; default: 0 with creation time 0, else no block.

        Raises:
            BundleError: as `check_primary`.
        """
        if source.is_null:
            flags = (flags | BundleFlags.MUST_NOT_FRAGMENT) & ~REPORT_FLAGS
        if age_ms is None and not timestamp.time_ms:
            age_ms = 0
        blocks: list[CanonicalBlock] = []
        if hop_limit is not None:
            hops = encode_hop_count(HopCount(hop_limit, 0))
            blocks.append(CanonicalBlock(BlockType.HOP_COUNT, 2, BlockFlags.REPLICATE, 0, hops))
        if age_ms is not None:
            number = len(blocks) + 2
            blocks.append(CanonicalBlock(BlockType.BUNDLE_AGE, number, BlockFlags.REPLICATE, 0, cbor.uint(age_ms)))
        if service_class != ServiceClass.NORMAL:
            data = cbor.uint(service_class)
            blocks.append(CanonicalBlock(BlockType.SERVICE_CLASS, len(blocks) + 2, BlockFlags.REPLICATE, 0, data))
        blocks.append(CanonicalBlock(BlockType.PAYLOAD, 1, 0, crc_type, payload))
        bundle = Bundle(
            destination,
            source,
            source if report_to is None else report_to,
            timestamp,
            lifetime_ms,
            tuple(blocks),
            int(flags),
            crc_type,
        )
        check_primary(bundle)
        return bundle

    @property
    def is_fragment(self) -> bool:
        """Whether it carries a part of a payload."""
        return bool(self.flags & 0x01)

    @property
    def is_admin_record(self) -> bool:
        """Whether its payload is an administrative record."""
        return bool(self.flags & 0x02)

    @property
    def must_not_fragment(self) -> bool:
        """Whether it must not be fragmented."""
        return bool(self.flags & 0x04)

    @property
    def id(self) -> BundleId:
        """What tells it from all other bundles."""
        if self.flags & 0x01:
            return BundleId(self.source, self.timestamp, self.fragment_offset, len(self.payload))
        return BundleId(self.source, self.timestamp)

    @property
    def key(self) -> bytes:
        """The key of its `id`."""
        if not self._key:
            object.__setattr__(self, "_key", self.id.key)
        return self._key

    @property
    def payload(self) -> bytes:
        """The payload block's data."""
        return self.blocks[-1].data

    def block(self, block_type: int) -> CanonicalBlock | None:
        """The first block of a type, or None."""
        for block in self.blocks:
            if block.type == block_type:
                return block
        return None

    def block_numbered(self, number: int) -> CanonicalBlock | None:
        """The block with a number, or None."""
        for block in self.blocks:
            if block.number == number:
                return block
        return None

    @property
    def encrypted(self) -> frozenset[int]:
        """Numbers of the blocks whose data a Block Confidentiality Block encrypts."""
        numbers: frozenset[int] = frozenset()
        for block in self.blocks:
            if block.type == _BCB:
                numbers |= bcb_targets(block.data)
        return numbers

    def _extension(self, block_type: int) -> bytes | None:
        block = self.block(block_type)
        if block is None:
            return None
        if block.number in self.encrypted:
            raise BundleError(Malformation.EXTENSION, f"block {block.number} of type {block_type} is encrypted")
        return block.data

    @property
    def hop_count(self) -> HopCount | None:
        """Hop limit and count, where the block is present. Raises BundleError when it is encrypted or malformed."""
        data = self._extension(BlockType.HOP_COUNT)
        return None if data is None else decode_hop_count(data)

    @property
    def previous_node(self) -> Eid | None:
        """The node that forwarded it, where told. Raises BundleError when it is encrypted or malformed."""
        data = self._extension(BlockType.PREVIOUS_NODE)
        return None if data is None else Eid.from_cbor(data)

    @property
    def bundle_age(self) -> int | None:
        """Milliseconds since its creation, where told. Raises BundleError when it is encrypted or malformed."""
        data = self._extension(BlockType.BUNDLE_AGE)
        return None if data is None else decode_bundle_age(data)

    @property
    def service_class(self) -> ServiceClass:
        """Its class of service; NORMAL without the block, or where it is encrypted or of another private use."""
        try:
            data = self._extension(BlockType.SERVICE_CLASS)
            return ServiceClass.NORMAL if data is None else decode_service_class(data)
        except BundleError:
            return ServiceClass.NORMAL

    def expiry_ms(self, received_ms: int) -> int:
        """DTN time in milliseconds when it expires (RFC 9171 sections 4.2.7 and 4.4.2).

        Args:
            received_ms: DTN time when it came in (or was made): what its age counts up to, where its source had no
                clock.
        """
        if self.timestamp.time_ms:
            return self.timestamp.time_ms + self.lifetime_ms
        return received_ms + self.lifetime_ms - (self.bundle_age or 0)

    @property
    def next_block_number(self) -> int:
        """The smallest number above 1 that no block has."""
        taken = {block.number for block in self.blocks}
        number = 2
        while number in taken:
            number += 1
        return number

    def with_blocks(self, blocks: Iterable[CanonicalBlock]) -> Bundle:
        """The bundle with other canonical blocks (payload last) and the same primary block."""
        changed = Bundle(
            self.destination,
            self.source,
            self.report_to,
            self.timestamp,
            self.lifetime_ms,
            tuple(blocks),
            self.flags,
            self.crc_type,
            self.fragment_offset,
            self.total_length,
        )
        object.__setattr__(changed, "raw_primary", self.raw_primary)
        if not self.flags & 0x01:
            object.__setattr__(changed, "_key", self._key)
        return changed

    def with_block(self, block: CanonicalBlock) -> Bundle:
        """The bundle with a block added before the payload, or put in place of the one with the same number."""
        if self.block_numbered(block.number) is None:
            return self.with_blocks((*self.blocks[:-1], block, self.blocks[-1]))
        return self.with_blocks(block if old.number == block.number else old for old in self.blocks)

    def with_extension(self, block_type: int, data: bytes, flags: int = 0, crc_type: int = CrcType.NONE) -> Bundle:
        """The bundle with the data of its block of a type replaced, or with such a block added.

        Args:
            block_type: of the block.
            data: its new type-specific data.
            flags: of a block that is added.
            crc_type: of a block that is added.
        """
        block = self.block(block_type)
        if block is not None:
            return self if block.data == data else self.with_block(block.with_data(data))
        return self.with_block(CanonicalBlock(block_type, self.next_block_number, flags, crc_type, data))

    def without_block(self, number: int) -> Bundle:
        """The bundle without the block of a number; the payload stays.

        Raises:
            BundleError: number 1, the payload.
        """
        if number == 1:
            raise BundleError(Malformation.BLOCKS, "a bundle cannot lose its payload block")
        return self.with_blocks(block for block in self.blocks if block.number != number)

    def forwarded(self, previous_node: Eid, age_ms: int | None = None) -> Bundle:
        """The bundle as a node sends it on (RFC 9171 section 5.4): previous node set, hop counted, age told.

        Blocks that a BCB encrypts are left as they are.

        Args:
            previous_node: the node ID of the sending node.
            age_ms: the bundle's age when it leaves, milliseconds; needed where it has a Bundle Age block.

        Raises:
            BundleError: it has a Bundle Age block that is not encrypted and no age is given.
        """
        blocks: list[CanonicalBlock] = []
        named = False
        encrypted = self.encrypted
        for block in self.blocks:
            changed = block
            named |= block.type == BlockType.PREVIOUS_NODE
            if block.number in encrypted:
                pass
            elif block.type == BlockType.HOP_COUNT:
                hops = decode_hop_count(block.data)
                changed = block.with_data(encode_hop_count(HopCount(hops.limit, hops.hops + 1)))
            elif block.type == BlockType.BUNDLE_AGE:
                changed = block.with_data(_age_data(age_ms))
            elif block.type == BlockType.PREVIOUS_NODE:
                changed = block.with_data(previous_node.cbor)
            blocks.append(changed)
        if not named:
            number = self.next_block_number
            blocks.insert(0, CanonicalBlock(BlockType.PREVIOUS_NODE, number, 0, 0, previous_node.cbor))
        return self.with_blocks(blocks)


def _age_data(age_ms: int | None) -> bytes:
    if age_ms is None:
        raise BundleError(Malformation.EXTENSION, "the bundle has a Bundle Age block and no age is given")
    return cbor.uint(age_ms)


def check_primary(bundle: Bundle) -> None:
    """Check the primary block's rules that no single field shows (RFC 9171 sections 4.2.3 and 4.3.1).

    Raises:
        BundleError: a fragment that must not be one; fragment fields without the flag, or beyond the original length;
            a status report asked of an administrative record or of an anonymous bundle; an anonymous bundle that may
            be fragmented.
    """
    flags = bundle.flags
    if flags & 0x01:
        if flags & 0x04:
            raise BundleError(Malformation.FLAGS, "a fragment is flagged as not to be fragmented")
        if bundle.fragment_offset is None or bundle.total_length is None:
            raise BundleError(Malformation.FRAGMENT, "a fragment has an offset and a total length")
        if bundle.fragment_offset + len(bundle.payload) > bundle.total_length:
            raise BundleError(
                Malformation.FRAGMENT,
                f"fragment at {bundle.fragment_offset} of {len(bundle.payload)} bytes ends beyond the original length "
                f"{bundle.total_length}",
            )
    elif bundle.fragment_offset is not None or bundle.total_length is not None:
        raise BundleError(Malformation.FRAGMENT, "a bundle that is no fragment has fragment fields")
    if flags & 0x02 and flags & REPORT_FLAGS:
        raise BundleError(Malformation.FLAGS, "an administrative record asks for status reports")
    if bundle.source.is_null and bundle.source == NULL_EID and (flags & REPORT_FLAGS or not flags & 0x04):
        raise BundleError(Malformation.FLAGS, "an anonymous bundle asks for status reports or may be fragmented")
