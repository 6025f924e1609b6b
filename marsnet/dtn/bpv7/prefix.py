"""Beginnings of bundles: what a broken transfer leaves at each end (reactive fragmentation, RFC 9171 section 5.8)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from marsnet.dtn.bpv7 import cbor
from marsnet.dtn.bpv7.blocks import BundleFlags, CanonicalBlock
from marsnet.dtn.bpv7.bundle import Bundle, check_primary
from marsnet.dtn.bpv7.codec import DEFAULT_LIMITS, DecodeLimits, read_block, read_primary
from marsnet.dtn.bpv7.errors import BundleError, Malformation
from marsnet.dtn.bpv7.extension import CHECKS, BlockType


class Beginning(NamedTuple):
    """What the first octets of an encoded bundle tell.

    Attributes:
        bundle: its primary and extension blocks, with a payload block that has the data so far.
        payload_size: octets of the whole payload.
        at: position of the payload's first octet.
    """

    bundle: Bundle
    payload_size: int
    at: int


def read_primary_block(data: bytes) -> Bundle:
    """The primary block with which the octets begin, as a bundle without other blocks: what to report on, or log.

    Raises:
        BundleError: not even that can be read, or its checksum does not fit, or there is none to trust it by.
    """
    if data[:1] != b"\x9f":
        raise BundleError(Malformation.TYPE, "a bundle begins with 0x9f")
    bundle, _ = read_primary(data, 1)
    if not bundle.crc_type:
        raise BundleError(Malformation.CRC, "the primary block has no checksum")
    return bundle


def read_beginning(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> Beginning:
    """What the first octets of a bundle tell, however far into its payload they reach.

    Args:
        data: the first octets, up to all.
        limits: as for `decode`.

    Raises:
        BundleError: they end before the payload begins, or are malformed.
    """
    if data[:1] != b"\x9f":
        raise BundleError(Malformation.TYPE, "a bundle begins with 0x9f")
    primary, position = read_primary(data, 1)
    blocks: list[CanonicalBlock] = []
    while True:
        if len(blocks) >= limits.blocks:
            raise BundleError(Malformation.TOO_LARGE, f"more than {limits.blocks} blocks")
        if data[position : position + 1] == b"\xff":
            raise BundleError(Malformation.BLOCKS, "a bundle without a payload block")
        head = _payload_head(data, position)
        if head is not None:
            break
        block, position = read_block(data, position)
        check = CHECKS.get(block.type)
        if check is not None:
            check(block.data)
        blocks.append(block)
    flags, crc_type, size, at = head
    payload = CanonicalBlock(BlockType.PAYLOAD.value, 1, flags, crc_type, bytes(data[at : at + size]))
    numbers = [block.number for block in blocks]
    if len(set(numbers)) != len(numbers) or not {0, 1}.isdisjoint(numbers):
        raise BundleError(Malformation.BLOCKS, "a block number is 0, 1 or used twice")
    bundle = primary.with_blocks((*blocks, payload))
    check_primary(bundle)
    return Beginning(bundle, size, at)


def _payload_head(data: bytes, position: int) -> tuple[int, int, int, int] | None:
    """Flags, CRC type, size and position of the payload whose block begins here; None for another block."""
    _, after = cbor.array_length(data, position, 5, 6)
    block_type, after = cbor.read_uint(data, after)
    if block_type != BlockType.PAYLOAD:
        return None
    number, after = cbor.read_uint(data, after)
    if number != 1:
        raise BundleError(Malformation.BLOCKS, f"the payload block has number {number}")
    flags, after = cbor.read_uint(data, after)
    crc_type, after = cbor.read_uint(data, after)
    size, after = cbor.read_head(data, after, cbor.BYTES)
    return flags, crc_type, size, after


def leading_fragment(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> Bundle:
    """The fragment that a receiver can make of the first octets of a bundle.

    Its payload's checksum is made anew: the one of the whole has not come.

    Raises:
        BundleError: no octet of the payload has come, or the bundle must not be fragmented.
    """
    beginning = read_beginning(data, limits)
    bundle, got = beginning.bundle, len(beginning.bundle.payload)
    if bundle.must_not_fragment:
        raise BundleError(Malformation.FRAGMENT, f"{bundle.id} must not be fragmented")
    if not got:
        raise BundleError(Malformation.FRAGMENT, "no octet of the payload has come")
    total = beginning.payload_size if bundle.total_length is None else bundle.total_length
    return replace(
        bundle,
        flags=bundle.flags | BundleFlags.FRAGMENT.value,
        fragment_offset=bundle.fragment_offset or 0,
        total_length=total,
    )
