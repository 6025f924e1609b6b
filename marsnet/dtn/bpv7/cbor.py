"""The part of CBOR (RFC 8949) that bundles are made of: heads of items, read strictly and written canonically.

RFC 9171 section 4.1 demands the core deterministic encoding (RFC 8949 section 4.2.1) except that indefinite lengths
are not prohibited. So an integer or a length in a longer form than it needs is refused, an array or a byte string of
indefinite length is read, and nothing but shortest definite forms is written.
"""

from __future__ import annotations

from marsnet.dtn.bpv7.errors import BundleError, Malformation

UNSIGNED, BYTES, TEXT, ARRAY = 0, 2, 3, 4
INDEFINITE = -1
"""Length that `read_head` returns for an item of indefinite length."""
BREAK = 0xFF
U64_MAX = (1 << 64) - 1
_NAMES = ("unsigned integer", "negative integer", "byte string", "text string", "array", "map", "tag", "simple value")
_SMALLEST = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
_HEADS = tuple(bytes((major << 5 | value,)) for major in range(8) for value in range(24))


def truncated() -> BundleError:
    """The error for an item that the input ends within."""
    return BundleError(Malformation.TRUNCATED, "the input ends within an item")


def read_head(data: bytes, position: int, major: int) -> tuple[int, int]:
    """Read the head of an item that must be of one major type.

    Returns:
        The value (or length, or `INDEFINITE` for byte strings, text strings and arrays) and the position after it.

    Raises:
        BundleError: another major type, a value in a longer form than it needs, or the end of the input.
    """
    if position >= len(data):
        raise truncated()
    initial = data[position]
    if initial >> 5 != major:
        raise BundleError(Malformation.TYPE, f"{_NAMES[initial >> 5]} at byte {position}, where {_NAMES[major]} is due")
    info = initial & 0x1F
    position += 1
    if info < 24:
        return info, position
    if info < 28:
        end = position + (1 << (info - 24))
        if end > len(data):
            raise truncated()
        value = int.from_bytes(data[position:end], "big")
        if value < _SMALLEST[info]:
            raise BundleError(
                Malformation.NOT_CANONICAL, f"{value} at byte {position - 1} is encoded longer than need be"
            )
        return value, end
    if info == 31 and major in (BYTES, TEXT, ARRAY):
        return INDEFINITE, position
    raise BundleError(Malformation.TYPE, f"byte {position - 1} starts no well-formed CBOR item")


def read_uint(data: bytes, position: int) -> tuple[int, int]:
    """Read an unsigned integer of at most 64 bits; returns it and the position after it. Errors as `read_head`."""
    try:
        initial = data[position]
    except IndexError:
        raise truncated() from None
    return (initial, position + 1) if initial < 24 else read_head(data, position, UNSIGNED)


def read_bytes(data: bytes, position: int) -> tuple[bytes, int]:
    """Read a byte string, of definite or indefinite length; returns it and the position after it.

    Raises:
        BundleError: as `read_head`, or when the string is longer than the input.
    """
    length, position = read_head(data, position, BYTES)
    if length >= 0:
        end = position + length
        if end > len(data):
            raise truncated()
        return data[position:end], end
    chunks: list[bytes] = []
    while True:
        if position >= len(data):
            raise truncated()
        if data[position] == BREAK:
            return b"".join(chunks), position + 1
        length, position = read_head(data, position, BYTES)
        if length < 0:
            raise BundleError(Malformation.TYPE, f"a chunk at byte {position - 1} is of indefinite length itself")
        if position + length > len(data):
            raise truncated()
        chunks.append(data[position : position + length])
        position += length


def read_text(data: bytes, position: int, longest: int) -> tuple[str, int]:
    """Read a text string of definite length and at most `longest` bytes; returns it and the position after it.

    Raises:
        BundleError: as `read_head`, or a string that is too long or not UTF-8.
    """
    length, position = read_head(data, position, TEXT)
    if length < 0 or length > longest:
        raise BundleError(
            Malformation.TOO_LARGE, f"text string of {length} bytes (-1: indefinite); the limit is {longest}"
        )
    end = position + length
    if end > len(data):
        raise truncated()
    try:
        return data[position:end].decode(), end
    except UnicodeDecodeError as error:
        raise BundleError(Malformation.TYPE, f"text string at byte {position} is not UTF-8") from error


def read_bool(data: bytes, position: int) -> tuple[bool, int]:
    """Read `true` or `false`; returns it and the position after it.

    Raises:
        BundleError: another item, or the end of the input.
    """
    if position >= len(data):
        raise truncated()
    if data[position] not in (0xF4, 0xF5):
        raise BundleError(
            Malformation.TYPE, f"initial byte {data[position]:#04x} at byte {position}, where a truth value is due"
        )
    return data[position] == 0xF5, position + 1


def expect_break(data: bytes, position: int) -> int:
    """The position after the `break` that closes an item of indefinite length.

    Raises:
        BundleError: something else stands there.
    """
    if position >= len(data):
        raise truncated()
    if data[position] != BREAK:
        raise BundleError(Malformation.LENGTH, f"more elements than are defined, at byte {position}")
    return position + 1


def expect_end(data: bytes, position: int) -> None:
    """Check that the item which ends at `position` is the whole input.

    Raises:
        BundleError: bytes follow it.
    """
    if position != len(data):
        raise BundleError(Malformation.TRAILING, f"{len(data) - position} bytes after the end of the item")


def array_length(data: bytes, position: int, smallest: int, largest: int) -> tuple[int, int]:
    """Read the head of an array of `smallest` to `largest` elements, fewer than 24.

    Returns:
        The number of elements, or `INDEFINITE`, and the position after the head.
    """
    if position < len(data) and 0x80 + smallest <= data[position] <= 0x80 + largest:
        return data[position] - 0x80, position + 1
    length, end = read_head(data, position, ARRAY)
    if length >= 0 and not smallest <= length <= largest:
        raise BundleError(
            Malformation.LENGTH, f"array of {length} elements at byte {position}, {smallest} to {largest} are due"
        )
    return length, end


def head(major: int, value: int) -> bytes:
    """The shortest head of an item of a major type with a value (or length) of at most 64 bits.

    Raises:
        BundleError: a value that is negative or does not fit.
    """
    if 0 <= value < 24:
        return _HEADS[major * 24 + value]
    if value < 0 or value > U64_MAX:
        raise BundleError(Malformation.VALUE, f"{value} does not fit an unsigned integer of 64 bits")
    size = 0 if value < 1 << 8 else 1 if value < 1 << 16 else 2 if value < 1 << 32 else 3
    return bytes((major << 5 | 24 + size,)) + value.to_bytes(1 << size, "big")


def uint(value: int) -> bytes:
    """An unsigned integer. Raises BundleError when it does not fit 64 bits."""
    return _HEADS[value] if 0 <= value < 24 else head(UNSIGNED, value)


def byte_string(value: bytes) -> bytes:
    """A byte string of definite length."""
    return head(BYTES, len(value)) + value


def text_string(value: str) -> bytes:
    """A text string of definite length."""
    encoded = value.encode()
    return head(TEXT, len(encoded)) + encoded
