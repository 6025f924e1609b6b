"""Queue policy, limits and weights that a topology states are those of the delay line."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from marsnet.links.client import DelayLineClient
from marsnet.links.timeline import Segment
from marsnet.model.topology import Link
from marsnet.worlds.channels import link_config

pytestmark = pytest.mark.root
S = 10**9
FRAME = 1042
DSCP = {"critical": 46, "expedited": 26, "normal": 0, "bulk": 8}

SENDER = """
import socket, sys
for dscp in map(int, sys.argv[2:]):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, 32, 1 << 24)  # SO_SNDBUFFORCE
    s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
    for _ in range(int(sys.argv[1])):
        s.sendto(bytes(1000), ("10.9.0.2", 5000))
"""


def line(lab: Any, queue: dict[str, Any]) -> DelayLineClient:
    """A link of a topology with this queue, its transmitter down until the timeline says otherwise."""
    link = Link.model_validate({"between": ("earth", "mars"), "queue": queue})
    client: DelayLineClient = lab.daemon()
    client.add_link(link.title, *lab.cable(), link_config(link, 1, 1.0))
    client.load_timeline(link.title, "ab", [Segment(0, up=False)])
    return client


def classes(client: DelayLineClient) -> dict[str, dict[str, dict[str, int]]]:
    found = client.stats()["links"]["earth--mars"]["directions"]["ab"]
    assert found["balanced"]
    return dict(found["classes"])


def send(lab: Any, count: int, *names: str) -> None:
    lab.run("a", sys.executable, "-c", SENDER, str(count), *(str(DSCP[name]) for name in names))


def test_limits_in_frames_and_bytes(lab: Any) -> None:
    client = line(lab, {"limits": {"bulk": {"frames": 7}, "critical": {"size": "5 kB"}, "normal": {"weight": 3}}})
    send(lab, 20, *DSCP)
    found = classes(client)
    assert {name: counts["queued"]["frames"] for name, counts in found.items()} == {
        "critical": 5000 // FRAME, "expedited": 20, "normal": 20, "bulk": 7,
    }  # fmt: skip
    assert {name: counts["dropped"]["frames"] for name, counts in found.items()} == {
        "critical": 20 - 5000 // FRAME, "expedited": 0, "normal": 0, "bulk": 13,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "shares"),
    [("weighted", {"critical": 0.0, "expedited": 0.5, "normal": 0.4, "bulk": 0.1}), ("strict", {"expedited": 1.0})],
)
def test_the_scheduler_shares_the_rate(lab: Any, policy: str, shares: dict[str, float]) -> None:
    weights = {"expedited": {"weight": 5}, "normal": {"weight": 4}, "bulk": {"weight": 1}}
    client = line(lab, {"policy": policy, "limits": weights})
    names = ("bulk", "normal", "expedited")
    send(lab, 300, *names)
    now = time.monotonic_ns() + S // 4
    frames = 200
    up = Segment(now, rate_bps=20e6)
    stop = now + round(frames * FRAME * 8 / 20e6 * S) + 1000
    client.load_timeline("earth--mars", "ab", [Segment(0, up=False), up, Segment(stop, up=False)])
    deadline = time.monotonic() + 10
    found = classes(client)
    while sum(counts["delivered"]["frames"] for counts in found.values()) < frames - 1:
        assert time.monotonic() < deadline, found
        found = classes(client)
    for name in DSCP:
        expected = frames * shares.get(name, 0.0)
        assert found[name]["delivered"]["frames"] == pytest.approx(expected, abs=10), name
