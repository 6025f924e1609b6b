"""Speed and precision of the delay line, beside a kernel bridge between the same veths.

    sudo python benchmarks/links_bench.py

Everything happens in network namespaces of its own. Figures go to stdout as a table, and as JSON with `--json FILE`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from marsnet.links.client import DelayLineClient
from marsnet.links.timeline import Segment

LOAD_SOURCE = Path(__file__).with_name("links_load.c")
MS, S = 10**6, 10**9


def sh(*command: str) -> str:
    """Run a program that must succeed; returns its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Bench:
    """Namespaces a, m, b with a cable a-m and one m-b, and the load program."""

    def __init__(self, directory: Path) -> None:
        self.tag = f"lb{os.getpid()}"
        self.directory = directory
        self.load = directory / "load"
        sh("gcc", "-O2", "-o", str(self.load), str(LOAD_SOURCE))
        for name in "amb":
            sh("ip", "netns", "add", self.tag + name)
        for host in "ab":
            sh("ip", "link", "add", "name", f"mid{host}", "netns", self.tag + "m", "type", "veth",
               "peer", "name", "e0", "netns", self.tag + host)  # fmt: skip
            for ns, dev in ((self.tag + "m", f"mid{host}"), (self.tag + host, "e0")):
                sh("ip", "netns", "exec", ns, "sysctl", "-qw", f"net.ipv6.conf.{dev}.disable_ipv6=1")
                sh("ip", "-n", ns, "link", "set", dev, "up", "promisc", "on")

    def close(self) -> None:
        """Remove the namespaces."""
        for name in "amb":
            sh("ip", "netns", "del", self.tag + name)

    def inside(self, name: str, *command: str) -> list[str]:
        """A command in a namespace."""
        return ["ip", "netns", "exec", self.tag + name, *command]

    @contextmanager
    def bridge(self) -> Iterator[None]:
        """A kernel bridge in the middle."""
        ns = self.tag + "m"
        sh("ip", "-n", ns, "link", "add", "br0", "type", "bridge")
        for dev in ("mida", "midb"):
            sh("ip", "-n", ns, "link", "set", dev, "master", "br0")
        sh("ip", "-n", ns, "link", "set", "br0", "up")
        yield
        sh("ip", "-n", ns, "link", "del", "br0")

    @contextmanager
    def line(self, segment: Segment, *options: str, slots: int = 16384) -> Iterator[tuple[DelayLineClient, int]]:
        """The delay line in the middle; yields its client and its process id."""
        path = self.directory / "line.sock"
        process = subprocess.Popen(
            self.inside(
                "m", sys.executable, "-m", "marsnet.links.daemon", "--socket", str(path), "--ram", "6 GiB", *options
            ),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        with DelayLineClient(path) as client:
            classes = [{"name": "all", "limit_bytes": 2**32, "limit_frames": 10**8}]
            client.add_link("x", "mida", "midb", {"ring_slots": slots, "ab": {"classes": classes}})
            client.load_timeline("x", "ab", [segment])
            yield client, int(client.ping()["pid"])
            client.shutdown()
        process.wait()

    def sink(self, seconds: float, nominal: int) -> subprocess.Popen[str]:
        """A sink that listens."""
        process = subprocess.Popen(
            self.inside("b", str(self.load), "sink", "e0", str(seconds), str(nominal)),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def flow(self, size: int, per_second: float, seconds: float, batch: int, nominal: int = 0) -> tuple[Any, Any]:
        """Send and receive; returns what the sender and the sink say."""
        sink = self.sink(seconds + nominal / S + 0.5, nominal)
        sent = sh(*self.inside("a", str(self.load), "send", "e0", str(size), str(per_second), str(seconds), str(batch)))
        return json.loads(sent), json.loads(sink.communicate()[0])

    def received(self) -> int:
        """Frames that have come to b."""
        return int(sh(*self.inside("b", "cat", "/sys/class/net/e0/statistics/rx_packets")))

    def throughput(self, size: int, seconds: float = 2.0) -> float:
        """Frames per second that come through when the sender does what it can.

        The sender, too, runs SCHED_FIFO, so that other work on the machine takes nothing from either side.
        """
        before, start = self.received(), time.monotonic()
        sh(*self.inside("a", "chrt", "-f", "1", str(self.load), "send", "e0", str(size), "0", str(seconds), "32"))
        return (self.received() - before) / (time.monotonic() - start)


def speed(bench: Bench, rounds: int) -> dict[str, Any]:
    """Frames per second, alternating between bridge and line; the best of each."""
    result = {}
    for size in (64, 1500):
        best = {"bridge": 0.0, "line": 0.0}
        for _ in range(rounds):
            with bench.bridge():
                best["bridge"] = max(best["bridge"], bench.throughput(size))
            with bench.line(Segment(0, 0, rate_bps=100e9, loss=1e-4)):
                best["line"] = max(best["line"], bench.throughput(size))
        result[f"{size} B"] = best | {"ratio": best["line"] / best["bridge"]}
    return result


def precision(bench: Bench, longest: float) -> dict[str, Any]:
    """Delay error at 100,000 frames/s."""
    result = {}
    for delay in (0.01, 1.0, 60.0):
        if delay <= longest:
            with bench.line(Segment(0, round(delay * S))) as (client, _):
                _, got = bench.flow(200, 100_000, 4, 1, round(delay * S))
                ours = client.stats()["links"]["x"]["directions"]["ab"]
            result[f"{delay:g} s"] = got | {"line_p99_ns": ours["lateness_p99_ns"], "ring_drops": ours["ring_drops"]}
    return result


def rates(bench: Bench) -> dict[str, Any]:
    """Relative error of the serializer's rate, over frames that waited until the transmitter came up."""
    result = {}
    for rate, frames in ((100e3, 80), (10e6, 4_000), (1e9, 150_000)):
        with bench.line(Segment(0, up=False)) as (client, _):
            per_second = min(frames, 50_000)
            spent = frames / per_second + 1
            start = time.monotonic_ns() + round((spent + 1) * S)
            client.load_timeline("x", "ab", [Segment(0, up=False), Segment(start, rate_bps=rate)])
            seconds = spent + 2 + frames * 8000 / rate
            sink = bench.sink(seconds, 0)
            sh(
                *bench.inside(
                    "a", str(bench.load), "send", "e0", "1000", str(per_second), str(frames / per_second), "1"
                )
            )
            got = json.loads(sink.communicate()[0])
        result[f"{rate:g} bit/s"] = {
            "frames": got["frames"], "measured": got["bit_per_second"], "error": got["bit_per_second"] / rate - 1
        }  # fmt: skip
    return result


def memory(bench: Bench) -> dict[str, Any]:
    """RAM of one frame of 1500 bytes in flight."""
    with bench.line(Segment(0, 60 * S)) as (client, pid):
        status = Path(f"/proc/{pid}/smaps_rollup")
        before = _rss(status)
        sh(*bench.inside("a", str(bench.load), "send", "e0", "1500", "100000", "3", "4"))
        flying = client.stats()["links"]["x"]["directions"]["ab"]["in_flight"]["frames"]
        after = _rss(status)
    return {"frames": flying, "bytes_per_frame": (after - before) / flying}


def _rss(path: Path) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith("Rss:"))
    return int(line.split()[1]) * 1024


def idle(bench: Bench, links: int = 200, seconds: float = 10.0) -> dict[str, Any]:
    """Share of one processor core that many idle links take."""
    ns = bench.tag + "m"
    with bench.line(Segment(0)) as (client, pid):
        for i in range(links):
            sh("ip", "-n", ns, "link", "add", f"i{i}", "type", "veth", "peer", "name", f"j{i}")
            sh("ip", "netns", "exec", ns, "sysctl", "-qw", f"net.ipv6.conf.i{i}.disable_ipv6=1")
            sh("ip", "netns", "exec", ns, "sysctl", "-qw", f"net.ipv6.conf.j{i}.disable_ipv6=1")
            for dev in (f"i{i}", f"j{i}"):
                sh("ip", "-n", ns, "link", "set", dev, "up")
            client.add_link(f"l{i}", f"i{i}", f"j{i}", {"ring_slots": 512})
        before = _cpu(pid)
        time.sleep(seconds)
        used = _cpu(pid) - before
        for i in range(links):
            client.remove_link(f"l{i}")
            sh("ip", "-n", ns, "link", "del", f"i{i}")
    return {"links": links, "core_share": used / seconds}


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["speed", "precision", "rates", "memory", "idle"])
    parser.add_argument("--rounds", type=int, default=3, help="of the speed comparison")
    parser.add_argument("--longest", type=float, default=60.0, help="longest delay of the precision test, seconds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        parts = {
            "speed": lambda: speed(bench, options.rounds),
            "precision": lambda: precision(bench, options.longest),
            "rates": lambda: rates(bench),
            "memory": lambda: memory(bench),
            "idle": lambda: idle(bench),
        }
        try:
            result = {}
            for name in options.parts:
                result[name] = parts[name]()
                print(name, json.dumps(result[name], indent=1), flush=True)
        finally:
            bench.close()
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
