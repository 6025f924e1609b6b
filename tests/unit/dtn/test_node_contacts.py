"""LTP between nodes whose contacts open and close: whose turn it is, how long to wait, and what shares a block."""

from __future__ import annotations

from typing import Any

import pytest
from bundle_world import FOREVER, World

from marsnet.dtn.bpv7 import Bundle, ServiceClass
from marsnet.dtn.ltp.segments import KIND_NAMES
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.queues import STARVATION_BOUND


class Watched(World):
    """A world that notes when which kind of LTP segment leaves, and how large its datagram is."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.left: list[tuple[float, str, str, int]] = []
        for agent in self.agents.values():
            self._watch(agent)

    def _watch(self, agent: Any) -> None:
        take = agent.take_datagrams

        def note() -> list[tuple[str, bytes, ServiceClass]]:
            taken: list[tuple[str, bytes, ServiceClass]] = take()
            self.left += [(self.now, agent.config.name, KIND_NAMES[octets[0]], len(octets)) for _, octets, _ in taken]
            return taken

        agent.take_datagrams = note

    def count(self, name: str, node: str) -> float:
        """The sum of a metric's samples at a node."""
        text = self.agents[node].metrics.exposition().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + "{"))


@pytest.mark.interpreted
def test_timers_are_suspended_while_no_answer_can_leave() -> None:
    """What leaves in the last light time of a contact is answered in the next one: nothing leaves twice for that."""
    world = Watched("rover relay", ("rover relay", 0.0, 10.0, 1e6), ("rover relay", 5000.0, 5010.0, 1e6), light=8.0)
    world.attach("relay", "ipn:2.9")
    world.run(5.0)
    world.send("rover", "ipn:2.9", b"x" * 3000)
    world.run(20_000.0)
    assert [r.time for r in world.records(Step.DELIVERED)] == [pytest.approx(13.0, abs=0.1)]
    assert not [when for when, *_ in world.left if 10.0 <= when < 5000.0]
    assert [(node, round(when)) for when, node, *_ in world.left[3:]] == [("relay", 5000), ("rover", 5008)]
    assert not world.records(Step.DUPLICATE)
    assert world.count("marsnet_ltp_retransmitted_segments_total", "rover") == 0
    assert world.count("marsnet_ltp_retransmitted_bytes_total", "rover") == 0
    assert world.stores["rover"].usage.bundles == 0


@pytest.mark.interpreted
def test_what_was_lost_at_the_end_of_a_contact_is_sent_again_once_an_answer_is_overdue() -> None:
    contacts = [("rover relay", 5000.0 * n, 5000.0 * n + 10.0, 1e6) for n in range(4)]
    world = Watched("rover relay", *contacts, light=8.0)
    world.attach("relay", "ipn:2.9")
    world.passes = lambda source, target, now: now >= 100.0
    world.run(5.0)
    world.send("rover", "ipn:2.9", b"x" * 3000)
    world.run(30_000.0)
    assert [len(bundle.payload) for _, bundle in world.delivered] == [3000]
    assert 5008.0 <= world.records(Step.DELIVERED)[0].time < 10_020.0


@pytest.mark.parametrize("later", [(), (("rover relay", 5000.0, 5010.0, 1e6),)])
def test_another_way_is_taken_where_no_answer_is_planned_or_only_a_late_one(
    later: tuple[tuple[str, float, float, float], ...],
) -> None:
    world = World(
        "rover relay spare earth",
        ("rover relay", 0.0, 10.0, 1e6),
        ("rover spare", 200.0, 300.0, 1e6),
        ("relay earth", 0.0, FOREVER, 1e6),
        ("spare earth", 0.0, FOREVER, 1e6),
        *later,
        light=8.0,
    )
    world.attach("earth", "ipn:4.9")
    world.passes = lambda source, target, now: "relay" not in (source, target)
    world.run(5.0)
    world.send("rover", "ipn:4.9", b"x" * 3000)
    world.run(1000.0)
    assert [node for node, _ in world.delivered] == ["earth"]
    assert world.records(Step.DELIVERED)[0].time < 220.0


@pytest.mark.interpreted
def test_bundles_that_wait_share_blocks_closed_by_time() -> None:
    """The link is busy with an image, so what comes meanwhile waits, and no longer than it is told to."""
    options: dict[str, Any] = {"ltp": {"aggregate_size": 100_000, "aggregate_time": 3.0}}
    world = Watched("rover relay", ("rover relay", 0.0, FOREVER, 1e5), **options)
    world.attach("relay", "ipn:2.9")
    world.run(1.0)
    world.send("rover", "ipn:2.9", b"i" * 200_000, priority=ServiceClass.BULK)
    for n in range(30):
        world.run(2.0 + 0.1 * n)
        world.send("rover", "ipn:2.9", bytes([n]) * 100, priority=ServiceClass.EXPEDITED)
    world.run(100.0)
    assert len(world.delivered) == 31
    assert sorted(bundle.payload[0] for _, bundle in world.delivered if len(bundle.payload) == 100) == list(range(30))
    small = [r.time for r in world.records(Step.RECEIVED) if r.time < 15.0]
    blocks = sorted({round(time, 3) for time in small})
    assert 1 <= len(blocks) <= 4, "thirty bundles in blocks of three seconds"
    image = next(bundle for _, bundle in world.delivered if len(bundle.payload) > 100)
    assert image.payload == b"i" * 200_000


def test_an_idle_link_waits_for_no_more_bundles() -> None:
    world = World("rover relay", ("rover relay", 0.0, FOREVER, 1e6), ltp={"aggregate_size": 9000, "aggregate_time": 60})
    world.attach("relay", "ipn:2.9")
    world.run(7.0)
    world.send("rover", "ipn:2.9", b"alone")
    world.run(20.0)
    assert [r.time for r in world.records(Step.DELIVERED)] == [pytest.approx(8.0, abs=0.05)]


@pytest.mark.interpreted
def test_a_critical_bundle_passes_between_the_segments_of_a_bulk_bundle() -> None:
    world = Watched("rover relay", ("rover relay", 0.0, FOREVER, 1e5))
    world.attach("relay", "ipn:2.9")
    world.run(1.0)
    world.send("rover", "ipn:2.9", b"b" * 500_000, priority=ServiceClass.BULK)
    world.run(10.0)
    before = len(world.left)
    world.send("rover", "ipn:2.9", b"c" * 500, priority=ServiceClass.CRITICAL)
    world.run(100.0)
    assert [bundle.service_class for _, bundle in world.delivered] == [ServiceClass.CRITICAL, ServiceClass.BULK]
    alarm = next(n for n, (*_, size) in enumerate(world.left[before:]) if 500 < size < 800)
    assert alarm <= 3, "after the segments that the line held already"
    assert world.records(Step.DELIVERED)[0].time == pytest.approx(11.0, abs=0.6)
    assert world.records(Step.DELIVERED)[1].time > 40.0


def test_the_least_urgent_class_leaves_within_the_bound() -> None:
    """A stream of critical bundles fills the link; bulk bundles leave all the same, one for so many."""
    world = World("rover relay", ("rover relay", 0.0, FOREVER, 1e5))
    world.attach("relay", "ipn:2.9")
    world.run(1.0)
    for _ in range(3):
        world.send("rover", "ipn:2.9", b"b" * 1000, priority=ServiceClass.BULK)
    for _ in range(4 * STARVATION_BOUND):
        for _ in range(2):
            sent = world.send("rover", "ipn:2.9", b"c" * 1000, priority=ServiceClass.CRITICAL)
            assert isinstance(sent, Bundle)
        world.run(world.now + 0.09)
    urgent = 2 * 4 * STARVATION_BOUND
    world.run(500.0)
    order = [bundle.service_class for _, bundle in world.delivered]
    assert len(order) == urgent + 3
    places = [n for n, kind in enumerate(order) if kind is ServiceClass.BULK]
    assert places[-1] < urgent, "not behind all of them"
    # The node's queue and then LTP's hold one up for so many each.
    assert all(after - before <= 2 * STARVATION_BOUND + 2 for before, after in zip([0, *places], places, strict=False))


@pytest.mark.interpreted
def test_a_refused_block_is_not_sent_on_and_its_late_segments_are_counted() -> None:
    """The neighbour's store is full: it cancels the session; what still arrives of it makes nothing there."""
    world = Watched("rover relay", ("rover relay", 0.0, FOREVER, 1e5), only={"relay": {"quota": 1000}}, light=5.0)
    relay = world.agents["relay"]
    relay.store.set_quota(1000)
    world.send("rover", "ipn:2.9", b"x" * 40_000, lifetime=60.0)
    world.run(200.0)
    assert not world.delivered
    assert world.count("marsnet_ltp_cancelled_sessions_total", "rover") >= 1
    assert relay.store.usage.bundles == 0
    assert relay.ltp.engine.held_bytes == 0
    assert world.stores["rover"].usage.bundles == 0, "expired where it was"


@pytest.mark.interpreted
def test_segments_that_come_after_a_refusal_make_nothing_and_are_counted() -> None:
    """The block is larger than the neighbour takes, which it says while most of it is still to leave."""
    world = Watched(
        "rover relay", ("rover relay", 0.0, FOREVER, 1e5), only={"relay": {"ltp": {"max_block": 20_000}}}, light=5.0
    )
    world.attach("relay", "ipn:2.9")
    world.send("rover", "ipn:2.9", b"x" * 200_000, lifetime=50.0)
    world.run(40.0)
    relay = world.agents["relay"]
    late = [line for line in relay.metrics.exposition().decode().splitlines() if 'reason="late"' in line]
    assert sum(float(line.split()[-1]) for line in late if line.startswith("marsnet_ltp_unfit_segments_total")) > 3
    assert relay.ltp.engine.held_bytes == 0
    assert len([1 for *_, kind, _ in world.left if kind == "cancel_by_receiver"]) >= 1
    world.run(100.0)
    world.send("rover", "ipn:2.9", b"small")
    world.run(200.0)
    assert [bundle.payload for _, bundle in world.delivered] == [b"small"]


@pytest.mark.interpreted
@pytest.mark.parametrize("length", [0.02, 0.1, 0.5])
def test_contacts_of_less_than_a_second_carry_what_fits_and_nothing_is_lost(length: float) -> None:
    contacts = [("rover relay", 50.0 * n + 0.37, 50.0 * n + 0.37 + length, 1e6) for n in range(1, 80)]
    world = Watched("rover relay", *contacts, light=3.0)
    world.attach("relay", "ipn:2.9")
    payload = bytes(range(256)) * 40
    for n in range(6):
        world.send("rover", "ipn:2.9", bytes([n]) + payload)
    world.run(5000.0)
    assert sorted(bundle.payload[0] for _, bundle in world.delivered) == list(range(6))
    assert all(bundle.payload[1:] == payload for _, bundle in world.delivered)
    for when, *_ in world.left:
        at = (when - 0.37) % 50.0
        assert at <= length + 1e-6 or at > 50.0 - 1e-6, "nothing leaves outside of a contact"
    assert not world.records(Step.DUPLICATE), "what waits for its answer is not sent again meanwhile"
    assert world.stores["rover"].usage.bundles == 0
