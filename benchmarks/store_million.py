"""A million stored bundles: how long a node takes to open its store, to start, to take them up and to expire them.

`python benchmarks/store_million.py [COUNT] [FOLDER]`; the figures are seconds, microseconds a bundle, and MB of memory.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from marsnet.dtn.bpv7 import Bundle, CreationTimestamp, Eid, encode
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.config import ClockConfig, NeighbourConfig, NodeConfig
from marsnet.dtn.node.ledger import FileLedger
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.store import BundleStore
from marsnet.plan.types import Contact, ContactPlan, Range

NUMBERS = {"relay": 1, "earth": 2}
EPOCH = "2026-10-01T00:00:00.000Z"
BATCH = 10_000
LIFETIME = 1000.0


def memory() -> float:
    """MB that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fill(folder: Path, count: int) -> None:
    """Store so many bundles of 300 octets, due within the first second after `LIFETIME`."""
    store = BundleStore(folder / "store", sync=False)
    stamp = 844_128_000_000
    for number in range(count):
        bundle = Bundle.create(
            Eid.ipn(9, 1), Eid.ipn(2, 1), bytes(200), CreationTimestamp(stamp, number), round(LIFETIME * 1000)
        )
        store.add(
            encode(bundle),
            bundle_id=bundle.id.key,
            source=str(bundle.source),
            destination=str(bundle.destination),
            service_class=2,
            expiry=LIFETIME,
            now=0.0,
        )
        if number % BATCH == BATCH - 1:
            store.commit()
    store.close()


def plan() -> ContactPlan:
    """A contact to come, so that every bundle is routed and waits."""
    contacts = tuple(Contact("a", x, y, 500.0, 1e6, 1e7) for x, y in (("relay", "earth"), ("earth", "relay")))
    ranges = tuple(Range(x, y, 0.0, 1e6, 1.0) for x, y in (("relay", "earth"), ("earth", "relay")))
    return ContactPlan(EPOCH, 0.0, 1e6, NUMBERS, contacts, ranges)


def measure(folder: Path, count: int) -> dict[str, float]:
    """Take the bundles up, expire them, and return the figures."""
    begin = time.perf_counter()
    store = BundleStore(folder / "store", sync=False)
    opened = time.perf_counter()
    config = NodeConfig(
        name="relay",
        number=1,
        numbers=NUMBERS,
        clock=ClockConfig(epoch=EPOCH, rate=1.0, origin=0.0),
        plan=Path("plan.json"),
        neighbours={"earth": NeighbourConfig(address="127.0.0.1")},
    )
    agent = BundleAgent(config, plan(), store, FileLedger(folder / "ledger.jsonl"), NodeMetrics("relay"), 1.0)
    started = time.perf_counter()
    now, longest, steps = 2.0, 0.0, 0

    def advance() -> None:
        nonlocal longest, steps
        step = time.perf_counter()
        agent.advance(now)
        longest, steps = max(longest, time.perf_counter() - step), steps + 1

    while (due := agent.next_deadline(now)) is not None and due <= now:
        advance()
    taken = time.perf_counter()
    held = memory()
    assert store.usage.bundles == len(agent.forwarder.held) == count
    now = LIFETIME + 1
    while store.usage.bundles:
        advance()
    expired = time.perf_counter()
    assert agent.next_deadline(now) is None or agent.next_deadline(now) > now
    store.close()
    return {
        "open": opened - begin,
        "start": started - begin,
        "take up": taken - opened,
        "take up, us a bundle": (taken - opened) / count * 1e6,
        "expire": expired - taken,
        "expire, us a bundle": (expired - taken) / count * 1e6,
        "longest advance": longest,
        "advances": steps,
        "memory": held,
        "memory, bytes a bundle": held * 1024**2 / count,
    }


def main() -> None:
    """Fill a folder and print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp(prefix="marsnet-million-"))
    begin = time.perf_counter()
    if not (folder / "store").exists():
        fill(folder, count)
    print(f"{count} bundles, filled in {time.perf_counter() - begin:.1f} s")
    for name, value in measure(folder, count).items():
        print(f"{name:26}{value:12.3f}")
    if len(sys.argv) <= 2:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
