"""kill -9 of whole nodes at random instants: no accepted bundle is lost, none reaches an application twice."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from chain_world import NAMES, Chain, Fate, chain, wait_until

from marsnet.dtn.bpv7 import decode
from marsnet.dtn.store import BundleState, BundleStore

FRESH = 0.05
"""Share of the restarts that are programs started anew instead of forks: as a user's supervisor would."""
ROUND = 10
"""Between so many kills at least one bundle must get through, or the test would only kill nodes that do nothing."""


def kill_at_random(made: Chain, seed: int, kills: int) -> None:
    """Kill one node after another, each at any instant from its first instruction on."""
    draw = random.Random(seed)
    for name in NAMES:
        made.start(name)
    delivered = 0
    for count in range(1, kills + 1):
        time.sleep(draw.choice((0.02, 0.2, 0.6)) * draw.random())
        victim = draw.choice(NAMES)
        made.kill(victim)
        made.start(victim, fresh=draw.random() < FRESH)
        if count % ROUND == 0:
            before = delivered
            wait_until(
                lambda: len(Fate(made.records()).delivered) > before,  # noqa: B023
                30,
                lambda: f"seed {seed}: none since kill {count}: " + made.whereabouts(Fate(made.records()).missing),  # noqa: B023
            )
            delivered = len(Fate(made.records()).delivered)


def settle(made: Chain, seed: int, seconds: float) -> Fate:
    """End the traffic, let everything arrive, and stop the nodes in an orderly way."""
    made.configure(stop=made.now())
    for name in NAMES:
        made.kill(name)
        made.start(name)
    wait_until(
        lambda: not Fate(made.records()).missing,
        seconds,
        lambda: f"seed {seed} is under way still: " + made.whereabouts(Fate(made.records()).missing),
    )
    for name in NAMES:
        made.stop(name)
    return Fate(made.records())


def survive(folder: Path, seed: int, kills: int, network: int, convergence: str, **options: Any) -> None:
    with chain(folder, network, convergence, **options) as made:
        kill_at_random(made, seed, kills)
        fate = settle(made, seed, 90)
        # A node killed between its store's commit and its ledger has a bundle that it never said it accepted. It
        # arrives all the same, and nobody waited for it until here.
        if unsaid := held(folder) - fate.delivered.keys():
            for name in NAMES:
                made.start(name)
            wait_until(
                lambda: unsaid <= Fate(made.records()).delivered.keys(),
                90,
                lambda: f"seed {seed}: {made.whereabouts(unsaid)}",
            )
            for name in NAMES:
                made.stop(name)
            fate = Fate(made.records())
    fate.judge()
    print(f"seed {seed}: {kills} kills, {len(fate.accepted)} bundles accepted, {len(fate.delivered)} delivered")
    # A neighbour may have taken a bundle and the answer still be under way: it is a duplicate when it comes again.
    assert held(folder) <= fate.delivered.keys(), f"seed {seed}: held {held(folder) - fate.delivered.keys()}"


def held(folder: Path) -> set[str]:
    """Ids of all bundles in the stores of nodes that have ended."""
    found = set()
    for name in NAMES:
        store = BundleStore(folder / name / "store", verify=True)
        found |= {str(decode(store.load(record.key)).id) for record in store.iterate(*BundleState)}
        store.close()
    return found


@pytest.mark.slow
def test_kills_at_random(tmp_path: Path) -> None:
    survive(tmp_path, seed=7, kills=12, network=1, convergence="ltp")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_between_nodes_that_resume_broken_transfers(tmp_path: Path) -> None:
    options = {"fragments": {"reactive": True}, "tcpcl": {"segment_size": 4000}}
    survive(tmp_path, seed=8, kills=60, network=2, convergence="tcpcl", **options)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seed", "convergence"), [(1, "ltp"), (2, "ltp"), (3, "ltp"), (4, "tcpcl"), (5, "tcpcl")])
def test_a_thousand_kills(tmp_path: Path, seed: int, convergence: str) -> None:
    survive(tmp_path, seed, kills=200, network=10 + seed, convergence=convergence)
