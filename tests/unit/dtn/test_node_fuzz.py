"""Well-formed bundles of any content: a node takes them, accounts for each, and is there afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
from bundle_world import EPOCH, make_plan
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from marsnet.dtn.bpv7 import Bundle, BundleFlags, CanonicalBlock, CreationTimestamp, Eid, encode
from marsnet.dtn.bpv7.blocks import REPORT_FLAGS
from marsnet.dtn.ltp.segments import DataSegment, SessionId, encode_segment
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.layer import Interrupted, Layer, Received
from marsnet.dtn.node.ledger import MemoryLedger
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.store import BundleStore

NUMBERS = {"here": 1, "next": 2, "beyond": 3}
PLAN = make_plan(NUMBERS, ("here next", 0.0, 1e5, 1e5), ("next beyond", 50.0, 1e5, 1e5))
MADE = 844_128_000_000
"""DTN time of mission second 0, in milliseconds."""
BIG = (1 << 64) - 1
EXTREMES = st.sampled_from([0, 1, 2, 500, 10**6, (1 << 31) - 1, 1 << 32, 1 << 53, (1 << 63) - 1, 1 << 63, BIG])
EIDS = st.one_of(
    st.sampled_from(
        [Eid.parse(text) for text in (
            "ipn:1.0", "ipn:1.1", "ipn:1.7", "ipn:2.0", "ipn:3.9", "ipn:9.9", "dtn://here/x", "dtn://team/~all",
            "dtn://unknown/", "dtn:none",
        )]
    ),
    st.builds(Eid.ipn, st.integers(1, BIG >> 32), st.integers(0, BIG >> 32)),
)  # fmt: skip
TYPES = st.sampled_from([6, 7, 10, 11, 12, 13, 192, 193, 241, 242, 243, 1 << 40])
BLOCKS = st.lists(st.tuples(TYPES, st.integers(2, 9), EXTREMES, st.integers(0, 2), st.binary(max_size=40)), max_size=4)
RECORDS = st.one_of(
    st.binary(max_size=60),
    st.just(bytes.fromhex("8201848481f581f481f481f4008202820101820100")),
)


@st.composite
def bundles(draw: st.DrawFn) -> bytes:
    flags = draw(EXTREMES) & ~0x07
    kind = draw(st.sampled_from(["plain", "record", "fragment", "reported"]))
    if kind == "reported":
        flags |= REPORT_FLAGS | BundleFlags.STATUS_TIME
    payload = draw(st.binary(max_size=80))
    if kind == "record":
        flags, payload = (flags | BundleFlags.ADMIN_RECORD) & ~REPORT_FLAGS, draw(RECORDS)
    bundle = Bundle.create(
        draw(EIDS),
        draw(EIDS),
        payload,
        CreationTimestamp(draw(st.one_of(EXTREMES, st.just(MADE))), draw(EXTREMES)),
        draw(EXTREMES),
        report_to=draw(EIDS),
        flags=int(flags),
        crc_type=draw(st.integers(0, 2)),
        hop_limit=draw(st.one_of(st.none(), st.integers(1, 255))),
        age_ms=draw(st.one_of(st.none(), EXTREMES)),
    )
    for block_type, number, block_flags, crc_type, data in draw(BLOCKS):
        if bundle.block_numbered(number) is None:
            bundle = bundle.with_block(CanonicalBlock(block_type, number, block_flags & ~0x10, crc_type, data))
    if kind == "fragment" and not bundle.must_not_fragment:
        offset = draw(EXTREMES) % (BIG - 100)
        total = max(draw(EXTREMES), offset + len(payload))
        flags = bundle.flags | BundleFlags.FRAGMENT.value
        bundle = replace(bundle, flags=flags, fragment_offset=offset, total_length=total)
    octets = encode(bundle)
    if draw(st.integers(0, 4)) == 4:
        cut = draw(st.integers(0, len(octets)))
        octets = octets[:cut] + draw(st.binary(max_size=3)) + octets[cut + 1 :]
    return octets


def node(store: BundleStore, ledger: MemoryLedger, now: float) -> BundleAgent:
    config = NodeConfig.model_validate(
        {
            "name": "here",
            "number": 1,
            "numbers": NUMBERS,
            "groups": {"dtn://team/~all": ["here", "beyond"]},
            "clock": {"epoch": EPOCH, "rate": 1.0, "origin": 0.0},
            "plan": Path("plan.json"),
            "neighbours": {"next": {}},
            "reports": {"enabled": True},
            "fragments": {"reactive": True},
            "tenants": {"science": {"sources": ["ipn:3.*"], "quota": 500}},
        }
    )
    return BundleAgent(config, PLAN, store, ledger, NodeMetrics("here"), now)


def reported(destination: str, lifetime_ms: int) -> bytes:
    stamp = CreationTimestamp(MADE, 1)
    eids = Eid.parse(destination), Eid.ipn(2, 1)
    return encode(Bundle.create(*eids, b"x", stamp, lifetime_ms, report_to=Eid.ipn(2, 0), flags=int(REPORT_FLAGS)))


@given(st.lists(bundles(), min_size=1, max_size=4))
@example([reported("ipn:1.7", BIG), reported("ipn:1.1", BIG), reported("ipn:2.1", BIG), reported("ipn:9.1", 0)])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_a_node_outlives_whatever_comes(parts: list[bytes]) -> None:
    store, ledger = BundleStore(None), MemoryLedger()
    agent = node(store, ledger, 0.0)
    for number, octets in enumerate(parts):
        block = DataSegment(3, SessionId(2, number + 1), 1, 0, octets, number + 1, 0)
        agent.receive("next", encode_segment(block), 1.0 + number)
        agent.advance(1.0 + number)
        agent.take_datagrams()
    agent.metrics.exposition()
    # Another process finds what is left, and it ends when its time is over.
    agent = node(store, ledger, 10.0)
    for now in (10.0, 11.0, 100.0, 5000.0, 2e5, 1e13):
        agent.advance(now)
        agent.take_datagrams()
    assert all(held.expires > 1e13 for held in agent.forwarder.held.values())
    assert store.usage.bundles == len(agent.forwarder.held)
    agent.metrics.exposition()


BROKEN = st.tuples(bundles(), st.integers(0, 300), st.one_of(st.none(), EXTREMES))


@pytest.mark.interpreted
@given(st.lists(st.tuples(st.booleans(), BROKEN), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_a_node_outlives_transfers_that_break_off_anywhere_and_their_rests(parts: list[tuple[bool, Any]]) -> None:
    store, ledger = BundleStore(None), MemoryLedger()
    agent, layer = node(store, ledger, 0.0), create_autospec(Layer, instance=True)
    for number, (breaks, (octets, cut, rest)) in enumerate(parts):
        event = Interrupted("next", octets[:cut], rest) if breaks else Received(layer, "next", (octets,), number, rest)
        agent.handler.handle(event, 1.0 + number)
        agent.advance(1.0 + number)
        agent.take_datagrams()
    agent = node(store, ledger, 10.0)
    for now in (10.0, 100.0, 2e5, 1e13):
        agent.advance(now)
        agent.take_datagrams()
    assert store.usage.bundles == len(agent.forwarder.held)
