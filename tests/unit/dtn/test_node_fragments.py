"""Fragmentation by contact volume and after broken transfers, reassembly within bounds, and the account of it all."""

from __future__ import annotations

import hashlib
import random
from functools import partial
from typing import Any

import pytest
from bundle_world import FOREVER, World

from marsnet.dtn.bpv7 import Bundle, BundleFlags, CreationTimestamp, Eid, decode, encode, fragment, fragment_at
from marsnet.dtn.node.layer import Interrupted, Received, Returned, Taken
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.store import BundleStore, EvictionPolicy

DATA = random.Random(1).randbytes(100_000)
PASSES = [("rover relay", 1000.0 * k, 1000.0 * k + 4.0, 80_000.0) for k in range(1, 6)]
"""40 kB each."""


def small_contacts(**options: Any) -> World:
    world = World("rover relay earth", *PASSES, ("relay earth", 0.0, FOREVER, 1e6), light=0.01, **options)
    world.attach("earth", "ipn:3.9")
    return world


def test_a_bundle_too_large_for_every_contact_goes_in_fragments() -> None:
    world = small_contacts()
    sent = world.send("rover", "ipn:3.9", DATA)
    assert isinstance(sent, Bundle)
    world.run(20.0)
    cut = world.records(Step.FRAGMENTED, "rover")
    assert len(cut) >= 3
    assert {life.fate for life in world.lives().values()} == {"stored"}
    world.run(1500.0)
    assert {life.fate for life in world.lives().values()} == {"stored"}, "some at the rover, some at earth"
    world.run(6000.0)
    assert [(node, bundle.payload, bundle.id) for node, bundle in world.delivered] == [("earth", DATA, sent.id)]
    assert all(store.usage.bundles == 0 for store in world.stores.values())
    life = world.lives()[str(sent.id)]
    assert (life.fate, life.deliveries, [node for node, _ in life.hops]) == (
        "delivered",
        1,
        ["rover", "relay", "earth"],
    )
    assert world.metric("earth", "marsnet_reassembled_bundles_total") == 1
    assert world.metric("rover", 'marsnet_fragments_made_total{node="rover",why="proactive"}') >= 4


def test_each_fragment_fits_a_contact() -> None:
    world = small_contacts()
    world.send("rover", "ipn:3.9", DATA)
    world.run(20.0)
    held = world.agents["rover"].forwarder.held.values()
    assert len(held) >= 3
    assert all(h.size <= 40_000 for h in held)
    assert sum(h.size for h in held) < len(DATA) + 200 * len(held)


def test_without_fragmentation_or_against_the_flag_it_waits_whole() -> None:
    for options, flags in (({"fragments": {"proactive": False}}, 0), ({}, BundleFlags.MUST_NOT_FRAGMENT.value)):
        world = small_contacts(**options)
        world.send("rover", "ipn:3.9", DATA, flags=flags)
        world.run(6000.0)
        assert not world.records(Step.FRAGMENTED)
        assert not world.delivered
        assert [life.fate for life in world.lives().values()] == ["stored"]


def test_a_fragment_is_cut_again_further_on() -> None:
    passes = [("relay earth", 1000.0 * k, 1000.0 * k + 2.0, 80_000.0) for k in range(1, 9)]
    world = World("rover relay earth", ("rover relay", 0.0, 900.0, 80_000.0), *passes, light=0.01)
    world.attach("earth", "ipn:3.9")
    halves = fragment(whole_bundle(world, DATA[:60_000], node=3), 30_000)
    for half in halves:
        world.inject("rover", "relay", encode(half))
    world.run(9000.0)
    assert [bundle.payload for _, bundle in world.delivered] == [DATA[:60_000]]


def whole_bundle(world: World, payload: bytes = DATA, node: int = 2) -> Bundle:
    stamp = CreationTimestamp(world.agents["rover"].clock.dtn_time(0.0), 77)
    return Bundle.create(Eid.ipn(1, 5), Eid.ipn(node, 9), payload, stamp, 10**7)


def pair(**options: Any) -> World:
    world = World("rover relay", ("rover relay", 0.0, FOREVER, 1e7), **options)
    world.attach("relay", "ipn:2.9")
    return world


@pytest.mark.parametrize("seed", range(5))
def test_reassembly_takes_any_order_overlaps_and_repetitions_also_after_a_restart(seed: int) -> None:
    world, generator = pair(), random.Random(seed)
    whole = whole_bundle(world)
    parts = fragment(whole, generator.randrange(7_000, 30_000))
    for _ in range(6):
        start = generator.randrange(90_000)
        parts.append(fragment_at(whole, start, generator.randrange(1, 100_000 - start)))
    parts += parts[:3]
    generator.shuffle(parts)
    for number, part in enumerate(parts):
        world.inject("rover", "relay", encode(part))
        world.run(world.now + 5.0)
        if number == len(parts) // 2:
            del world.agents["relay"]
            world.start("relay")
            world.attach("relay", "ipn:2.9")
    world.run(world.now + 50.0)
    assert [bundle.payload for _, bundle in world.delivered] == [DATA]
    assert world.stores["relay"].usage.bundles == 0
    assert len(world.agents["relay"].keeper.reassembly) == 0
    assert len(world.records(Step.DUPLICATE)) >= 3


def test_fragments_that_stay_alone_expire_and_free_their_room() -> None:
    world = pair()
    whole = whole_bundle(world)
    for part in fragment(whole, 30_000)[1:]:
        world.inject("rover", "relay", encode(part))
    world.run(100.0)
    assert world.metric("relay", "marsnet_reassembly_fragments") == 3
    assert world.metric("relay", "marsnet_reassembly_bytes") == 70_000
    world.run(11_000.0)
    assert world.metric("relay", "marsnet_reassembly_bytes") == 0
    assert len(world.records(Step.EXPIRED)) == 3
    assert world.stores["relay"].usage.bundles == 0


def test_reassembly_is_bounded_in_bytes_bundles_and_parts() -> None:
    world = pair(fragments={"bytes": 60_000})
    for part in fragment(whole_bundle(world, DATA[:50_000]), 10_000)[:4]:
        world.inject("rover", "relay", encode(part))
    world.run(10.0)
    stamp = CreationTimestamp(world.agents["rover"].clock.dtn_time(0.0), 78)
    other = Bundle.create(Eid.ipn(1, 5), Eid.ipn(2, 9), DATA[:40_000], stamp, 10**7)
    world.inject("rover", "relay", encode(fragment_at(other, 0, 30_000)))
    huge = Bundle.create(Eid.ipn(1, 6), Eid.ipn(2, 9), DATA, stamp, 10**7)
    world.inject("rover", "relay", encode(fragment_at(huge, 0, 10)))
    world.run(20.0)
    assert [r.details["reason"] for r in world.records(Step.DROPPED)] == ["too much under reassembly"] * 2
    few = pair(fragments={"bundles": 1, "parts": 3})
    whole = whole_bundle(few)
    for part in fragment(whole, 10_000)[:5]:
        few.inject("rover", "relay", encode(part))
    few.run(20.0)
    assert few.metric("relay", "marsnet_reassembly_fragments") == 3
    assert len(few.records(Step.DROPPED)) == 2


def test_fragments_that_contradict_each_other_are_dropped() -> None:
    world = pair()
    first, second = fragment(whole_bundle(world), 60_000)
    world.inject("rover", "relay", encode(first))
    world.run(10.0)
    lie = fragment_at(whole_bundle(world, DATA[:80_000]), 60_000, 20_000)
    world.inject("rover", "relay", encode(lie))
    world.run(20.0)
    assert [r.details["reason"] for r in world.records(Step.DROPPED)] == ["fragments contradict each other"]
    world.inject("rover", "relay", encode(second))
    world.run(30.0)
    assert [bundle.payload for _, bundle in world.delivered] == [DATA]


def test_without_room_for_the_whole_the_fragments_wait_for_it() -> None:
    store = BundleStore(None, quota_bytes=160_000)
    world = pair(stores={"relay": store})
    other = whole_bundle(world, b"o" * 40_000)
    stamp = CreationTimestamp(other.timestamp.time_ms, 99)
    blocker = Bundle.create(Eid.ipn(1, 5), Eid.ipn(2, 8), b"o" * 40_000, stamp, 10**6)
    world.inject("rover", "relay", encode(blocker))
    for part in fragment(whole_bundle(world, DATA[:70_000]), 30_000):
        world.inject("rover", "relay", encode(part))
    world.run(50.0)
    assert not world.delivered
    assert world.stores["relay"].usage.bundles == 4
    world.run(1100.0)
    assert [len(bundle.payload) for _, bundle in world.delivered] == [70_000], "the blocker has expired"
    assert world.stores["relay"].usage.bundles == 0


def test_a_cut_that_finds_no_room_leaves_the_bundle_as_it_was() -> None:
    world = small_contacts(stores={"rover": BundleStore(None, quota_bytes=150_000, policy=EvictionPolicy(evict=False))})
    world.send("rover", "ipn:3.9", DATA)
    world.run(5000.0)
    assert not world.records(Step.FRAGMENTED)
    assert [life.fate for life in world.lives().values()] == ["stored"]


class Broken:
    """A world of two nodes, between which transfers break by hand: the layer there is LTP, whose transfers do not."""

    def __init__(self, **options: Any) -> None:
        self.world = World("rover relay", ("rover relay", 0.0, FOREVER, 1e7), fragments={"reactive": True}, **options)
        self.world.attach("relay", "ipn:2.9")
        self.rover, self.relay = self.world.agents["rover"], self.world.agents["relay"]
        self.handed: list[tuple[Any, bytes, int | None]] = []
        self.demanded: list[object] = []
        layer = self.rover.forwarder.layers["relay"]
        layer.resumes = lambda neighbour: True  # type: ignore[method-assign]
        layer.send = self.send  # type: ignore[assignment]
        layer.send_rest = self.send  # type: ignore[method-assign,assignment]
        self.layer = self.relay.forwarder.layers["rover"]
        self.layer.demand_whole = lambda receipt, now: self.demanded.append(receipt)  # type: ignore[method-assign]

    def send(
        self, neighbour: str, octets: bytes, now: float, *, tag: object, service_class: object, base: int | None = None
    ) -> int:
        self.handed.append((tag, octets, base))
        return len(self.handed)

    def receive(self, octets: bytes, rest: int | None) -> None:
        """All of a transfer comes."""
        self.relay.handler.handle(Received(self.layer, "rover", (octets,), None, rest), self.world.now)

    def cut(self, came: int, acknowledged: int) -> None:
        """The transfer under way is cut."""
        leg, octets, rest = self.handed[-1]
        if came:
            event = Interrupted("rover", octets[:came], rest)
            self.relay._unless_full(partial(self.relay.handler.handle, event), self.world.now)
        self.rover.handler.handle(Returned((leg,), "the connection is gone", kept=acknowledged), self.world.now)
        self.world.run(self.world.now + 1.0)

    def finish(self) -> None:
        """The transfer under way is not cut, and the neighbour takes it."""
        leg, octets, rest = self.handed[-1]
        self.receive(octets, rest)
        self.rover.handler.handle(Taken((leg,)), self.world.now)
        self.world.run(self.world.now + 10.0)
        assert [bundle.payload for _, bundle in self.world.delivered] == [DATA]
        assert all(store.usage.bundles == 0 for store in self.world.stores.values())
        assert [life.fate for life in self.world.lives().values()] == ["delivered"]
        assert len(self.relay.keeper.reassembly) == 0


@pytest.mark.interpreted
def test_a_broken_transfer_goes_on_where_it_broke_and_breaks_again() -> None:
    broken = Broken()
    assert isinstance(broken.world.send("rover", "ipn:2.9", DATA), Bundle)
    broken.world.run(1.0)
    broken.cut(70_000, 65_536)
    _, rest, base = broken.handed[1]
    assert 34_000 < len(rest) < 36_000, "only what was not acknowledged"
    assert base == 0
    assert broken.relay.keeper.reassembly.held_bytes > 69_000
    assert broken.world.stores["rover"].usage.bundles == 1, "whole, until the neighbour has all of it"
    broken.cut(20_000, 16_384)
    assert 17_000 < len(broken.handed[2][1]) < 20_000
    broken.finish()


@pytest.mark.interpreted
def test_a_cut_before_the_first_octet_of_the_payload_changes_nothing() -> None:
    broken = Broken()
    broken.world.send("rover", "ipn:2.9", DATA)
    broken.world.run(1.0)
    broken.cut(10, 0)
    assert (len(broken.handed[1][1]), broken.handed[1][2]) == (len(broken.handed[0][1]), None)
    broken.finish()


@pytest.mark.interpreted
def test_a_rest_without_its_beginning_is_refused_and_all_of_it_follows() -> None:
    broken = Broken()
    broken.world.send("rover", "ipn:2.9", DATA)
    broken.world.run(1.0)
    # The neighbour acknowledged the beginning and ended before it had kept it.
    broken.cut(0, 65_536)
    leg, octets, rest = broken.handed[1]
    assert rest == 0
    broken.receive(octets, rest)
    assert broken.demanded == [None]
    assert broken.world.stores["relay"].usage.bundles == 0
    broken.rover.handler.handle(Returned((leg,), "refused", kept=None), broken.world.now)
    broken.world.run(broken.world.now + 1.0)
    assert len(broken.handed[2][1]) == len(broken.handed[0][1])
    broken.finish()


@pytest.mark.interpreted
def test_a_beginning_that_the_disk_did_not_take_is_asked_for_again() -> None:
    store = BundleStore(None, quota_bytes=100_500)
    broken = Broken(stores={"relay": store})
    stamp = CreationTimestamp(broken.rover.clock.dtn_time(0.0), 99)
    other = encode(Bundle.create(Eid.ipn(1, 5), Eid.ipn(2, 8), b"o" * 60_000, stamp, 10**6))
    broken.relay.arrivals.receive(decode(other), other, "rover", 0.0)
    broken.world.send("rover", "ipn:2.9", DATA)
    broken.world.run(1.0)
    broken.cut(70_000, 65_536)
    assert len(broken.relay.keeper.reassembly) == 0
    _, octets, rest = broken.handed[1]
    broken.receive(octets, rest)
    assert broken.demanded == [None]


@pytest.mark.interpreted
def test_a_whole_bundle_takes_the_place_of_its_beginning() -> None:
    """The sender has been started anew, or does not resume."""
    broken = Broken()
    broken.world.send("rover", "ipn:2.9", DATA)
    broken.world.run(1.0)
    broken.cut(70_000, 0)
    assert broken.relay.keeper.reassembly.held_bytes > 69_000
    assert len(broken.handed[1][1]) == len(broken.handed[0][1])
    broken.finish()


@pytest.mark.interpreted
def test_a_fragment_whose_transfer_broke_goes_on_too() -> None:
    broken = Broken()
    first, second = fragment(whole_bundle(broken.world), 40_000 + 20_000)
    for part in (first, second):
        octets = encode(part)
        broken.rover.arrivals.receive(decode(octets), octets, None, 0.0)
    broken.world.run(1.0)
    (leg, octets, _), (other, rest_octets, _) = broken.handed
    broken.receive(octets, None)
    broken.rover.handler.handle(Taken((leg,)), 1.0)
    broken.relay.handler.handle(Interrupted("rover", rest_octets[:30_000]), 1.0)
    broken.rover.handler.handle(Returned((other,), "the connection is gone", kept=25_000), 1.0)
    broken.world.run(2.0)
    leg, octets, base = broken.handed[2]
    assert base == 60_000
    assert 14_000 < len(octets) < 16_000
    broken.receive(octets, base)
    broken.rover.handler.handle(Taken((leg,)), 2.0)
    broken.world.run(10.0)
    assert [bundle.payload for _, bundle in broken.world.delivered] == [DATA]
    assert not broken.demanded
    assert all(store.usage.bundles == 0 for store in broken.world.stores.values())


def test_nothing_is_kept_or_left_out_unless_both_are_told_to() -> None:
    world = pair()
    octets = encode(whole_bundle(world))
    world.agents["relay"].handler.handle(Interrupted("rover", octets[:70_000]), world.now)
    world.run(1.0)
    assert world.stores["relay"].usage.bundles == 0


@pytest.mark.parametrize("victim", ["rover", "relay", "earth"])
@pytest.mark.parametrize("at", [1.0, 1003.0, 2003.5, 3001.9])
def test_a_crash_between_fragments_loses_nothing_and_delivers_once(victim: str, at: float) -> None:
    world = small_contacts()
    world.send("rover", "ipn:3.9", DATA)
    world.run(at)
    del world.agents[victim]
    world.run(at + 30.0)
    world.start(victim)
    world.attach("earth", "ipn:3.9")
    world.run(8000.0)
    whole = [hashlib.sha256(bundle.payload).digest() for _, bundle in world.delivered]
    assert whole == [hashlib.sha256(DATA).digest()]
    assert [life.fate for life in world.lives().values()] == ["delivered"]
