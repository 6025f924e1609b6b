"""Self-delimiting numeric values (RFC 6256; RFC 5326 section 2), bounded to 64 bits."""

from __future__ import annotations

from marsnet.errors import MarsnetError

MAX_VALUE = 2**64 - 1
MAX_OCTETS = 10
"""64 bits take ten octets of seven bits. Longer encodings are refused, also those padded with leading zeros."""


class SegmentError(MarsnetError):
    """The octets received are no LTP segment."""


_LOW = bytes(range(0x80))


def _pairs(high: int) -> list[bytes]:
    """The 128 SDNVs of two octets that begin with the same one. Slices, as this table is made at every start."""
    octets = bytearray((0x80 | high,)) * 0x100
    octets[1::2] = _LOW
    whole = bytes(octets)
    return [whole[at : at + 2] for at in range(0, 0x100, 2)]


_SMALL = [_LOW[n : n + 1] for n in _LOW] + [pair for high in range(1, 0x80) for pair in _pairs(high)]


def encode_sdnv(value: int) -> bytes:
    """The shortest SDNV of `value`, 0 <= value < 2**64.

    Raises:
        ValueError: when the value is out of that range.
    """
    if 0 <= value < 0x4000:
        return _SMALL[value]
    if not 0 <= value <= MAX_VALUE:
        raise ValueError(f"{value} does not fit the 64 bits of an SDNV")
    octets = bytearray((value & 0x7F,))
    value >>= 7
    while value:
        octets.append(0x80 | value & 0x7F)
        value >>= 7
    octets.reverse()
    return bytes(octets)


def sdnv_size(value: int) -> int:
    """Octets of the shortest SDNV of `value` >= 0."""
    return (value.bit_length() + 6) // 7 or 1


def decode_sdnv(buffer: bytes | memoryview, position: int) -> tuple[int, int]:
    """The value at `position` and the position after it.

    Raises:
        SegmentError: when the buffer ends inside the value or the value is longer than 64 bits.
    """
    try:
        octet = buffer[position]
        if octet < 0x80:
            return octet, position + 1
        value = octet & 0x7F
        for place in range(position + 1, position + MAX_OCTETS):
            octet = buffer[place]
            value = value << 7 | octet & 0x7F
            if octet < 0x80:
                if value > MAX_VALUE:
                    raise SegmentError(f"SDNV at octet {position} exceeds 64 bits")
                return value, place + 1
    except IndexError:
        raise SegmentError(f"the segment ends inside the SDNV at octet {position}") from None
    raise SegmentError(f"SDNV at octet {position} is longer than {MAX_OCTETS} octets")
