"""The two security services on bundles: BIB-HMAC-SHA2 and BCB-AES-GCM (RFC 9173 sections 3 and 4)."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from marsnet.dtn.bpsec.asb import SecurityBlock
from marsnet.dtn.bpsec.types import (
    PRIMARY,
    AesVariant,
    ContextId,
    FailureReason,
    Key,
    ScopeFlags,
    SecurityError,
    ShaVariant,
)
from marsnet.dtn.bpv7 import (
    BlockFlags,
    BlockType,
    Bundle,
    BundleError,
    CanonicalBlock,
    CrcType,
    Eid,
    cbor,
    encode_primary,
)

TAG_SIZE = 16
IV_SIZE = 12
_SECURITY = (BlockType.INTEGRITY.value, BlockType.CONFIDENTIALITY.value)
_RESULT = 1


def sign(
    bundle: Bundle,
    targets: Sequence[int],
    key: Key,
    *,
    source_eid: Eid,
    variant: ShaVariant = ShaVariant.HMAC_384,
    scope: int = ScopeFlags.ALL,
    number: int | None = None,
    flags: int = 0,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Bundle:
    """The bundle with a BIB-HMAC-SHA2 block over some of its blocks, whose checksums it takes the place of.

    Args:
        bundle: no fragment.
        targets: block numbers, 0 for the primary block.
        key: for HMAC, or one that wraps a fresh key.
        source_eid: security source.
        variant: of SHA-2.
        scope: what else each HMAC covers.
        number: of the new block; default: the smallest free one.
        flags: of the new block, `BlockFlags`.
        entropy: gives random octets.

    Raises:
        SecurityError: a fragment, a target that is absent, a security block or signed already, or an unfit key.
    """
    _check_targets(bundle, targets, BlockType.INTEGRITY)
    for target in targets:
        bundle = _without_crc(bundle, target)
    parameters = [(1, cbor.uint(variant))]
    material = key.material
    if key.wraps:
        material = entropy(variant.size)
        parameters.append((2, cbor.byte_string(_wrap(key, material))))
    parameters.append((3, cbor.uint(scope)))
    block = CanonicalBlock(BlockType.INTEGRITY, number or bundle.next_block_number, flags, CrcType.NONE, b"")
    results = tuple(
        ((_RESULT, cbor.byte_string(_hmac(material, variant, integrity_input(bundle, target, block, scope)))),)
        for target in targets
    )
    content = SecurityBlock(tuple(targets), ContextId.BIB_HMAC_SHA2, source_eid, tuple(parameters), results)
    return _insert(bundle, block.with_data(content.encode()))


def verify(bundle: Bundle, block: CanonicalBlock, content: SecurityBlock, target: int, key: Key) -> None:
    """Check the HMAC of one target of a BIB.

    An HMAC over the primary block may be in either form that `integrity_input` knows; neither can be taken for the
    other, since one begins with a byte string and the other with an array.

    Args:
        bundle: as received, decrypted as far as this node decrypts it.
        block: the BIB.
        content: its decoded data.
        target: block number.
        key: shared with the security source.

    Raises:
        SecurityError: it does not fit, or cannot be checked.
    """
    if content.context_id != ContextId.BIB_HMAC_SHA2:
        raise SecurityError(FailureReason.CONTEXT, f"security context {content.context_id} in a BIB; known is 1")
    number = _uint(content, 1, ShaVariant.HMAC_384)
    if number not in tuple(ShaVariant):
        raise SecurityError(FailureReason.PARAMETER, f"SHA variant {number}; known are 5, 6 and 7")
    scope = _uint(content, 3, ScopeFlags.ALL)
    expected = _octets(content.result(target, _RESULT))
    variant = ShaVariant(number)
    material = _material(key, content.parameter(2))
    for as_string in (True, False) if target == PRIMARY else (True,):
        covered = integrity_input(bundle, target, block, scope, primary_as_string=as_string)
        if hmac.compare_digest(expected, _hmac(material, variant, covered)):
            return
    raise SecurityError(FailureReason.INTEGRITY, f"the HMAC over block {target} of {bundle.id} does not fit")


def encrypt(
    bundle: Bundle,
    targets: Sequence[int],
    key: Key,
    *,
    source_eid: Eid,
    variant: AesVariant = AesVariant.A256GCM,
    scope: int = ScopeFlags.ALL,
    number: int | None = None,
    flags: int = 0,
    iv: bytes | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Bundle:
    """The bundle with some of its blocks encrypted under a BCB-AES-GCM block.

    All targets of one BCB share its initialization vector, as in RFC 9173 appendix A.4. AES-GCM gives away the XOR of
    two plaintexts encrypted so, therefore several targets need an explicit `iv`; call once for each target instead.

    Args:
        bundle: no fragment.
        targets: block numbers; not the primary block, not a BCB.
        key: for AES, or one that wraps a fresh key.
        source_eid: security source.
        variant: of AES.
        scope: what else is authenticated.
        number: of the new block; default: the smallest free one.
        flags: of the new block; replication into every fragment is added when a target is in every fragment.
        iv: initialization vector; default: 12 random octets.
        entropy: gives random octets.

    Raises:
        SecurityError: a fragment, a target that is absent, forbidden or encrypted already, an unfit key, or several
            targets without an `iv`.
    """
    _check_targets(bundle, targets, BlockType.CONFIDENTIALITY)
    if iv is None and len(targets) > 1:
        raise SecurityError(FailureReason.PARAMETER, "several targets would share a random IV; encrypt them one by one")
    material = entropy(variant.key_size) if key.wraps else key.material
    if len(material) != variant.key_size:
        raise SecurityError(
            FailureReason.NO_KEY, f"key {key.name!r} has {len(material)} bytes, {variant.name} takes {variant.key_size}"
        )
    vector = entropy(IV_SIZE) if iv is None else iv
    parameters = [(1, cbor.byte_string(vector)), (2, cbor.uint(variant))]
    if key.wraps:
        parameters.append((3, cbor.byte_string(_wrap(key, material))))
    parameters.append((4, cbor.uint(scope)))
    if 1 in targets or any(_target(bundle, target).flags & BlockFlags.REPLICATE.value for target in targets):
        flags |= BlockFlags.REPLICATE.value
    block = CanonicalBlock(BlockType.CONFIDENTIALITY, number or bundle.next_block_number, flags, CrcType.NONE, b"")
    cipher = AESGCM(material)
    for target in targets:
        bundle = _without_crc(bundle, target)
    results = []
    for target in targets:
        plain = _target(bundle, target)
        sealed = cipher.encrypt(vector, plain.data, additional_data(bundle, target, block, scope))
        results.append(((_RESULT, cbor.byte_string(sealed[-TAG_SIZE:])),))
        bundle = bundle.with_block(plain.with_data(sealed[:-TAG_SIZE]))
    content = SecurityBlock(tuple(targets), ContextId.BCB_AES_GCM, source_eid, tuple(parameters), tuple(results))
    return _insert(bundle, block.with_data(content.encode()))


def decrypt(bundle: Bundle, block: CanonicalBlock, content: SecurityBlock, target: int, key: Key) -> Bundle:
    """The bundle with one target of a BCB decrypted; the BCB itself is left as it is.

    Args:
        bundle: as received.
        block: the BCB.
        content: its decoded data.
        target: block number.
        key: shared with the security source.

    Raises:
        SecurityError: the authentication tag does not fit, or it cannot be decrypted.
    """
    if content.context_id != ContextId.BCB_AES_GCM:
        raise SecurityError(FailureReason.CONTEXT, f"security context {content.context_id} in a BCB; known is 2")
    number = _uint(content, 2, AesVariant.A256GCM)
    if number not in tuple(AesVariant):
        raise SecurityError(FailureReason.PARAMETER, f"AES variant {number}; known are 1 and 3")
    scope = _uint(content, 4, ScopeFlags.ALL)
    vector = _octets(content.parameter(1))
    if not 8 <= len(vector) <= 16:
        raise SecurityError(FailureReason.PARAMETER, f"initialization vector of {len(vector)} bytes; it has 8 to 16")
    material = _material(key, content.parameter(3))
    if len(material) != AesVariant(number).key_size:
        raise SecurityError(FailureReason.NO_KEY, f"key {key.name!r} has {len(material)} bytes")
    sealed = _target(bundle, target)
    tag = content.result(target, _RESULT)
    data = sealed.data if tag is None else sealed.data + _octets(tag)
    try:
        plain = AESGCM(material).decrypt(vector, data, additional_data(bundle, target, block, scope))
    except InvalidTag as error:
        raise SecurityError(
            FailureReason.DECRYPTION, f"the authentication tag of block {target} of {bundle.id} does not fit"
        ) from error
    return bundle.with_block(sealed.with_data(plain))


def integrity_input(
    bundle: Bundle, target: int, block: CanonicalBlock, scope: int, *, primary_as_string: bool = True
) -> bytes:
    """The integrity-protected plaintext of a target (RFC 9173 section 3.7).

    Args:
        bundle: with the target.
        target: block number.
        block: the BIB; its data does not matter.
        scope: `ScopeFlags`.
        primary_as_string: put a primary block that is the target into a CBOR byte string, as the published example A.3
            does and peers do after it; False puts it in as it is, as section 3.7 (and erratum 9192 on A.3) says.
    """
    if target == PRIMARY:
        header = _header(block) if scope & ScopeFlags.SECURITY_HEADER.value else b""
        primary = encode_primary(bundle)
        return cbor.uint(scope) + header + (cbor.byte_string(primary) if primary_as_string else primary)
    return additional_data(bundle, target, block, scope) + cbor.byte_string(_target(bundle, target).data)


def additional_data(bundle: Bundle, target: int, block: CanonicalBlock, scope: int) -> bytes:
    """The additional authenticated data of a target (RFC 9173 section 4.7.2); arguments as `integrity_input`."""
    parts = [cbor.uint(scope)]
    if scope & ScopeFlags.PRIMARY_BLOCK.value:
        parts.append(encode_primary(bundle))
    if scope & ScopeFlags.TARGET_HEADER.value:
        parts.append(_header(_target(bundle, target)))
    if scope & ScopeFlags.SECURITY_HEADER.value:
        parts.append(_header(block))
    return b"".join(parts)


def _header(block: CanonicalBlock) -> bytes:
    return cbor.uint(block.type) + cbor.uint(block.number) + cbor.uint(block.flags)


def _target(bundle: Bundle, number: int) -> CanonicalBlock:
    block = bundle.block_numbered(number)
    if block is None:
        raise SecurityError(FailureReason.TARGET, f"{bundle.id} has no block {number}")
    return block


def _check_targets(bundle: Bundle, targets: Sequence[int], service: BlockType) -> None:
    """RFC 9172 sections 3.7, 3.8 and 5.3: what may be a target of a new security block."""
    if bundle.is_fragment:
        raise SecurityError(FailureReason.FRAGMENT, f"{bundle.id} is a fragment; security is added to whole bundles")
    taken = {number for block in bundle.blocks if block.type == service for number in _targets_of(block)}
    sealed = {
        number
        for block in bundle.blocks
        if block.type == BlockType.CONFIDENTIALITY.value
        for number in _targets_of(block)
    }
    for target in targets:
        if target in taken:
            raise SecurityError(FailureReason.CONFLICT, f"block {target} of {bundle.id} has such a block already")
        if target in sealed:
            raise SecurityError(FailureReason.CONFLICT, f"block {target} of {bundle.id} is encrypted")
        kind = PRIMARY if target == PRIMARY else _target(bundle, target).type
        forbidden = _SECURITY if service == BlockType.INTEGRITY else (PRIMARY, BlockType.CONFIDENTIALITY.value)
        if kind in forbidden:
            raise SecurityError(
                FailureReason.TARGET, f"a {service.name.lower()} block cannot protect a block of type {kind}"
            )


def _targets_of(block: CanonicalBlock) -> tuple[int, ...]:
    """Targets of a security block; none that can be known when a BCB encrypts it."""
    try:
        return SecurityBlock.decode(block.data).targets
    except SecurityError:
        return ()


def _without_crc(bundle: Bundle, target: int) -> Bundle:
    """RFC 9173 sections 3.8.1 and 4.8.1: the checksum goes before the operation is added."""
    if target == PRIMARY:
        return bundle if not bundle.crc_type else replace(bundle, crc_type=CrcType.NONE)
    block = _target(bundle, target)
    if not block.crc_type:
        return bundle
    return bundle.with_block(CanonicalBlock(block.type, block.number, block.flags, CrcType.NONE, block.data))


def _insert(bundle: Bundle, block: CanonicalBlock) -> Bundle:
    """Put a security block after those that lead the bundle already, as in the examples of RFC 9173."""
    at = 0
    while bundle.blocks[at].type in _SECURITY:
        at += 1
    return bundle.with_blocks((*bundle.blocks[:at], block, *bundle.blocks[at:]))


def _hmac(material: bytes, variant: ShaVariant, covered: bytes) -> bytes:
    return hmac.digest(material, covered, variant.digest)


def _wrap(key: Key, material: bytes) -> bytes:
    try:
        return aes_key_wrap(key.material, material)
    except ValueError as error:
        raise SecurityError(FailureReason.NO_KEY, f"key {key.name!r}: {error}") from error


def _material(key: Key, wrapped: bytes | None) -> bytes:
    if wrapped is None:
        return key.material
    try:
        return aes_key_unwrap(key.material, _octets(wrapped))
    except (InvalidUnwrap, ValueError) as error:
        raise SecurityError(FailureReason.KEY_UNWRAP, f"key {key.name!r} does not open the wrapped key") from error


def _uint(content: SecurityBlock, parameter: int, default: int) -> int:
    encoded = content.parameter(parameter)
    if encoded is None:
        return default
    try:
        value, end = cbor.read_uint(encoded, 0)
        cbor.expect_end(encoded, end)
    except BundleError as error:
        raise SecurityError(FailureReason.PARAMETER, f"security parameter {parameter}: {error}") from error
    return value


def _octets(encoded: bytes | None) -> bytes:
    if encoded is None:
        raise SecurityError(FailureReason.PARAMETER, "a security block lacks a parameter or result that it needs")
    try:
        value, end = cbor.read_bytes(encoded, 0)
        cbor.expect_end(encoded, end)
    except BundleError as error:
        raise SecurityError(FailureReason.PARAMETER, f"security parameter or result: {error}") from error
    return value
