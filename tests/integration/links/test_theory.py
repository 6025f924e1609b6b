"""Whole protocols over the line behave as theory says, also while the processors are busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from marsnet.links.client import DelayLineClient
from marsnet.links.timeline import Fault, Segment, faulted

pytestmark = [pytest.mark.root, pytest.mark.slow]
MS = 10**6
S = 10**9


@contextmanager
def busy() -> Iterator[None]:
    """Two processes per processor that never rest."""
    count = 2 * (os.cpu_count() or 1)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def iperf(lab: Any, *options: str) -> dict[str, Any]:
    server = subprocess.Popen(lab.inside("b", "iperf3", "-s", "-1", "--forceflush"), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    while "listening" not in server.stdout.readline():
        assert server.poll() is None
    out = lab.run("a", "iperf3", "-c", "10.9.0.2", "-J", *options, timeout=90)
    server.communicate(timeout=30)
    return dict(json.loads(out)["end"])


@pytest.fixture
def client(lab: Any) -> DelayLineClient:
    made: DelayLineClient = lab.daemon()
    made.add_link("space", *lab.cable())
    return made


def balanced(client: DelayLineClient) -> dict[str, Any]:
    for side in client.stats()["links"]["space"]["directions"].values():
        assert side["balanced"]
        assert side["broken"] == 0
        assert side["early"] == 0
        assert side["ring_drops"] == 0
    return dict(client.stats()["links"]["space"]["directions"]["ab"])


def test_tcp_fills_the_pipe(lab: Any, client: DelayLineClient) -> None:
    for direction in ("ab", "ba"):
        client.load_timeline("space", direction, [Segment(0, 50 * MS, rate_bps=20e6)])
    end = iperf(lab, "-t", "8", "-O", "2")
    goodput = 1448 / 1514  # of the frames that the serializer counts: no preamble, no checksum sequence
    assert end["sum_received"]["bits_per_second"] == pytest.approx(20e6 * goodput, rel=0.03)
    assert end["streams"][0]["sender"]["min_rtt"] >= 100_000
    balanced(client)


def test_udp_arrives_at_its_rate(lab: Any, client: DelayLineClient) -> None:
    for direction in ("ab", "ba"):
        client.load_timeline("space", direction, [Segment(0, 50 * MS, loss=0.02 if direction == "ab" else 0.0)])
    end = iperf(lab, "-u", "-b", "10M", "-l", "1000", "-t", "5")
    assert end["sum"]["bits_per_second"] == pytest.approx(10e6, rel=0.01)
    assert 0.8 < end["sum"]["lost_percent"] < 3.5
    lost = balanced(client)["dropped"]["loss"]["frames"]
    assert lost >= end["sum"]["lost_packets"] > 0


SEND = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.9.0.2", 5000))
for i in range(int(sys.argv[1])):
    s.send(i.to_bytes(4, "big") + bytes(400))
    time.sleep(0.0005)
"""
SINK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
s.bind(("", 5000))
s.settimeout(float(sys.argv[1]))
print("ready", flush=True)
got = []
try:
    while True:
        got.append(int.from_bytes(s.recv(2000)[:4], "big"))
except TimeoutError:
    print(got == sorted(set(got)), len(got))
"""


def test_order_outages_and_the_balance_hold_when_the_processors_are_busy(lab: Any, client: DelayLineClient) -> None:
    sink = subprocess.Popen(lab.inside("b", sys.executable, "-c", SINK, "5"), stdout=subprocess.PIPE, text=True)
    assert sink.stdout is not None
    sink.stdout.readline()
    now = time.monotonic_ns()
    faults = [
        Fault(now + k * 600 * MS, now + k * 600 * MS + 250 * MS, outage=True, hold=k % 2 == 0) for k in range(1, 60)
    ]
    shrinking = [Segment(now + k * 130 * MS, (900 - k % 7 * 120) * MS, rate_bps=30e6, loss=0.01) for k in range(300)]
    client.load_timeline("space", "ab", faulted(shrinking, faults))
    # shrinking delays bunch arrivals into 190 ms of every 910; the gaps between these intervals are shorter
    client.receiver_down("space", "ab", [(now + k * 250 * MS, now + (k * 250 + 80) * MS) for k in range(1, 160)])
    with busy():
        lab.run("a", sys.executable, "-c", SEND, "6000")
        out, _ = sink.communicate(timeout=60)
    ordered, count = out.split()
    assert ordered == "True"
    found = balanced(client)
    assert found["delivered"]["frames"] == int(count)
    assert found["in"]["frames"] == 6000
    assert {"down", "loss", "receiver_down"} <= set(found["dropped"]) <= {"down", "loss", "receiver_down", "cut"}
    assert found["in_flight"]["frames"] == found["queued"]["frames"] == 0


def test_ping_over_five_seconds_takes_ten_when_the_processors_are_busy(lab: Any, client: DelayLineClient) -> None:
    for direction in ("ab", "ba"):
        client.load_timeline("space", direction, [Segment(0, 5 * S)])
    with busy():
        out = lab.run("a", "ping", "-c", "10", "-i", "0.2", "-W", "12", "10.9.0.2")
    times = sorted(float(word[5:]) for word in out.split() if word.startswith("time="))
    assert len(times) == 10
    assert times[0] >= 10_000
    assert times[5] <= 10_001, times  # the median: the ends themselves have to wait for a processor
    assert balanced(client)["lateness_p99_ns"] < MS
