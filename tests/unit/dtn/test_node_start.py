"""A node that has many bundles in its store begins to work before it has taken them all up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from bundle_world import FOREVER, World

from marsnet.dtn.bpv7 import Bundle, CreationTimestamp, Eid, ServiceClass, encode
from marsnet.dtn.bpv7.fragment import fragment
from marsnet.dtn.node import agent as agent_module
from marsnet.dtn.node.ledger import Step

LATE = (("rover relay", 0.0, FOREVER, 1e6), ("relay earth", 500.0, FOREVER, 1e6))


@pytest.fixture(autouse=True)
def portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "AT_ONCE", 5)
    monkeypatch.setattr(agent_module, "THEN", 3)


def filled(count: int, **options: Any) -> World:
    """The relay has bundles that wait for its contact, and is started again."""
    world = World("rover relay earth", *LATE, **options)
    world.attach("earth", "ipn:3.9")
    for number in range(count):
        world.send("relay", "ipn:3.9", bytes([number]) * 100, lifetime=5000.0)
    world.run(50.0)
    world.start("relay")
    return world


def held(world: World) -> int:
    return len(world.agents["relay"].forwarder.held)


def test_it_works_before_it_has_taken_all_up() -> None:
    world = filled(30)
    relay = world.agents["relay"]
    assert held(world) == 5
    assert relay.next_deadline(world.now) == world.now, "the others at once, with what comes in between"
    world.send("relay", "ipn:3.9", b"new", lifetime=5000.0)
    assert held(world) == 5 + 3 + 1
    world.run(100.0)
    assert held(world) == 31
    deadline = relay.next_deadline(world.now)
    assert deadline is not None
    assert deadline > world.now, "then it rests"
    world.run(1000.0)
    assert Counter(bundle.payload for _, bundle in world.delivered) == Counter(
        [b"new", *(bytes([number]) * 100 for number in range(30))]
    )


def test_a_kill_meanwhile_loses_nothing_and_repeats_nothing() -> None:
    world = filled(30)
    for _ in range(3):
        world.agents["relay"].advance(world.now)
        world.start("relay")
    world.run(505.0)
    world.start("relay")
    world.run(2000.0)
    assert sorted(Counter(bundle.payload[0] for _, bundle in world.delivered).items()) == [(n, 1) for n in range(30)]


def test_what_makes_room_before_it_was_taken_up_is_told() -> None:
    world = filled(30)
    world.stores["relay"].set_quota(6000)
    assert world.stores["relay"].usage.bundles == 30
    before = len(world.records(Step.DROPPED, "relay"))
    large = world.send("relay", "ipn:3.9", b"L" * 3000, lifetime=5000.0, priority=ServiceClass.EXPEDITED)
    assert isinstance(large, Bundle)
    world.run(100.0)
    gone = world.records(Step.DROPPED, "relay")[before:]
    assert [record.details["reason"] for record in gone] == ["evicted"] * len(gone)
    left = world.stores["relay"].usage.bundles
    assert left + len(gone) == 31
    assert held(world) == left
    evicted = world.metric("relay", "marsnet_evicted_bundles_total")
    assert evicted == len(gone) > 5
    world.run(1000.0)
    assert len(world.delivered) == left


def test_what_expires_before_it_was_taken_up_is_told() -> None:
    world = filled(30)
    world.now = 6000.0
    world.run(6100.0)
    assert len(world.records(Step.EXPIRED, "relay")) == 30
    assert world.stores["relay"].usage.bundles == 0


def test_fragments_are_put_together_that_are_taken_up_in_portions_or_come_meanwhile() -> None:
    world = World("rover relay earth", *LATE)
    stamp = CreationTimestamp(world.agents["earth"].clock.dtn_time(0.0), 1)
    whole = Bundle.create(Eid.ipn(1, 9), Eid.ipn(2, 9), bytes(range(200)) * 10, stamp, 10**7)
    parts = [encode(part) for part in fragment(whole, 150)]
    assert len(parts) > 10
    for part in parts[:-1]:
        world.inject("rover", "relay", part)
    world.run(50.0)
    world.start("relay")
    world.attach("relay", "ipn:2.9")
    world.inject("rover", "relay", parts[-1])
    world.run(100.0)
    assert [bundle.payload for _, bundle in world.delivered] == [whole.payload]


def test_flows_go_on_when_all_is_taken_up() -> None:
    flow = {
        "name": "t", "destination": "earth", "service_class": "normal", "size": 100, "every": 10.0, "lifetime": 5000.0,
        "start": 0.0, "stop": 1000.0,
    }  # fmt: skip
    world = World("rover relay earth", *LATE, only={"relay": {"flows": [flow]}})
    world.run(305.0)
    made = len(world.records(Step.ACCEPTED, "relay"))
    world.start("relay")
    world.run(2000.0)
    accepted = world.records(Step.ACCEPTED, "relay")
    assert made == 31
    assert len({record.bundle for record in accepted}) == len(accepted) == 100
    assert len(world.records(Step.DELIVERED, "earth")) == 100
