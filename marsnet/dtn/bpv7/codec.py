"""Bundles to octets and back (RFC 9171 section 4), with every checksum verified over the octets received."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from marsnet.dtn.bpv7 import cbor
from marsnet.dtn.bpv7.blocks import CanonicalBlock, CreationTimestamp
from marsnet.dtn.bpv7.bundle import Bundle, check_primary
from marsnet.dtn.bpv7.crc import CRC_SIZE, ZEROED, checksum
from marsnet.dtn.bpv7.eid import read_eid
from marsnet.dtn.bpv7.errors import BundleError, Malformation
from marsnet.dtn.bpv7.extension import CHECKS, BlockType
from marsnet.dtn.recipe import Rope

_set = object.__setattr__
_OPEN, _CLOSE = b"\x9f", b"\xff"
_REMEMBERED = 4096
"""Octets of a block's data whose encoding is kept beside it."""
_PAYLOAD, _AGE = BlockType.PAYLOAD.value, BlockType.BUNDLE_AGE.value


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What `decode` accepts at most.

    Attributes:
        size: bytes of a bundle.
        blocks: canonical blocks of a bundle.
        need_age: refuse creation time 0 without a Bundle Age block (RFC 9171 section 4.4.2); the examples in appendix A
            of RFC 9173 are such bundles.
    """

    size: int = 1 << 30
    blocks: int = 64
    need_age: bool = True


DEFAULT_LIMITS = DecodeLimits()


def encode(bundle: Bundle) -> bytes:
    """The octets of a bundle: blocks as received where they were not changed, canonical CBOR elsewhere.

    What was encoded is remembered, except long payloads, and not encoded again in what is made of the bundle.

    Raises:
        BundleError: fields that do not fit, inconsistent flags, or block numbers and order that RFC 9171 forbids.
    """
    parts = _encode_before(bundle)
    _encode_blocks(bundle.blocks[-1:], parts)
    parts.append(_CLOSE)
    return b"".join(parts)


def encode_rope(bundle: Bundle) -> bytes | Rope:
    """As `encode`; a payload that a recipe makes is not made for it."""
    rope = bundle.blocks[-1].rope
    if rope is None:
        return encode(bundle)
    head = b"".join((*_encode_before(bundle), rope.head))
    return Rope(head, rope.recipe, rope.begin, rope.end, rope.tail + _CLOSE)


def with_rope(bundle: Bundle, octets: Rope) -> Bundle:
    """The bundle with the payload that its encoding leaves to a recipe, where the block is canonical otherwise."""
    payload = bundle.blocks[-1]
    head = _block_head(payload)
    if not octets.head.endswith(head):
        return bundle
    block = payload.with_rope(Rope(head, octets.recipe, octets.begin, octets.end, octets.tail[:-1]))
    return bundle.with_blocks((*bundle.blocks[:-1], block))


def _encode_before(bundle: Bundle) -> list[bytes]:
    """All of a bundle before its payload block."""
    if bundle.raw_primary is None:
        check_primary(bundle)
        primary = _encode_primary(bundle)
        _set(bundle, "raw_primary", primary)
        parts = [_OPEN, primary]
    else:
        parts = [_OPEN, bundle.raw_primary]
    _check_blocks(bundle)
    _encode_blocks(bundle.blocks[:-1], parts)
    return parts


def _encode_blocks(blocks: tuple[CanonicalBlock, ...], parts: list[bytes]) -> None:
    for block in blocks:
        if block.raw is not None:
            parts.append(block.raw)
        elif block.size > _REMEMBERED:
            _encode_block(block, parts)
        else:
            pieces: list[bytes] = []
            _encode_block(block, pieces)
            raw = b"".join(pieces)
            block.raw = raw
            parts.append(raw)


def encode_block(block: CanonicalBlock) -> bytes:
    """The octets of one block, as `encode` puts them into a bundle. Raises BundleError as `encode`."""
    if block.raw is not None:
        return block.raw
    parts: list[bytes] = []
    _encode_block(block, parts)
    return b"".join(parts)


def encode_primary(bundle: Bundle) -> bytes:
    """The octets of the primary block: as received, or canonical. Raises BundleError as `encode`."""
    return _encode_primary(bundle) if bundle.raw_primary is None else bundle.raw_primary


def _encode_primary(bundle: Bundle) -> bytes:
    crc_type = _known_crc(bundle.crc_type)
    uint = cbor.uint
    fragment = bundle.flags & 0x01
    parts = [
        bytes((0x88 + (2 if fragment else 0) + (1 if crc_type else 0), 7)),
        uint(bundle.flags),
        uint(crc_type),
        bundle.destination.cbor,
        bundle.source.cbor,
        bundle.report_to.cbor,
        b"\x82",
        uint(bundle.timestamp.time_ms),
        uint(bundle.timestamp.sequence),
        uint(bundle.lifetime_ms),
    ]
    if fragment:
        parts += [uint(bundle.fragment_offset or 0), uint(bundle.total_length or 0)]
    if not crc_type:
        return b"".join(parts)
    parts.append(ZEROED[crc_type])
    block = b"".join(parts)
    return block[: -CRC_SIZE[crc_type]] + checksum(crc_type, block)


def _encode_block(block: CanonicalBlock, parts: list[bytes]) -> None:
    crc_type, data = _known_crc(block.crc_type), block.data
    head = _block_head(block)
    parts += [head, data]
    if crc_type:
        parts += [ZEROED[crc_type][:1], checksum(crc_type, head, data, ZEROED[crc_type])]


def _block_head(block: CanonicalBlock) -> bytes:
    """What goes before a block's data."""
    uint, crc_type = cbor.uint, block.crc_type
    return b"".join(
        (
            b"\x86" if crc_type else b"\x85",
            uint(block.type),
            uint(block.number),
            uint(block.flags),
            uint(crc_type),
            cbor.head(cbor.BYTES, block.size),
        )
    )


def _known_crc(crc_type: int) -> int:
    if not 0 <= crc_type <= 2:
        raise BundleError(Malformation.CRC_TYPE, f"CRC type {crc_type}; known are 0, 1 and 2")
    return crc_type


def decode(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> Bundle:
    """The bundle that the octets encode, all of them.

    Memory: the octets of each block once as received and once as its data, and a few hundred bytes a block.

    Args:
        data: one bundle.
        limits: what is accepted at most.

    Raises:
        BundleError: malformed, a checksum that does not fit, inconsistent, or beyond a limit.
    """
    bundle, end = decode_from(data, 0, limits)
    if end != len(data):
        raise BundleError(Malformation.TRAILING, f"{len(data) - end} bytes after the end of the bundle")
    return bundle


def decode_from(data: bytes, position: int, limits: DecodeLimits = DEFAULT_LIMITS) -> tuple[Bundle, int]:
    """The bundle that begins at a position, and the position after it: for blocks of several bundles.

    Raises:
        BundleError: as `decode`.
    """
    start = position
    if len(data) - start > limits.size and limits.size < len(data):
        data = data[: start + limits.size + 1]
    if data[position : position + 1] != _OPEN:
        raise BundleError(
            Malformation.TYPE, "a bundle begins with 0x9f, an array of indefinite length (RFC 9171 section 4.1)"
        )
    bundle, position = read_primary(data, position + 1)
    blocks: list[CanonicalBlock] = []
    size = len(data)
    while True:
        if position >= size:
            raise _too_large(limits) if size - start > limits.size else cbor.truncated()
        if data[position] == cbor.BREAK:
            break
        if len(blocks) >= limits.blocks:
            raise BundleError(Malformation.TOO_LARGE, f"more than {limits.blocks} blocks")
        block, position = read_block(data, position)
        blocks.append(block)
    position += 1
    if position - start > limits.size:
        raise _too_large(limits)
    _set(bundle, "blocks", tuple(blocks))
    _check_blocks(bundle)
    check_primary(bundle)
    _check_extensions(bundle, limits.need_age)
    return bundle, position


def _too_large(limits: DecodeLimits) -> BundleError:
    return BundleError(Malformation.TOO_LARGE, f"the bundle is larger than {limits.size} bytes")


def read_primary(data: bytes, position: int) -> tuple[Bundle, int]:
    """The primary block at a position, as a bundle without other blocks, and the position after it.

    Its rules that concern the other blocks are not checked. Raises BundleError as `decode`.
    """
    start = position
    uint: Callable[[bytes, int], tuple[int, int]] = cbor.read_uint
    length, position = cbor.array_length(data, position, 8, 11)
    version, position = uint(data, position)
    if version != 7:
        raise BundleError(Malformation.VERSION, f"version {version} of the Bundle Protocol; this is 7")
    flags, position = uint(data, position)
    crc_type, position = uint(data, position)
    _known_crc(crc_type)
    fragment = flags & 0x01
    due = 8 + (2 if fragment else 0) + (1 if crc_type else 0)
    if length not in (due, cbor.INDEFINITE):
        raise BundleError(Malformation.LENGTH, f"primary block of {length} elements, its flags and CRC type say {due}")
    destination, position = read_eid(data, position)
    source, position = read_eid(data, position)
    report_to, position = read_eid(data, position)
    pair, position = cbor.array_length(data, position, 2, 2)
    time_ms, position = uint(data, position)
    sequence, position = uint(data, position)
    if pair < 0:
        position = cbor.expect_break(data, position)
    lifetime, position = uint(data, position)
    offset = total = None
    if fragment:
        offset, position = uint(data, position)
        total, position = uint(data, position)
    position = _finish(data, position, crc_type, length, data[start:position])
    bundle = Bundle(
        destination,
        source,
        report_to,
        CreationTimestamp(time_ms, sequence),
        lifetime,
        (),
        flags,
        crc_type,
        offset,
        total,
    )
    _set(bundle, "raw_primary", data[start:position])
    return bundle, position


def read_block(data: bytes, position: int) -> tuple[CanonicalBlock, int]:
    """The canonical block at a position, and the position after it. Raises BundleError as `decode`."""
    start = position
    head = data[position : position + 5]
    if len(head) == 5 and 0x85 <= head[0] <= 0x86 and max(head[1:]) < 24:
        length, block_type, number, flags, crc_type = head
        length -= 0x80
        position += 5
    else:
        length, position = cbor.array_length(data, position, 5, 6)
        block_type, position = cbor.read_uint(data, position)
        number, position = cbor.read_uint(data, position)
        flags, position = cbor.read_uint(data, position)
        crc_type, position = cbor.read_uint(data, position)
    _known_crc(crc_type)
    if length not in (6 if crc_type else 5, cbor.INDEFINITE):
        raise BundleError(Malformation.LENGTH, f"block {number} of {length} elements has CRC type {crc_type}")
    chunked = data[position : position + 1] == b"\x5f"
    content, position = cbor.read_bytes(data, position)
    # What is in one piece already is not copied again for its checksum.
    octets = b"" if chunked else content
    before = data[start : position - len(octets)] if crc_type else b""
    position = _finish(data, position, crc_type, length, before, octets)
    block = CanonicalBlock(block_type, number, flags, crc_type, content)
    # What is long is not kept twice where encoding it would give the same octets.
    if chunked or length < 0 or len(content) <= _REMEMBERED:
        block.raw = data[start:position]
    return block, position


def _finish(data: bytes, position: int, crc_type: int, length: int, *before: bytes) -> int:
    """Verify the checksum that ends a block, if there is one, and its `break`; returns the position after the block.

    Args:
        data: the bundle.
        position: where the checksum is, or would be.
        crc_type: of the block.
        length: of the block's array, or `INDEFINITE`.
        before: the block's octets up to the checksum, in pieces.
    """
    end = position
    if crc_type:
        size = CRC_SIZE[crc_type]
        end = position + 1 + size
        if end > len(data):
            raise cbor.truncated()
        if data[position] != 0x40 + size:
            raise BundleError(
                Malformation.TYPE, f"initial byte {data[position]:#04x} where a checksum of {size} bytes is due"
            )
        after = cbor.expect_break(data, end) if length < 0 else end
        due = checksum(crc_type, *before, ZEROED[crc_type], data[end:after])
        if data[position + 1 : end] != due:
            raise BundleError(
                Malformation.CRC,
                f"checksum {data[position + 1 : end].hex()}, the block's octets give {due.hex()}",
            )
        return after
    return cbor.expect_break(data, end) if length < 0 else end


def _check_blocks(bundle: Bundle) -> None:
    blocks = bundle.blocks
    if not blocks or blocks[-1].type != _PAYLOAD or blocks[-1].number != 1:
        raise BundleError(Malformation.BLOCKS, "the last block is not the payload block, type 1 and number 1")
    if len(blocks) == 1:
        return
    numbers = {block.number for block in blocks}
    if len(numbers) != len(blocks) or 0 in numbers:
        raise BundleError(Malformation.BLOCKS, "a block number is 0 or used twice")
    if any(block.type == _PAYLOAD for block in blocks[:-1]):
        raise BundleError(Malformation.BLOCKS, "more than one payload block")


def _check_extensions(bundle: Bundle, need_age: bool) -> None:
    seen: set[int] = set()
    encrypted: frozenset[int] | None = None
    for block in bundle.blocks:
        check = CHECKS.get(block.type)
        if check is not None:
            if block.type in seen:
                raise BundleError(Malformation.EXTENSION, f"more than one block of type {block.type}")
            seen.add(block.type)
            if encrypted is None:
                encrypted = bundle.encrypted
            if block.number not in encrypted:
                check(block.data)
    if need_age and not bundle.timestamp.time_ms and _AGE not in seen:
        raise BundleError(Malformation.EXTENSION, "creation time 0 and no Bundle Age block")
