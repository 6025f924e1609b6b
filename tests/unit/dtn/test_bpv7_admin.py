"""Status reports of every kind, against an independent CBOR library."""

from __future__ import annotations

import cbor2
import pytest

from marsnet.dtn.bpv7 import (
    BundleError,
    BundleFlags,
    BundleId,
    CreationTimestamp,
    Eid,
    Malformation,
    ReasonCode,
    StatusAssertion,
    StatusItem,
    StatusReport,
    UnknownRecord,
    decode_admin_record,
    encode_status_report,
)

WHOLE = BundleId(Eid.parse("ipn:7.1"), CreationTimestamp(1000, 2))
PART = BundleId(Eid.parse("dtn://a/b"), CreationTimestamp(0, 9), 500, 70)


@pytest.mark.parametrize("subject", [WHOLE, PART], ids=["bundle", "fragment"])
@pytest.mark.parametrize("time_ms", [None, 812_000_000_000])
@pytest.mark.parametrize("assertion", list(StatusAssertion))
def test_every_kind_round_trips(assertion: StatusAssertion, time_ms: int | None, subject: BundleId) -> None:
    report = StatusReport.of(assertion, subject, ReasonCode.HOP_LIMIT_EXCEEDED, time_ms)
    payload = encode_status_report(report)
    assert decode_admin_record(payload) == report
    assert report.assertions == (assertion,)
    kind, body = cbor2.loads(payload)
    asserted = [True] if time_ms is None else [True, time_ms]
    assert kind == 1
    assert body[0] == [asserted if item == assertion else [False] for item in StatusAssertion]
    assert body[1] == 9
    assert body[3] == list(subject.timestamp)
    assert body[4:] == ([500, 70] if subject is PART else [])


def test_several_assertions_in_one_report() -> None:
    items = (StatusItem(True, 5), StatusItem(), StatusItem(True), StatusItem())
    report = StatusReport(items, 0, WHOLE)
    assert decode_admin_record(encode_status_report(report)) == report
    assert report.assertions == (StatusAssertion.RECEIVED, StatusAssertion.DELIVERED)


def test_each_assertion_has_its_request_flag() -> None:
    assert [item.request_flag for item in StatusAssertion] == [
        BundleFlags.REPORT_RECEPTION,
        BundleFlags.REPORT_FORWARDING,
        BundleFlags.REPORT_DELIVERY,
        BundleFlags.REPORT_DELETION,
    ]


def test_other_records_are_kept_as_they_are() -> None:
    assert decode_admin_record(cbor2.dumps([3, [1, 0, b"x"]])) == UnknownRecord(3, cbor2.dumps([1, 0, b"x"]))


def test_a_time_without_assertion_is_not_sent() -> None:
    items = (StatusItem(False, 5), StatusItem(), StatusItem(), StatusItem())
    with pytest.raises(BundleError):
        encode_status_report(StatusReport(items, 0, WHOLE))


NONE = [[False]] * 4


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([1], Malformation.LENGTH),
        ([1, [NONE, 0, [2, [1, 1]]]], Malformation.LENGTH),
        ([1, [NONE, 0, [2, [1, 1]], [1, 1], 0]], Malformation.RECORD),
        ([1, [[[False]] * 3, 0, [2, [1, 1]], [1, 1]]], Malformation.LENGTH),
        ([1, [[[0]] * 4, 0, [2, [1, 1]], [1, 1]]], Malformation.TYPE),
        ([1, [NONE, "no", [2, [1, 1]], [1, 1]]], Malformation.TYPE),
        (["1", 2], Malformation.TYPE),
    ],
)
def test_malformed_records_are_refused(record: list[object], reason: Malformation) -> None:
    with pytest.raises(BundleError) as caught:
        decode_admin_record(cbor2.dumps(record))
    assert caught.value.reason is reason
