"""The messages of uD3TN's Application Agent Protocol 2.0 as protobuf knows them: field names, numbers and types.

Interoperability rests on the numbers; what the fields mean stands where they are used.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_PACKAGE = "aap2"
_KIND = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _KIND.TYPE_STRING,
    "bool": _KIND.TYPE_BOOL,
    "uint32": _KIND.TYPE_UINT32,
    "uint64": _KIND.TYPE_UINT64,
    # Enumerations travel as integers; a number that is new to us must not make a message unreadable.
    "enum": _KIND.TYPE_INT32,
}

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Welcome": {"node_id": (1, "string")},
    "ConnectionConfig": {
        "is_subscriber": (1, "bool"),
        "auth_type": (2, "enum"),
        "secret": (3, "string"),
        "endpoint_id": (4, "string"),
        "keepalive_seconds": (5, "uint32"),
    },
    "BundleADU": {
        "src_eid": (1, "string"),
        "dst_eid": (2, "string"),
        "creation_timestamp_ms": (3, "uint64"),
        "sequence_number": (4, "uint64"),
        "payload_length": (5, "uint64"),
        "adu_flags": (6, "repeated enum"),
        "report_to_eid": (7, "string"),
    },
    "Bundle": {
        "src_eid": (1, "string"),
        "dst_eid": (2, "string"),
        "creation_timestamp_ms": (3, "uint64"),
        "sequence_number": (4, "uint64"),
        "payload_length": (5, "uint64"),
        "fragment_offset": (6, "uint64"),
        "total_adu_length": (7, "uint64"),
        "lifetime_ms": (8, "uint64"),
    },
    "Link": {
        "status": (1, "enum"),
        "peer_node_id": (2, "string"),
        "peer_cla_addr": (3, "string"),
        "flag": (4, "enum"),
    },
    "DispatchEvent": {"bundle": (1, "Bundle"), "reason": (2, "enum")},
    "Keepalive": {},
    "AAPMessage": {
        "welcome": (1, "Welcome"),
        "config": (2, "ConnectionConfig"),
        "adu": (3, "BundleADU"),
        "dispatch_event": (4, "DispatchEvent"),
        "link": (5, "Link"),
        "keepalive": (6, "Keepalive"),
    },
    "AAPResponse": {"response_status": (1, "enum"), "bundle_headers": (3, "Bundle")},
}


class Status(IntEnum):
    """Outcome of a call (`ResponseStatus`)."""

    UNSPECIFIED = 0
    SUCCESS = 1
    ACK = 2
    ERROR = 8
    TIMEOUT = 9
    INVALID_REQUEST = 10
    NOT_FOUND = 11
    UNAUTHORIZED = 12


class AuthType(IntEnum):
    """What a connection asks to be allowed beyond its own endpoint; all but the first need the node's secret."""

    DEFAULT = 0
    FIB_CONTROL = 1
    BUNDLE_DISPATCH = 2
    FIB_AND_DISPATCH = 3


class AduFlag(IntEnum):
    """What an application data unit is (`BundleADUFlags`)."""

    NORMAL = 0
    BPDU = 1
    WITH_BDM_AUTH = 2
    STATUS_REPORT = 3


class LinkStatus(IntEnum):
    """State of a link that a subscriber of forwarding information is told."""

    UNSPECIFIED = 0
    UP = 3
    DOWN = 4


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="marsnet/aap2.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name == "AAPMessage":
            message.oneof_decl.add(name="msg")
        for field, (number, declared) in fields.items():
            kind = declared.removeprefix("repeated ")
            label = _KIND.LABEL_OPTIONAL if kind == declared else _KIND.LABEL_REPEATED
            entry = message.field.add(name=field, number=number, label=label)
            if kind in _SCALARS:
                entry.type = _SCALARS[kind]
            else:
                entry.type, entry.type_name = _KIND.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            if name == "AAPMessage":
                entry.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


MESSAGES: dict[str, Any] = _build()
"""Message classes of protobuf by name."""

__all__ = ["MESSAGES", "AduFlag", "AuthType", "DecodeError", "LinkStatus", "Status"]
