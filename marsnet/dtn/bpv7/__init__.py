"""Bundle Protocol version 7 (RFC 9171): endpoint IDs, bundles, their octets, administrative records, fragments.

Everything here is a value or a function of values: no clock, no I/O.
"""

from marsnet.dtn.bpv7.admin import (
    ReasonCode,
    StatusAssertion,
    StatusItem,
    StatusReport,
    UnknownRecord,
    decode_admin_record,
    encode_status_report,
)
from marsnet.dtn.bpv7.blocks import BlockFlags, BundleFlags, BundleId, CanonicalBlock, CreationTimestamp
from marsnet.dtn.bpv7.bundle import Bundle, check_primary
from marsnet.dtn.bpv7.codec import (
    DEFAULT_LIMITS,
    DecodeLimits,
    decode,
    decode_from,
    encode,
    encode_block,
    encode_primary,
)
from marsnet.dtn.bpv7.crc import CrcType
from marsnet.dtn.bpv7.eid import NULL_EID, Eid, Scheme
from marsnet.dtn.bpv7.errors import BundleError, Malformation
from marsnet.dtn.bpv7.extension import BlockType, HopCount, ServiceClass
from marsnet.dtn.bpv7.fragment import Reassembled, Reassembler, fragment, fragment_at

__all__ = [
    "DEFAULT_LIMITS",
    "NULL_EID",
    "BlockFlags",
    "BlockType",
    "Bundle",
    "BundleError",
    "BundleFlags",
    "BundleId",
    "CanonicalBlock",
    "CrcType",
    "CreationTimestamp",
    "DecodeLimits",
    "Eid",
    "HopCount",
    "Malformation",
    "ReasonCode",
    "Reassembled",
    "Reassembler",
    "Scheme",
    "ServiceClass",
    "StatusAssertion",
    "StatusItem",
    "StatusReport",
    "UnknownRecord",
    "check_primary",
    "decode",
    "decode_admin_record",
    "decode_from",
    "encode",
    "encode_block",
    "encode_primary",
    "encode_status_report",
    "fragment",
    "fragment_at",
]
