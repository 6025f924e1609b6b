"""Whole transfers on a virtual clock, over links that lose, delay, repeat and reorder, with contacts that close."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from ltp_world import Channel, World

from marsnet.dtn.ltp import (
    BlockSent,
    ConstantPeer,
    ExportCancelled,
    ExportCompleted,
    GreenSegmentReceived,
    LtpConfig,
    LtpEngine,
    PeerModel,
    RedPartReceived,
    WindowedPeer,
)
from marsnet.dtn.ltp.ranges import RangeSet
from marsnet.dtn.ltp.segments import DataSegment, decode_segment

PATIENT = LtpConfig(checkpoint_limit=200, report_limit=200, round_limit=200)


def lossy_world(seed: int, models: dict[int, PeerModel], config: LtpConfig, delay: float) -> World:
    rng = random.Random(seed)
    engines = {n: LtpEngine(n, config, random.Random(seed * 10 + n)) for n in (1, 2)}
    engines[1].add_peer(2, models[1])
    engines[2].add_peer(1, models[2])
    loss = rng.choice([0.0, 0.05, 0.3])
    repeat = rng.choice([0.0, 0.3])
    jitter = rng.choice([0.0, 0.5 * PATIENT.timer_margin])

    def lose(octets: bytes, when: float) -> bool:
        return rng.random() < loss

    return World(
        engines,
        {way: Channel(delay, jitter, repeat, lose) for way in ((1, 2), (2, 1))},
        seed,
        confirm_after=rng.choice([0.0, 0.3]),
    )


@pytest.mark.parametrize("seed", range(25))
def test_every_block_arrives_exactly_once(seed: int) -> None:
    rng = random.Random(seed)
    delay = rng.choice([0.01, 10.0, 1200.0])
    rate = rng.choice([1e5, 1e7])
    mtu = rng.choice([200, 1400, 65000])
    models: dict[int, PeerModel] = {}
    windows: dict[int, list[tuple[float, float, float]]] = {}
    for node in (1, 2):
        start, windows[node] = rng.uniform(0, 50), []
        for _ in range(400):
            end = start + rng.choice([0.2, 30.0, 500.0])
            windows[node].append((start, end, rate))
            start = end + rng.choice([0.5, 100.0, 3000.0])
        windows[node].append((start, start + 1e9, rate))
    for node, other in ((1, 2), (2, 1)):
        inbound = [(s, e) for s, e, _ in windows[other]]
        models[node] = WindowedPeer(windows[node], inbound, owlt=delay, mtu=mtu)
    world = lossy_world(seed, models, PATIENT, delay)
    sent: dict[int, dict[int, tuple[bytes, int]]] = {1: {}, 2: {}}
    for node, other in ((1, 2), (2, 1)):
        for tag in range(8):
            data = rng.randbytes(rng.choice([1, 100, 5000, 70_000]))
            red = rng.choice([len(data), len(data), len(data) // 2, 0])

            def submit(
                node: int = node, other: int = other, tag: int = tag, data: bytes = data, red: int = red
            ) -> None:
                number = world.engines[node].send(other, data, world.now, red_length=red, tag=tag, priority=tag % 3)
                sent[node][number] = (data, red)

            world.at(rng.uniform(0, 3000), submit)
    world.run()
    for node, other in ((1, 2), (2, 1)):
        completed = {e.number: e for e in world.of(node, ExportCompleted) if isinstance(e, ExportCompleted)}
        assert completed.keys() == sent[node].keys()
        assert {e.number for e in world.of(node, BlockSent) if isinstance(e, BlockSent)} == sent[node].keys()
        red_parts = [e for e in world.of(other, RedPartReceived) if isinstance(e, RedPartReceived)]
        assert len(red_parts) == len({e.session for e in red_parts})
        assert {e.session.number: e.data for e in red_parts} == {n: d[:r] for n, (d, r) in sent[node].items() if r}
        for event in world.of(other, GreenSegmentReceived):
            assert isinstance(event, GreenSegmentReceived)
            data, red = sent[node][event.session.number]
            assert event.offset >= red
            assert data[event.offset : event.offset + len(event.data)] == event.data
        assert world.engines[node].open_sessions() == (0, 0)
        assert world.engines[node].held_bytes == 0
        assert world.engines[node].cancelling == 0
        assert world.engines[node].malformed == 0
    for when, source, _, octets in world.log:
        assert len(octets) <= mtu
        assert any(start <= when < end for start, end, _ in windows[source])


def pace_of(log: list[tuple[float, int, int, bytes]], node: int, overhead: int) -> list[tuple[float, int]]:
    return [(when, 8 * (len(octets) + overhead)) for when, source, _, octets in log if source == node]


def test_segments_leave_at_the_rate_of_the_contact() -> None:
    rate, burst = 1e5, 0.05
    models: dict[int, PeerModel] = {n: WindowedPeer([(10.0, 1e6, rate)], None, owlt=1.0) for n in (1, 2)}
    config = LtpConfig(pacing_burst=burst, datagram_overhead=28)
    engines = {n: LtpEngine(n, config) for n in (1, 2)}
    engines[1].add_peer(2, models[1])
    engines[2].add_peer(1, models[2])
    world = World(engines, {(1, 2): Channel(1.0), (2, 1): Channel(1.0)})
    engines[1].send(2, bytes(200_000), 0.0)
    world.run()
    departures = pace_of(world.log, 1, 28)
    assert departures[0][0] == 10.0
    total = 0
    for when, bits in departures:
        total += bits
        assert total - bits <= (when - 10.0 + burst) * rate + 1e-6
    busy = departures[-2][0] - 10.0
    assert total / rate == pytest.approx(busy, rel=0.02)


def ten_megabytes(seed: int, copies: int, lossy_control: bool) -> tuple[World, list[tuple[float, int, int, bool]]]:
    rng = random.Random(seed)
    config = LtpConfig(control_copies=copies)
    engines = {n: LtpEngine(n, config, random.Random(seed + n)) for n in (1, 2)}
    for node, other in ((1, 2), (2, 1)):
        engines[node].add_peer(other, ConstantPeer(mtu=1400, owlt=1200.0, rate=1e6))
    sent: list[tuple[float, int, int, bool]] = []

    def lose(octets: bytes, when: float) -> bool:
        segment, _ = decode_segment(octets)
        lost = rng.random() < 0.05 and (lossy_control or segment.kind == 0)
        if isinstance(segment, DataSegment):
            sent.append((when, segment.offset, segment.offset + len(segment.data), lost))
        return lost

    world = World(engines, {(1, 2): Channel(1200.0, lose=lose), (2, 1): Channel(1200.0, lose=lose)})
    engines[1].send(2, rng.randbytes(10_000_000), 0.0, tag="image")
    world.run()
    return world, sent


@pytest.mark.parametrize(
    ("seed", "copies", "lossy_control"), [(1, 1, False), (2, 1, False), (3, 3, True), (4, 3, True)]
)
def test_ten_megabytes_over_five_percent_loss_take_the_fewest_round_trips(
    seed: int, copies: int, lossy_control: bool
) -> None:
    world, sent = ten_megabytes(seed, copies, lossy_control)
    rounds: list[list[tuple[float, int, int, bool]]] = [[]]
    for entry in sent:
        if rounds[-1] and entry[0] - rounds[-1][-1][0] > 1200.0:
            rounds.append([])
        rounds[-1].append(entry)
    # What a round sends is just what was lost in the one before, so no octet waits for a round that it does not need.
    lost = [(0, 10_000_000)]
    for burst in rounds:
        carried, delivered = RangeSet(), RangeSet()
        for _, start, end, gone in burst:
            carried.add(start, end)
            if not gone:
                delivered.add(start, end)
        assert sorted(carried) == lost
        lost = [gap for start, end in lost for gap in delivered.gaps(start, end)]
    assert lost == []
    (received,) = [when for when, event in world.events[2] if isinstance(event, RedPartReceived)]
    transmission = sum(8 * (end - start + 48) for _, start, end, _ in sent) / 1e6
    assert received <= 1200.0 + 2400.0 * (len(rounds) - 1) + transmission
    (completed,) = [event for _, event in world.events[1] if isinstance(event, ExportCompleted)]
    assert completed.rounds == len(rounds) - 1
    assert completed.tags == ("image",)
    assert all(when <= later for (when, *_), (later, *_) in pairwise(sent))


def test_discretionary_checkpoints_recover_before_the_block_ends() -> None:
    rng = random.Random(5)
    config = LtpConfig(checkpoint_every=100_000)
    engines = {n: LtpEngine(n, config, random.Random(n)) for n in (1, 2)}
    for node, other in ((1, 2), (2, 1)):
        engines[node].add_peer(other, ConstantPeer(mtu=1400, owlt=5.0, rate=1e5))
    world = World(
        engines,
        {(1, 2): Channel(5.0, lose=lambda octets, when: rng.random() < 0.1), (2, 1): Channel(5.0)},
    )
    data = rng.randbytes(1_000_000)
    engines[1].send(2, data, 0.0)
    world.run()
    (event,) = world.of(2, RedPartReceived)
    assert isinstance(event, RedPartReceived)
    assert event.data == data
    again = [when for when, source, _, octets in world.log if source == 1 and octets[0] in (1, 3)]
    first_end = next(when for when, source, _, octets in world.log if octets[0] == 3)
    assert sum(when < first_end for when in again) > 10


@pytest.mark.parametrize("seed", range(10))
def test_corrupted_segments_end_in_delivery_or_in_cancellation(seed: int) -> None:
    """LTP has no checksum of its own: whatever a corrupted segment says, no session may stay open for ever."""
    rng = random.Random(seed)
    config = LtpConfig(checkpoint_limit=5, report_limit=5, cancel_limit=3, round_limit=10, import_idle_limit=5000.0)
    engines = {n: LtpEngine(n, config, random.Random(seed * 3 + n)) for n in (1, 2)}
    world = World(engines, {(1, 2): Channel(5.0, 3.0), (2, 1): Channel(5.0, 3.0)}, seed)

    def damage(octets: bytes) -> bytes:
        damaged = bytearray(octets)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(min(len(damaged), 25))] = rng.randrange(256)
        return bytes(damaged[: rng.randrange(len(damaged) + 1)] if rng.random() < 0.2 else damaged)

    world.damage = lambda octets: damage(octets) if rng.random() < 0.2 else octets
    for node, other in ((1, 2), (2, 1)):
        engines[node].add_peer(other, ConstantPeer(mtu=200, owlt=5.0, rate=1e6))
        for size in (1, 3000, 20_000):
            engines[node].send(other, rng.randbytes(size), 0.0, tag=size)
    world.run()
    for node, engine in engines.items():
        ended = [*world.of(node, ExportCompleted), *world.of(node, ExportCancelled)]
        assert len(ended) == 3
        assert engine.open_sessions() == (0, 0)
        assert engine.held_bytes == engine.cancelling == 0
