"""Two node processes on loopback: bundles per second and Mbit/s from one application to the other, and where time goes.

    python benchmarks/node.py [--seconds 5] [--size 1000 100000] [--durability power process]
        [--convergence ltp tcpcl] [--aggregate 64000] [--profile]

Each run starts two processes (`python -m marsnet.dtn.node`) with stores and ledgers of their own. A source in the first
keeps a window of bundles in its store until a number of them was made; the second delivers them to its sink. The clock
runs from the first bundle that the source's ledger has as accepted to the last one that the sink's has as delivered, so
that a figure counts what was made, stored, sent, received, stored, delivered and written down, and what was deleted
again where it came from. Every bundle must be delivered once and intact, or the run fails.

* `power`: each commit waits for the disk; `process`: a commit outlives a kill of the process, not of the machine.
* `CPU`: microseconds of user and system time of each process per bundle (what /proc says).
* `raw`: datagrams of the same size over the same loopback by `sendto` and `recvfrom` of two Python processes, in the
  same run: how much of what this machine and the interpreter can move the node reaches.
"""

from __future__ import annotations

import argparse
import json
import os
import pstats
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from multiprocessing import Process, Queue
from pathlib import Path
from typing import Any

from marsnet.plan.files import write_plan
from marsnet.plan.types import Contact, ContactPlan, Range

EPOCH = "2026-10-01T00:00:00Z"
SOURCE, SINK = "source", "sink"
ADDRESSES = {SOURCE: "127.0.5.1", SINK: "127.0.5.2"}
RATE = 2e9
"""bit/s that the plan allows: more than a node reaches, and what socket buffers still hold."""
SEGMENT = 65_000
PORTS = {"ltp": 1113, "tcpcl": 4556}
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Figures:
    """What one run gave; CPU in seconds per bundle."""

    bundles: int
    seconds: float
    source_cpu: float
    sink_cpu: float

    @property
    def rate(self) -> float:
        """Bundles per second."""
        return self.bundles / self.seconds


class Node:
    """A node process."""

    def __init__(self, folder: Path, profile: bool) -> None:
        self.folder = folder
        self.profile = folder / "profile" if profile else None
        command = [sys.executable]
        if self.profile is not None:
            command += ["-m", "cProfile", "-o", str(self.profile)]
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, "-m", "marsnet.dtn.node", "--config", str(folder / "node.json")],
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("w"),
            text=True,
        )
        assert self.process.stdout is not None
        if "ready" not in self.process.stdout.readline():
            raise SystemExit(f"the node in {folder} did not start")
        self.start_up = time.perf_counter() - began

    def cpu(self) -> float:
        """User and system seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def wakes(self) -> int:
        """How often it has waited for something and gone on."""
        told = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(told.partition("voluntary_ctxt_switches:")[2].split()[0])

    def end(self) -> None:
        """Ask it to end, and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def configure(
    folder: Path,
    name: str,
    durability: str,
    flows: list[dict[str, Any]],
    convergence: str = "ltp",
    aggregate: int = 0,
) -> None:
    """Write a node's folder."""
    peer = SINK if name == SOURCE else SOURCE
    folder.mkdir()
    plan = ContactPlan(
        EPOCH,
        0.0,
        1e6,
        {SOURCE: 1, SINK: 2},
        tuple(Contact("loop", a, b, 0.0, 1e6, RATE) for a, b in ((SOURCE, SINK), (SINK, SOURCE))),
        tuple(Range(a, b, 0.0, 1e6, 0.0) for a, b in ((SOURCE, SINK), (SINK, SOURCE))),
    )
    write_plan(plan, folder / "plan.json")
    config = {
        "name": name,
        "number": 1 if name == SOURCE else 2,
        "numbers": {SOURCE: 1, SINK: 2},
        "clock": {"epoch": EPOCH, "rate": 1.0, "origin": time.monotonic()},
        "plan": "plan.json",
        "neighbours": {
            peer: {
                "address": ADDRESSES[peer],
                "convergence": convergence,
                **({"mtu": SEGMENT} if convergence == "ltp" else {}),
            }
        },
        "ltp": {"aggregate_size": aggregate},
        "state": str(folder),
        "listen": {convergence: [ADDRESSES[name], PORTS[convergence]]},
        "durability": durability,
        "flows": flows,
    }
    (folder / "node.json").write_text(json.dumps(config), encoding="utf-8")


def flow(size: int, count: int) -> dict[str, Any]:
    """A source that keeps some megabytes in the store until `count` bundles were made."""
    return {
        "name": "load",
        "destination": SINK,
        "service_class": "normal",
        "size": size,
        "arrivals": "backlog",
        "count": count,
        "last": size,
        "window": max(64, min(1000, 8_000_000 // size)),
        "lifetime": 3600.0,
        "start": 1.0,
        "stop": 1e6,
    }


def times(ledger: Path, step: str) -> list[float]:
    """Mission times at which a step was taken."""
    if not ledger.exists():
        return []
    found = []
    with ledger.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n") and f'"step":"{step}"' in line:
                record = json.loads(line)
                if not record.get("intact", True):
                    raise SystemExit(f"a bundle was damaged: {line}")
                found.append(record["t"])
    return found


def run(
    size: int, count: int, durability: str, convergence: str, aggregate: int, where: Path | None, profile: bool
) -> Figures:
    """Send `count` bundles from node to node."""
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        configure(folder / SINK, SINK, durability, [], convergence, aggregate)
        configure(folder / SOURCE, SOURCE, durability, [flow(size, count)], convergence, aggregate)
        nodes = [Node(folder / SINK, profile), Node(folder / SOURCE, profile)]
        before = [node.cpu() for node in nodes]
        ledger = folder / SINK / "ledger.jsonl"
        deadline = time.monotonic() + 120
        while True:
            os.sched_yield()
            time.sleep(0.25)
            grown = ledger.stat().st_size if ledger.exists() else 0
            # Reading the ledger takes time from the nodes: it is read when it has the length of all deliveries.
            if grown > 60 * count and len(times(ledger, "delivered")) >= count:
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(times(ledger, 'delivered'))} of {count} bundles of {size} B came in 120 s")
        after = [node.cpu() for node in nodes]
        for node in nodes:
            node.end()
        delivered = times(ledger, "delivered")
        if len(delivered) != count:
            raise SystemExit(f"{len(delivered)} deliveries of {count} bundles")
        seconds = max(delivered) - min(times(folder / SOURCE / "ledger.jsonl", "accepted"))
        if profile:
            for title, node in zip((SINK, SOURCE), nodes, strict=True):
                print(f"--- {title}, {size} B, {durability}")
                pstats.Stats(str(node.profile)).sort_stats("tottime").print_stats(25)
        sink, source = ((b - a) / count for a, b in zip(before, after, strict=True))
        return Figures(count, seconds, source, sink)


def _pour(size: int, address: tuple[str, int], seconds: float) -> None:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    data, end = bytes(size), time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(64):
            sender.sendto(data, address)
    for _ in range(20):
        sender.sendto(b"", address)
        time.sleep(0.01)


def _catch(queue: Queue[Any]) -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((ADDRESSES[SINK], 0))
    queue.put(receiver.getsockname())
    count, began = 0, 0.0
    while receiver.recvfrom(65535)[0]:
        if not count:
            began = time.perf_counter()
        count += 1
    queue.put(count / (time.perf_counter() - began))


def raw(size: int, seconds: float) -> float:
    """Datagrams per second over loopback, from process to process."""
    queue: Queue[Any] = Queue()
    catcher = Process(target=_catch, args=(queue,))
    catcher.start()
    pourer = Process(target=_pour, args=(size, queue.get(), seconds))
    pourer.start()
    figure: float = queue.get(timeout=60)
    pourer.join()
    catcher.join()
    return figure


@dataclass
class Rest:
    """What a node with a neighbour, HTTP and AAP 2.0 takes to start and to do nothing.

    Attributes:
        start_up: seconds until it is ready, the best of five.
        start_cpu: of them on a core.
        share: of a core while idle.
        wakes: times it was woken meanwhile.
    """

    start_up: float
    start_cpu: float
    share: float
    wakes: int


def idle(where: Path | None, seconds: float) -> Rest:
    """Start five nodes, and leave the last one alone."""
    starts: list[tuple[float, float]] = []
    for _ in range(5):
        with tempfile.TemporaryDirectory(dir=where) as name:
            folder = Path(name) / SINK
            configure(folder, SINK, "power", [])
            file = folder / "node.json"
            config = json.loads(file.read_text(encoding="utf-8"))
            config |= {"metrics": [ADDRESSES[SINK], 8090], "applications": {"aap2": {"socket": "aap2.sock"}}}
            file.write_text(json.dumps(config), encoding="utf-8")
            node = Node(folder, False)
            starts.append((node.start_up, node.cpu()))
            if len(starts) == 5:
                cpu, wakes = node.cpu(), node.wakes()
                time.sleep(seconds)
                cpu, wakes = node.cpu() - cpu, node.wakes() - wakes
            node.end()
    return Rest(min(t for t, _ in starts), min(c for _, c in starts), cpu / seconds, wakes)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[1000, 100_000], help="payload bytes")
    parser.add_argument("--durability", nargs="+", default=["power", "process"])
    parser.add_argument("--convergence", nargs="+", default=["ltp"], choices=sorted(PORTS))
    parser.add_argument("--aggregate", type=int, default=0, help="octets that bundles share an LTP block up to")
    parser.add_argument("--bundles", type=int, default=0, help="in a run; default: 10,000 of 1 kB, 1,000 of 100 kB")
    parser.add_argument("--runs", type=int, default=2, help="of which the best counts")
    parser.add_argument("--folder", type=Path, default=None, help="where the stores lie; default: the system's /tmp")
    parser.add_argument("--profile", action="store_true", help="run the nodes under cProfile (slower) and print it")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    rest = idle(options.folder, 5.0)
    print(
        f"start-up {rest.start_up:.2f} s ({rest.start_cpu:.2f} s of a core), idle {100 * rest.share:.2f} % of a core, "
        f"{rest.wakes} wake-ups in 5 s"
    )
    print(
        f"{'size':>7} {'layer':6} {'store':8} {'bundles/s':>10} {'Mbit/s':>8} {'CPU source':>11} {'CPU sink':>9}"
        f" {'raw/s':>9} {'share':>6}"
    )
    for size in options.size:
        bare = raw(min(size + 100, SEGMENT), 1.0) * min(1.0, SEGMENT / (size + 100))
        for convergence, durability in product(options.convergence, options.durability):
            count = options.bundles or (10_000 if size <= 10_000 else 1_000)
            done = [
                run(size, count, durability, convergence, options.aggregate, options.folder, options.profile)
                for _ in range(options.runs)
            ]
            best = max(done, key=lambda figures: figures.rate)
            print(
                f"{size:7} {convergence:6} {durability:8} {best.rate:10.0f} {best.rate * size * 8e-6:8.0f} "
                f"{best.source_cpu * 1e6:9.0f} us {best.sink_cpu * 1e6:6.0f} us {bare:9.0f} {best.rate / bare:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
