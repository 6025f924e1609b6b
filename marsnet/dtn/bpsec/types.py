"""Words of BPSec (RFC 9172, RFC 9173): keys, scope flags, variants, and why an operation fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum

from marsnet.dtn.bpv7 import ReasonCode
from marsnet.errors import MarsnetError

PRIMARY = 0
"""Block number of the primary block as a security target (RFC 9172 section 3.4)."""


class ContextId(IntEnum):
    """Security contexts of RFC 9173."""

    BIB_HMAC_SHA2 = 1
    BCB_AES_GCM = 2


class ShaVariant(IntEnum):
    """SHA variants of BIB-HMAC-SHA2 (RFC 9173 section 3.3.1)."""

    HMAC_256 = 5
    HMAC_384 = 6
    HMAC_512 = 7

    @property
    def digest(self) -> str:
        """Its hash's name in the standard library."""
        return {5: "sha256", 6: "sha384", 7: "sha512"}[self]

    @property
    def size(self) -> int:
        """Length of its result, bytes."""
        return {5: 32, 6: 48, 7: 64}[self]


class AesVariant(IntEnum):
    """AES variants of BCB-AES-GCM (RFC 9173 section 4.3.2)."""

    A128GCM = 1
    A256GCM = 3

    @property
    def key_size(self) -> int:
        """Length of its key, bytes."""
        return 16 if self == AesVariant.A128GCM else 32


class ScopeFlags(IntFlag):
    """What an operation covers besides its target's data (RFC 9173 sections 3.3.3 and 4.3.4)."""

    NONE = 0
    PRIMARY_BLOCK = 1
    TARGET_HEADER = 2
    SECURITY_HEADER = 4
    ALL = 7


class FailureReason(StrEnum):
    """Why a security operation fails."""

    MALFORMED = "malformed_block"
    TARGET = "forbidden_target"
    CONFLICT = "conflicting_operations"
    CONTEXT = "unknown_context"
    PARAMETER = "bad_parameter"
    NO_KEY = "no_key"
    KEY_UNWRAP = "key_unwrap"
    INTEGRITY = "integrity"
    DECRYPTION = "decryption"
    MISSING = "missing_operation"
    UNEXPECTED = "unexpected_operation"
    FRAGMENT = "fragment"

    @property
    def report_reason(self) -> ReasonCode:
        """The reason code of the status report that tells of it (RFC 9172 section 7.1)."""
        if self in (FailureReason.INTEGRITY, FailureReason.DECRYPTION, FailureReason.KEY_UNWRAP):
            return ReasonCode.FAILED_SECURITY
        if self in (FailureReason.CONTEXT, FailureReason.NO_KEY):
            return ReasonCode.UNKNOWN_SECURITY
        if self in (FailureReason.CONFLICT, FailureReason.TARGET):
            return ReasonCode.CONFLICTING_SECURITY
        if self is FailureReason.MISSING:
            return ReasonCode.MISSING_SECURITY
        if self is FailureReason.UNEXPECTED:
            return ReasonCode.UNEXPECTED_SECURITY
        return ReasonCode.BLOCK_UNINTELLIGIBLE


class SecurityError(MarsnetError):
    """A security operation cannot be done, or what it protects was changed.

    Attributes:
        reason: for counters and status reports.
    """

    def __init__(self, reason: FailureReason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Key:
    """A symmetric key that two security policies share.

    Attributes:
        name: for people and logs.
        material: the key; for HMAC of any length, for AES 16 or 32 bytes. Never shown.
        wraps: whether it only encrypts (RFC 3394) a fresh key for each bundle, which travels in the security block.
    """

    name: str
    material: bytes = field(repr=False)
    wraps: bool = False
