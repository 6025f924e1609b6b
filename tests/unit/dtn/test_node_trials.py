"""A neighbour that fell silent is tried again with one bundle, for one round trip; the others go round it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from bundle_world import World

from marsnet.dtn.node.ledger import Step

ALWAYS = (0.0, 1e6, 1e6)


def world_with_a_silent_relay(until: float) -> World:
    """The way by the relay is the shorter one, and the relay says nothing until then."""
    world = World(
        "here relay detour further there",
        ("here relay", *ALWAYS),
        ("relay there", *ALWAYS),
        ("here detour", *ALWAYS),
        ("detour further", *ALWAYS),
        ("further there", *ALWAYS),
    )
    world.passes = lambda source, target, now: "relay" not in (source, target) or now > until
    world.attach("there", "ipn:5.20")
    return world


def send(world: World, count: int) -> None:
    for _ in range(count):
        world.send("here", "ipn:5.20", b"x", lifetime=10_000.0)


def arrivals(world: World) -> list[float]:
    return [record.time for record in world.records(Step.RECEIVED, "there")]


def test_one_bundle_tries_it_and_the_others_go_round() -> None:
    world = world_with_a_silent_relay(1e9)
    send(world, 3)
    world.run(100.0)
    first = arrivals(world)
    # Five checkpoints, four seconds each, and the detour.
    assert first == pytest.approx([23.0] * 3, abs=1.0)
    send(world, 5)
    world.run(200.0)
    *round_it, tried = arrivals(world)[3:]
    assert round_it == pytest.approx([103.0] * 4, abs=1.0)
    assert tried == pytest.approx(107.0, abs=1.0), "one round trip and the margin, not five"


def test_failures_of_what_was_under_way_together_count_once() -> None:
    world = world_with_a_silent_relay(70.0)
    send(world, 12)
    world.run(60.0)
    assert len(arrivals(world)) == 12
    world.run(90.0)
    send(world, 2)
    world.run(120.0)
    # It failed at 20 s and is tried again from 80 s on, not half an hour later.
    assert sorted(arrivals(world)[12:]) == pytest.approx([92.0, 93.0], abs=0.3)
    send(world, 3)
    world.run(150.0)
    assert arrivals(world)[14:] == pytest.approx([122.0] * 3, abs=0.3), "it has answered: all go by it"
    assert not [record for record in world.records(Step.RECEIVED, "detour") if record.time > 110.0]


def test_a_trial_that_is_not_answered_is_followed_by_a_longer_wait() -> None:
    world = world_with_a_silent_relay(1e9)
    tried: list[float] = []
    passes = world.passes

    def watch(source: str, target: str, now: float) -> bool:
        if (source, target) == ("here", "relay"):
            tried.append(now)
        return passes(source, target, now)

    world.passes = watch
    send(world, 1)
    for instant in range(50, 1000, 10):
        world.run(float(instant))
        send(world, 1)
    world.run(1100.0)
    assert len(arrivals(world)) == 1 + 95
    begun = [time for last, time in pairwise([0.0, *tried]) if time - last > 20]
    waits = [round(later - sooner) for sooner, later in pairwise(begun)]
    assert waits == sorted(waits)
    assert waits[0] >= 120
    assert waits[-1] >= 240


def test_what_a_silent_neighbour_owes_is_not_waited_for_until_its_next_contact() -> None:
    """It has been silent in a contact in which it should have answered; another way opens long before its next one."""
    world = World(
        "here relay other there",
        ("here relay", 0.0, 6000.0, 1e6),
        ("here relay", 80_000.0, 90_000.0, 1e6),
        ("relay there", *ALWAYS),
        ("here other", 20_000.0, 25_000.0, 1e6),
        ("other there", *ALWAYS),
        light=1000.0,
    )
    world.passes = lambda source, target, now: "relay" not in (source, target)
    world.attach("there", "ipn:4.20")
    for instant in (0.0, 5500.0):
        world.run(instant)
        world.send("here", "ipn:4.20", b"x", lifetime=95_000.0)
    world.run(30_000.0)
    assert arrivals(world) == pytest.approx([22_000.0] * 2, abs=5.0)
