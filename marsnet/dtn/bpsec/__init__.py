"""Bundle Protocol Security (RFC 9172) with the default security contexts (RFC 9173)."""

from marsnet.dtn.bpsec.asb import SecurityBlock
from marsnet.dtn.bpsec.operations import additional_data, decrypt, encrypt, integrity_input, sign, verify
from marsnet.dtn.bpsec.policy import Inspected, SecurityFailure, SecurityPolicy, SecurityRule
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

__all__ = [
    "PRIMARY",
    "AesVariant",
    "ContextId",
    "FailureReason",
    "Inspected",
    "Key",
    "ScopeFlags",
    "SecurityBlock",
    "SecurityError",
    "SecurityFailure",
    "SecurityPolicy",
    "SecurityRule",
    "ShaVariant",
    "additional_data",
    "decrypt",
    "encrypt",
    "integrity_input",
    "sign",
    "verify",
]
