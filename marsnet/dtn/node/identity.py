"""How a node tells bundles apart in its store and in the ledger."""

from __future__ import annotations

import hashlib
import re

from marsnet.dtn.bpv7 import NULL_EID, BlockType, Bundle, BundleError, BundleId, CreationTimestamp, Malformation, cbor
from marsnet.dtn.bpv7.eid import read_eid

LOCAL_COPY = b"local"
"""Ends the store's ID of the copy of a group's bundle that is for an application of this node."""
_DIGEST = 12
_PART = re.compile(r"(.*)@(\d+)\+(\d+)", re.DOTALL)


def key_of(bundle: Bundle) -> bytes:
    """What the store knows a bundle by.

    An anonymous bundle cannot be told from others by its source and creation timestamp (RFC 9171 section 4.2.3), so
    what it carries and for whom is part of its identity here: only equal ones are duplicates. Copies of a group's
    bundle for different nodes are told apart likewise.
    """
    key = bundle.key
    if bundle.source.is_null:
        key += _digest(bundle)
    if not bundle.destination.is_singleton and (block := bundle.block(BlockType.AUDIENCE)) is not None:
        key += b"to" + hashlib.blake2b(block.data, digest_size=_DIGEST).digest()
    return key


def delivery_key(bundle: Bundle) -> bytes:
    """What the store knows the copy of a group's bundle by that is for this node's application."""
    return bundle.key + (_digest(bundle) if bundle.source.is_null else b"") + LOCAL_COPY


def name_of(bundle: Bundle) -> str:
    """What ledger and applications call it: its ID, for an anonymous one with a digest of what it carries."""
    return f"{bundle.id}~{_digest(bundle).hex()}" if bundle.source.is_null else str(bundle.id)


def name_from_key(key: bytes) -> str:
    """The name of a bundle that cannot be read any more, as far as its key tells it.

    Raises:
        BundleError: `key_of` did not make the key.
    """
    source, position = read_eid(key, 0)
    time_ms, position = cbor.read_uint(key, position)
    sequence, position = cbor.read_uint(key, position)
    offset = length = None
    if position < len(key) and not source.is_null and key[position : position + 2] not in (b"to", LOCAL_COPY[:2]):
        offset, position = cbor.read_uint(key, position)
        length, position = cbor.read_uint(key, position)
    name = str(BundleId(source, CreationTimestamp(time_ms, sequence), offset, length))
    return f"{name}~{key[position : position + _DIGEST].hex()}" if source.is_null else name


def delivery_keys(name: str) -> tuple[bytes, bytes]:
    """What the store may know a bundle by that was for this node: as a bundle, and as the copy of a group's bundle.

    Raises:
        BundleError: `name_of` did not make the name.
    """
    text, _, digest = name.partition("~") if name.startswith(str(NULL_EID)) else (name, "", "")
    try:
        key = BundleId.parse(text).key + bytes.fromhex(digest)
    except ValueError:
        raise BundleError(Malformation.VALUE, f"{name[:80]!r} is no bundle ID; write it as it was given") from None
    return key, key + LOCAL_COPY


def original(name: str) -> tuple[str, int, int | None]:
    """Which bundle a name is of, and which part: its first octet, and the octet after its last (None: the end)."""
    match = _PART.fullmatch(name) if "@" in name else None
    if match is None:
        return name, 0, None
    offset, length = int(match[2]), int(match[3])
    return match[1], offset, offset + length


def _digest(bundle: Bundle) -> bytes:
    digest = hashlib.blake2b(bundle.destination.cbor, digest_size=_DIGEST)
    digest.update(cbor.uint(bundle.lifetime_ms) + bundle.payload)
    return digest.digest()
