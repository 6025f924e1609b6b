"""Copies of critical bundles over disjoint ways: one relay dies, and the other one's copy arrives in time."""

from __future__ import annotations

from typing import Any

import pytest
from bundle_world import FOREVER, World

from marsnet.dtn.bpv7 import BlockType, Bundle, ServiceClass, decode
from marsnet.dtn.node.ledger import Step

DIAMOND = (
    ("rover near", 0.0, FOREVER, 1e6), ("rover far", 0.0, FOREVER, 1e6),
    ("near earth", 100.0, FOREVER, 1e6), ("far earth", 200.0, FOREVER, 1e6),
)  # fmt: skip


def diamond(**options: Any) -> World:
    world = World("rover near far earth", *DIAMOND, **options)
    world.attach("earth", "ipn:4.9")
    return world


def fates(world: World) -> list[tuple[str, int]]:
    return [(life.fate, life.deliveries) for life in world.lives().values()]


@pytest.mark.parametrize(("copies", "in_time"), [(2, True), (1, False)])
def test_when_a_relay_dies_with_the_bundle_its_copy_arrives(copies: int, in_time: bool) -> None:
    world = diamond(critical_copies=copies)
    world.send("rover", "ipn:4.9", b"abort", priority=ServiceClass.CRITICAL)
    world.run(50.0)
    del world.agents["near"]
    world.run(1000.0)
    assert bool(world.delivered) is in_time
    world.start("near")
    world.run(90_000.0)
    assert [bundle.payload for _, bundle in world.delivered] == [b"abort"]
    assert fates(world) == [("delivered", 1)]


def test_copies_cost_two_transmissions_and_the_second_is_a_duplicate() -> None:
    world = diamond()
    world.send("rover", "ipn:4.9", b"abort", priority=ServiceClass.CRITICAL)
    world.send("rover", "ipn:4.9", b"chat", priority=ServiceClass.EXPEDITED)
    world.run(1000.0)
    assert len(world.records(Step.RECEIVED, "near")) + len(world.records(Step.RECEIVED, "far")) == 3
    assert len(world.records(Step.DUPLICATE, "earth")) == 1
    assert len(world.delivered) == 2
    assert all(store.usage.bundles == 0 for store in world.stores.values())


def test_a_copy_that_expires_on_the_way_is_no_loss() -> None:
    contacts = (*DIAMOND[:3], ("far earth", 9e5, FOREVER, 1e6))
    world = World("rover near far earth", *contacts)
    world.attach("earth", "ipn:4.9")
    world.send("rover", "ipn:4.9", b"abort", priority=ServiceClass.CRITICAL, lifetime=950_000.0)
    world.passes = lambda source, target, now: "far" not in (source, target) or now < 8e5
    world.run(960_000.0)
    assert world.records(Step.EXPIRED, "far")
    assert fates(world) == [("delivered", 1)]


@pytest.mark.interpreted
def test_a_node_where_the_ways_part_makes_the_copies_that_the_source_could_not() -> None:
    contacts = (("lander rover", 0.0, FOREVER, 1e6), *DIAMOND)
    world = World("lander rover near far earth", *contacts)
    world.attach("earth", "ipn:5.9")
    seen: dict[str, list[Bundle]] = {}
    for name in ("lander", "rover"):
        inner = world.agents[name].ltp.send

        def listen(neighbour: str, octets: bytes, now: float, *, inner: Any = inner, name: str = name, **f: Any) -> Any:
            seen.setdefault(name, []).append(decode(octets))
            return inner(neighbour, octets, now, **f)

        world.agents[name].ltp.send = listen  # type: ignore[method-assign]
    world.send("lander", "ipn:5.9", b"abort", priority=ServiceClass.CRITICAL)
    world.run(1000.0)
    assert [bundle.block(BlockType.COPIES) is not None for bundle in seen["lander"]] == [True]
    assert [bundle.block(BlockType.COPIES) for bundle in seen["rover"]] == [None, None]
    assert world.records(Step.RECEIVED, "near")
    assert world.records(Step.RECEIVED, "far")
    assert fates(world) == [("delivered", 1)]
