"""Fragmentation and reassembly (RFC 9171 sections 5.8 and 5.9)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from marsnet.dtn.bpv7.blocks import BlockFlags, BundleFlags, CreationTimestamp
from marsnet.dtn.bpv7.bundle import Bundle
from marsnet.dtn.bpv7.eid import Eid
from marsnet.dtn.bpv7.errors import BundleError, Malformation
from marsnet.dtn.bpv7.extension import BlockType

_EVERYWHERE = frozenset({BlockType.BUNDLE_AGE.value, BlockType.HOP_COUNT.value, BlockType.SERVICE_CLASS.value})
"""Blocks that every fragment needs to be forwarded rightly; a source may have failed to flag them so."""


def fragment_at(bundle: Bundle, offset: int, length: int) -> Bundle:
    """The fragment with a part of a bundle's payload.

    The fragment that begins the bundle carries all its blocks, the others those flagged to be replicated and, flagged
    or not, bundle age, hop count and class of service unless they are encrypted.

    Args:
        bundle: may be a fragment itself.
        offset: in this bundle's payload, bytes.
        length: of the part, bytes; at least 1.

    Raises:
        BundleError: the bundle must not be fragmented, or the part is empty or outside its payload.
    """
    payload = bundle.blocks[-1]
    if bundle.must_not_fragment:
        raise BundleError(Malformation.FRAGMENT, f"{bundle.id} must not be fragmented")
    if offset < 0 or length < 1 or offset + length > len(payload.data):
        raise BundleError(
            Malformation.FRAGMENT, f"no part of {length} bytes at {offset} in a payload of {len(payload.data)}"
        )
    base = bundle.fragment_offset or 0
    encrypted = bundle.encrypted
    blocks = [
        block
        for block in bundle.blocks[:-1]
        if offset == 0
        or block.flags & BlockFlags.REPLICATE.value
        or (block.type in _EVERYWHERE and block.number not in encrypted)
    ]
    blocks.append(payload.with_data(payload.data[offset : offset + length]))
    return replace(
        bundle,
        blocks=tuple(blocks),
        flags=bundle.flags | BundleFlags.FRAGMENT.value,
        fragment_offset=base + offset,
        total_length=len(payload.data) if bundle.total_length is None else bundle.total_length,
    )


def fragment(bundle: Bundle, max_payload: int) -> list[Bundle]:
    """The bundle in fragments of at most `max_payload` payload bytes; the bundle itself when it fits.

    Raises:
        BundleError: it does not fit and must not be fragmented, or `max_payload` is below 1.
    """
    size = len(bundle.payload)
    if size <= max_payload:
        return [bundle]
    if max_payload < 1:
        raise BundleError(Malformation.FRAGMENT, f"fragments of {max_payload} bytes")
    return [fragment_at(bundle, at, min(max_payload, size - at)) for at in range(0, size, max_payload)]


@dataclass(frozen=True, slots=True)
class Reassembled:
    """What the last missing fragment completes.

    Attributes:
        bundle: the original bundle, with the extension blocks of its first fragment.
        tokens: what `Reassembler.add` was given with its fragments.
    """

    bundle: Bundle
    tokens: tuple[Hashable, ...]


@dataclass(slots=True)
class _Partial:
    total: int
    expiry: float
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    tokens: list[Hashable] = field(default_factory=list)
    held: int = 0
    first: Bundle | None = None


class Reassembler:
    """Puts fragments together, in any order, overlapping or repeated. Memory stays within its bounds.

    Where fragments overlap, the octets that came first stay.

    Attributes:
        held_bytes: payload bytes held now.
    """

    def __init__(self, *, max_bytes: int = 1 << 30, max_bundles: int = 4096, max_fragments: int = 65536) -> None:
        """Set the bounds.

        Args:
            max_bytes: payload bytes held at a time, over all bundles.
            max_bundles: bundles under reassembly at a time.
            max_fragments: fragments held of one bundle.
        """
        self._max_bytes, self._max_bundles, self._max_fragments = max_bytes, max_bundles, max_fragments
        self._partial: dict[tuple[Eid, CreationTimestamp], _Partial] = {}
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._partial)

    def add(self, part: Bundle, *, expiry: float, token: Hashable = None) -> Reassembled | None:
        """Take a fragment; returns the original bundle when this completes it.

        Args:
            part: a fragment.
            expiry: mission time, seconds, when what is held of the bundle is given up.
            token: given back with the bundle (the key of the fragment in a store, for instance).

        Raises:
            BundleError: not a fragment, it contradicts the fragments held, or a bound would be exceeded; nothing of it
                is kept then.
        """
        offset, total = part.fragment_offset, part.total_length
        if offset is None or total is None:
            raise BundleError(Malformation.FRAGMENT, f"{part.id} is no fragment")
        key = (part.source, part.timestamp)
        partial = self._partial.get(key)
        if partial is None:
            if len(self._partial) >= self._max_bundles:
                raise BundleError(Malformation.TOO_LARGE, f"{self._max_bundles} bundles are under reassembly already")
            partial = _Partial(total, expiry)
        if partial.total != total:
            raise BundleError(
                Malformation.FRAGMENT, f"{part.id}: original length {total}, other fragments say {partial.total}"
            )
        new = _missing(partial.pieces, offset, part.payload)
        size = sum(len(piece) for _, piece in new)
        if len(partial.pieces) + len(new) > self._max_fragments or len(partial.tokens) >= self._max_fragments:
            raise BundleError(Malformation.TOO_LARGE, f"{part.id}: more than {self._max_fragments} fragments")
        if self.held_bytes + size > self._max_bytes:
            raise BundleError(Malformation.TOO_LARGE, f"more than {self._max_bytes} bytes under reassembly")
        self._partial[key] = partial
        if offset == 0 and partial.first is None:
            partial.first = part
        partial.tokens.append(token)
        if new:
            partial.pieces = sorted(partial.pieces + new)
            partial.held += size
            self.held_bytes += size
        if partial.held < partial.total or partial.first is None:
            return None
        self._drop(key)
        return Reassembled(_assemble(partial.first, partial.pieces), tuple(partial.tokens))

    def expire(self, now: float) -> tuple[Hashable, ...]:
        """Give up bundles whose expiry is not after `now` (mission time, seconds); returns their tokens."""
        late = [key for key, partial in self._partial.items() if partial.expiry <= now]
        return tuple(token for key in late for token in self._drop(key).tokens)

    def next_deadline(self) -> float | None:
        """Mission time, seconds, when `expire` next has something to do."""
        return min((partial.expiry for partial in self._partial.values()), default=None)

    def _drop(self, key: tuple[Eid, CreationTimestamp]) -> _Partial:
        partial = self._partial.pop(key)
        self.held_bytes -= partial.held
        return partial


def _missing(pieces: list[tuple[int, bytes]], offset: int, payload: bytes) -> list[tuple[int, bytes]]:
    """The parts of a payload at an offset that the pieces (sorted, disjoint) do not cover."""
    new: list[tuple[int, bytes]] = []
    at, end = offset, offset + len(payload)
    for start, piece in pieces:
        if start >= end:
            break
        stop = start + len(piece)
        if stop <= at:
            continue
        if start > at:
            new.append((at, payload[at - offset : start - offset]))
        at = stop
    if at < end:
        new.append((at, payload[at - offset :]))
    return new


def _assemble(first: Bundle, pieces: list[tuple[int, bytes]]) -> Bundle:
    payload = first.blocks[-1].with_data(b"".join(piece for _, piece in pieces))
    return replace(
        first,
        blocks=(*first.blocks[:-1], payload),
        flags=first.flags & ~BundleFlags.FRAGMENT.value,
        fragment_offset=None,
        total_length=None,
    )
