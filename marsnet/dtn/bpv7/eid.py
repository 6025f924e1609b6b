"""Endpoint IDs: the dtn and ipn URI schemes (RFC 9171 section 4.2.5.1, RFC 9758)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache

from marsnet.dtn.bpv7 import cbor
from marsnet.dtn.bpv7.errors import BundleError, Malformation

LONGEST_SSP = 1024
"""Longest scheme-specific part of a dtn URI that is read, bytes."""
LOCAL_NODE = (1 << 32) - 1
"""Node number of `ipn:!` (RFC 9758 section 3.4.2): the node that reads it, never sent."""
_U32 = (1 << 32) - 1
_TWO_ELEMENT_IPN = b"\x82\x02\x82"
_NUMBER = r"(0|[1-9][0-9]{0,19})"
_IPN = re.compile(rf"(?:{_NUMBER}\.)?(?:{_NUMBER}|!)\.{_NUMBER}")
_DTN = re.compile(r"//([!-.0-~]+)/([!-~]*)")


class Scheme(IntEnum):
    """URI scheme codes of the Bundle Protocol."""

    DTN = 1
    IPN = 2


@dataclass(frozen=True, slots=True)
class Eid:
    """An endpoint ID. Make one with `parse`, `ipn`, `dtn` or `decode`; compares and hashes by what it names.

    Attributes:
        scheme: dtn or ipn.
        name: dtn: node name; empty for `dtn:none` and for ipn.
        demux: dtn: what follows the node name and its slash.
        allocator: ipn: allocator identifier, 32 bits.
        node: ipn: node number, 32 bits.
        service: ipn: service number, 64 bits.
        elements: ipn: 2 or 3, the form in which it is encoded; no part of its identity.
    """

    scheme: Scheme
    name: str = ""
    demux: str = ""
    allocator: int = 0
    node: int = 0
    service: int = 0
    elements: int = field(default=2, compare=False, repr=False)
    _cbor: bytes = field(default=b"", init=False, compare=False, repr=False)
    _text: str = field(default="", init=False, compare=False, repr=False)

    def __hash__(self) -> int:
        return hash((self.name, self.demux, self.allocator, self.node, self.service))

    @staticmethod
    def ipn(node: int, service: int, allocator: int = 0, *, elements: int = 2) -> Eid:
        """An ipn endpoint ID.

        Raises:
            BundleError: a number out of range, or node 0 of allocator 0 with a service (RFC 9758 section 3.4.1).
        """
        return _ipn(allocator, node, service, elements)

    @staticmethod
    def dtn(name: str, demux: str = "") -> Eid:
        """A dtn endpoint ID `dtn://name/demux`. Raises BundleError when it is no valid URI."""
        return _dtn(f"//{name}/{demux}")

    @staticmethod
    def parse(text: str) -> Eid:
        """The endpoint ID that a URI names: `dtn:none`, `dtn://node/demux`, `ipn:12.1`, `ipn:977000.12.1`, `ipn:!.1`.

        A node number above 32 bits in the two-part form is a fully qualified one (RFC 9758 section 3.3.1).

        Raises:
            BundleError: the text is no such URI.
        """
        scheme, _, ssp = text.partition(":")
        if scheme == "dtn":
            return NULL_EID if ssp == "none" else _dtn(ssp if ssp.count("/") > 2 else ssp + "/")
        match = _IPN.fullmatch(ssp) if scheme == "ipn" else None
        if match is None:
            raise BundleError(
                Malformation.EID, f"{text!r} is no endpoint ID; write it as ipn:12.1 or dtn://node/service"
            )
        node = LOCAL_NODE if match[2] is None else int(match[2])
        if match[1] is None and node > _U32:
            return Eid.ipn(node & _U32, int(match[3]), node >> 32)
        return Eid.ipn(node, int(match[3]), int(match[1] or 0))

    def __str__(self) -> str:
        if not self._text:
            object.__setattr__(self, "_text", self._written())
        return self._text

    def _written(self) -> str:
        if self.scheme == Scheme.DTN:
            return f"dtn://{self.name}/{self.demux}" if self.name else "dtn:none"
        if self.allocator:
            return f"ipn:{self.allocator}.{self.node}.{self.service}"
        return f"ipn:{'!' if self.node == LOCAL_NODE else self.node}.{self.service}"

    @property
    def is_null(self) -> bool:
        """Whether this is the null endpoint: `dtn:none`, or its equal `ipn:0.0`."""
        return not self.name and not self.node and not self.allocator and not self.service

    @property
    def is_singleton(self) -> bool:
        """Whether at most one node is in it; a dtn demux that starts with `~` names a group (RFC 9171 4.2.5.1.1)."""
        return not self.demux.startswith("~") and not self.is_null

    @property
    def is_node_id(self) -> bool:
        """Whether this is a node's administrative endpoint: `dtn://node/` or `ipn:N.0`."""
        return not self.is_null and not self.demux and not self.service

    @property
    def node_id(self) -> Eid:
        """The administrative endpoint of the node (or group) that is named."""
        if self.is_node_id or self.is_null:
            return self
        return Eid(self.scheme, self.name, "", self.allocator, self.node, 0, self.elements)

    @property
    def cbor(self) -> bytes:
        """Its encoding: `[1, 0]`, `[1, "//node/demux"]`, `[2, [FQNN, service]]`, `[2, [allocator, node, service]]`."""
        if not self._cbor:
            object.__setattr__(self, "_cbor", _encode(self))
        return self._cbor

    @staticmethod
    def from_cbor(data: bytes) -> Eid:
        """The endpoint ID that a CBOR item encodes. Raises BundleError."""
        return _alone(data)


NULL_EID = Eid(Scheme.DTN)
"""`dtn:none`."""


def _dtn(ssp: str) -> Eid:
    match = _DTN.fullmatch(ssp) if len(ssp) <= LONGEST_SSP else None
    if match is None:
        raise BundleError(Malformation.EID, f"dtn:{ssp[:80]!r} is no dtn URI; write it as dtn://node/service, in ASCII")
    return Eid(Scheme.DTN, match[1], match[2])


def _encode(eid: Eid) -> bytes:
    if eid.scheme == Scheme.DTN:
        return b"\x82\x01" + (cbor.text_string(f"//{eid.name}/{eid.demux}") if eid.name else b"\x00")
    numbers: tuple[int, ...]
    if eid.elements == 3:
        numbers = (eid.allocator, eid.node, eid.service)
    else:
        numbers = (eid.allocator << 32 | eid.node, eid.service)
    return b"\x82\x02" + cbor.head(cbor.ARRAY, len(numbers)) + b"".join(map(cbor.uint, numbers))


@lru_cache(8192)
def _ipn(allocator: int, node: int, service: int, elements: int) -> Eid:
    if not (0 <= node <= _U32 and 0 <= allocator <= _U32 and 0 <= service <= cbor.U64_MAX) or elements not in (2, 3):
        raise BundleError(
            Malformation.EID, f"ipn:{allocator}.{node}.{service}: node and allocator have 32 bits, service 64"
        )
    if not node and not allocator and service:
        raise BundleError(Malformation.EID, f"ipn:0.{service}: the null endpoint has no service but 0")
    return Eid(Scheme.IPN, allocator=allocator, node=node, service=service, elements=elements)


_dtn_cached = lru_cache(2048)(_dtn)


@lru_cache(2048)
def _alone(data: bytes) -> Eid:
    eid, end = read_eid(data, 0)
    cbor.expect_end(data, end)
    return eid


def read_eid(data: bytes, position: int) -> tuple[Eid, int]:
    """Read an endpoint ID; returns it and the position after it.

    Raises:
        BundleError: no endpoint ID, or one of another scheme.
    """
    if data.startswith(_TWO_ELEMENT_IPN, position):
        first, position = cbor.read_uint(data, position + 3)
        second, position = cbor.read_uint(data, position)
        return _ipn(first >> 32, first & _U32, second, 2), position
    length, position = cbor.array_length(data, position, 2, 2)
    scheme, position = cbor.read_uint(data, position)
    if scheme == Scheme.IPN:
        count, position = cbor.array_length(data, position, 2, 3)
        if count < 0:
            raise BundleError(Malformation.EID, "the numbers of an ipn endpoint ID are an array of definite length")
        first, position = cbor.read_uint(data, position)
        second, position = cbor.read_uint(data, position)
        if count == 3:
            third, position = cbor.read_uint(data, position)
            eid = _ipn(first, second, third, 3)
        else:
            eid = _ipn(first >> 32, first & _U32, second, 2)
    elif scheme == Scheme.DTN:
        if data[position : position + 1] == b"\x00":
            eid, position = NULL_EID, position + 1
        else:
            ssp, position = cbor.read_text(data, position, LONGEST_SSP)
            eid = _dtn_cached(ssp)
    else:
        raise BundleError(Malformation.EID, f"URI scheme code {scheme} is unknown; known are 1 (dtn) and 2 (ipn)")
    return eid, cbor.expect_break(data, position) if length < 0 else position
