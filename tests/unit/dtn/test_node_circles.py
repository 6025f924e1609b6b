"""Nodes that know different things of the network do not send a bundle round and round."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from bundle_world import World, make_plan

from marsnet.dtn.bpv7 import Bundle
from marsnet.dtn.node import returning
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.returning import Ways, doubtful
from marsnet.dtn.routing import Forward, NoRoute, RouteRequest, SabrRouter, StaticRouter
from marsnet.plan.types import Contact, ContactPlan

ALWAYS = (0.0, 1e6, 1e6)
LATE_PASS = (30_000.0, 30_600.0)


def stale_world() -> World:
    """Two stations believe in a relay that is silent, and so does the orbiter whose late pass is what is left."""
    world = World(
        "mcc east west relay orbiter habitat",
        ("mcc east", *ALWAYS),
        ("mcc west", *ALWAYS),
        ("east relay", *ALWAYS),
        ("west relay", *ALWAYS),
        ("relay habitat", *ALWAYS),
        ("east orbiter", *ALWAYS),
        ("west orbiter", *ALWAYS),
        ("orbiter habitat", *LATE_PASS, 1e6),
        light=300.0,
    )
    world.passes = lambda source, target, now: "relay" not in (source, target)
    world.attach("habitat", "ipn:6.20")
    assert isinstance(world.send("mcc", "ipn:6.20", b"order", lifetime=80_000.0), Bundle)
    world.run(60_000.0)
    return world


def test_a_bundle_that_comes_back_waits_for_the_way_that_is_left() -> None:
    world = stale_world()
    assert [node for node, _ in world.delivered] == ["habitat"]
    (received,) = world.records(Step.RECEIVED, "habitat")
    assert received.time == pytest.approx(LATE_PASS[0] + 300.0, abs=5.0)
    assert len(world.records(Step.RECEIVED, "orbiter")) <= 2, "again once at most"


def test_without_that_memory_it_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returning, "MOST", 0)
    world = stale_world()
    assert len(world.records(Step.RECEIVED, "orbiter")) > 5


def relay_that_wakes() -> World:
    """Nothing else leads to the habitat, and the relay is silent until 5,000 s."""
    world = World(
        "mcc east west relay habitat",
        ("mcc east", *ALWAYS),
        ("mcc west", *ALWAYS),
        ("east west", *ALWAYS),
        ("east relay", *ALWAYS),
        ("west relay", *ALWAYS),
        ("relay habitat", *ALWAYS),
        light=10.0,
    )
    world.passes = lambda source, target, now: "relay" not in (source, target) or now > 5000
    world.attach("habitat", "ipn:5.20")
    world.send("mcc", "ipn:5.20", b"order", lifetime=80_000.0)
    return world


def test_a_bundle_that_has_no_other_way_goes_by_the_same_relay_again() -> None:
    """A relay is silent for a while and nothing else leads there: the bundle waits, and does not use up its hops."""
    world = relay_that_wakes()
    world.run(20_000.0)
    assert [node for node, _ in world.delivered] == ["habitat"]
    assert len(world.records(Step.RECEIVED, "mcc")) < 10, "less often each time"


def a_plan() -> ContactPlan:
    numbers = {name: number for number, name in enumerate(["east", "west", "relay", "orbiter", "habitat"], 1)}
    late = ("orbiter habitat", *LATE_PASS, 1e6)
    pairs = ("east relay", "west relay", "relay habitat", "east orbiter", "west orbiter")
    return make_plan(numbers, *((pair, *ALWAYS) for pair in pairs), late, light=300.0)


def contact(source: str, target: str, start: float = 0.0) -> Contact:
    return Contact(f"{source} {target}", source, target, start, start + 1e6, 1e6)


@pytest.mark.parametrize(
    ("route", "relay"),
    [("a b", ""), ("a b c", "b"), ("a b c d", "c"), ("a b c d e", "c")],
    ids=["the destination itself", "the neighbour is the last relay", "the next one", "the next of several"],
)
def test_which_relay_is_doubtful(route: str, relay: str) -> None:
    nodes = route.split()
    assert doubtful(tuple(contact(*pair) for pair in pairwise(nodes))) == relay


def test_the_copy_that_came_back_tells_its_own_relay_only() -> None:
    ways = Ways()
    ways.went("bundle", "east", "relay")
    ways.went("bundle", "west", "orbiter")
    assert ways.avoided("bundle") == frozenset()
    ways.came_back("bundle", "east")
    assert ways.avoided("bundle") == {"relay"}
    ways.came_back("other", "east")
    assert ways.avoided("other") == frozenset()


def test_a_bundle_that_comes_back_another_way_doubts_all_of_its_relays() -> None:
    ways = Ways()
    ways.went("bundle", "east", "relay")
    ways.went("bundle", "west", "orbiter")
    ways.came_back("bundle", "north")
    assert ways.avoided("bundle") == {"relay", "orbiter"}


def test_a_bundle_without_another_way_waits_longer_each_time() -> None:
    ways, now = Ways(), 1000.0
    for waits in (60.0, 120.0, 240.0):
        ways.went("bundle", "east", "relay")
        ways.came_back("bundle", "east")
        assert not ways.pardon("bundle", now)
        assert ways.wait("bundle", now, 1e9) == now + waits
        assert ways.wait("bundle", now + 1, 1e9) is None
        assert not ways.pardon("bundle", now + waits - 1)
        now += waits
        assert ways.pardon("bundle", now)
        assert ways.avoided("bundle") == frozenset()


def waits_of(lifetime: float, count: int) -> list[float]:
    """How long a bundle waits each time that it comes back and has no other way."""
    ways, now, found = Ways(), 0.0, []
    for _ in range(count):
        ways.fail("bundle", "relay")
        until = ways.wait("bundle", now, lifetime)
        assert until is not None
        found.append(until - now)
        now = until
        assert ways.pardon("bundle", now)
    return found


def test_no_wait_is_longer_than_some_hours() -> None:
    waits = waits_of(1e9, 2000)
    assert waits[:4] == [60.0, 120.0, 240.0, 480.0]
    assert max(waits) == waits[-1] == 6 * 3600
    hops, week = 64, 7 * 86400
    assert sum(waits[: hops // 2]) > 0.8 * week, "its hops last for about a week"


def test_a_bundle_tries_again_before_its_life_is_over() -> None:
    waits = waits_of(3600.0, 9)
    assert sum(waits[:-3]) < 3600.0
    assert max(waits) < 1800.0
    assert min(waits) == 60.0


def test_news_of_a_relay_end_the_wait_for_it() -> None:
    ways = Ways()
    for bundle, relay in (("one", "relay"), ("two", "orbiter")):
        ways.fail(bundle, relay)
        ways.wait(bundle, 0.0, 1e9)
    ways.changed({"relay", "stranger"})
    assert ways.avoided("one") == frozenset()
    assert ways.avoided("two") == {"orbiter"}
    assert ways.wait("two", 1.0, 1e9) is None, "it waits already"
    ways.fail("one", "relay")
    assert ways.wait("one", 100.0, 1e9) == 220.0, "the next wait is the longer one"


@pytest.mark.parametrize("of_the_relay", [True, False])
def test_a_plan_with_news_of_the_relay_gives_the_bundle_that_way_at_once(of_the_relay: bool) -> None:
    world = relay_that_wakes()
    agent = world.agents["mcc"]
    forwarder = agent.forwarder
    (held,) = forwarder.held.values()
    forwarder.on_returned(held.legs[0], world.now, "came back", refused=False)
    forwarder._ways.fail(held.bundle, "relay")
    forwarder.route(held, world.now)
    assert not held.legs, "it waits"
    pair = ("relay", "habitat") if of_the_relay else ("mcc", "east")
    plan = dataclasses.replace(world.plan, contacts=(*world.plan.contacts, contact(*pair, 2e6)), _ranges={})
    agent.update_plan(plan, world.now + 1)
    assert bool(held.legs) == of_the_relay


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returning, "MOST", 3)
    ways = Ways()
    for number in range(9):
        ways.went(str(number), "east", "relay")
    assert len(ways) == 3
    for number in range(9):
        ways.came_back(str(number), None)
        ways.went(str(number), "east", "relay")
        ways.came_back(str(number), None)
    assert len(ways) == 3
    assert ways.avoided("8") == {"relay"}


@pytest.mark.parametrize("critical", [False, True])
def test_a_router_goes_round_the_nodes_that_it_is_to_avoid(critical: bool) -> None:
    plan = a_plan()
    router = SabrRouter("orbiter", plan)
    request = RouteRequest("habitat", 100, 0, 1e6, critical=critical)
    soon = router.route(request, 0.0)
    assert not isinstance(soon, NoRoute)
    assert "relay" in {c.target for c in soon[0].route}
    around = router.route(request._replace(avoided=frozenset({"relay", "habitat", "stranger"})), 0.0)
    assert not isinstance(around, NoRoute)
    assert [[c.target for c in forward.route] for forward in around] == [["habitat"]]
    nothing = router.route(request._replace(avoided=frozenset({"relay"}), excluded=frozenset({"habitat"})), 0.0)
    assert isinstance(nothing, NoRoute)
    again = router.route(request._replace(excluded=frozenset({"habitat"})), 0.0)
    assert isinstance(again[0], Forward), "what is avoided is not remembered of others"


def test_a_table_of_next_hops_knows_them_too() -> None:
    router = StaticRouter("orbiter", a_plan(), {"habitat": "east"})
    request = RouteRequest("habitat", 100, 0, 1e6)
    assert isinstance(router.route(request._replace(avoided=frozenset({"east"})), 0.0), NoRoute)
    assert not isinstance(router.route(request, 0.0), NoRoute)
