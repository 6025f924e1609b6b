"""BPSec at a node: the policy of its configuration, applied as source, verifier, acceptor or gateway (RFC 9172)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass

from marsnet.dtn.bpsec import (
    PRIMARY,
    AesVariant,
    FailureReason,
    Inspected,
    Key,
    ScopeFlags,
    SecurityBlock,
    SecurityError,
    SecurityPolicy,
    SecurityRule,
    ShaVariant,
)
from marsnet.dtn.bpv7 import BlockType, Bundle, Eid, ServiceClass
from marsnet.dtn.node.reasons import security_reason
from marsnet.errors import InputError
from marsnet.model.bundles import KeyConfig, SecurityConfig, SecurityRuleConfig

_SECURITY_BLOCKS = (BlockType.INTEGRITY.value, BlockType.CONFIDENTIALITY.value)
_CHANGED = (FailureReason.INTEGRITY, FailureReason.DECRYPTION, FailureReason.KEY_UNWRAP)


@dataclass(frozen=True, slots=True)
class Secured:
    """A bundle after a node's security.

    Attributes:
        bundle: as it goes on; None when it is to be deleted.
        reasons: the word for each failure, for counters.
        discarded: numbers of blocks that were removed because they had been changed on the way.
    """

    bundle: Bundle | None
    reasons: tuple[str, ...] = ()
    discarded: tuple[int, ...] = ()


class NodeSecurity:
    """The security policy of one node."""

    def __init__(self, config: SecurityConfig, node: Eid, seed: str) -> None:
        """Read the keys.

        Args:
            config: keys and rules.
            node: this node's ID, the security source of what it adds.
            seed: of the random octets, where the configuration wants them to be the same twice.

        Raises:
            InputError: a key that cannot be read or does not fit its use, or a rule that names no key.
        """
        self._config, self._node = config, node
        self._keys = {name: _key(name, key) for name, key in config.keys.items()}
        self._entropy = os.urandom if config.entropy == "system" else random.Random(seed).randbytes
        self._policy = self._build()

    @property
    def active(self) -> bool:
        """Whether there is any rule."""
        return bool(self._config.rules)

    @property
    def keys(self) -> dict[str, bool]:
        """Names of the keys, and whether each wraps others; never what they are."""
        return {name: key.wraps for name, key in self._keys.items()}

    def set_key(self, name: str, material: bytes, *, wraps: bool = False) -> None:
        """Add a key or replace one; rules use it from now on.

        Raises:
            InputError: it does not fit what a rule uses it for; nothing changes then.
        """
        before = dict(self._keys)
        self._keys[name] = Key(name, material, wraps)
        try:
            self._policy = self._build()
        except InputError:
            self._keys = before
            raise

    def drop_key(self, name: str) -> None:
        """Forget a key.

        Raises:
            InputError: there is none of the name, or a rule needs it.
        """
        if name not in self._keys:
            raise InputError(f"there is no key {name!r}", remedy=_known(self._keys))
        for rule in self._config.rules:
            if name in (rule.integrity, rule.confidentiality):
                raise InputError(f"a rule uses key {name!r}", remedy="replace the key, or remove the rule first")
        del self._keys[name]

    def _build(self) -> SecurityPolicy:
        return SecurityPolicy(_rule(rule, self._keys) for rule in self._config.rules)

    def _mode(self, bundle: Bundle) -> str:
        rule = self._policy.rule_for(bundle)
        return "pass" if rule is None else self._config.rules[self._policy.rules.index(rule)].transit

    def protect(self, bundle: Bundle) -> Bundle:
        """A bundle of this node as it leaves the application.

        Raises:
            SecurityError: it cannot be protected as its rule demands, so it must not be sent.
        """
        return self._policy.protect(bundle, self._node, entropy=self._entropy)

    def pass_on(self, bundle: Bundle) -> Secured:
        """A bundle of another node, for another node (RFC 9172 section 5.1): verified, or as its rule's `transit`."""
        match self._mode(bundle):
            case "verify":
                return _outcome(self._policy.verify(bundle))
            case "accept":
                return self.accept(bundle)
            case "add":
                return self._add(bundle)
        return Secured(bundle)

    def accept(self, bundle: Bundle) -> Secured:
        """A whole bundle for this node: decrypted, verified, stripped.

        A block other than the payload that was changed on the way is removed with the operations on it, and the bundle
        goes on (RFC 9172 sections 5.1.1 and 5.1.2); any other failure ends the bundle.
        """
        inspected = self._policy.accept(bundle)
        changed = {f.target for f in inspected.failures if f.reason in _CHANGED and f.target not in (None, PRIMARY, 1)}
        if not changed or any(f.target not in changed for f in inspected.failures):
            return _outcome(inspected)
        reasons = tuple(security_reason(f.reason) for f in inspected.failures)
        numbers = tuple(sorted(number for number in changed if number is not None))
        again = _outcome(self._policy.accept(_without(bundle, numbers)))
        return Secured(again.bundle, reasons + again.reasons, numbers)

    def _add(self, bundle: Bundle) -> Secured:
        """Protect a bundle that came without; security is never added to a fragment (RFC 9172 section 5.2)."""
        if any(block.type in _SECURITY_BLOCKS for block in bundle.blocks):
            return _outcome(self._policy.verify(bundle))
        if bundle.is_fragment:
            return Secured(None, (security_reason(FailureReason.FRAGMENT),))
        try:
            return Secured(self.protect(bundle))
        except SecurityError as error:
            return Secured(None, (security_reason(error.reason),))


def _outcome(inspected: Inspected) -> Secured:
    reasons = tuple(security_reason(failure.reason) for failure in inspected.failures)
    return Secured(None if reasons else inspected.bundle, reasons)


def _without(bundle: Bundle, numbers: Iterable[int]) -> Bundle:
    """The bundle without some blocks and without the security operations on them."""
    gone = set(numbers)
    blocks = []
    for block in bundle.blocks:
        if block.number in gone:
            continue
        if block.type in _SECURITY_BLOCKS:
            try:
                content = SecurityBlock.decode(block.data)
            except SecurityError:
                # A BIB that is encrypted itself; its own targets stay as they are.
                blocks.append(block)
                continue
            for target in gone.intersection(content.targets):
                content = content.without(target)
            if not content.targets:
                continue
            blocks.append(block.with_data(content.encode()))
        else:
            blocks.append(block)
    return bundle.with_blocks(blocks)


def _key(name: str, config: KeyConfig) -> Key:
    text, place = config.digits(name), config.file
    try:
        material = bytes.fromhex("".join(text.split()))
    except ValueError:
        raise InputError(
            f"key {name!r} is not hexadecimal", remedy="make one with 'openssl rand -hex 32'", file=place
        ) from None
    if not material:
        raise InputError(f"key {name!r} is empty", remedy="make one with 'openssl rand -hex 32'", file=place)
    return Key(name, material, config.wraps)


def _rule(config: SecurityRuleConfig, keys: dict[str, Key]) -> SecurityRule:
    aes = AesVariant.A128GCM if config.aes == 128 else AesVariant.A256GCM
    integrity, confidentiality = _named(config.integrity, keys), _named(config.confidentiality, keys)
    for key in (integrity, confidentiality):
        if key is not None and key.wraps and len(key.material) not in (16, 24, 32):
            raise InputError(
                f"key {key.name!r} has {len(key.material)} bytes", remedy="one that wraps has 16, 24 or 32"
            )
    if confidentiality is not None and not confidentiality.wraps and len(confidentiality.material) != aes.key_size:
        raise InputError(
            f"key {confidentiality.name!r} has {len(confidentiality.material)} bytes",
            remedy=f"give one of {aes.key_size} bytes for 'aes: {config.aes}', or set 'wraps'",
        )
    return SecurityRule(
        config.source,
        config.destination,
        None if config.classes is None else frozenset(ServiceClass[name.upper()] for name in config.classes),
        integrity,
        confidentiality,
        frozenset(map(_block_type, config.integrity_targets)),
        frozenset(map(_block_type, config.confidentiality_targets)),
        ShaVariant({256: 5, 384: 6, 512: 7}[config.sha]),
        aes,
        sum(_SCOPES[name] for name in config.scope),
        config.unexpected == "refuse",
    )


_SCOPES = {
    "primary": ScopeFlags.PRIMARY_BLOCK.value,
    "target": ScopeFlags.TARGET_HEADER.value,
    "security": ScopeFlags.SECURITY_HEADER.value,
}


def _block_type(name: str | int) -> int:
    if isinstance(name, int):
        return name
    return PRIMARY if name == "primary" else BlockType[name.upper()].value


def _named(name: str | None, keys: dict[str, Key]) -> Key | None:
    if name is None:
        return None
    if name not in keys:
        raise InputError(f"a security rule names unknown key {name!r}", remedy=_known(keys))
    return keys[name]


def _known(keys: Iterable[str]) -> str:
    return f"declare it under 'keys' (there are: {', '.join(keys) or 'none'})"
