"""Why a bundle's life ends in a node: the word for counters and ledger, and the code for status reports."""

from __future__ import annotations

from enum import StrEnum

from marsnet.dtn.bpsec import FailureReason
from marsnet.dtn.bpv7 import ReasonCode


class DropReason(StrEnum):
    """Why a node deletes a bundle; failures of security have the words of `FailureReason` after `security: `."""

    LIFETIME = "lifetime"
    EVICTED = "evicted"
    HOP_LIMIT = "hop limit"
    UNSUPPORTED_BLOCK = "unsupported block"
    MALFORMED = "malformed"
    CORRUPTED = "corrupted in the store"
    NO_SERVICE = "no such service"
    NO_ROUTE = "no route"
    NO_CONTACT = "no timely contact"
    CANCELLED = "transmission cancelled"
    PARED = "over its share"
    RECORD = "administrative record"
    REASSEMBLY = "too much under reassembly"
    CONTRADICTION = "fragments contradict each other"


_CODES = {
    DropReason.LIFETIME: ReasonCode.LIFETIME_EXPIRED,
    DropReason.EVICTED: ReasonCode.DEPLETED_STORAGE,
    DropReason.HOP_LIMIT: ReasonCode.HOP_LIMIT_EXCEEDED,
    DropReason.UNSUPPORTED_BLOCK: ReasonCode.BLOCK_UNSUPPORTED,
    DropReason.MALFORMED: ReasonCode.BLOCK_UNINTELLIGIBLE,
    DropReason.NO_SERVICE: ReasonCode.DESTINATION_UNAVAILABLE,
    DropReason.NO_ROUTE: ReasonCode.NO_ROUTE,
    DropReason.NO_CONTACT: ReasonCode.NO_TIMELY_CONTACT,
    DropReason.CANCELLED: ReasonCode.TRANSMISSION_CANCELED,
    DropReason.PARED: ReasonCode.TRAFFIC_PARED,
    DropReason.RECORD: ReasonCode.BLOCK_UNINTELLIGIBLE,
    DropReason.REASSEMBLY: ReasonCode.DEPLETED_STORAGE,
}
_SECURITY = "security: "


def security_reason(reason: FailureReason) -> str:
    """The word for a failure of security."""
    return _SECURITY + reason.value


def report_code(reason: str) -> ReasonCode:
    """The reason code of the status report about a deletion (RFC 9171 section 9.5, RFC 9172 section 11.2)."""
    if reason.startswith(_SECURITY):
        return FailureReason(reason.removeprefix(_SECURITY)).report_reason
    return _CODES.get(DropReason(reason), ReasonCode.NO_INFORMATION)
