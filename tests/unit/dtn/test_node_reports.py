"""Status reports of every kind and code, and that none is sent where there must be none."""

from __future__ import annotations

from typing import Any

import pytest
from bundle_world import FOREVER, World

from marsnet.dtn.bpsec import FailureReason, SecurityError
from marsnet.dtn.bpv7 import (
    NULL_EID,
    BlockFlags,
    Bundle,
    BundleFlags,
    CanonicalBlock,
    CreationTimestamp,
    Eid,
    ReasonCode,
    ServiceClass,
    StatusAssertion,
    encode,
    fragment_at,
)
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.reasons import DropReason, report_code
from marsnet.dtn.node.reports import ReceivedReport, TokenBucket
from marsnet.dtn.store import BundleState, BundleStore, EvictionPolicy, StoreError

F = BundleFlags
ALL = (F.REPORT_RECEPTION | F.REPORT_FORWARDING | F.REPORT_DELIVERY | F.REPORT_DELETION).value
ON = {"enabled": True, "rate": 1.0, "burst": 1000}
LINE = (("rover relay", 0.0, FOREVER, 1e6), ("relay earth", 0.0, FOREVER, 1e6))
R, D = StatusAssertion, ReasonCode


def line(**options: Any) -> World:
    world = World("rover relay earth", *LINE, **{"reports": ON, **options})
    world.attach("earth", "ipn:3.9")
    return world


def said(world: World, node: str = "rover") -> list[tuple[str, StatusAssertion, int]]:
    """What the reports that came to a node say: by whom, what, why."""
    return [
        (str(r.reporter), assertion, r.report.reason)
        for r in world.agents[node].keeper.reports
        for assertion in r.report.assertions
    ]


def test_every_step_is_reported_that_the_flags_ask_for() -> None:
    world = line()
    sent = world.send("rover", "ipn:3.9", b"x" * 500, flags=ALL | F.STATUS_TIME.value)
    assert isinstance(sent, Bundle)
    world.run(100.0)
    assert sorted(said(world)) == sorted(
        [
            ("ipn:1.0", R.FORWARDED, D.NO_INFORMATION),
            ("ipn:2.0", R.RECEIVED, D.NO_INFORMATION),
            ("ipn:2.0", R.FORWARDED, D.NO_INFORMATION),
            ("ipn:3.0", R.RECEIVED, D.NO_INFORMATION),
            ("ipn:3.0", R.DELIVERED, D.NO_INFORMATION),
        ]
    )
    clock = world.agents["rover"].clock
    last = next(r for r in world.agents["rover"].keeper.reports.about(sent.id) if r.report.assertions == (R.DELIVERED,))
    told = last.report.items[R.DELIVERED].time_ms
    assert told is not None
    delivered = world.records(Step.DELIVERED, "earth")[0].time
    assert clock.from_dtn_time(told) == pytest.approx(delivered, abs=0.01)
    noted = [(r.details["by"], r.details["status"]) for r in world.records(Step.REPORT, "rover")]
    assert ("earth", "delivered") in noted
    assert {r.bundle for r in world.records(Step.REPORT)} == {str(sent.id)}
    assert world.metric("rover", 'marsnet_status_reports_received_total{code="0",node="rover",status="delivered"}') == 1
    assert [life.fate for life in world.lives().values()] == ["delivered"], "reports are no bundles of applications"


@pytest.mark.parametrize(
    ("flag", "count"),
    [(F.REPORT_RECEPTION, 2), (F.REPORT_FORWARDING, 2), (F.REPORT_DELIVERY, 1), (F.REPORT_DELETION, 0), (0, 0)],
)
def test_only_what_is_asked_for_is_reported_and_times_only_on_request(flag: int, count: int) -> None:
    world = line()
    world.send("rover", "ipn:3.9", b"x", flags=int(flag))
    world.run(100.0)
    reports: list[ReceivedReport] = list(world.agents["rover"].keeper.reports)
    assert len(reports) == count
    assert all(item.time_ms is None for r in reports for item in r.report.items)


def test_reports_are_off_unless_enabled() -> None:
    world = line(reports={})
    world.send("rover", "ipn:3.9", b"x", flags=ALL)
    world.run(100.0)
    assert not said(world)
    assert world.records(Step.DELIVERED)
    assert world.metric("earth", 'marsnet_status_reports_suppressed_total{node="earth",why="disabled"}') == 2


def test_the_rate_is_bounded_and_what_it_costs_is_counted() -> None:
    world = line(only={"earth": {"reports": {"enabled": True, "rate": 0.01, "burst": 3}}})
    for _ in range(10):
        world.send("rover", "ipn:3.9", b"x", flags=F.REPORT_DELIVERY.value)
    world.run(100.0)
    assert len(said(world)) == 3
    assert world.metric("earth", 'marsnet_status_reports_suppressed_total{node="earth",why="rate"}') == 7
    world.run(400.0)
    world.send("rover", "ipn:3.9", b"x", flags=F.REPORT_DELIVERY.value)
    world.run(500.0)
    assert len(said(world)) == 4, "after a quiet time there is room for more"


def test_a_token_bucket_holds_its_rate_whatever_the_clock_does() -> None:
    bucket = TokenBucket(rate=2.0, burst=5, now=0.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(-1e9)
    assert bucket.take(1.5)
    assert not bucket.take(1.5)


def test_nothing_is_reported_about_reports_and_anonymous_bundles() -> None:
    world = line()
    anonymous = Bundle.create(
        NULL_EID, Eid.ipn(3, 9), b"tip", CreationTimestamp(world.agents["rover"].clock.dtn_time(0.0), 0), 10**6,
        report_to=Eid.ipn(1, 0),
    )  # fmt: skip
    world.inject("rover", "relay", encode(anonymous))
    world.run(50.0)
    assert [bundle.payload for _, bundle in world.delivered] == [b"tip"]
    assert not said(world)
    issued = world.records(Step.ISSUED)
    assert not issued
    world.send("rover", "ipn:3.9", b"x", flags=ALL)
    world.run(100.0)
    assert len(world.records(Step.ISSUED)) == 5, "five reports, and none about those"


def test_a_report_goes_where_the_bundle_says() -> None:
    world = line()
    world.send("rover", "ipn:3.9", b"x", flags=F.REPORT_DELIVERY.value, report_to=Eid.ipn(2, 0))
    world.run(100.0)
    assert not said(world)
    assert said(world, "relay") == [("ipn:3.0", R.DELIVERED, 0)]


def foreign(world: World, destination: str = "ipn:3.9", **changes: Any) -> Bundle:
    fields: dict[str, Any] = {"flags": ALL, "report_to": Eid.ipn(1, 0), "hop_limit": 64, "lifetime_ms": 10**7} | changes
    stamp = CreationTimestamp(world.agents["rover"].clock.dtn_time(world.now), 7)
    payload = fields.pop("payload", b"x" * 100)
    return Bundle.create(Eid.ipn(1, 5), Eid.parse(destination), payload, stamp, fields.pop("lifetime_ms"), **fields)


def deletions(world: World) -> list[tuple[str, int]]:
    return [(who, reason) for who, what, reason in said(world) if what is R.DELETED]


def test_deletion_lifetime_expired() -> None:
    world = World("rover relay earth", LINE[0], ("relay earth", 5000.0, 6000.0, 1e6), reports=ON)
    world.inject("rover", "relay", encode(foreign(world, lifetime_ms=1_000_000)))
    world.run(2000.0)
    assert [(r.time, r.details["reason"]) for r in world.records(Step.EXPIRED, "relay")] == [(1000.0, "lifetime")]
    assert deletions(world) == [("ipn:2.0", D.LIFETIME_EXPIRED)]
    world.inject("rover", "relay", encode(foreign(world, lifetime_ms=1)))
    world.run(2010.0)
    assert len(world.records(Step.EXPIRED, "relay")) == 2, "it had expired when it came"


def test_deletion_hop_limit_exceeded() -> None:
    world = line()
    world.inject("rover", "relay", encode(foreign(world, hop_limit=1).forwarded(Eid.ipn(1, 0))))
    world.run(100.0)
    assert deletions(world) == [("ipn:2.0", D.HOP_LIMIT_EXCEEDED)]
    assert [r.details["reason"] for r in world.records(Step.DROPPED)] == ["hop limit"]
    assert world.metric("relay", 'marsnet_dropped_bundles_total{class="normal",node="relay",reason="hop limit"}') == 1


def test_deletion_no_route_and_no_timely_contact() -> None:
    world = line(unroutable="drop", only={"rover": {"unroutable": "hold"}})
    world.inject("rover", "relay", encode(foreign(world, "ipn:77.1")))
    world.run(50.0)
    assert deletions(world) == [("ipn:2.0", D.NO_ROUTE)]
    late = World("rover relay earth", LINE[0], ("relay earth", 5000.0, 6000.0, 1e6), reports=ON, unroutable="drop")
    late.inject("rover", "relay", encode(foreign(late, lifetime_ms=1_000_000)))
    late.run(50.0)
    assert deletions(late) == [("ipn:2.0", D.NO_TIMELY_CONTACT)]


def test_deletion_depleted_storage_and_traffic_pared() -> None:
    world = line(only={"relay": {}}, stores={})
    assert not deletions(world)

    contacts = (LINE[0], ("relay earth", 5000.0, 6000.0, 1e6))
    small = World("rover relay earth", *contacts, reports=ON, stores={"relay": BundleStore(None, quota_bytes=3000)})
    small.send("rover", "ipn:3.9", b"b" * 2000, flags=ALL, priority=ServiceClass.BULK)
    small.run(50.0)
    small.send("rover", "ipn:3.9", b"c" * 1500, priority=ServiceClass.CRITICAL)
    small.run(100.0)
    assert deletions(small) == [("ipn:2.0", D.DEPLETED_STORAGE)]
    tenants = {"lab": {"sources": ["ipn:1.9"], "quota": 3000}}
    store = BundleStore(None, policy=EvictionPolicy(tenant_quota={"lab": 3000}))
    shared = World("rover relay earth", *contacts, reports=ON, stores={"relay": store}, tenants=tenants)
    shared.send("rover", "ipn:3.9", b"b" * 2000, flags=ALL, priority=ServiceClass.BULK)
    shared.run(50.0)
    shared.send("rover", "ipn:3.9", b"c" * 1500, priority=ServiceClass.CRITICAL)
    shared.run(100.0)
    assert deletions(shared) == [("ipn:2.0", D.TRAFFIC_PARED)]


def test_deletion_destination_unavailable() -> None:
    world = line(unknown_service="drop")
    world.send("rover", "ipn:3.55", b"x", flags=ALL)
    world.run(100.0)
    assert deletions(world) == [("ipn:3.0", D.DESTINATION_UNAVAILABLE)]
    held = line()
    held.send("rover", "ipn:3.55", b"x", flags=ALL)
    held.run(100.0)
    assert not deletions(held)
    held.attach("earth", "ipn:3.55")
    held.run(101.0)
    assert [bundle.payload for _, bundle in held.delivered] == [b"x"], "held until an application comes"


def test_deletion_block_unintelligible() -> None:
    world = line()
    octets = bytearray(encode(foreign(world)))
    octets[-20] ^= 1
    world.inject("rover", "relay", bytes(octets))
    world.run(100.0)
    assert deletions(world) == [("ipn:2.0", D.BLOCK_UNINTELLIGIBLE)]
    assert world.metric("relay", "marsnet_malformed_bundles_total") == 1


def block(flags: int, block_type: int = 200) -> CanonicalBlock:
    return CanonicalBlock(block_type, 9, flags, 0, b"what?")


def test_unknown_blocks_are_treated_by_their_flags() -> None:
    world = line()
    flags = BlockFlags.DELETE_BUNDLE_UNPROCESSED | BlockFlags.REPORT_UNPROCESSED
    world.inject("rover", "relay", encode(foreign(world).with_block(block(flags))))
    world.run(100.0)
    assert (("ipn:2.0", R.RECEIVED, D.BLOCK_UNSUPPORTED)) in said(world)
    assert deletions(world) == [("ipn:2.0", D.BLOCK_UNSUPPORTED)]
    assert not world.delivered


def test_an_unknown_block_is_reported_removed_or_passed_on() -> None:
    world = line()
    flags = BlockFlags.REMOVE_UNPROCESSED | BlockFlags.REPORT_UNPROCESSED
    world.inject("rover", "relay", encode(foreign(world, flags=0).with_block(block(flags))))
    world.run(100.0)
    assert said(world) == [("ipn:2.0", R.RECEIVED, D.BLOCK_UNSUPPORTED)], "the block asks, whatever the bundle says"
    assert [bundle.block(200) for _, bundle in world.delivered] == [None]
    assert world.metric("relay", 'marsnet_removed_blocks_total{node="relay",type="200"}') == 1
    passed = line()
    passed.inject("rover", "relay", encode(foreign(passed).with_block(block(0))))
    passed.run(100.0)
    assert [bundle.block(200) for _, bundle in passed.delivered] == [block(0)]


@pytest.mark.interpreted
def test_transmission_cancelled_where_no_neighbour_takes_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    world = line(unroutable="drop")
    layer = world.agents["relay"].forwarder.layers["earth"]
    monkeypatch.setattr(layer, "max_bundle", lambda neighbour: 1000)
    whole = foreign(world, payload=b"x" * 5000, flags=ALL | F.MUST_NOT_FRAGMENT.value)
    world.inject("rover", "relay", encode(whole))
    world.run(100.0)
    assert deletions(world) == [("ipn:2.0", D.TRANSMISSION_CANCELED)]


def test_a_malformed_record_is_dropped_and_counted() -> None:
    world = line()
    record = foreign(world, "ipn:2.0", flags=F.ADMIN_RECORD.value, payload=b"\x82\x01\x00")
    world.inject("rover", "relay", encode(record))
    world.run(10.0)
    assert [r.details["reason"] for r in world.records(Step.DROPPED)] == ["administrative record"]


@pytest.mark.parametrize(("green", "code"), [(["bulk"], D.UNIDIRECTIONAL_LINK), ([], D.NO_INFORMATION)])
def test_what_no_neighbour_acknowledges_is_reported_as_forwarded_over_a_unidirectional_link(
    green: list[str], code: ReasonCode
) -> None:
    world = line(ltp={"green": green})
    world.send("rover", "ipn:3.9", b"x", flags=F.REPORT_FORWARDING.value, priority=ServiceClass.BULK)
    world.run(100.0)
    assert sorted(said(world)) == [("ipn:1.0", R.FORWARDED, code), ("ipn:2.0", R.FORWARDED, code)]


def part_of(world: World, payload: bytes, begin: int, end: int) -> Bundle:
    return fragment_at(foreign(world, "ipn:2.9", payload=payload), begin, end - begin)


def test_deletion_of_a_fragment_that_is_too_much_under_reassembly() -> None:
    world = line(fragments={"bytes": 1500})
    world.inject("rover", "relay", encode(part_of(world, b"x" * 2000, 0, 10)))
    world.run(50.0)
    assert deletions(world) == [("ipn:2.0", D.DEPLETED_STORAGE)]
    report = next(r.report for r in world.agents["rover"].keeper.reports if R.DELETED in r.report.assertions)
    assert (report.subject.fragment_offset, report.subject.payload_length) == (0, 10), "of which part"


def test_deletion_of_a_fragment_that_contradicts_another_has_no_code_of_its_own() -> None:
    world = line()
    world.inject("rover", "relay", encode(part_of(world, b"x" * 1000, 0, 500)))
    world.inject("rover", "relay", encode(part_of(world, b"x" * 900, 500, 900)))
    world.run(50.0)
    assert deletions(world) == [("ipn:2.0", D.NO_INFORMATION)]


@pytest.mark.interpreted
def test_deletion_of_what_the_store_has_lost_has_no_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    contacts = (LINE[0], ("relay earth", 500.0, 600.0, 1e6))
    world = World("rover relay earth", *contacts, reports=ON)
    # Not among those that are kept in memory for a moment.
    monkeypatch.setattr(world.agents["relay"].keeper._recent, "take", lambda key: None)
    world.inject("rover", "relay", encode(foreign(world)))
    world.run(50.0)

    load, (record,) = world.stores["relay"].load, world.stores["relay"].iterate(*BundleState)

    def damaged(key: int) -> bytes:
        if key == record.key:
            raise StoreError("damaged")
        return load(key)

    monkeypatch.setattr(world.stores["relay"], "load", damaged)
    world.run(600.0)
    assert deletions(world) == [("ipn:2.0", D.NO_INFORMATION)]
    assert [r.details["reason"] for r in world.records(Step.DROPPED)] == ["corrupted in the store"]


def test_every_reason_to_delete_has_a_test_of_its_report() -> None:
    """Of this file, or of `test_node_security.py` for those of security."""
    told = {report_code(str(reason)) for reason in DropReason} | {r.report_reason for r in FailureReason}
    forwarding = {D.UNIDIRECTIONAL_LINK}
    assert told | forwarding == set(ReasonCode), "a code that no node ever gives"


def test_a_lifetime_of_64_bits_is_reported_about() -> None:
    """Some makes give it to what is never to expire; in seconds it is a number that does not fit again."""
    world = line()
    world.inject("rover", "relay", encode(foreign(world, lifetime_ms=(1 << 64) - 1)))
    world.run(100.0)
    assert ("ipn:3.0", R.DELIVERED, D.NO_INFORMATION) in said(world)


def test_a_report_that_cannot_be_protected_as_its_rule_says_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    world = line()

    def refuse(*_: Any, **__: Any) -> Bundle:
        raise SecurityError(FailureReason.NO_KEY, "no key")

    relay = world.agents["relay"]
    monkeypatch.setattr(relay.maker, "make", refuse)
    world.send("rover", "ipn:3.9", b"x", flags=ALL)
    world.run(100.0)
    assert len(world.delivered) == 1
    assert not [each for each in said(world) if each[0] == "ipn:2.0"]
    assert sum(relay.keeper.failures.values()) == 2
