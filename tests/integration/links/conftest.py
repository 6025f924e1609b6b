"""Two hosts in network namespaces of their own, joined by veths that meet at a daemon in a third one."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from marsnet.links.client import DelayLineClient

_COUNT = itertools.count()
SEND = """
import contextlib, socket, struct, sys, time
links, count, per_second = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
sockets = []
for i in range(links):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((f"e{i}", 0))
    s.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS: no waiting for the carrier to be noticed
    sockets.append(s)
start = time.monotonic()
for k in range(count):
    for i, s in enumerate(sockets):
        wait = start + (k * links + i) / per_second - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        data = struct.pack("<IIq", i, k, time.time_ns()) + bytes(500)
        with contextlib.suppress(OSError):  # ENOBUFS: the peer is down
            s.send(bytes([255] * 6 + [2, 0, 0, 0, 0, 1]) + b"\\x88\\xb5" + data)
"""
SINK = """
import json, select, socket, struct, sys, time
count, seconds = int(sys.argv[1]), float(sys.argv[2])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 27)  # SO_RCVBUFFORCE
s.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
print("ready", flush=True)
got, disorder, delays, last = 0, 0, [], {}
end = time.monotonic() + seconds
while got < count and select.select([s], [], [], max(end - time.monotonic(), 0))[0]:
    data, control, _, source = s.recvmsg(2000, 100)
    if source[2] == socket.PACKET_OUTGOING:
        continue
    link, number, sent = struct.unpack_from("<IIq", data, 14)
    disorder += source[0] != f"e{link}" or number <= last.get(link, -1)
    last[link], got = number, got + 1
    delays.append(sum(f * x for f, x in zip((10**9, 1), struct.unpack("qq", control[0][2]))) - sent)
print(json.dumps({"got": got, "disorder": disorder, "links": len(last), "least": min(delays, default=None)}))
"""


def sh(*command: str, timeout: float = 60, check: bool = True) -> str:
    """Run a program; returns its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


@dataclass
class Lab:
    """Hosts `a` and `b`, and the daemon between them."""

    tag: str
    tmp: Path
    namespaces: list[str] = field(default_factory=list)
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def namespace(self, name: str) -> str:
        full = f"{self.tag}{name}"
        sh("ip", "netns", "add", full)
        self.namespaces.append(full)
        sh("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def inside(self, name: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.tag}{name}", *command]

    def run(self, name: str, *command: str, timeout: float = 60, check: bool = True) -> str:
        return sh(*self.inside(name, *command), timeout=timeout, check=check)

    def cable(self, index: int = 0, mtu: int = 1500) -> tuple[str, str]:
        """Host interfaces e<index> with addresses 10.9.<index>.1 and .2, middle ends ma<index> and mb<index>."""
        macs = {}
        for host, last in (("a", 1), ("b", 2)):
            middle, end = f"m{host}{index}", f"e{index}"
            ns, mid = f"{self.tag}{host}", f"{self.tag}m"
            sh("ip", "link", "add", middle, "mtu", str(mtu), "netns", mid, "type", "veth",
               "peer", "name", end, "mtu", str(mtu), "netns", ns)  # fmt: skip
            for where, dev in ((mid, middle), (ns, end)):
                sh("ip", "netns", "exec", where, "sysctl", "-qw", f"net.ipv6.conf.{dev}.disable_ipv6=1")
                sh("ip", "-n", where, "link", "set", dev, "up")
            sh("ip", "netns", "exec", ns, "ethtool", "-K", end, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
            sh("ip", "-n", ns, "address", "add", f"10.9.{index}.{last}/24", "dev", end)
            macs[host] = sh("ip", "netns", "exec", ns, "cat", f"/sys/class/net/{end}/address").strip()
        for host, peer, last in (("a", "b", 2), ("b", "a", 1)):
            sh("ip", "-n", f"{self.tag}{host}", "neigh", "add", f"10.9.{index}.{last}",
               "lladdr", macs[peer], "dev", f"e{index}")  # fmt: skip
        return f"ma{index}", f"mb{index}"

    def daemon(self, *options: str) -> DelayLineClient:
        """A daemon in the middle namespace, ready to serve."""
        path = self.tmp / f"line{len(self.daemons)}.sock"
        process = subprocess.Popen(
            self.inside("m", sys.executable, "-m", "marsnet.links.daemon", "--socket", str(path), *options),
            stdout=subprocess.PIPE,
            stderr=(self.tmp / f"line{len(self.daemons)}.log").open("wb"),
        )
        self.daemons.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == f"ready {path}\n".encode(), (line, self.log())
        return DelayLineClient(path)

    def listen(self, count: int, seconds: float) -> subprocess.Popen[str]:
        """A sink in `b` for the frames of `send`, until `count` have come or some seconds have passed."""
        sink = subprocess.Popen(
            self.inside("b", sys.executable, "-c", SINK, str(count), str(seconds)), stdout=subprocess.PIPE, text=True
        )
        assert sink.stdout is not None
        assert sink.stdout.readline() == "ready\n"
        return sink

    @staticmethod
    def told(sink: subprocess.Popen[str]) -> dict[str, Any]:
        """What a sink got: `got`, `disorder`, `links`, `least` (the shortest delay in ns)."""
        return dict(json.loads(sink.communicate(timeout=60)[0]))

    def sender(self, count: int, per_second: float, links: int = 1) -> list[str]:
        """The command that sends numbered frames from `a`, over one link after the other."""
        return self.inside("a", sys.executable, "-c", SEND, str(links), str(count), str(per_second))

    def send(self, count: int, per_second: float, links: int = 1) -> None:
        """Send numbered frames from `a`, over one link after the other."""
        sh(*self.sender(count, per_second, links))

    def log(self, index: int = 0) -> str:
        return (self.tmp / f"line{index}.log").read_text()

    def close(self) -> None:
        for process in self.daemons:
            process.terminate()
        for process in self.daemons:
            process.wait(10)
        for name in self.namespaces:
            sh("ip", "netns", "del", name)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if os.geteuid():
        pytest.skip("needs root to build network namespaces")
    made = Lab(f"ml{os.getpid()}x{next(_COUNT)}", tmp_path)
    try:
        for name in "amb":
            made.namespace(name)
        yield made
    finally:
        made.close()
