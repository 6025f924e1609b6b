"""Who must protect what: rules by source, destination and class, applied at source, verifier and acceptor.

The roles are those of RFC 9172 section 1.4.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from marsnet.dtn.bpsec.asb import SecurityBlock
from marsnet.dtn.bpsec.operations import decrypt, encrypt, sign, verify
from marsnet.dtn.bpsec.types import (
    PRIMARY,
    AesVariant,
    FailureReason,
    Key,
    ScopeFlags,
    SecurityError,
    ShaVariant,
)
from marsnet.dtn.bpv7 import BlockType, Bundle, CanonicalBlock, CrcType, Eid, ServiceClass

_BIB, _BCB = BlockType.INTEGRITY.value, BlockType.CONFIDENTIALITY.value


@dataclass(frozen=True, slots=True)
class SecurityRule:
    """What bundles that match must have.

    Attributes:
        source: source endpoint ID, with `*` and `?` as in file names.
        destination: destination endpoint ID, likewise.
        classes: classes of service; None for all. A class that a BCB hides counts as NORMAL.
        integrity: key of BIBs; None for none.
        confidentiality: key of BCBs; None for none.
        integrity_targets: block types to sign, 0 for the primary block.
        confidentiality_targets: block types to encrypt.
        sha: variant of SHA-2.
        aes: variant of AES; its key (or the key that it wraps) has that length.
        scope: what each operation covers besides its target.
        only: whether an operation that the rule does not ask for is a failure.
    """

    source: str = "*"
    destination: str = "*"
    classes: frozenset[ServiceClass] | None = None
    integrity: Key | None = None
    confidentiality: Key | None = None
    integrity_targets: frozenset[int] = frozenset({PRIMARY, BlockType.PAYLOAD.value})
    confidentiality_targets: frozenset[int] = frozenset({BlockType.PAYLOAD.value})
    sha: ShaVariant = ShaVariant.HMAC_384
    aes: AesVariant = AesVariant.A256GCM
    scope: int = ScopeFlags.ALL.value
    only: bool = False

    def matches(self, bundle: Bundle) -> bool:
        """Whether the rule is about a bundle."""
        return (
            fnmatchcase(str(bundle.source), self.source)
            and fnmatchcase(str(bundle.destination), self.destination)
            and (self.classes is None or bundle.service_class in self.classes)
        )

    def to_sign(self, bundle: Bundle) -> list[int]:
        """Numbers of the blocks to sign, the primary block first."""
        if self.integrity is None:
            return []
        first = [PRIMARY] if PRIMARY in self.integrity_targets else []
        return first + [block.number for block in bundle.blocks if block.type in self.integrity_targets]

    def to_encrypt(self, bundle: Bundle) -> list[int]:
        """Numbers of the blocks to encrypt."""
        if self.confidentiality is None:
            return []
        return [block.number for block in bundle.blocks if block.type in self.confidentiality_targets]


@dataclass(frozen=True, slots=True)
class SecurityFailure:
    """One operation that failed.

    Attributes:
        reason: for counters; `reason.report_reason` for the status report.
        block: number of the security block; None when one is missing.
        target: number of its target; None when the block as a whole is at fault.
        message: for people.
    """

    reason: FailureReason
    block: int | None
    target: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a verifier or acceptor found.

    Attributes:
        bundle: decrypted and stripped of the operations accepted; as it came when anything failed.
        failures: what failed; the bundle is to be deleted unless this is empty.
    """

    bundle: Bundle
    failures: tuple[SecurityFailure, ...] = ()


class SecurityPolicy:
    """An ordered list of rules; the first that matches a bundle holds."""

    def __init__(self, rules: Iterable[SecurityRule] = ()) -> None:
        self.rules = tuple(rules)

    def rule_for(self, bundle: Bundle) -> SecurityRule | None:
        """The rule that holds for a bundle, or None."""
        return next((rule for rule in self.rules if rule.matches(bundle)), None)

    def protect(self, bundle: Bundle, node: Eid, *, entropy: Callable[[int], bytes] = os.urandom) -> Bundle:
        """The bundle as its source sends it: signed, then encrypted, as its rule says.

        A block that is encrypted is signed in a BIB of its own, which is encrypted too (RFC 9172 section 3.10); each
        target has a BCB of its own, so that no initialization vector is used twice.

        Args:
            bundle: a whole bundle.
            node: security source, an ID of this node.
            entropy: gives random octets; deterministic in a simulation.

        Raises:
            SecurityError: as `sign` and `encrypt`.
        """
        rule = self.rule_for(bundle)
        if rule is None:
            return bundle
        signed, sealed = rule.to_sign(bundle), rule.to_encrypt(bundle)
        clear = [number for number in signed if number not in sealed]
        hidden = [number for number in signed if number in sealed]
        for targets in (clear, hidden):
            if targets and rule.integrity is not None:
                number = bundle.next_block_number
                bundle = sign(
                    bundle,
                    targets,
                    rule.integrity,
                    source_eid=node,
                    variant=rule.sha,
                    scope=rule.scope,
                    number=number,
                    entropy=entropy,
                )
                if targets is hidden:
                    sealed.append(number)
        for target in sealed:
            if rule.confidentiality is not None:
                bundle = encrypt(
                    bundle,
                    [target],
                    rule.confidentiality,
                    source_eid=node,
                    variant=rule.aes,
                    scope=rule.scope,
                    entropy=entropy,
                )
        return bundle

    def verify(self, bundle: Bundle) -> Inspected:
        """Check what can be checked on the way, without changing the bundle: BIBs that no BCB hides.

        Fragments pass: their security blocks are about the whole bundle.
        """
        rule = self.rule_for(bundle)
        if rule is None or bundle.is_fragment or (rule.integrity is None and not rule.only):
            return Inspected(bundle)
        inspection = _Inspection(bundle, rule)
        inspection.read()
        inspection.refuse_unexpected()
        if rule.integrity is None:
            return Inspected(bundle, tuple(inspection.failures))
        hidden = {target for _, content in inspection.found[_BCB] for target in content.targets}
        verified = inspection.check_integrity(hidden)
        inspection.require(rule.to_sign(bundle), verified | hidden, "signed")
        return Inspected(bundle, tuple(inspection.failures))

    def accept(self, bundle: Bundle) -> Inspected:
        """Decrypt, verify and strip, as the node does for which the bundle is protected.

        Fragments pass unchanged: accept the bundle when it is whole. A BIB that no rule is about stays; a BCB that no
        rule is about is a failure, for its target cannot be read.
        """
        if bundle.is_fragment:
            return Inspected(bundle)
        rule = self.rule_for(bundle)
        if all(block.type not in (_BIB, _BCB) for block in bundle.blocks) and rule is None:
            return Inspected(bundle)
        inspection = _Inspection(bundle, rule or SecurityRule())
        inspection.read()
        inspection.refuse_unexpected()
        opened = inspection.open()
        if rule is not None and rule.integrity is not None and not inspection.failures:
            inspection.read_integrity()
            verified = inspection.check_integrity(set())
            inspection.require(rule.to_sign(inspection.bundle), verified, "signed")
        if rule is not None:
            inspection.require(rule.to_encrypt(inspection.bundle), opened, "encrypted")
        if inspection.failures:
            return Inspected(bundle, tuple(inspection.failures))
        return Inspected(inspection.stripped(strip_integrity=rule is not None and rule.integrity is not None))


class _Inspection:
    """The security blocks of one bundle, while they are worked through."""

    def __init__(self, bundle: Bundle, rule: SecurityRule) -> None:
        self.bundle, self.rule = bundle, rule
        self.failures: list[SecurityFailure] = []
        self.found: dict[int, list[tuple[CanonicalBlock, SecurityBlock]]] = {_BIB: [], _BCB: []}

    def fail(self, error: SecurityError, block: int | None, target: int | None) -> None:
        self.failures.append(SecurityFailure(error.reason, block, target, str(error)))

    def read(self) -> None:
        """Decode the BCBs, and the BIBs that they do not encrypt."""
        self._read_kind(_BCB, set())
        self.read_integrity({target for _, content in self.found[_BCB] for target in content.targets})

    def read_integrity(self, encrypted: set[int] | None = None) -> None:
        """Decode the BIBs except those with the numbers given."""
        self._read_kind(_BIB, encrypted or set())

    def _read_kind(self, kind: int, skip: set[int]) -> None:
        self.found[kind] = []
        taken: set[int] = set()
        for block in self.bundle.blocks:
            if block.type != kind or block.number in skip:
                continue
            try:
                content = SecurityBlock.decode(block.data)
                self._check(kind, content, taken)
            except SecurityError as error:
                self.fail(error, block.number, None)
                continue
            taken.update(content.targets)
            self.found[kind].append((block, content))

    def _check(self, kind: int, content: SecurityBlock, taken: set[int]) -> None:
        for target in content.targets:
            if target in taken:
                raise SecurityError(FailureReason.CONFLICT, f"two security blocks of one kind for block {target}")
            block = self.bundle.block_numbered(target)
            if target != PRIMARY and block is None:
                raise SecurityError(FailureReason.TARGET, f"there is no block {target}")
            target_type = PRIMARY if block is None else block.type
            if target_type in ((_BIB, _BCB) if kind == _BIB else (PRIMARY, _BCB)):
                raise SecurityError(FailureReason.TARGET, f"a block of type {target_type} is no target")

    def refuse_unexpected(self) -> None:
        """Fail for each operation that can be seen and that the rule, if it is strict, does not ask for."""
        if not self.rule.only:
            return
        signed = [block.number for block in self.bundle.blocks if block.type == _BIB and self.rule.integrity]
        due = {_BIB: self.rule.to_sign(self.bundle), _BCB: self.rule.to_encrypt(self.bundle) + signed}
        for kind, numbers in due.items():
            for block, content in self.found[kind]:
                for target in set(content.targets).difference(numbers):
                    message = f"no rule asks for the operation of block {block.number} on block {target}"
                    self.failures.append(SecurityFailure(FailureReason.UNEXPECTED, block.number, target, message))

    def open(self) -> set[int]:
        """Decrypt every target of every BCB; returns the numbers of those that could be."""
        opened: set[int] = set()
        for block, content in self.found[_BCB]:
            for target in content.targets:
                try:
                    key = self._key(self.rule.confidentiality, "decrypt")
                    self.bundle = decrypt(self.bundle, block, content, target, key)
                    opened.add(target)
                except SecurityError as error:
                    self.fail(error, block.number, target)
        return opened

    def check_integrity(self, hidden: set[int]) -> set[int]:
        """Verify every target of every BIB that was read, except hidden ones; returns the numbers that fit."""
        verified: set[int] = set()
        for block, content in self.found[_BIB]:
            for target in content.targets:
                if target in hidden:
                    continue
                try:
                    verify(self.bundle, block, content, target, self._key(self.rule.integrity, "verify"))
                    verified.add(target)
                except SecurityError as error:
                    self.fail(error, block.number, target)
        return verified

    def require(self, numbers: Iterable[int], done: set[int], what: str) -> None:
        """Fail for each block that the rule protects and that was not."""
        if self.failures:
            return
        for number in numbers:
            if number not in done:
                message = f"block {number} of {self.bundle.id} should be {what} and is not"
                self.failures.append(SecurityFailure(FailureReason.MISSING, None, number, message))

    def stripped(self, *, strip_integrity: bool) -> Bundle:
        """The bundle without the blocks accepted; its primary block with a checksum again when nothing protects it."""
        kinds = (_BIB, _BCB) if strip_integrity else (_BCB,)
        bundle = self.bundle.with_blocks(block for block in self.bundle.blocks if block.type not in kinds)
        if not bundle.crc_type and all(block.type != _BIB for block in bundle.blocks):
            return replace(bundle, crc_type=CrcType.CRC32C)
        return bundle

    @staticmethod
    def _key(key: Key | None, purpose: str) -> Key:
        if key is None:
            raise SecurityError(FailureReason.NO_KEY, f"no rule gives a key to {purpose} it with")
        return key
