"""The abstract security block: what the data of a BIB or BCB is made of (RFC 9172 section 3.6)."""

from __future__ import annotations

from dataclasses import dataclass

from marsnet.dtn.bpsec.types import FailureReason, SecurityError
from marsnet.dtn.bpv7 import BundleError, Eid, cbor
from marsnet.dtn.bpv7.eid import read_eid

_DEEPEST = 16
_PARAMETERS_PRESENT = 1
Pairs = tuple[tuple[int, bytes], ...]
"""Numbers and encoded values."""


@dataclass(frozen=True, slots=True)
class SecurityBlock:
    """An abstract security block.

    Attributes:
        targets: block numbers, 0 for the primary block.
        context_id: `ContextId`, or another number; negative ones are for private use.
        source: security source.
        parameters: (parameter ID, encoded value), in order.
        results: for each target, (result ID, encoded value), in order.
    """

    targets: tuple[int, ...]
    context_id: int
    source: Eid
    parameters: Pairs
    results: tuple[Pairs, ...]

    def parameter(self, number: int) -> bytes | None:
        """The encoded value of a parameter, or None."""
        return next((value for key, value in self.parameters if key == number), None)

    def result(self, target: int, number: int) -> bytes | None:
        """The encoded value of a result for a target, or None."""
        results = self.results[self.targets.index(target)]
        return next((value for key, value in results if key == number), None)

    def without(self, target: int) -> SecurityBlock:
        """The block without one of its targets."""
        at = self.targets.index(target)
        return SecurityBlock(
            self.targets[:at] + self.targets[at + 1 :],
            self.context_id,
            self.source,
            self.parameters,
            self.results[:at] + self.results[at + 1 :],
        )

    def encode(self) -> bytes:
        """The block-type-specific data that carries it."""
        parts = [cbor.head(cbor.ARRAY, len(self.targets)), *map(cbor.uint, self.targets)]
        parts += [cbor.uint(self.context_id) if self.context_id >= 0 else cbor.head(1, -1 - self.context_id)]
        parts += [cbor.uint(_PARAMETERS_PRESENT if self.parameters else 0), self.source.cbor]
        if self.parameters:
            parts.append(_encode_pairs(self.parameters))
        parts += [cbor.head(cbor.ARRAY, len(self.results)), *map(_encode_pairs, self.results)]
        return b"".join(parts)

    @staticmethod
    def decode(data: bytes) -> SecurityBlock:
        """The abstract security block in a block's data.

        Raises:
            SecurityError: it is malformed, has no target or one twice, or not one set of results for each.
        """
        try:
            return _decode(data)
        except BundleError as error:
            raise SecurityError(FailureReason.MALFORMED, f"security block: {error}") from error


def _encode_pairs(pairs: Pairs) -> bytes:
    parts = [cbor.head(cbor.ARRAY, len(pairs))]
    for number, value in pairs:
        parts += [b"\x82", cbor.uint(number), value]
    return b"".join(parts)


def _decode(data: bytes) -> SecurityBlock:
    count, position = _array(data, 0)
    targets: list[int] = []
    for _ in range(count):
        target, position = cbor.read_uint(data, position)
        targets.append(target)
    if not targets or len(set(targets)) != len(targets):
        raise SecurityError(FailureReason.MALFORMED, "a security block without targets, or with one twice")
    negative = data[position : position + 1] >= b"\x20"
    context_id, position = cbor.read_head(data, position, 1 if negative else 0)
    flags, position = cbor.read_uint(data, position)
    source, position = read_eid(data, position)
    parameters: Pairs = ()
    if flags & _PARAMETERS_PRESENT:
        parameters, position = _decode_pairs(data, position)
    count, position = _array(data, position)
    if count != len(targets):
        raise SecurityError(FailureReason.MALFORMED, f"results for {count} targets of {len(targets)}")
    results: list[Pairs] = []
    for _ in targets:
        pairs, position = _decode_pairs(data, position)
        results.append(pairs)
    cbor.expect_end(data, position)
    return SecurityBlock(
        tuple(targets), -1 - context_id if negative else context_id, source, parameters, tuple(results)
    )


def _decode_pairs(data: bytes, position: int) -> tuple[Pairs, int]:
    count, position = _array(data, position)
    pairs: list[tuple[int, bytes]] = []
    for _ in range(count):
        size, position = _array(data, position)
        if size != 2:
            raise SecurityError(FailureReason.MALFORMED, f"a parameter or result of {size} elements instead of 2")
        number, position = cbor.read_uint(data, position)
        end = skip_item(data, position)
        pairs.append((number, data[position:end]))
        position = end
    if len({number for number, _ in pairs}) != len(pairs):
        raise SecurityError(FailureReason.MALFORMED, "a parameter or result is given twice")
    return tuple(pairs), position


def _array(data: bytes, position: int) -> tuple[int, int]:
    """Read the head of an array of definite length, which cannot have more elements than there are octets left."""
    length, position = cbor.read_head(data, position, cbor.ARRAY)
    if not 0 <= length <= len(data) - position:
        raise SecurityError(FailureReason.MALFORMED, f"an array of {length} elements (-1: indefinite) does not fit")
    return length, position


def skip_item(data: bytes, position: int, depth: int = 0) -> int:
    """The position after any well-formed CBOR item.

    Raises:
        SecurityError: nested more than 16 deep, or of indefinite length.
        BundleError: not well-formed.
    """
    if position >= len(data):
        raise cbor.truncated()
    major, info = data[position] >> 5, data[position] & 0x1F
    if depth > _DEEPEST or info == 31:
        raise SecurityError(FailureReason.MALFORMED, "a value is nested too deeply, or of indefinite length")
    if major == 7 and info >= 24:
        end = position + 1 + (1 << (info - 24) if info < 28 else len(data))
    else:
        length, end = cbor.read_head(data, position, major)
        if major in (cbor.BYTES, cbor.TEXT):
            end += length
        elif major in (cbor.ARRAY, 5, 6):
            for _ in range({cbor.ARRAY: length, 5: 2 * length}.get(major, 1)):
                end = skip_item(data, end, depth + 1)
    if end > len(data):
        raise cbor.truncated()
    return end
