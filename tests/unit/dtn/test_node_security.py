"""BPSec by policy at whole nodes: source, verifier, acceptor, gateway; what fails is dropped, reported and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_world import FOREVER, World

from marsnet.dtn.bpsec import Key, ScopeFlags, encrypt, sign
from marsnet.dtn.bpv7 import (
    BlockType,
    Bundle,
    BundleFlags,
    CanonicalBlock,
    CreationTimestamp,
    Eid,
    ReasonCode,
    StatusAssertion,
    decode,
    encode,
    fragment,
)
from marsnet.dtn.node.config import load_config
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.store import BundleState
from marsnet.errors import InputError

LINE = (("rover relay", 0.0, FOREVER, 1e6), ("relay earth", 0.0, FOREVER, 1e6))
KEYS = {"sign": {"hex": "11" * 32}, "wrap": {"hex": "22" * 32, "wraps": True}, "seal": {"hex": "33" * 32}}
RULE: dict[str, Any] = {"source": "ipn:1.*", "integrity": "sign", "confidentiality": "wrap"}
ON = {"enabled": True, "rate": 100.0}
SIGN, SEAL = Key("sign", b"\x11" * 32), Key("seal", b"\x33" * 32)
BIB, BCB = BlockType.INTEGRITY, BlockType.CONFIDENTIALITY


def policy(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"keys": KEYS, "rules": list(rules or (RULE,)), "entropy": "seed"}


def line(*rules: dict[str, Any], **options: Any) -> World:
    world = World("rover relay earth", *LINE, **{"reports": ON, "security": policy(*rules)} | options)
    world.attach("earth", "ipn:3.9")
    return world


def at_rest(world: World, node: str) -> list[Bundle]:
    store = world.stores[node]

    return [decode(store.load(record.key)) for record in store.iterate(*BundleState)]


def foreign(world: World, **fields: Any) -> Bundle:
    stamp = CreationTimestamp(world.agents["rover"].clock.dtn_time(world.now), 7)
    flags = (BundleFlags.REPORT_DELETION | BundleFlags.REPORT_RECEPTION).value
    options: dict[str, Any] = {"flags": flags, "report_to": Eid.ipn(1, 0)} | fields
    return Bundle.create(Eid.ipn(1, 5), Eid.ipn(3, 9), b"secret" * 20, stamp, 10**7, **options)


def deleted(world: World) -> list[tuple[str, int]]:
    return [
        (str(r.reporter), r.report.reason)
        for r in world.agents["rover"].keeper.reports
        if r.report.assertions == (StatusAssertion.DELETED,)
    ]


def test_source_adds_verifier_checks_acceptor_strips() -> None:
    world = line()
    world.passes = lambda source, target, now: "earth" not in (source, target) or now > 100.0
    world.send("rover", "ipn:3.9", b"drill at noon")
    world.run(50.0)
    (carried,) = at_rest(world, "relay")
    assert carried.payload != b"drill at noon"
    kinds = sorted(block.type for block in carried.blocks if block.type in (BIB, BCB))
    assert kinds == [BIB, BIB, BCB, BCB], "the primary block's BIB in the clear, the payload's inside a BCB"
    assert all(block.crc_type == 0 for block in carried.blocks if block.number in carried.encrypted)
    assert carried.crc_type == 0, "the checksum of a signed primary block goes"
    world.run(5000.0)
    (_, arrived), = world.delivered  # fmt: skip
    assert arrived.payload == b"drill at noon"
    assert all(block.type not in (BIB, BCB) for block in arrived.blocks)
    assert arrived.crc_type
    assert not world.agents["earth"].keeper.failures


def test_reports_about_protected_bundles_come_and_rules_choose_by_class() -> None:
    bulk = RULE | {"classes": ["bulk"]}
    world = line(bulk)
    world.passes = lambda source, target, now: "earth" not in (source, target)
    world.send("rover", "ipn:3.9", b"in the clear")
    world.run(50.0)
    assert [bundle.payload for bundle in at_rest(world, "relay")] == [b"in the clear"]


def tampered(bundle: Bundle, block_type: int) -> Bundle:
    block = bundle.block(block_type)
    assert block is not None
    return bundle.with_block(block.with_data(bytes([block.data[0] ^ 1]) + block.data[1:]))


def test_a_changed_payload_ends_at_the_first_node_that_can_see_it() -> None:
    world = line(RULE | {"confidentiality": None})
    bundle = sign(foreign(world), [0, 1], SIGN, source_eid=Eid.ipn(1, 0))
    world.inject("rover", "relay", encode(tampered(bundle, BlockType.PAYLOAD)))
    world.run(50.0)
    assert [(r.node, r.details["reason"]) for r in world.records(Step.DROPPED)] == [("relay", "security: integrity")]
    assert deleted(world) == [("ipn:2.0", ReasonCode.FAILED_SECURITY)]
    assert world.metric("relay", 'marsnet_security_failures_total{node="relay",reason="integrity"}') == 1
    assert not world.delivered


def test_a_verifier_that_is_told_to_pass_leaves_it_to_the_acceptor() -> None:
    world = line(RULE | {"confidentiality": None, "transit": "pass"})
    bundle = sign(foreign(world), [0, 1], SIGN, source_eid=Eid.ipn(1, 0))
    world.inject("rover", "relay", encode(tampered(bundle, BlockType.PAYLOAD)))
    world.run(50.0)
    assert [(r.node, r.details["reason"]) for r in world.records(Step.DROPPED)] == [("earth", "security: integrity")]


def signed_twice(bundle: Bundle) -> Bundle:
    content = sign(bundle, [1], SIGN, source_eid=NODE).blocks[0].data
    for number in (20, 21):
        bundle = bundle.with_block(CanonicalBlock(BIB, number, 0, 0, content))
    return bundle


NODE = Eid.ipn(1, 0)
PLAIN: dict[str, Any] = {"integrity": None, "confidentiality": None}
CASES: dict[str, tuple[Callable[[Bundle], Bundle], ReasonCode, str, dict[str, Any]]] = {
    "missing": (lambda b: b, ReasonCode.MISSING_SECURITY, "missing_operation", {}),
    "decryption": (
        lambda b: tampered(encrypt(b, [1], SEAL, source_eid=NODE), BlockType.PAYLOAD),
        ReasonCode.FAILED_SECURITY, "decryption", PLAIN | {"confidentiality": "seal"},
    ),
    "unknown key": (
        lambda b: encrypt(b, [1], SEAL, source_eid=NODE), ReasonCode.UNKNOWN_SECURITY, "no_key", PLAIN,
    ),
    "unexpected": (
        lambda b: sign(b, [1], SIGN, source_eid=NODE),
        ReasonCode.UNEXPECTED_SECURITY, "unexpected_operation", PLAIN | {"unexpected": "refuse"},
    ),
    "conflicting": (
        signed_twice, ReasonCode.CONFLICTING_SECURITY, "conflicting_operations", {"confidentiality": None},
    ),
    "unintelligible": (
        lambda b: b.with_block(CanonicalBlock(BIB, 20, 0, 0, b"\xff\x00")),
        ReasonCode.BLOCK_UNINTELLIGIBLE, "malformed_block", {"confidentiality": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_failure_has_its_code_and_its_counter(name: str) -> None:
    make, code, reason, changes = CASES[name]
    world = World("rover relay", LINE[0], reports=ON, security=policy(RULE | changes))
    world.attach("relay", "ipn:2.9")
    stamp = CreationTimestamp(world.agents["rover"].clock.dtn_time(0.0), 7)
    whole = Bundle.create(
        Eid.ipn(1, 5), Eid.ipn(2, 9), b"secret", stamp, 10**7, report_to=Eid.ipn(1, 0),
        flags=BundleFlags.REPORT_DELETION.value,
    )  # fmt: skip
    world.inject("rover", "relay", encode(make(whole)))
    world.run(50.0)
    assert not world.delivered
    assert deleted(world) == [("ipn:2.0", code)]
    assert world.metric("relay", f'marsnet_security_failures_total{{node="relay",reason="{reason}"}}') >= 1
    assert [r.details["reason"] for r in world.records(Step.DROPPED)] == [f"security: {reason}"]


def test_a_changed_extension_block_is_removed_and_the_bundle_goes_on() -> None:
    world = World("rover relay", LINE[0], security=policy(RULE | {
        "integrity": None, "confidentiality": "seal", "confidentiality_targets": ["payload", 200],
    }))  # fmt: skip
    world.attach("relay", "ipn:2.9")
    stamp = CreationTimestamp(world.agents["rover"].clock.dtn_time(0.0), 7)
    whole = Bundle.create(Eid.ipn(1, 5), Eid.ipn(2, 9), b"secret", stamp, 10**7)
    whole = whole.with_block(CanonicalBlock(200, 9, 0, 0, b"extra"))
    for target in (1, 9):
        whole = encrypt(whole, [target], SEAL, source_eid=Eid.ipn(1, 0))
    world.inject("rover", "relay", encode(tampered(whole, 200)))
    world.run(50.0)
    (_, arrived), = world.delivered  # fmt: skip
    assert (arrived.payload, arrived.block(200), arrived.block(BCB)) == (b"secret", None, None)
    assert world.metric("relay", 'marsnet_security_failures_total{node="relay",reason="decryption"}') == 1


def test_scope_flags_hold_what_they_say() -> None:
    """A change of the primary block is seen only where the payload's operation covers it."""
    cases = (
        (["primary"], ScopeFlags.PRIMARY_BLOCK, True),
        (["target", "security"], ScopeFlags.TARGET_HEADER | ScopeFlags.SECURITY_HEADER, False),
    )
    for scope, flags, seen in cases:
        world = line(RULE | {"confidentiality": None, "integrity_targets": ["payload"], "scope": scope})
        bundle = sign(foreign(world), [1], SIGN, source_eid=NODE, scope=flags.value)
        world.inject("rover", "relay", encode(replace(bundle, lifetime_ms=bundle.lifetime_ms + 1)))
        world.run(50.0)
        assert bool(world.records(Step.DROPPED)) is seen
        assert bool(world.delivered) is not seen


def test_security_survives_fragments_and_is_checked_when_they_are_joined() -> None:
    passes = [("rover relay", 1000.0 * k, 1000.0 * k + 4.0, 80_000.0) for k in range(1, 6)]
    world = World("rover relay earth", *passes, LINE[1], light=0.01, security=policy())
    world.attach("earth", "ipn:3.9")
    data = bytes(range(256)) * 400
    world.send("rover", "ipn:3.9", data)
    world.run(9000.0)
    assert world.records(Step.FRAGMENTED, "rover")
    assert [bundle.payload for _, bundle in world.delivered] == [data]
    forged = line(RULE | {"confidentiality": None})
    first, *others = fragment(tampered(sign(foreign(forged), [0, 1], SIGN, source_eid=Eid.ipn(1, 0)), 1), 50)
    for part in (first, *others):
        forged.inject("rover", "relay", encode(part))
    forged.run(50.0)
    assert [r.node for r in forged.records(Step.DROPPED)] == ["earth"], "fragments pass, the whole does not"
    assert not forged.delivered


@pytest.mark.interpreted
def test_gateways_protect_and_unwrap_what_only_passes() -> None:
    entry = RULE | {"transit": "add"}
    leave = RULE | {"transit": "accept"}
    contacts = (("lander rover", 0.0, FOREVER, 1e6), *LINE)
    world = World(
        "lander rover relay earth", *contacts, reports=ON,
        only={
            "rover": {"security": policy(entry)},
            "relay": {"security": policy(leave)},
        },
    )  # fmt: skip
    world.attach("earth", "ipn:4.9")
    seen: list[bytes] = []
    inner = world.agents["rover"].ltp.send

    def listen(neighbour: str, octets: bytes, now: float, **fields: Any) -> Any:
        seen.append(octets)
        return inner(neighbour, octets, now, **fields)

    world.agents["rover"].ltp.send = listen  # type: ignore[method-assign]
    world.send("lander", "ipn:4.9", b"drill at noon")
    world.run(100.0)
    assert [b"drill at noon" in octets for octets in seen if decode(octets).source == Eid.ipn(1, 9)] == [False]
    assert [bundle.payload for _, bundle in world.delivered] == [b"drill at noon"]
    assert all(block.type not in (BIB, BCB) for block in world.delivered[0][1].blocks)


def test_security_is_never_added_to_a_fragment() -> None:
    world = line(RULE, only={"relay": {"security": policy(RULE | {"transit": "add"})}})
    for part in fragment(foreign(world), 50):
        world.inject("rover", "relay", encode(part))
    world.run(50.0)
    assert {r.details["reason"] for r in world.records(Step.DROPPED, "relay")} == {"security: fragment"}


def test_keys_come_from_files_and_change_at_run_time(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "sign.hex").write_text("11" * 16 + "\n" + "11" * 16 + "\n")
    file = tmp_path / "node.yaml"
    file.write_text(
        "name: rover\nnumber: 1\nsecurity:\n  keys:\n    sign: {file: keys/sign.hex}\n"
        "  rules:\n    - {source: 'ipn:1.*', integrity: sign}\n"
    )
    config = load_config(file)
    assert config.security.keys["sign"].file == tmp_path / "keys" / "sign.hex"
    world = line(only={"rover": {"security": config.security.model_dump()}})
    security = world.agents["rover"].keeper.security
    assert security.keys == {"sign": False}
    first = security.protect(foreign(world))
    security.set_key("sign", b"other" * 8)
    assert security.protect(foreign(world)) != first
    with pytest.raises(InputError, match="a rule uses key 'sign'"):
        security.drop_key("sign")
    security.set_key("spare", b"x" * 16, wraps=True)
    security.drop_key("spare")
    assert "11" * 16 not in repr(security.keys) + repr(config.security)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": {}, "rules": [{"integrity": "sign"}]}, "unknown key 'sign'"),
        ({"keys": {"k": {"file": "/nowhere/key"}}}, "cannot be read"),
        ({"keys": {"k": {"hex": "zz"}}}, "not hexadecimal"),
        ({"keys": {"k": {"hex": ""}}}, "is empty"),
        ({"keys": {"k": {"hex": "11" * 5}}, "rules": [{"confidentiality": "k"}]}, "has 5 bytes"),
        ({"keys": {"k": {"hex": "11" * 5, "wraps": True}}, "rules": [{"integrity": "k"}]}, "has 5 bytes"),
    ],
)
def test_a_policy_that_cannot_hold_is_refused_when_the_node_starts(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        World("rover relay", LINE[0], security=changes)
