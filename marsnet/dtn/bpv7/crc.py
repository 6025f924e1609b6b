"""The two checksums of RFC 9171 section 4.2.1: CRC-16 X-25 and CRC-32C."""

from __future__ import annotations

import binascii
from enum import IntEnum

import google_crc32c


class CrcType(IntEnum):
    """RFC 9171 section 4.2.1."""

    NONE = 0
    CRC16 = 1
    CRC32C = 2


CRC_SIZE = (0, 2, 4)
"""Length of the checksum in bytes, by CRC type."""
ZEROED = (b"", b"\x42\0\0", b"\x44\0\0\0\0")
"""The CBOR byte string that stands for the checksum while it is computed, by CRC type."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc16_x25(*parts: bytes) -> int:
    """CRC-16 X-25 of the parts one after another (polynomial 0x1021 reflected, initial and final XOR 0xFFFF).

    The standard library has the unreflected form in C; reflecting its input and output gives X-25.
    """
    register = 0xFFFF
    for part in parts:
        register = binascii.crc_hqx(part.translate(_REVERSED), register)
    return (_REVERSED[register & 0xFF] << 8 | _REVERSED[register >> 8]) ^ 0xFFFF


def crc32c(*parts: bytes) -> int:
    """CRC-32C (Castagnoli) of the parts one after another."""
    register = 0
    for part in parts:
        register = google_crc32c.extend(register, part)
    return register


def checksum(crc_type: int, *parts: bytes) -> bytes:
    """The checksum of the parts, in network byte order; empty for `CrcType.NONE`.

    Args:
        crc_type: 0, 1 or 2.
        parts: the block's encoding with the checksum zeroed, in pieces.
    """
    if crc_type == 2:
        return crc32c(*parts).to_bytes(4, "big")
    if crc_type == 1:
        return crc16_x25(*parts).to_bytes(2, "big")
    return b""
