"""Links come and go, interfaces vanish and clients die while frames fly: nothing of it touches the others."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from marsnet.links.timeline import Segment

pytestmark = pytest.mark.root
MS = 10**6
S = 10**9
FRAME = 530
DYING = """
import os, random, socket, sys
for method in ("stats", "truth", "add_link", "load_timeline"):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sys.argv[1])
        s.sendall(('{"id": 1, "method": "%s", "params": {"name": "steady"}}\\n' % method).encode() * 50 + b'{"id"')
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"x" * 100000)
os.kill(os.getpid(), 9)
"""


def figures(client: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client.stats()["links"][name]["directions"]["ab"]
    assert found["balanced"]
    assert (found["broken"], found["early"]) == (0, 0)
    return found


def test_links_come_and_go_under_load(lab: Any) -> None:
    client = lab.daemon()
    client.add_link("steady", *lab.cable())
    client.load_timeline("steady", "ab", [Segment(0, 300 * MS, rate_bps=20e6)])
    spare = lab.cable(1)
    sink, rounds = lab.listen(8000, 20), 0
    sender = subprocess.Popen(lab.sender(8000, 2000))
    while sender.poll() is None:
        client.add_link("guest", *spare)
        client.load_timeline("guest", "ab", [Segment(0, 5 * S)])
        lab.send(5, 1000, 2)  # over the first link, too: these are not counted as the sender's
        assert figures(client, "guest")["in_flight"]["frames"] == 5
        client.remove_link("guest")
        assert client.ping()["links"] == ["steady"]
        subprocess.run([sys.executable, "-c", DYING, str(client.path)], check=False)
        rounds += 1
    assert rounds > 2
    assert lab.told(sink)["least"] >= 300 * MS
    while (found := figures(client, "steady"))["in_flight"]["frames"]:
        time.sleep(0.02)
    assert found["in"] == found["delivered"] == {"frames": 8000 + 5 * rounds, "bytes": (8000 + 5 * rounds) * FRAME}
    assert found["ring_drops"] == found["stalls"] == 0
    with socket.socket(socket.AF_UNIX) as idle:  # a client that only sits there hinders nobody
        idle.connect(str(client.path))
        assert client.ping()["links"] == ["steady"]


def test_an_interface_vanishes_under_load(lab: Any) -> None:
    client = lab.daemon()
    for i in range(3):
        client.add_link(f"l{i}", *lab.cable(i))
        client.load_timeline(f"l{i}", "ab", [Segment(0, 2 * S)])
    for victim, middle in ((1, "ma1"), (2, "mb2")):  # where frames enter, where they leave
        sender = subprocess.Popen(lab.sender(1500, 1500, 3), stderr=subprocess.DEVNULL)
        while not figures(client, f"l{victim}")["delivered"]["frames"]:
            time.sleep(0.01)
        lab.run("m", "ip", "link", "del", middle)
        while client.stats()["links"][f"l{victim}"]["error"] is None:
            time.sleep(0.01)
        sender.wait(20)
        found = figures(client, f"l{victim}")
        assert found["dropped"]["link_gone"]["frames"] > 50
        assert (found["in_flight"]["frames"], found["queued"]["frames"], found["valid"]) == (0, 0, False)
        assert client.stats()["links"]["l0"]["error"] is None
        if victim == 1:  # the sender ended with the socket of the link that has gone; the next one needs all three
            client.remove_link("l1")
            lab.run("m", "ip", "link", "del", "mb1", check=False)
            client.add_link("l1", *lab.cable(1))
            client.load_timeline("l1", "ab", [Segment(0, 2 * S)])
    while (found := figures(client, "l0"))["in_flight"]["frames"]:
        time.sleep(0.02)
    assert found["in"] == found["delivered"]
    assert [reason for reason in found["invalid_because"] if not reason.startswith(("lateness", "steal"))] == []
