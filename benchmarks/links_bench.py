"""Speed and precision of the delay line, beside a kernel bridge between the same veths.

    sudo python benchmarks/links_bench.py

Everything happens in network namespaces of its own. Figures go to stdout as JSON, and into a file with `--json FILE`.
`sudo python benchmarks/links_bench.py endurance` sends 100 Mbit/s over twenty minutes of light time, in 43 minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from marsnet.links.client import DelayLineClient
from marsnet.links.fidelity import percentile
from marsnet.links.timeline import Segment

_COUNT = itertools.count()
LOAD_SOURCE = Path(__file__).with_name("links_load.c")
MS, S = 10**6, 10**9


def sh(*command: str) -> str:
    """Run a program that must succeed; returns its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Bench:
    """Namespaces a, m, b with a cable a-m and one m-b, and the load program."""

    def __init__(self, directory: Path) -> None:
        self.tag = f"lb{os.getpid()}x{next(_COUNT)}"
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
    def line(
        self, segment: Segment, *options: str, slots: int = 16384, before: tuple[str, ...] = ()
    ) -> Iterator[tuple[DelayLineClient, int]]:
        """The delay line in the middle, started by the command `before`; yields its client and its process id."""
        path = self.directory / "line.sock"
        daemon = (sys.executable, "-m", "marsnet.links.daemon", "--socket", str(path), "--ram", "6 GiB", *options)
        process = subprocess.Popen([*before, *self.inside("m", *daemon)], stdout=subprocess.PIPE)
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

    def flow(
        self,
        size: int,
        per_second: float,
        seconds: float,
        batch: int,
        nominal: int = 0,
        *,
        before: tuple[str, ...] = (),
    ) -> tuple[Any, Any]:
        """Send, by the command `before`, and receive; returns what the sender and the sink say."""
        sink = self.sink(seconds + nominal / S + 2, nominal)
        load = (*before, str(self.load), "send", "e0", str(size), str(per_second), str(seconds), str(batch))
        sent = sh(*self.inside("a", *load))
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


def cost(bench: Bench) -> dict[str, Any]:
    """Processor time of a frame, in microseconds: what the sender spends, and what the line does."""
    result = {}
    for size in (64, 1500):
        with bench.bridge():
            result[f"{size} B, bridge"] = _costs(bench, size, None)
        with bench.line(Segment(0, 0, rate_bps=100e9, loss=1e-4)) as (_, pid):
            result[f"{size} B, line"] = _costs(bench, size, pid)
    return result


def _costs(bench: Bench, size: int, pid: int | None) -> dict[str, float]:
    frames, line, before = bench.received(), 0.0 if pid is None else _cpu(pid), os.times()
    bench.throughput(size)
    frames, after = bench.received() - frames, os.times()
    sender = after.children_user + after.children_system - before.children_user - before.children_system
    return {"sender": sender / frames * 1e6, "line": 0.0 if pid is None else (_cpu(pid) - line) / frames * 1e6}


def precision(bench: Bench, longest: float) -> dict[str, Any]:
    """Delay error at 100,000 frames/s."""
    result = {}
    for delay in (0.01, 1.0, 60.0):
        if delay <= longest:
            with bench.line(Segment(0, round(delay * S))) as (client, _):
                sent, got = bench.flow(200, 100_000, 4, 1, round(delay * S), before=("chrt", "-f", "1"))
                ours = client.stats()["links"]["x"]["directions"]["ab"]
            result[f"{delay:g} s"] = (
                sent | got | {"line_p99_ns": ours["lateness_p99_ns"], "ring_drops": ours["ring_drops"]}
            )
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


def endurance(bench: Bench, light_minutes: float, spill_dir: Path) -> dict[str, Any]:
    """100 Mbit/s over a light time of minutes, sent until three minutes after the first frame came out.

    The process gets 512 MB from the kernel (memory cgroup) and not a byte more: past that it would be killed.
    """
    delay, per_second, size = light_minutes * 60.0, 8333, 1500
    seconds = delay + min(180.0, delay)
    with _memory_limit(512 * 10**6, f"{bench.tag}mem") as (before, peak), bench.line(
        Segment(0, round(delay * S)), "--ram", "384 MiB", "--spill-dir", str(spill_dir),
        slots=2048, before=before,
    ) as (client, pid):  # fmt: skip
        sink = bench.sink(seconds + delay + 2, round(delay * S))
        sender = subprocess.Popen(
            bench.inside("a", str(bench.load), "send", "e0", str(size), str(per_second), str(seconds), "1"),
            stdout=subprocess.PIPE,
        )
        most: dict[str, float] = {"frames": 0, "bytes": 0, "rss": 0, "ram": 0, "disk": 0, "cgroup": 0}
        balanced, used, before_ns = True, _cpu(pid), [0]
        while sink.poll() is None:
            now = client.stats()
            ours = now["links"]["x"]["directions"]["ab"]
            balanced &= ours["balanced"] and ours["broken"] == 0
            for name, value in (
                ("frames", ours["in_flight"]["frames"]), ("bytes", ours["in_flight"]["bytes"]),
                ("rss", _rss(Path(f"/proc/{pid}/smaps_rollup"))), ("ram", now["store"]["ram_peak_bytes"]),
                ("disk", now["store"]["disk_bytes"]), ("cgroup", peak()),
            ):  # fmt: skip
                most[name] = max(most[name], value)
            recent = [n - m for n, m in itertools.zip_longest(ours["lateness_histogram"], before_ns, fillvalue=0)]
            before_ns = ours["lateness_histogram"]
            print(
                f"{ours['delivered']['frames']} delivered, p99 {percentile(recent, 0.99)} ns, "
                f"latest {percentile(recent, 1.0)} ns, load {os.getloadavg()[0]}, {now['store']}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            with suppress(subprocess.TimeoutExpired):
                sink.wait(10)
        spent = _cpu(pid) - used
        sent, got = json.loads(sender.communicate()[0]), json.loads(sink.communicate()[0])
        keys = ("in", "delivered", "dropped", "lateness_p50_ns", "lateness_p99_ns", "lateness_max_ns", "early",
                "stalls", "ring_drops", "valid", "invalid_because")  # fmt: skip
        ours = client.stats()["links"]["x"]["directions"]["ab"]
        store = client.stats()["store"]
    return {
        "sent": sent, "sink": got, "most": most, "balanced": balanced, "core_share": spent / (seconds + delay),
        "line": {key: ours[key] for key in keys}, "store": store,
    }  # fmt: skip


@contextmanager
def _memory_limit(limit: int, name: str) -> Iterator[tuple[tuple[str, ...], Callable[[], int]]]:
    """A memory cgroup: a command prefix that enters it, and its highest charge so far in bytes."""
    old = Path("/sys/fs/cgroup/memory")
    folder = (old if old.is_dir() else Path("/sys/fs/cgroup")) / name
    folder.mkdir()
    highest = folder / ("memory.max_usage_in_bytes" if old.is_dir() else "memory.peak")
    (folder / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(limit))
    try:
        yield ("sh", "-c", f'echo $$ > {folder}/cgroup.procs; exec "$@"', "-"), lambda: int(highest.read_text())
    finally:
        folder.rmdir()


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
    parser.add_argument("parts", nargs="*", default=["speed", "cost", "precision", "rates", "memory", "idle"])
    parser.add_argument("--rounds", type=int, default=3, help="of the speed comparison")
    parser.add_argument("--longest", type=float, default=60.0, help="longest delay of the precision test, seconds")
    parser.add_argument(
        "--light-minutes", type=float, default=20.0, help="of the part `endurance`, which takes twice as long"
    )
    parser.add_argument("--spill-dir", type=Path, default=Path("/var/tmp"), help="of the part `endurance`")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        parts = {
            "speed": lambda: speed(bench, options.rounds),
            "cost": lambda: cost(bench),
            "precision": lambda: precision(bench, options.longest),
            "rates": lambda: rates(bench),
            "memory": lambda: memory(bench),
            "idle": lambda: idle(bench),
            "endurance": lambda: endurance(bench, options.light_minutes, options.spill_dir),
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
