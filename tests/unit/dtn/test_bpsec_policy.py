"""Signing, encrypting, verifying and accepting by policy; every way in which an operation fails."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsnet.dtn.bpsec import (
    AesVariant,
    FailureReason,
    Inspected,
    Key,
    SecurityBlock,
    SecurityError,
    SecurityPolicy,
    SecurityRule,
    ShaVariant,
    encrypt,
    sign,
)
from marsnet.dtn.bpv7 import (
    BlockFlags,
    BlockType,
    Bundle,
    BundleError,
    BundleFlags,
    CrcType,
    CreationTimestamp,
    Eid,
    ReasonCode,
    Reassembler,
    ServiceClass,
    decode,
    encode,
    fragment,
)

NODE = Eid.ipn(7, 0)
SIGNING = Key("signing", b"k" * 32)
SEALING = Key("sealing", b"s" * 32)
WRAPPING = Key("wrapping", b"w" * 32, wraps=True)
BIB, BCB = BlockType.INTEGRITY, BlockType.CONFIDENTIALITY


def make(payload: bytes = b"drill at noon", **options: object) -> Bundle:
    stamp = CreationTimestamp(812_000_000_000, 5)
    return Bundle.create(Eid.ipn(7, 1), Eid.ipn(9, 1), payload, stamp, 10_000, **options)  # type: ignore[arg-type]


def policy(**options: object) -> SecurityPolicy:
    return SecurityPolicy([SecurityRule(**options)])  # type: ignore[arg-type]


def over_the_air(bundle: Bundle) -> Bundle:
    return decode(encode(bundle))


def reasons(inspected: Inspected) -> list[FailureReason]:
    return [failure.reason for failure in inspected.failures]


def counted_entropy() -> Callable[[int], bytes]:
    numbers = count()
    return lambda size: next(numbers).to_bytes(size, "big")


POLICIES = {
    "sign": policy(integrity=SIGNING),
    "encrypt": policy(confidentiality=SEALING),
    "both": policy(integrity=SIGNING, confidentiality=SEALING),
    "wrapped": policy(integrity=WRAPPING, confidentiality=WRAPPING, sha=ShaVariant.HMAC_512),
    "every block": policy(
        integrity=SIGNING, confidentiality=SEALING, integrity_targets=frozenset({0, 1, 7, 10}), scope=0
    ),
    "sealed extensions": policy(
        integrity=SIGNING, confidentiality=SEALING, confidentiality_targets=frozenset({1, 7}), scope=3
    ),
    "short": policy(confidentiality=Key("s", b"s" * 16), aes=AesVariant.A128GCM, integrity=SIGNING, scope=4),
}


@pytest.mark.parametrize("name", POLICIES)
def test_what_a_source_protects_its_acceptor_restores(name: str) -> None:
    rules = POLICIES[name]
    bundle = make(age_ms=3)
    secured = over_the_air(rules.protect(bundle, NODE))
    assert {block.type for block in secured.blocks} & {BIB, BCB}
    assert rules.verify(secured) == Inspected(secured)
    inspected = rules.accept(secured)
    assert inspected.failures == ()
    restored = over_the_air(inspected.bundle)
    assert restored.payload == bundle.payload
    assert restored.crc_type != CrcType.NONE
    assert [block.type for block in restored.blocks] == [block.type for block in bundle.blocks]
    assert [block.data for block in restored.blocks] == [block.data for block in bundle.blocks]


def test_checksums_of_targets_are_removed_and_no_others() -> None:
    signed = sign(make(), [0, 1], SIGNING, source_eid=NODE)
    assert signed.crc_type == CrcType.NONE
    assert signed.blocks[-1].crc_type == CrcType.NONE
    sealed = encrypt(make(), [1], SEALING, source_eid=NODE)
    assert sealed.crc_type == CrcType.CRC32C
    assert sealed.blocks[-1].crc_type == CrcType.NONE
    bcb = sealed.block(BCB)
    assert bcb is not None
    assert bcb.flags & BlockFlags.REPLICATE


def test_an_encrypted_block_has_its_own_bib_inside_a_bcb_and_every_target_its_own_vector() -> None:
    secured = POLICIES["both"].protect(make(), NODE)
    bibs = [block for block in secured.blocks if block.type == BIB]
    contents = [SecurityBlock.decode(block.data) for block in secured.blocks if block.type == BCB]
    assert len(bibs) == 2
    assert [content.targets for content in contents] == [(1,), (bibs[1].number,)]
    assert SecurityBlock.decode(bibs[0].data).targets == (0,)
    with pytest.raises(SecurityError):
        SecurityBlock.decode(bibs[1].data)
    assert len({content.parameter(1) for content in contents}) == 2


def test_given_entropy_makes_it_repeatable() -> None:
    rules = POLICIES["wrapped"]
    first = encode(rules.protect(make(), NODE, entropy=counted_entropy()))
    assert first == encode(rules.protect(make(), NODE, entropy=counted_entropy()))
    assert first != encode(rules.protect(make(), NODE))


def test_the_first_rule_that_matches_holds() -> None:
    rules = SecurityPolicy(
        [
            SecurityRule(source="ipn:7.*", destination="ipn:9.2"),
            SecurityRule(source="ipn:7.*", classes=frozenset({ServiceClass.BULK}), integrity=SIGNING),
            SecurityRule(source="dtn://*", confidentiality=SEALING),
        ]
    )
    assert rules.rule_for(make()) is None
    assert rules.rule_for(make(service_class=ServiceClass.BULK)) is rules.rules[1]
    assert rules.protect(make(), NODE) == make()
    assert rules.accept(make()) == Inspected(make())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda bundle: bundle.with_block(bundle.blocks[-1].with_data(b"drill at nine")), FailureReason.INTEGRITY),
        (lambda bundle: Bundle(
            Eid.ipn(9, 2), bundle.source, bundle.report_to, bundle.timestamp, 10_000, bundle.blocks, 0, 0
        ), FailureReason.INTEGRITY),
        (lambda bundle: bundle.without_block(bundle.block(BIB).number), FailureReason.MISSING),
        (lambda bundle: bundle.with_block(bundle.block(BIB).with_data(b"\x80")), FailureReason.MALFORMED),
        (lambda bundle: bundle.with_extension(BIB, SecurityBlock((1,), 1, NODE, (), (((1, b"\x41\x00"),),)).encode()),
         FailureReason.INTEGRITY),
        (lambda bundle: bundle.with_extension(BIB, SecurityBlock((1,), 5, NODE, (), ((),)).encode()),
         FailureReason.CONTEXT),
        (lambda bundle: bundle.with_extension(BIB, SecurityBlock((1,), 1, NODE, ((1, b"\x09"),), ((),)).encode()),
         FailureReason.PARAMETER),
        (lambda bundle: bundle.with_extension(BIB, SecurityBlock((1,), 1, NODE, (), ((),)).encode()),
         FailureReason.PARAMETER),
        (lambda bundle: bundle.with_extension(BIB, SecurityBlock((77,), 1, NODE, (), ((),)).encode()),
         FailureReason.TARGET),
        (lambda bundle: bundle.with_extension(
            BIB, SecurityBlock((bundle.block(BIB).number,), 1, NODE, (), ((),)).encode()), FailureReason.TARGET),
        (lambda bundle: bundle.with_extension(
            BIB, SecurityBlock((1,), 1, NODE, ((2, b"\x48wrapped!"),), (((1, b"\x40"),),)).encode()),
         FailureReason.KEY_UNWRAP),
    ],
)  # fmt: skip
def test_integrity_failures_have_their_reason(change: Callable[[Bundle], Bundle], reason: FailureReason) -> None:
    rules = POLICIES["sign"]
    changed = over_the_air(change(rules.protect(make(), NODE)))
    for inspected in (rules.accept(changed), rules.verify(changed)):
        assert reason in reasons(inspected)
        assert inspected.bundle == changed


def test_confidentiality_failures_have_their_reason() -> None:
    rules = POLICIES["encrypt"]
    secured = over_the_air(rules.protect(make(), NODE))
    bcb = secured.block(BCB)
    assert bcb is not None
    changed = secured.with_block(secured.blocks[-1].with_data(b"?" * 13))
    assert reasons(rules.accept(changed)) == [FailureReason.DECRYPTION]
    assert reasons(policy(confidentiality=Key("other", b"o" * 32)).accept(secured)) == [FailureReason.DECRYPTION]
    assert reasons(policy(confidentiality=Key("short", b"o")).accept(secured)) == [FailureReason.NO_KEY]
    assert reasons(POLICIES["sign"].accept(secured)) == [FailureReason.NO_KEY]
    assert reasons(SecurityPolicy().accept(secured)) == [FailureReason.NO_KEY]
    assert reasons(rules.accept(make())) == [FailureReason.MISSING]
    primary = secured.with_block(bcb.with_data(SecurityBlock((0,), 2, NODE, (), ((),)).encode()))
    assert reasons(rules.accept(primary)) == [FailureReason.TARGET]
    twice = secured.with_extension(200, b"").with_blocks((bcb.with_data(bcb.data), *secured.blocks))
    assert FailureReason.CONFLICT in reasons(rules.accept(twice))


def test_a_header_is_covered_only_as_far_as_the_scope_says() -> None:
    for scope, expected in ((7, [FailureReason.DECRYPTION]), (0, [])):
        rules = policy(confidentiality=SEALING, scope=scope)
        secured = rules.protect(make(), NODE)
        moved = Bundle(Eid.ipn(9, 3), secured.source, secured.report_to, secured.timestamp, 10_000, secured.blocks, 0)
        assert reasons(rules.accept(moved)) == expected


def test_reasons_name_their_status_report_codes() -> None:
    assert FailureReason.INTEGRITY.report_reason is ReasonCode.FAILED_SECURITY
    assert FailureReason.MISSING.report_reason is ReasonCode.MISSING_SECURITY
    assert FailureReason.NO_KEY.report_reason is ReasonCode.UNKNOWN_SECURITY
    assert FailureReason.CONFLICT.report_reason is ReasonCode.CONFLICTING_SECURITY
    assert FailureReason.MALFORMED.report_reason is ReasonCode.BLOCK_UNINTELLIGIBLE


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (lambda: sign(fragment(make(), 5)[0], [1], SIGNING, source_eid=NODE), FailureReason.FRAGMENT),
        (lambda: sign(make(), [44], SIGNING, source_eid=NODE), FailureReason.TARGET),
        (lambda: encrypt(make(), [0], SEALING, source_eid=NODE), FailureReason.TARGET),
        (lambda: encrypt(make(), [1, 2], SEALING, source_eid=NODE), FailureReason.PARAMETER),
        (lambda: encrypt(make(), [1], SIGNING, source_eid=NODE, variant=AesVariant.A128GCM), FailureReason.NO_KEY),
        (lambda: sign(sign(make(), [1], SIGNING, source_eid=NODE), [1], SIGNING, source_eid=NODE),
         FailureReason.CONFLICT),
        (lambda: sign(encrypt(make(), [1], SEALING, source_eid=NODE), [1], SIGNING, source_eid=NODE),
         FailureReason.CONFLICT),
        (lambda: sign(sign(make(), [1], SIGNING, source_eid=NODE), [3], SIGNING, source_eid=NODE),
         FailureReason.TARGET),
        (lambda: encrypt(encrypt(make(), [1], SEALING, source_eid=NODE), [3], SEALING, source_eid=NODE),
         FailureReason.TARGET),
        (lambda: sign(make(), [1], Key("kek", b"odd", wraps=True), source_eid=NODE), FailureReason.NO_KEY),
    ],
)  # fmt: skip
def test_what_may_not_be_added_is_refused(operation: Callable[[], Bundle], reason: FailureReason) -> None:
    with pytest.raises(SecurityError) as caught:
        operation()
    assert caught.value.reason is reason


@pytest.mark.parametrize("name", POLICIES)
def test_a_secured_bundle_survives_fragmentation(name: str) -> None:
    rules = POLICIES[name]
    secured = rules.protect(make(bytes(range(200)), age_ms=2), NODE)
    reassembler = Reassembler()
    done = None
    for part in reversed(fragment(secured, 64)):
        received = over_the_air(part)
        assert rules.verify(received) == rules.accept(received) == Inspected(received)
        done = reassembler.add(received, expiry=1.0)
    assert done is not None
    inspected = rules.accept(done.bundle)
    assert inspected.failures == ()
    assert inspected.bundle.payload == bytes(range(200))


def test_hops_may_change_what_is_not_protected() -> None:
    rules = POLICIES["both"]
    secured = rules.protect(make(), NODE)
    forwarded = over_the_air(over_the_air(secured).forwarded(Eid.ipn(8, 0)))
    inspected = rules.accept(forwarded)
    assert inspected.failures == ()
    assert inspected.bundle.previous_node == Eid.ipn(8, 0)


def test_an_encrypted_extension_block_is_left_alone_on_the_way() -> None:
    rules = POLICIES["sealed extensions"]
    secured = over_the_air(rules.protect(make(age_ms=3), NODE))
    forwarded = over_the_air(secured.forwarded(Eid.ipn(8, 0), age_ms=10))
    assert forwarded.block(BlockType.BUNDLE_AGE) == secured.block(BlockType.BUNDLE_AGE)
    assert rules.accept(forwarded).failures == ()
    with pytest.raises(BundleError, match="encrypted"):
        assert forwarded.bundle_age is None
    assert forwarded.hop_count is not None


def test_a_class_that_is_encrypted_counts_as_normal() -> None:
    rules = policy(confidentiality=SEALING, confidentiality_targets=frozenset({1, 241}))
    bundle = make(service_class=ServiceClass.CRITICAL)
    secured = over_the_air(rules.protect(bundle, NODE))
    assert secured.service_class is ServiceClass.NORMAL
    assert rules.accept(secured).bundle.service_class is ServiceClass.CRITICAL


def test_anonymous_and_reported_bundles_can_be_protected() -> None:
    rules = POLICIES["both"]
    bundle = make(flags=BundleFlags.REPORT_DELIVERY | BundleFlags.MUST_NOT_FRAGMENT)
    assert rules.accept(over_the_air(rules.protect(bundle, NODE))).bundle.flags == bundle.flags


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_octets_are_a_security_block_or_refused(data: bytes) -> None:
    for candidate in (data, b"\x81\x01\x01\x01\x82\x02\x82\x01\x01" + data):
        try:
            block = SecurityBlock.decode(candidate)
        except SecurityError as error:
            assert error.reason is FailureReason.MALFORMED
            continue
        assert SecurityBlock.decode(block.encode()) == block


@pytest.mark.parametrize(
    "data", [b"\x9b" + b"\xff" * 8, b"\x81\x01\x01\x01\x82\x01\x00\x81\x82\x01" + b"\x81" * 100_000, b"\x81" * 9]
)
def test_hostile_security_blocks_are_refused_at_once(data: bytes) -> None:
    with pytest.raises(SecurityError):
        SecurityBlock.decode(data)


def test_damaged_secured_bundles_never_pass_as_something_else() -> None:
    rules = POLICIES["both"]
    data = encode(rules.protect(make(hop_limit=None), NODE))
    draw = random.Random(3)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(data)
        damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            bundle = decode(bytes(damaged))
        except BundleError:
            refused += 1
            continue
        inspected = rules.accept(bundle)
        if inspected.failures:
            refused += 1
        else:
            assert (inspected.bundle.payload, inspected.bundle.destination) == (b"drill at noon", Eid.ipn(9, 1))
    assert refused > 1300
