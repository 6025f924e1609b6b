"""Frames in flight beyond the RAM budget go to disk and come back; a disk that is full is an error state, not a gap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marsnet.links.client import DelayLineClient
from marsnet.links.timeline import Segment

pytestmark = pytest.mark.root
S = 10**9

FLOOD = """
import socket, struct, sys, time
count, per_second = int(sys.argv[1]), float(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.9.0.2", 5000))
start = time.monotonic()
for i in range(count):
    wait = start + i / per_second - time.monotonic()
    if wait > 0:
        time.sleep(wait)
    s.send(struct.pack("<I", i) * 350)
"""
SINK = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 27)  # SO_RCVBUFFORCE
s.bind(("", 5000))
s.settimeout(float(sys.argv[2]))
print("ready", flush=True)
expected = int(sys.argv[1])
got, disorder, damaged, last = 0, 0, 0, -1
try:
    while got < expected:
        data = s.recv(2000)
        number = struct.unpack_from("<I", data)[0]
        disorder += number <= last
        damaged += data != struct.pack("<I", number) * 350
        last, got = number, got + 1
except TimeoutError:
    pass
print(got, disorder, damaged)
"""
FRAME = 1400 + 42


def flood(lab: Any, client: DelayLineClient, count: int, per_second: float, delay: float) -> tuple[int, int, int]:
    """Send; returns how many frames arrived, out of order, damaged."""
    client.load_timeline("space", "ab", [Segment(0, round(delay * S))])
    sink = subprocess.Popen(
        lab.inside("b", sys.executable, "-c", SINK, str(count), str(delay + 3)), stdout=subprocess.PIPE, text=True
    )
    assert sink.stdout is not None
    sink.stdout.readline()
    lab.run("a", sys.executable, "-c", FLOOD, str(count), str(per_second))
    out, _ = sink.communicate(timeout=100)
    got, disorder, damaged = map(int, out.split())
    return got, disorder, damaged


def figures(client: DelayLineClient) -> dict[str, Any]:
    found: dict[str, Any] = client.stats()["links"]["space"]["directions"]["ab"]
    assert found["balanced"]
    assert found["broken"] == 0
    return found


@pytest.mark.slow
def test_frames_come_back_from_disk(lab: Any, tmp_path: Path) -> None:
    client = lab.daemon("--ram", "16 MiB", "--spill-dir", str(tmp_path))
    client.add_link("space", *lab.cable())
    count = 40_000
    assert flood(lab, client, count, 10_000, 6) == (count, 0, 0)
    store = client.stats()["store"]
    assert store["chunks_written"] * 2**18 > 0.4 * count * FRAME
    assert 0.8 * store["chunks_written"] <= store["chunks_read"] <= store["chunks_written"]  # some stayed in RAM, too
    assert store["ram_peak_bytes"] <= 2**24 + 2 * 2**18
    assert store["state"] == "ok"
    assert store["disk_bytes"] == 0
    assert figures(client)["delivered"]["frames"] == count
    assert list(tmp_path.glob("*spill*")) == []


@pytest.mark.slow
def test_a_full_disk_is_reported_and_every_frame_accounted_for(lab: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=True)
    try:
        client = lab.daemon("--ram", "16 MiB", "--spill-dir", str(disk))
        client.add_link("space", *lab.cable())
        got, disorder, damaged = flood(lab, client, 40_000, 10_000, 6)
        found = figures(client)
        assert (disorder, damaged) == (0, 0)
        assert found["delivered"]["frames"] == got
        assert found["dropped"] == {"disk_full": {"frames": 40_000 - got, "bytes": (40_000 - got) * FRAME}}
        assert got * FRAME > 18e6  # what RAM and disk hold together
        assert client.stats()["store"]["write_errors"] > 0
        assert "No space left on device" in lab.log()
        client.shutdown()
        lab.daemons[0].wait(10)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_without_a_disk_the_budget_is_the_limit(lab: Any) -> None:
    client = lab.daemon("--ram", "2 MiB")
    client.add_link("space", *lab.cable())
    got, disorder, _ = flood(lab, client, 4_000, 10_000, 1.5)
    found = figures(client)
    assert disorder == 0
    assert found["delivered"]["frames"] == got
    assert found["dropped"]["ram_full"]["frames"] == 4_000 - got
    assert got * FRAME > 1e6
