"""Administrative records (RFC 9171 section 6): status reports of every kind; other records are kept as they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from marsnet.dtn.bpv7 import cbor
from marsnet.dtn.bpv7.blocks import BundleFlags, BundleId, CreationTimestamp
from marsnet.dtn.bpv7.eid import read_eid
from marsnet.dtn.bpv7.errors import BundleError, Malformation

STATUS_REPORT = 1
"""Administrative record type code of a bundle status report."""


class StatusAssertion(IntEnum):
    """What a status report can assert, in the order of its array (RFC 9171 section 6.1.1)."""

    RECEIVED = 0
    FORWARDED = 1
    DELIVERED = 2
    DELETED = 3

    @property
    def request_flag(self) -> BundleFlags:
        """The flag of a bundle that asks for this report."""
        return (
            BundleFlags.REPORT_RECEPTION,
            BundleFlags.REPORT_FORWARDING,
            BundleFlags.REPORT_DELIVERY,
            BundleFlags.REPORT_DELETION,
        )[self]


class ReasonCode(IntEnum):
    """Bundle status report reason codes (RFC 9171 section 6.1.1; 12 to 16: RFC 9172 section 7.1)."""

    NO_INFORMATION = 0
    LIFETIME_EXPIRED = 1
    UNIDIRECTIONAL_LINK = 2
    TRANSMISSION_CANCELED = 3
    DEPLETED_STORAGE = 4
    DESTINATION_UNAVAILABLE = 5
    NO_ROUTE = 6
    NO_TIMELY_CONTACT = 7
    BLOCK_UNINTELLIGIBLE = 8
    HOP_LIMIT_EXCEEDED = 9
    TRAFFIC_PARED = 10
    BLOCK_UNSUPPORTED = 11
    MISSING_SECURITY = 12
    UNKNOWN_SECURITY = 13
    UNEXPECTED_SECURITY = 14
    FAILED_SECURITY = 15
    CONFLICTING_SECURITY = 16


class StatusItem(NamedTuple):
    """One of the four assertions of a report.

    Attributes:
        asserted: whether it is made.
        time_ms: DTN time of what is asserted, where the bundle asked for times; else None.
    """

    asserted: bool = False
    time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A bundle status report.

    Attributes:
        items: received, forwarded, delivered, deleted, in the order of `StatusAssertion`.
        reason: `ReasonCode`, or another number that a peer sent.
        subject: the bundle (or fragment) reported on.
    """

    items: tuple[StatusItem, StatusItem, StatusItem, StatusItem]
    reason: int
    subject: BundleId

    @staticmethod
    def of(
        assertion: StatusAssertion,
        subject: BundleId,
        reason: int = ReasonCode.NO_INFORMATION,
        time_ms: int | None = None,
    ) -> StatusReport:
        """A report with one assertion; `time_ms` (DTN time) only where the subject's flags ask for it."""
        first, second, third, fourth = (
            StatusItem(True, time_ms) if kind == assertion else StatusItem() for kind in StatusAssertion
        )
        return StatusReport((first, second, third, fourth), reason, subject)

    @property
    def assertions(self) -> tuple[StatusAssertion, ...]:
        """The assertions that it makes."""
        return tuple(kind for kind in StatusAssertion if self.items[kind].asserted)


@dataclass(frozen=True, slots=True)
class UnknownRecord:
    """An administrative record of a type that is not decoded here.

    Attributes:
        type: record type code.
        content: the encoded content, unchecked.
    """

    type: int
    content: bytes


def encode_status_report(report: StatusReport) -> bytes:
    """The payload that carries a status report; its bundle is flagged `ADMIN_RECORD`.

    Raises:
        BundleError: a time with an assertion that is not made, or a number that does not fit.
    """
    parts = [b"\x82\x01", b""]
    for item in report.items:
        if item.time_ms is None:
            parts.append(b"\x81\xf5" if item.asserted else b"\x81\xf4")
        elif item.asserted:
            parts += [b"\x82\xf5", cbor.uint(item.time_ms)]
        else:
            raise BundleError(Malformation.RECORD, "a status that is not asserted has no time")
    subject = report.subject
    fragment = subject.fragment_offset is not None and subject.payload_length is not None
    parts[1] = (b"\x86" if fragment else b"\x84") + b"\x84"
    parts += [
        cbor.uint(report.reason),
        subject.source.cbor,
        b"\x82",
        cbor.uint(subject.timestamp.time_ms),
        cbor.uint(subject.timestamp.sequence),
    ]
    if fragment:
        parts += [cbor.uint(subject.fragment_offset or 0), cbor.uint(subject.payload_length or 0)]
    return b"".join(parts)


def decode_admin_record(payload: bytes) -> StatusReport | UnknownRecord:
    """The administrative record in a payload.

    Raises:
        BundleError: no administrative record, or a malformed status report.
    """
    _, position = _definite(payload, 0, 2, 2)
    record_type, position = cbor.read_uint(payload, position)
    if record_type != STATUS_REPORT:
        return UnknownRecord(record_type, payload[position:])
    length, position = _definite(payload, position, 4, 6)
    if length == 5:
        raise BundleError(Malformation.RECORD, "a status report has 4 elements, or 6 on a fragment; this has 5")
    _, position = _definite(payload, position, 4, 4)
    items: list[StatusItem] = []
    for _ in StatusAssertion:
        item, position = _decode_item(payload, position)
        items.append(item)
    reason, position = cbor.read_uint(payload, position)
    source, position = read_eid(payload, position)
    _, position = _definite(payload, position, 2, 2)
    time_ms, position = cbor.read_uint(payload, position)
    sequence, position = cbor.read_uint(payload, position)
    offset = part = None
    if length == 6:
        offset, position = cbor.read_uint(payload, position)
        part, position = cbor.read_uint(payload, position)
    cbor.expect_end(payload, position)
    subject = BundleId(source, CreationTimestamp(time_ms, sequence), offset, part)
    return StatusReport((items[0], items[1], items[2], items[3]), reason, subject)


def _definite(data: bytes, position: int, smallest: int, largest: int) -> tuple[int, int]:
    length, position = cbor.array_length(data, position, smallest, largest)
    if length < 0:
        raise BundleError(Malformation.RECORD, "an array of indefinite length in an administrative record")
    return length, position


def _decode_item(data: bytes, position: int) -> tuple[StatusItem, int]:
    length, position = _definite(data, position, 1, 2)
    asserted, position = cbor.read_bool(data, position)
    if length == 1:
        return StatusItem(asserted), position
    time_ms, position = cbor.read_uint(data, position)
    return StatusItem(asserted, time_ms), position
