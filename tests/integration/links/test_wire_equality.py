"""What the wire did, as its capture tells, is what the reference says of the same frames, to the nanosecond."""

from __future__ import annotations

import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from marsnet.links.config import DirectionConfig
from marsnet.links.native import Reason
from marsnet.links.reference import ReferencePipeline
from marsnet.links.timeline import Bursts, Segment

pytestmark = pytest.mark.root
MS = 10**6
SEND = """
import random, socket, sys, time
pick, s = random.Random(int(sys.argv[1])), socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("e0", 0))
s.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
for number in range(1500):
    s.send(bytes([255] * 6 + [2, 0, 0, 0, 0, 1]) + b"\\x88\\xb5" + bytes(pick.randrange(50, 1480)))
    if not pick.randrange(12):
        time.sleep(pick.expovariate(1 / 0.015))
"""


def timeline(pick: random.Random, start: int) -> list[Segment]:
    """Everything at once: sloping, shrinking and growing delays, outages that hold or drop, loss, bursts, noise."""
    result = []
    for _ in range(60):
        result.append(
            Segment(
                start,
                pick.randrange(300 * MS),
                slope=pick.choice([0.0, 1e-4, -0.05, 0.1]),
                rate_bps=pick.choice([None, 5e6, 2e7, 1e9]),
                loss=pick.choice([0.0, 0.0, 0.1]),
                ber=pick.choice([0.0, 0.0, 1e-5]),
                up=pick.random() < 0.7,
                hold=pick.random() < 0.5,
                corrupt=pick.random() < 0.5,
                bursts=pick.choice([None, None, Bursts(0.1, 0.3)]),
            )
        )
        start += pick.randrange(MS, 120 * MS)
    return [*result, Segment(start)]


def captured(path: Path) -> tuple[list[tuple[int, int, int, str]], dict[int, tuple[int, str, bytes]]]:
    """What left (id, time, length, why it was lost), and what arrived by id (time, why it was missed, bytes)."""
    data, left, arrived = path.read_bytes(), [], {}
    while data:
        kind, size = struct.unpack_from("=II", data)
        if kind == 6:
            side, high, low, length = struct.unpack_from("=IIII", data, 8)
            frame, options = data[28 : 28 + length], data[28 + (length + 3 & ~3) : size - 4]
            code, words = struct.unpack_from("=HH", options)
            why = options[4 : 4 + words].decode() if code == 1 else ""
            ident = struct.unpack_from("=Q", options, len(options) - 12)[0]
            if side == 0:
                left.append((ident, high << 32 | low, length, why))
            else:
                arrived[ident] = (high << 32 | low, why, frame)
        data = data[size:]
    return left, arrived


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_wire_obeys_the_reference(lab: Any, tmp_path: Path, seed: int) -> None:
    pick, client = random.Random(seed), lab.daemon()
    client.add_link("space", *lab.cable(), {"ab": {"seed": seed}})
    now = time.monotonic_ns() + 100 * MS
    segments = timeline(pick, now)
    deaf = [(now + k * 150 * MS, now + k * 150 * MS + pick.randrange(1, 100 * MS)) for k in range(60)]
    client.load_timeline("space", "ab", segments)
    client.receiver_down("space", "ab", deaf)
    client.capture_start("space", "ab", tmp_path / "x.pcapng", offset_ns=0)
    lab.run("a", sys.executable, "-c", SEND, str(seed))
    found: dict[str, Any] = {"queued": {"frames": 1}}
    while found["queued"]["frames"] or found["in_flight"]["frames"]:
        time.sleep(0.05)
        found = client.stats()["links"]["space"]["directions"]["ab"]
    client.capture_stop("space", "ab")
    assert found["balanced"]
    assert found["in"]["frames"] == 1500
    left, arrived = captured(tmp_path / "x.pcapng")

    reference = ReferencePipeline(DirectionConfig(seed=seed))
    reference.load(segments)
    reference.receiver_down(deaf)
    for ident, start, length, _ in left:
        reference.push(length, 0, start, ident)
    told = {o.handle: o for o in reference.poll(now + 60 * 1000 * MS)}
    assert len(told) == len(left)
    assert [o.handle for o in told.values() if o.reason in (None, Reason.RECEIVER_DOWN)] == list(arrived)
    for ident, start, _, why in left:
        outcome = told[ident]
        assert outcome.sent_ns == start
        if ident in arrived:
            at, missed, _frame = arrived[ident]
            assert (at, missed) == (outcome.time_ns, outcome.reason.value if outcome.reason else "")
            assert not why
        else:
            assert outcome.reason is not None
            assert why == outcome.reason.value
    assert found["corrupted"] == sum(o.corrupted for o in told.values())
    assert found["dropped"].get("down", {"frames": 0})["frames"] == 1500 - len(left)
    assert {"loss", "receiver_down"} <= set(found["dropped"])
