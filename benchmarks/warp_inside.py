"""What `benchmarks/warp.py` has done inside a guest: one thing after the other, each told as it ends."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from marsnet.links.client import DaemonProcess
from marsnet.links.timeline import Segment
from marsnet.worlds.lab import switches
from marsnet.worlds.warp import agent
from marsnet.worlds.warp.wakers import Wakers

LIGHT_NS = 1_334_900_000_000
HOURS_10 = 36_000.0


def sh(*words: str) -> str:
    """Run a program that must succeed; returns its output."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextmanager
def delay_line() -> Iterator[str]:
    """A link of 1334.9 s and 1 Mbit/s between namespaces a and b; gives b's address."""
    for name, peer, number in (("a", "mid-a", 1), ("b", "mid-b", 2)):
        sh("ip", "netns", "add", name)
        sh("ip", "link", "add", peer, "type", "veth", "peer", "name", "e0", "netns", name)
        sh("ip", "link", "set", peer, "up", "promisc", "on")
        sh("ip", "-n", name, "addr", "add", f"10.0.0.{number}/24", "dev", "e0")
        sh("ip", "-n", name, "link", "set", "e0", "up")
    for name, other in (("a", "b"), ("b", "a")):
        lines = sh("ip", "-n", other, "-br", "link", "show", "e0").split()
        number = 2 if other == "b" else 1
        sh(
            "ip",
            "-n",
            name,
            "neigh",
            "replace",
            f"10.0.0.{number}",
            "lladdr",
            lines[2],
            "dev",
            "e0",
            "nud",
            "permanent",
        )
    with DaemonProcess("/run/delay-line.sock") as daemon:
        client = daemon.client()
        client.add_link("ab", "mid-a", "mid-b")
        for direction in ("ab", "ba"):
            client.load_timeline("ab", direction, [Segment(0, LIGHT_NS, rate_bps=1_000_000)])
        yield "10.0.0.2"


@contextmanager
def open_vswitch() -> Iterator[None]:
    """Nine bridges of an Open vSwitch as the warp world has it."""
    runtime = Path("/run/benchmark-ovs")
    runtime.mkdir()
    switches.start_daemons(runtime, quiet=True)
    switches.vsctl(runtime, *(word for n in range(9) for word in ("--", "add-br", f"br{n}")))
    yield


def main() -> None:
    """Measure everything in turn."""
    channel = agent.Channel()

    def measured(name: str, act: Callable[[], object]) -> None:
        wakers, began = Wakers(), time.monotonic()
        wakers.begin()
        channel.say(begin=name)
        told = act()
        channel.say(done=name, seconds=time.monotonic() - began, told=told, wakers=wakers.end())

    def idle(seconds: float) -> Callable[[], None]:
        return lambda: time.sleep(seconds)

    def compute() -> None:
        total = 0
        for number in range(1_000_000):
            total += number * number

    measured("compute", compute)
    measured("dockerd awake, idle", idle(300.0))
    with agent.platform_asleep():
        measured("sleep 85000", idle(85_000.0))
        with delay_line() as address:
            measured(
                "five pings at 1334.9 s one-way",
                lambda: sh("ip", "netns", "exec", "a", "ping", "-c", "5", "-W", "3000", address).splitlines()[-1],
            )
            measured("delay line, ten idle hours", idle(HOURS_10))
            with open_vswitch():
                measured("delay line and Open vSwitch, ten idle hours", idle(HOURS_10))
    channel.say(end=True)


if __name__ == "__main__":
    main()
