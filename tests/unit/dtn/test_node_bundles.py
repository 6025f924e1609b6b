"""Endpoints, groups, clocks, damage: what a node does with bundles that are not the ordinary ones."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from bundle_world import FOREVER, World

from marsnet.dtn.bpv7 import (
    NULL_EID,
    BlockType,
    Bundle,
    BundleFlags,
    CreationTimestamp,
    Eid,
    HopCount,
    decode,
    encode,
)
from marsnet.dtn.bpv7.fragment import fragment
from marsnet.dtn.ltp import CancelReason, ExportCancelled, ExportCompleted
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.daemon import NodeDaemon
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.storage import open_store
from marsnet.dtn.store import BundleState, BundleStore, CorruptionError
from marsnet.errors import InputError

LINE = (("rover relay", 0.0, FOREVER, 1e6), ("relay earth", 0.0, FOREVER, 1e6))
STAR = (
    ("rover relay", 0.0, FOREVER, 1e6), ("relay earth", 0.0, FOREVER, 1e6), ("relay base", 0.0, FOREVER, 1e6),
    ("base lab", 0.0, FOREVER, 1e6),
)  # fmt: skip
TEAM = {"dtn://team/~all": ["rover", "earth", "base", "lab"]}


def line(**options: Any) -> World:
    world = World("rover relay earth", *LINE, **options)
    world.attach("earth", "ipn:3.9")
    return world


def payloads(world: World) -> list[tuple[str, bytes]]:
    return [(node, bundle.payload) for node, bundle in world.delivered]


def made(world: World, source: Eid = Eid.ipn(1, 5), time_ms: int | None = None, **fields: Any) -> Bundle:  # noqa: B008
    clock = world.agents["rover"].clock
    stamp = CreationTimestamp(clock.dtn_time(world.now) if time_ms is None else time_ms, 7)
    return Bundle.create(source, Eid.ipn(3, 9), fields.pop("payload", b"x"), stamp, 10**6, **fields)


# Clocks


def test_a_node_without_a_clock_sends_time_0_and_its_bundles_age_on_the_way() -> None:
    world = line(only={"rover": {"has_clock": False}})
    world.passes = lambda source, target, now: "relay" not in (source, target) or now > 300.0
    sent = world.send("rover", "ipn:3.9", b"x", lifetime=10_000.0)
    assert isinstance(sent, Bundle)
    assert (sent.timestamp.time_ms, sent.bundle_age) == (0, 0)
    world.run(20_000.0)
    assert payloads(world) == [("earth", b"x")]
    age = world.delivered[0][1].bundle_age
    assert age is not None
    assert age / 1000 == pytest.approx(world.records(Step.RECEIVED, "earth")[0].time, abs=3.0)
    assert world.agents["earth"].metrics.exposition().count(b"marsnet_bundle_latency_seconds_count") == 1


def test_ids_without_a_clock_differ_also_after_a_restart() -> None:
    world = line(only={"rover": {"has_clock": False}})
    for _ in range(3):
        world.send("rover", "ipn:3.9", b"x")
        world.start("rover")
    world.run(100.0)
    assert len(world.delivered) == 3


def test_a_bundle_that_has_aged_expires_where_it_is() -> None:
    world = World("rover relay earth", LINE[0], ("relay earth", 5000.0, 6000.0, 1e6))
    world.inject("rover", "relay", encode(made(world, time_ms=0, age_ms=600_000)))
    world.run(4000.0)
    assert [r.time for r in world.records(Step.EXPIRED, "relay")] == [pytest.approx(401.0, abs=0.1)]


def test_time_0_without_an_age_is_malformed_and_counted() -> None:
    world = line()
    bundle = made(world, time_ms=0)
    age = bundle.block(BlockType.BUNDLE_AGE)
    assert age is not None
    world.inject("rover", "relay", encode(bundle.without_block(age.number)))
    world.run(50.0)
    assert world.metric("relay", "marsnet_malformed_bundles_total") == 1
    assert [r.details["reason"] for r in world.records(Step.DROPPED)] == ["malformed"]
    assert not world.delivered


def test_a_damaged_fragment_whose_primary_block_is_intact_ends_like_any_other() -> None:
    """Nobody knows how long it is, so no report can name it, and none is made."""
    world = line(reports={"enabled": True})
    whole = made(world, payload=bytes(500), flags=BundleFlags.REPORT_DELETION, report_to=Eid.ipn(1, 0))
    octets = encode(fragment(whole, 300)[0])
    world.inject("rover", "relay", octets[:-3] + b"\0\0\xff")
    world.run(50.0)
    assert world.metric("relay", "marsnet_malformed_bundles_total") == 1
    assert [r.details["reason"] for r in world.records(Step.DROPPED)] == ["malformed"]
    assert not list(world.agents["rover"].keeper.reports)


def test_a_node_without_a_clock_takes_lifetimes_from_their_arrival() -> None:
    contacts = (LINE[0], ("relay earth", 5000.0, 6000.0, 1e6))
    world = World("rover relay earth", *contacts, only={"relay": {"has_clock": False}})
    world.now = 50.0
    world.send("rover", "ipn:3.9", b"x", lifetime=2000.0)
    world.run(4000.0)
    assert [r.details["reason"] for r in world.records(Step.EXPIRED)] == ["lifetime"]


@pytest.mark.parametrize("step", [-5000.0, 40_000.0])
def test_a_clock_that_is_set_loses_nothing_and_repeats_nothing(step: float) -> None:
    world = line()
    world.now = 10_000.0
    for agent in world.agents.values():
        agent.advance(world.now)
    world.send("rover", "ipn:3.9", b"before")
    world.now += step
    for agent in world.agents.values():
        agent.advance(world.now)
    world.send("rover", "ipn:3.9", b"after")
    world.run(world.now + 20_000.0)
    assert sorted(payloads(world)) == [("earth", b"after"), ("earth", b"before")]
    assert world.metric("rover", "marsnet_clock_steps_back_total") == (step < 0)
    assert {life.fate for life in world.lives().values()} == {"delivered"}


# Sources and endpoints


def test_anonymous_bundles_arrive_and_only_equal_ones_are_duplicates() -> None:
    world = line()
    for payload in (b"one", b"two", b"one"):
        world.inject("rover", "relay", encode(made(world, NULL_EID, time_ms=812_000_000_000, payload=payload)))
        world.now += 0.001
    world.run(50.0)
    late = world.records(Step.EXPIRED)
    assert len({r.bundle for r in late}) == 2, "made in the past: they expired, each under its own name"
    fresh = line()
    now = fresh.agents["rover"].clock.dtn_time(0.0)
    for payload in (b"one", b"two", b"one"):
        fresh.inject("rover", "relay", encode(made(fresh, NULL_EID, time_ms=now, payload=payload)))
    fresh.run(50.0)
    assert sorted(payloads(fresh)) == [("earth", b"one"), ("earth", b"two")]


def test_the_same_bundle_again_is_a_duplicate_also_after_a_restart() -> None:
    world = line()
    octets = encode(made(world))
    for _ in range(3):
        world.inject("rover", "relay", octets)
        world.run(world.now + 20.0)
        world.start("earth")
        world.attach("earth", "ipn:3.9")
    assert payloads(world) == [("earth", b"x")]
    assert len(world.records(Step.DUPLICATE, "earth")) == 2


def test_nodes_are_known_by_their_dtn_names_too() -> None:
    world = line()
    world.attach("earth", "dtn://earth/inbox")
    world.send("rover", "dtn://earth/inbox", b"by name")
    world.run(50.0)
    assert payloads(world) == [("earth", b"by name")]


def test_previous_node_and_hop_count_are_kept_on_the_way() -> None:
    world = line()
    world.send("rover", "ipn:3.9", b"x")
    world.run(50.0)
    arrived = world.delivered[0][1]
    assert arrived.previous_node == Eid.ipn(2, 0)
    assert arrived.hop_count == HopCount(64, 2)


# Groups


@pytest.mark.parametrize("source", ["rover", "earth", "lab"])
def test_a_group_gets_one_copy_each_and_no_link_carries_it_twice(source: str) -> None:
    world = World("rover relay earth base lab", *STAR, groups=TEAM)
    for node in ("rover", "earth", "base", "lab"):
        world.attach(node, "dtn://team/~all")
    world.send(source, "dtn://team/~all", b"hello")
    world.run(200.0)
    members = {"rover", "earth", "base", "lab"}
    assert sorted(payloads(world)) == sorted((node, b"hello") for node in members)
    taken = [(r.details["peer"], r.node) for r in world.records(Step.RECEIVED)]
    assert len(taken) == len(set(taken)) == 4
    assert all(store.usage.bundles == 0 for store in world.stores.values())
    (life,) = world.lives().values()
    assert (life.fate, life.deliveries) == ("delivered", 1)


def test_a_member_out_of_reach_gets_it_later_and_a_crash_repeats_nothing() -> None:
    contacts = (*STAR[:3], ("base lab", 5000.0, 6000.0, 1e6))
    world = World("rover relay earth base lab", *contacts, groups=TEAM)
    for node in ("earth", "base"):
        world.attach(node, "dtn://team/~all")
    world.send("rover", "dtn://team/~all", b"hello")
    world.run(100.0)
    for node in ("relay", "base", "earth"):
        world.start(node)
        if node != "relay":
            world.attach(node, "dtn://team/~all")
    world.attach("lab", "dtn://team/~all")
    world.run(7000.0)
    assert sorted(payloads(world)) == [("base", b"hello"), ("earth", b"hello"), ("lab", b"hello")]


def test_a_large_bundle_for_a_group_goes_in_fragments_to_each() -> None:
    passes = [("rover relay", 1000.0 * k, 1000.0 * k + 4.0, 80_000.0) for k in range(1, 6)]
    world = World(
        "rover relay earth base", *passes, *STAR[1:3], light=0.01, groups={"dtn://team/~all": ["earth", "base"]}
    )
    for node in ("earth", "base"):
        world.attach(node, "dtn://team/~all")
    world.send("rover", "dtn://team/~all", b"z" * 100_000)
    world.run(9000.0)
    assert sorted(node for node, bundle in world.delivered if bundle.payload == b"z" * 100_000) == ["base", "earth"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"ipn:1.1": ["rover"]}, "is no group endpoint"),
        ({"dtn://team/all": ["rover"]}, "is no group endpoint"),
        ({"nonsense": ["rover"]}, "is no endpoint ID"),
        ({"dtn://team/~all": ["nobody"]}, "unknown node 'nobody'"),
    ],
)
def test_groups_that_are_none_are_refused(groups: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        World("rover relay", LINE[0], groups=groups)


# Damage


def on_disk(folder: Path, **options: Any) -> BundleStore:
    config = NodeConfig.model_validate({"name": "relay", "number": 2, "durability": "process", **options})
    return open_store(config, folder)


def test_a_truncated_payload_file_ends_one_bundle_and_no_other(tmp_path: Path) -> None:
    contacts = (LINE[0], ("relay earth", 500.0, FOREVER, 1e7))
    world = World("rover relay earth", *contacts, stores={"relay": on_disk(tmp_path)})
    world.attach("earth", "ipn:3.9")
    world.send("rover", "ipn:3.9", b"a" * 400_000)
    world.send("rover", "ipn:3.9", b"b" * 400_000)
    world.run(100.0)
    world.start("relay")  # what has just come is in memory, and need not be read
    victim = sorted((tmp_path / "payloads").glob("*.bundle"))[0]
    victim.write_bytes(victim.read_bytes()[:1000])
    world.run(2000.0)
    assert len(world.delivered) == 1
    assert [r.details["reason"] for r in world.records(Step.DROPPED)] == ["corrupted in the store"]
    assert world.metric("relay", 'marsnet_store_events_total{event="corrupt_bundles",node="relay"}') >= 1
    assert sorted(life.fate for life in world.lives().values()) == ["delivered", "dropped"]


def test_a_node_starts_with_a_damaged_bundle_in_its_store_and_says_which(tmp_path: Path) -> None:
    contacts = (LINE[0], ("relay earth", 5000.0, FOREVER, 1e7))
    world = World("rover relay earth", *contacts, stores={"relay": on_disk(tmp_path)})
    sent = world.send("rover", "ipn:3.9", b"a" * 400_000)
    assert isinstance(sent, Bundle)
    world.run(100.0)
    for file in (tmp_path / "payloads").glob("*.bundle"):
        file.unlink()
    world.start("relay")
    world.run(110.0)
    assert [(r.bundle, r.details["reason"]) for r in world.records(Step.DROPPED, "relay")] == [
        (str(sent.id), "corrupted in the store")
    ]
    assert world.stores["relay"].usage.bundles == 0


def test_a_damaged_database_is_refused_or_set_aside_as_configured(tmp_path: Path) -> None:
    store = on_disk(tmp_path)
    store.close()
    database = tmp_path / "bundles.sqlite"
    octets = bytearray(database.read_bytes())
    page = int.from_bytes(octets[16:18], "big")  # SQLite file format, section 1.3
    octets[page : 2 * page] = b"\xaa" * page
    database.write_bytes(bytes(octets))
    with pytest.raises(CorruptionError, match="set_aside"):
        on_disk(tmp_path)
    fresh = on_disk(tmp_path, on_corruption="set_aside")
    world = line(stores={"relay": fresh})
    world.send("rover", "ipn:3.9", b"x")
    world.run(50.0)
    assert payloads(world) == [("earth", b"x")]
    assert world.metric("relay", 'marsnet_store_events_total{event="set_aside",node="relay"}') == 1
    assert list(tmp_path.glob("*.corrupt-1"))


def test_tenants_have_shares_of_their_own() -> None:
    tenants = {"lab": {"sources": ["ipn:*.8"], "quota": 3000}, "ops": {"sources": ["ipn:*.9"]}}
    config = NodeConfig.model_validate({"name": "relay", "number": 2, "tenants": tenants})
    contacts = (LINE[0], ("relay earth", 5000.0, 6000.0, 1e6))
    world = World("rover relay earth", *contacts, tenants=tenants, stores={"relay": open_store(config, None)})
    for service in (8, 8, 8, 9, 9):
        world.send("rover", "ipn:3.9", b"x" * 1200, source=Eid.ipn(1, service))
    world.run(50.0)
    assert world.metric("relay", 'marsnet_tenant_bytes{node="relay",tenant="lab"}') < 3000
    sources = [decode(world.stores["relay"].load(r.key)).source for r in world.stores["relay"].iterate(*BundleState)]
    assert sorted(str(source) for source in sources) == ["ipn:1.8", "ipn:1.8", "ipn:1.9", "ipn:1.9"]
    assert len(world.holdings("rover")) == 1, "what the relay has no room for stays at the rover"


def test_a_node_whose_store_fails_while_it_runs_ends_and_says_why(tmp_path: Path) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        daemon = NodeDaemon(NodeConfig.model_validate({"name": "relay", "number": 2, "log": "error"}), tmp_path)

        def damaged() -> None:
            raise CorruptionError("bundles.sqlite: malformed page")

        running = loop.create_task(daemon.run())
        loop.call_soon(damaged)
        await asyncio.wait_for(running, 20)

    with pytest.raises(CorruptionError, match="malformed page"):
        asyncio.run(run())


def test_a_node_counts_the_errors_that_it_did_not_expect(tmp_path: Path) -> None:
    async def run() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        daemon = NodeDaemon(NodeConfig.model_validate({"name": "relay", "number": 2, "log": "error"}), tmp_path)
        running = loop.create_task(daemon.run())
        met = loop.create_future()

        def defective() -> None:
            loop.call_soon(met.set_result, None)
            raise ZeroDivisionError("a defect")

        loop.call_soon(defective)
        await met
        status = daemon.status()
        loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 20)
        return status

    assert asyncio.run(run())["defects"] == 1
    assert asyncio.run(run())["defects"] == 2, "a node that was started again remembers what its former life met"
    assert (tmp_path / "defects").read_text() == "ZeroDivisionError('a defect')\n" * 2


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("service", "block", "reason"),
    [(2, b"\x01\x9f\x01", CancelReason.USER), (2, b"\x05" + bytes(9), CancelReason.USER), (3, b"file", 1)],
    ids=["cut off inside of a bundle", "an aggregate of another service", "a service that is not here"],
)
def test_a_block_that_holds_no_bundles_is_cancelled_and_not_acknowledged(
    service: int, block: bytes, reason: int
) -> None:
    world = line()
    engine = world.agents["rover"].ltp.engine
    engine.send(2, block, world.now, service=service, tag="foreign")
    told: list[object] = []
    take = engine.take_events
    engine.take_events = lambda: told.extend(events := take()) or events  # type: ignore[method-assign,func-returns-value]
    world.run(60.0)
    assert not [event for event in told if isinstance(event, ExportCompleted)]
    assert [(event.reason, event.by_peer) for event in told if isinstance(event, ExportCancelled)] == [(reason, True)]
    figures = world.agents["relay"].metrics.exposition().decode()
    counted = 'cl_drops_total{layer="ltp",neighbour="",node="relay",reason="malformed block"}'
    if service != 2:
        counted = 'ltp_refused_imports_total{layer="ltp",neighbour="rover",node="relay"}'
    assert f"marsnet_{counted} 1.0" in figures
    world.send("rover", "ipn:3.9", b"after it", lifetime=1000.0)
    world.run(200.0)
    assert payloads(world) == [("earth", b"after it")]
