"""Real frames through a real daemon."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from marsnet.errors import InputError
from marsnet.links.client import DelayLineClient
from marsnet.links.timeline import Fault, Segment, faulted

pytestmark = pytest.mark.root
MS = 10**6
S = 10**9

COUNTER = """
import select, socket, struct, sys, time
count, seconds = int(sys.argv[1]), float(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
s.bind(("", 5000))
print("ready", flush=True)
end = time.monotonic() + seconds
for _ in range(count):
    if not select.select([s], [], [], max(end - time.monotonic(), 0))[0]:
        break
    data = s.recv(10000)
    print(struct.unpack_from("<I", data)[0], time.monotonic_ns(), flush=False)
"""
SENDER = """
import socket, struct, sys, time
count, gap, size, tos = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
start = time.monotonic()
for i in range(count):
    due = start + i * gap
    if due > time.monotonic():
        time.sleep(due - time.monotonic())
    print(i, time.monotonic_ns())
    s.sendto(struct.pack("<I", i) + bytes(size - 4), ("10.9.0.2", 5000))
"""


def both(client: DelayLineClient, name: str = "space", **parameters: Any) -> None:
    """The same constant conditions in both directions."""
    for direction in ("ab", "ba"):
        client.load_timeline(name, direction, [Segment(0, **parameters)])


def figures(client: DelayLineClient, name: str = "space") -> dict[str, Any]:
    """Direction ab's figures, after checking that they add up."""
    directions: dict[str, Any] = client.stats()["links"][name]["directions"]
    for side in directions.values():
        parts = [side["delivered"], side["queued"], side["in_flight"], *side["dropped"].values()]
        for unit in ("frames", "bytes"):
            assert side["in"][unit] == sum(p[unit] for p in parts)
        assert side["balanced"]
        assert side["broken"] == 0
        assert side["early"] == 0
    return dict(directions["ab"])


def listen(lab: Any, count: int, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        lab.inside("b", sys.executable, "-c", COUNTER, str(count), str(seconds)), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def send(lab: Any, count: int, gap: float = 0.0, size: int = 1000, tos: int = 0) -> dict[int, int]:
    out = lab.run("a", sys.executable, "-c", SENDER, str(count), str(gap), str(size), str(tos))
    return dict(tuple(map(int, line.split())) for line in out.splitlines())


def received(process: subprocess.Popen[str]) -> list[tuple[int, int]]:
    out, _ = process.communicate(timeout=60)
    return [tuple(map(int, line.split())) for line in out.splitlines()]  # type: ignore[misc]


@pytest.fixture
def client(lab: Any) -> DelayLineClient:
    made: DelayLineClient = lab.daemon()
    made.add_link("space", *lab.cable())
    return made


@pytest.mark.slow
def test_ping_over_five_seconds_takes_ten(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=5000 * MS)
    out = lab.run("a", "ping", "-c", "3", "-i", "0.2", "-W", "12", "10.9.0.2")
    times = [float(t) for t in re.findall(r"time=([\d.]+)", out)]
    assert len(times) == 3
    assert all(10_000 <= t <= 10_001 for t in times), times
    assert figures(client)["delivered"]["frames"] == 3


def test_frames_of_a_train_wake_the_line_for_their_arrivals_only(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=1000 * MS, rate_bps=1_000_000)
    listener, before = listen(lab, 100, 10), client.stats()["wakes"]
    send(lab, 100)
    assert len(received(listener)) == 100
    woken = client.stats()["wakes"] - before
    # Frame by frame they come, leave and arrive: three times a hundred.
    assert woken < 180, woken
    assert figures(client)["delivered"]["frames"] == 100


def test_what_had_left_arrives_and_the_rest_is_held(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=500 * MS)
    sink = listen(lab, 100, 5)
    start = time.monotonic_ns() + 400 * MS
    plan = faulted([Segment(0, 500 * MS)], [Fault(start, start + 700 * MS, outage=True)])
    client.load_timeline("space", "ab", plan)
    sent = send(lab, 100, 0.01)
    got = received(sink)
    assert [i for i, _ in got] == list(range(100))
    for i, at in got:
        leaves = sent[i] if not start <= sent[i] < start + 700 * MS else start + 700 * MS
        assert -MS / 10 <= at - leaves - 500 * MS < 20 * MS, (i, at - leaves)
    assert any(start <= t < start + 700 * MS for t in sent.values())
    assert figures(client)["delivered"]["frames"] == 100


def test_a_transmitter_that_drops_says_so(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=300 * MS)
    sink = listen(lab, 100, 2.5)
    start = time.monotonic_ns() + 400 * MS
    client.load_timeline(
        "space", "ab", faulted([Segment(0, 300 * MS)], [Fault(start, start + 300 * MS, outage=True, hold=False)])
    )
    sent = send(lab, 100, 0.01)
    got = [i for i, _ in received(sink)]
    lost = [i for i in sent if i not in got]
    assert lost
    assert lost == list(range(lost[0], lost[0] + len(lost)))
    assert all(start - MS <= sent[i] < start + 300 * MS for i in lost)
    assert figures(client)["dropped"] == {"down": {"frames": len(lost), "bytes": len(lost) * 1042}}


def test_a_receiver_that_is_down_misses_what_arrives_then(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=300 * MS)
    sink = listen(lab, 100, 2.5)
    start = time.monotonic_ns() + 700 * MS
    client.receiver_down("space", "ab", [(start, start + 200 * MS)])
    sent = send(lab, 100, 0.01)
    got = [i for i, _ in received(sink)]
    lost = [i for i in sent if i not in got]
    assert lost
    assert all(start - MS <= sent[i] + 300 * MS < start + 200 * MS for i in lost)
    assert figures(client)["dropped"]["receiver_down"]["frames"] == len(lost)


def test_a_fault_injected_while_running_acts_from_its_instant(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=200 * MS)
    sink = listen(lab, 100, 2.5)
    sender = subprocess.Popen(
        lab.inside("a", sys.executable, "-c", SENDER, "100", "0.01", "500", "0"), stdout=subprocess.PIPE, text=True
    )
    assert sender.stdout is not None
    for _ in range(30):
        sender.stdout.readline()
    now = time.monotonic_ns()
    client.load_timeline("space", "ab", [Segment(now, 900 * MS)], replace_from_ns=now)
    sender.communicate(timeout=30)
    got = received(sink)
    assert [i for i, _ in got] == list(range(100))
    assert got[-1][1] - now > 900 * MS


def test_order_is_kept_when_the_delay_shrinks(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=400 * MS)
    change = time.monotonic_ns() + 600 * MS
    client.load_timeline("space", "ab", [Segment(0, 400 * MS), Segment(change, 10 * MS)])
    sink = listen(lab, 1000, 3)
    send(lab, 1000, 0.001, 200)
    got = received(sink)
    assert [i for i, _ in got] == list(range(1000))
    assert figures(client)["delivered"]["frames"] == 1000


def test_urgent_frames_overtake_in_the_queue(lab: Any) -> None:
    client = lab.daemon()
    classes = [{"name": "command", "dscp": [46]}, {"name": "bulk"}]
    client.add_link("space", *lab.cable(), {"ab": {"classes": classes}})
    both(client, rate_bps=400_000.0)
    sink = listen(lab, 44, 4)
    send(lab, 40, 0, 1000)
    send(lab, 4, 0, 1000, tos=46 << 2)
    got = [i for i, _ in received(sink)]
    assert len(got) == 44
    assert sorted(got[:20]).count(0) == 2  # the first urgent frame came early, among the bulk ones
    assert got[-1] == 39
    assert figures(client)["classes"]["command"]["delivered"]["frames"] == 4


def test_queue_limits_hold_at_arrival(lab: Any) -> None:
    client = lab.daemon()
    classes = [{"name": "bulk", "limit_frames": 10}]
    client.add_link("space", *lab.cable(), {"ab": {"classes": classes}})
    both(client, rate_bps=100_000.0)
    send(lab, 50, 0, 1000)
    found = figures(client)
    assert found["dropped"]["queue_full"]["frames"] == 39
    assert found["queued"]["frames"] + found["delivered"]["frames"] + found["in_flight"]["frames"] == 11


def test_jumbo_frames_pass(lab: Any) -> None:
    client = lab.daemon()
    client.add_link("space", *lab.cable(mtu=9216))
    both(client, delay_ns=MS)
    out = lab.run("a", "ping", "-c", "2", "-i", "0.1", "-s", "9000", "-M", "do", "-W", "3", "10.9.0.2")
    assert "2 received" in out
    assert figures(client)["in"]["bytes"] == 2 * 9042


def test_oversized_frames_are_counted(lab: Any) -> None:
    client = lab.daemon()
    client.add_link("space", *lab.cable(), {"ab": {"max_frame": 600}})
    both(client, delay_ns=MS)
    sink = listen(lab, 1, 5)
    send(lab, 3, size=1000)
    send(lab, 1, size=500)
    assert len(received(sink)) == 1
    assert figures(client)["dropped"] == {"oversized": {"frames": 3, "bytes": 3 * 1042}}


TAGGED = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("e0", 0))
inner = bytes.fromhex("45b8001400000000401100000a0900010a090002") + bytes(40)
s.send(b"\\xff" * 6 + b"\\x02\\0\\0\\0\\0\\1" + bytes.fromhex("8100a0070800") + inner)
"""


def test_vlan_tags_survive_and_are_looked_behind(lab: Any, tmp_path: Path) -> None:
    client = lab.daemon()
    client.add_link("space", *lab.cable(), {"ab": {"classes": [{"name": "voice", "dscp": [46]}, {"name": "rest"}]}})
    both(client)
    client.capture_start("space", "ab", tmp_path / "x.pcapng", 0)
    lab.run("a", sys.executable, "-c", TAGGED)
    client.capture_stop("space", "ab")
    found = figures(client)
    assert found["classes"]["voice"]["delivered"] == {"frames": 1, "bytes": 78}
    frames = [body[20:98] for kind, body in blocks(tmp_path / "x.pcapng") if kind == 6]
    assert [frame[12:20].hex() for frame in frames] == ["8100a007080045b8"] * 2


def test_pause_and_set_now_move_line_time(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=300 * MS)
    sink = listen(lab, 1, 5)
    sent = send(lab, 1)
    client.pause("space")
    frozen = client.truth("space")["ab"]["now_ns"]
    lab.run("a", "sleep", "0.6")
    assert client.truth("space")["ab"]["now_ns"] == frozen
    assert figures(client)["in_flight"]["frames"] == 1
    client.resume("space")
    ((_, at),) = received(sink)
    assert at - sent[0] > 900 * MS
    client.set_now(5 * S, "space")
    assert 0 <= client.truth("space")["ab"]["now_ns"] - 5 * S < S


def test_truth_tells_range_and_last_frames(lab: Any, client: DelayLineClient) -> None:
    client.load_timeline("space", "ab", [Segment(time.monotonic_ns(), 2 * S, slope=1e-5)])
    client.load_timeline("space", "ba", [Segment(0, 0, up=False)])
    sent = send(lab, 1)
    truth = client.truth("space")
    assert truth["ab"]["range_rate_m_s"] == pytest.approx(2997.92458)
    assert truth["ab"]["range_m"] == pytest.approx(2 * 299792458, rel=1e-4)
    assert 0 <= truth["ab"]["last_tx_ns"] - sent[0] < 50 * MS
    assert truth["ab"]["last_rx_ns"] is None
    assert truth["ba"]["up"] is False


def blocks(path: Path) -> list[tuple[int, bytes]]:
    data, result = path.read_bytes(), []
    while data:
        kind, size = struct.unpack_from("<II", data)
        assert struct.unpack_from("<I", data, size - 4)[0] == size
        result.append((kind, data[8 : size - 4]))
        data = data[size:]
    return result


def test_capture_shows_when_frames_leave_and_arrive(lab: Any, client: DelayLineClient, tmp_path: Path) -> None:
    both(client, delay_ns=250 * MS)
    client.load_timeline("space", "ab", [Segment(0, 250 * MS, loss=0.5)])
    path = tmp_path / "x.pcapng"
    client.capture_start("space", "ab", path, offset_ns=0)
    with pytest.raises(InputError, match="being captured"):
        client.capture_start("space", "ab", path)
    sink = listen(lab, 20, 1.5)
    send(lab, 20, 0.005)
    got = received(sink)
    client.capture_stop("space", "ab")
    found = blocks(path)
    assert [kind for kind, _ in found[:3]] == [0x0A0D0D0A, 1, 1]
    stamps: dict[int, dict[int, int]] = {0: {}, 1: {}}
    for kind, body in found[3:]:
        assert kind == 6
        side, high, low, size = struct.unpack_from("<IIII", body)
        ident = struct.unpack_from("<Q", body, len(body) - 12)[0]
        assert size == 1042
        stamps[side][ident] = high << 32 | low
    assert len(stamps[0]) == 20
    assert len(stamps[1]) == len(got) == figures(client)["delivered"]["frames"]
    assert {stamps[1][i] - stamps[0][i] for i in stamps[1]} == {250 * MS}
    assert sum(b"loss" in body for _, body in found) == 20 - len(got)


def test_a_vanishing_interface_ends_its_link_only(lab: Any, client: DelayLineClient) -> None:
    client.add_link("other", *lab.cable(1))
    both(client, "space", delay_ns=10 * S)
    both(client, "other", delay_ns=MS)
    send(lab, 5)
    lab.run("m", "ip", "link", "del", "ma0")
    assert "1 received" in lab.run("a", "ping", "-c", "1", "-W", "3", "10.9.1.2")
    link = client.stats()["links"]["space"]
    assert link["error"] == "link 'space' is dead: ma0 or mb0 has gone"
    assert link["directions"]["ab"]["dropped"] == {"link_gone": {"frames": 5, "bytes": 5 * 1042}}
    assert link["directions"]["ab"]["valid"] is False
    assert "link 'space' is dead" in lab.log()
    figures(client)
    client.remove_link("space")
    lab.run("m", "ip", "link", "del", "mb0")
    client.add_link("space", *lab.cable(0))


def test_each_interface_has_one_owner(lab: Any, client: DelayLineClient) -> None:
    lab.cable(1)
    with pytest.raises(InputError, match="'ma0' already belongs to a link of process"):
        client.add_link("again", "ma0", "ma1")
    other = lab.daemon()
    with pytest.raises(InputError, match=f"'ma0' already belongs to a link of process {client.ping()['pid']}"):
        other.add_link("again", "ma0", "ma1")
    other.add_link("fresh", "ma1", "mb1")
    client.remove_link("space")
    other.add_link("again", "ma0", "mb0")


def test_bad_requests_are_refused_and_nothing_else_suffers(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=MS)
    lab.cable(1, mtu=1400)
    for words, action in {
        "no interface 'nope'": lambda: client.add_link("x", "nope", "ma1"),
        "MTU 1500 of mb0": lambda: client.call("add_link", name="x", if_a="mb0", if_b="ma1"),
        "at both ends": lambda: client.add_link("x", "ma1", "ma1"),
        "'space' is taken": lambda: client.add_link("space", "ma1", "mb1"),
        "no link 'y'": lambda: client.remove_link("y"),
        "direction is 'up'": lambda: client.load_timeline("space", "up", [Segment(0)]),
        "delay_ns is -5": lambda: client.call(
            "load_timeline", name="space", direction="ab", segments=[{"t0_ns": 0, "delay_ns": -5}]
        ),
        "loss is nan": lambda: client.call(
            "load_timeline", name="space", direction="ab", segments=[{"t0_ns": 0, "loss": float("nan")}]
        ),
        "starts at 5 ns, not after": lambda: client.call(
            "load_timeline", name="space", direction="ab", segments=[{"t0_ns": 9}, {"t0_ns": 5}]
        ),
        "unknown method 'fly'": lambda: client.call("fly"),
        "unexpected keyword argument 'speed'": lambda: client.call("stats", speed=1),
        "unknown key 'rate'": lambda: client.add_link("x", "ma1", "mb1", {"rate": 5}),
    }.items():
        with pytest.raises(InputError, match=words):
            action()
    for rubbish in (b"{\n", b"[]\n", b"\xff\xfe\n", b'{"id": 1, "method": "sta'):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(client.path))
            raw.sendall(rubbish)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.makefile().readline()
        assert not rubbish.endswith(b"\n") or json.loads(answer)["error"]["kind"] == "input"
    assert "1 received" in lab.run("a", "ping", "-c", "1", "-W", "3", "10.9.0.2")
    assert "left within a request of 24 bytes" in lab.log()


def test_links_outlive_their_client(lab: Any, client: DelayLineClient) -> None:
    both(client, delay_ns=MS)
    client.close()
    with DelayLineClient(client.path) as second:
        assert second.ping()["links"] == ["space"]
        assert "1 received" in lab.run("a", "ping", "-c", "1", "-W", "3", "10.9.0.2")
        second.shutdown()
    assert lab.daemons[0].wait(10) == 0
    assert not client.path.exists()


def test_metrics_tell_the_same_as_the_statistics(lab: Any) -> None:
    client = lab.daemon("--metrics", "127.0.0.1:9464")
    client.add_link("space", *lab.cable())
    both(client, delay_ns=MS)
    lab.run("a", "ping", "-c", "3", "-i", "0.1", "-W", "3", "10.9.0.2")
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    text = lab.run("m", sys.executable, "-c", fetch)
    assert 'marsnet_link_delivered_frames_total{class="default",direction="ab",link="space"} 3.0' in text
    assert 'marsnet_link_balanced{direction="ab",link="space"} 1.0' in text
    assert 'marsnet_link_lateness_seconds_count{direction="ab",link="space"} 3.0' in text
