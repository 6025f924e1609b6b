"""kill -9 of nodes that applications talk to by HTTP, WebSocket, AAP 2.0: nothing is lost or comes twice unmarked."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from chain_applications import (
    AAP2_PORT,
    HTTP_PORT,
    Seen,
    Sent,
    receive_by_aap2,
    receive_by_request,
    receive_by_websocket,
    send_by_aap2,
    send_by_http,
)
from chain_world import NAMES, Chain, Fate, chain

SETTLE = 90.0
"""Host seconds in which everything has to arrive once nobody is killed any more."""

ROUND = 5
"""Between so many kills something must come each way, or the test would only kill nodes that do nothing."""


def missing(ways: list[tuple[Sent, Seen]]) -> set[bytes]:
    """Accepted payloads that no receiver has noted."""
    return {p for sent, seen in ways for p in sent.accepted.difference(seen.noted.values())}


async def kill_at_random(made: Chain, draw: random.Random, kills: int, ways: list[tuple[Sent, Seen]]) -> None:
    """Kill one node after another at any instant, and see to it that bundles get through between the kills."""
    before = [0] * len(ways)
    for count in range(1, kills + 1):
        await asyncio.sleep(draw.choice((0.1, 0.4, 1.5)) * draw.random())
        victim = draw.choice(NAMES)
        await asyncio.to_thread(made.kill, victim)
        await asyncio.to_thread(made.start, victim)
        if count % ROUND == 0:
            limit = time.monotonic() + 30
            while any(len(seen.noted) <= old for (_, seen), old in zip(ways, before, strict=True)):
                assert time.monotonic() < limit, f"{before} and {[len(seen.noted) for _, seen in ways]}: kill {count}"
                await asyncio.sleep(0.05)
            before = [len(seen.noted) for _, seen in ways]


async def survive(folder: Path, seed: int, kills: int, network: int, convergence: str) -> None:
    made = chain(
        folder,
        network,
        convergence,
        traffic=False,
        metrics=lambda address: [address, HTTP_PORT],
        applications=lambda address: {"aap2": {"tcp": [address, AAP2_PORT]}},
    )
    with made as nodes:
        for name in NAMES:
            nodes.start(name)
        rover, earth = nodes.address("rover"), nodes.address("earth")
        stop = asyncio.Event()
        ways = [(Sent(label), Seen()) for label in ("http to websocket", "aap2 to aap2", "http to requests")]
        (http, stream), (aap2, adus), (posts, requests) = ways
        senders: list[Coroutine[Any, Any, None]] = [
            send_by_http(rover, "ipn:3.5", http, stop),
            send_by_aap2(earth, "ipn:3.9", "ipn:1.6", aap2, stop),
            send_by_http(earth, "ipn:1.4", posts, stop),
        ]
        receivers: list[Coroutine[Any, Any, None]] = [
            receive_by_websocket(earth, 5, stream),
            receive_by_aap2(rover, "ipn:1.6", adus),
            receive_by_request(rover, 4, requests),
        ]
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(each) for each in receivers]
            sending = [group.create_task(each) for each in senders]
            await kill_at_random(nodes, random.Random(seed), kills, ways)
            stop.set()
            await asyncio.gather(*sending)
            limit = time.monotonic() + SETTLE
            while missing(ways) and time.monotonic() < limit:
                await asyncio.sleep(0.05)
            for task in waiting:
                task.cancel()
        for name in NAMES:
            nodes.stop(name)
        twice = {bundle: count for bundle, count in Fate(nodes.records()).delivered.items() if count > 1}
        assert not missing(ways), f"seed {seed}: {[p[:40] for p in missing(ways)]} {nodes.whereabouts(set())}"
    for sent, seen in ways:
        assert not seen.wrong, f"seed {seed}: {seen.wrong}"
        assert set(seen.noted.values()) <= sent.accepted | sent.unsaid, f"seed {seed}: nobody sent that"
        print(f"seed {seed}: {len(sent.accepted)} accepted, {len(sent.unsaid)} unsaid, {len(seen.repeated)} repeated")
    assert not twice, f"seed {seed}: the ledgers say that {twice} were delivered more than once"


@pytest.mark.slow
async def test_applications_outlive_a_few_kills(tmp_path: Path) -> None:
    await survive(tmp_path, seed=3, kills=10, network=80, convergence="ltp")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seed", "convergence"), [(11, "ltp"), (12, "tcpcl")])
async def test_applications_outlive_two_hundred_kills(tmp_path: Path, seed: int, convergence: str) -> None:
    await survive(tmp_path, seed, kills=100, network=70 + seed, convergence=convergence)
