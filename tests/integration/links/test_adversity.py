"""What a long run meets: interfaces that go down, disks that fail, killed processes, many links, no privileges."""

from __future__ import annotations

import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.links.client import DelayLineClient
from marsnet.links.timeline import Segment

pytestmark = pytest.mark.root
MS = 10**6
S = 10**9


def figures(client: DelayLineClient, name: str = "space") -> dict[str, Any]:
    found: dict[str, Any] = client.stats()["links"][name]["directions"]["ab"]
    assert found["balanced"]
    assert found["broken"] == found["early"] == 0
    return found


def test_an_interface_that_goes_down_and_comes_up_again(lab: Any) -> None:
    client = lab.daemon()
    client.add_link("space", *lab.cable())
    client.load_timeline("space", "ab", [Segment(0, 100 * MS)])
    for middle in ("ma0", "mb0"):
        before = figures(client)
        lab.run("m", "ip", "link", "set", middle, "down")
        lab.send(5, 1000)
        time.sleep(0.2)  # one light time and a half: what was in flight meets the interface as it is
        lab.run("m", "ip", "link", "set", middle, "up")
        sink = lab.listen(20, 5)
        lab.send(20, 1000)
        assert lab.told(sink)["got"] == 20
        after = figures(client)
        assert after["delivered"]["frames"] == before["delivered"]["frames"] + 20
        lost = after["dropped"].get("egress", {"frames": 0})["frames"]
        assert lost == after["in"]["frames"] - after["delivered"]["frames"]
        assert lost == (0 if middle == "ma0" else 5)
    assert client.stats()["links"]["space"]["error"] is None
    assert figures(client)["egress_error"] == "Network is down"


def test_a_dead_link_costs_no_processor_time_whatever_it_is_told(lab: Any) -> None:
    client = lab.daemon()
    client.add_link("space", *lab.cable())
    lab.run("m", "ip", "link", "del", "ma0")
    while client.stats()["links"]["space"]["error"] is None:
        time.sleep(0.01)
    client.pause()
    client.resume()
    client.set_now(5 * S)
    client.load_timeline("space", "ab", [Segment(0)])
    process = Path(f"/proc/{client.ping()['pid']}/stat")
    before = [int(word) for word in process.read_text().rsplit(")")[1].split()[11:13]]  # utime and stime, proc(5)
    time.sleep(0.5)
    after = [int(word) for word in process.read_text().rsplit(")")[1].split()[11:13]]
    assert sum(after) - sum(before) <= 5  # hundredths of a second; a worker that never rests would use 50


FAULTY = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
static _Atomic int calls;
ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    if (n == 256u << 10 && ++calls % 5 == 3) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, to, n, at);
}
ssize_t pread64(int fd, void *to, size_t n, off_t at) { return pread(fd, to, n, at); }
"""


@pytest.mark.slow
def test_chunks_that_cannot_be_read_are_counted_and_the_rest_arrives(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty.c").write_text(FAULTY)
    shim = tmp_path / "faulty.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(shim), str(tmp_path / "faulty.c")], check=True)
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(shim))
        client = lab.daemon("--ram", "2 MiB", "--spill-dir", str(tmp_path))
    client.add_link("space", *lab.cable())
    client.load_timeline("space", "ab", [Segment(0, 4 * S)])
    sink = lab.listen(10_000, 9)
    lab.send(10_000, 5_000)
    got, store, found = lab.told(sink), client.stats()["store"], figures(client)
    lost = found["dropped"]["disk_error"]["frames"]
    assert store["read_errors"] == (store["chunks_read"] + store["read_errors"] + 2) // 5 > 0
    assert got["disorder"] == 0
    assert got["least"] >= 4 * S
    assert got["got"] == found["delivered"]["frames"] == 10_000 - lost
    assert found["in_flight"]["frames"] == 0
    assert lost == pytest.approx(
        store["read_errors"] * 2**18 / 568, rel=0.05
    )  # 534 bytes and a header of 32, in eights
    assert "cannot be read: their frames are dropped as disk_error" in lab.log()
    assert store["disk_bytes"] == 0


@pytest.mark.slow
def test_two_hundred_links_under_load(lab: Any) -> None:
    links, frames = 200, 50
    middle, hosts = [], {"a": [], "b": []}  # type: ignore[var-annotated]
    for i in range(links):
        for host in "ab":
            middle.append(f"link add m{host}{i} type veth peer name e{i} netns {lab.tag}{host}")
            middle.append(f"link set m{host}{i} up")
            hosts[host].append(f"link set e{i} up")
    for name, lines in (("m", middle), *hosts.items()):
        lab.run(name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        (lab.tmp / "batch").write_text("\n".join(lines))
        if name != "m":
            lab.run(name, "ip", "-batch", str(lab.tmp / "batch"))
            continue
        for host in "ab":
            lab.run(host, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        lab.run(name, "ip", "-batch", str(lab.tmp / "batch"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))  # as a login has it
    try:
        client = lab.daemon()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for i in range(links):
        client.add_link(f"l{i}", f"ma{i}", f"mb{i}", {"ring_slots": 512})
        client.load_timeline(f"l{i}", "ab", [Segment(0, 200 * MS + i * MS, rate_bps=1e6 + i * 1e4)])
    sink = lab.listen(links * frames, 12)
    lab.send(frames, 5_000, links)
    got = lab.told(sink)
    assert (got["got"], got["disorder"], got["links"]) == (links * frames, 0, links)
    assert got["least"] >= 200 * MS
    stats = client.stats()["links"]
    assert len(stats) == links
    for i in range(links):
        found = stats[f"l{i}"]["directions"]["ab"]
        assert found["balanced"]
        assert (found["in"], found["early"], found["ring_drops"]) == (found["delivered"], 0, 0)
        assert found["delivered"]["frames"] == frames
        assert found["lateness_p99_ns"] < 200 * MS  # also when other tests share the processors


def test_a_killed_daemon_leaves_nothing_that_hinders_the_next(lab: Any) -> None:
    client = lab.daemon()
    client.add_link("space", *lab.cable())
    client.load_timeline("space", "ab", [Segment(0, 10 * S)])
    lab.send(5, 1000)
    lab.daemons[0].send_signal(signal.SIGKILL)
    lab.daemons[0].wait(10)
    with pytest.raises(EnvironmentLacksError, match="no delay line answers"):
        client.stats()
    again = subprocess.Popen(
        lab.inside("m", sys.executable, "-m", "marsnet.links.daemon", "--socket", str(client.path)),
        stdout=subprocess.PIPE,
    )
    lab.daemons.append(again)
    assert again.stdout is not None
    assert again.stdout.readline().startswith(b"ready")
    with DelayLineClient(client.path) as second:
        second.add_link("space", "ma0", "mb0")
        second.load_timeline("space", "ab", [Segment(0, 50 * MS)])
        sink = lab.listen(10, 5)
        lab.send(10, 1000)
        assert lab.told(sink)["got"] == 10


KILLED = """
import os, signal, sys
from marsnet.links.client import DelayLineClient
client = DelayLineClient(sys.argv[1])
client._socket.sendall(b'{"id": 1, "method": "stats"}\\n{"id": 2, "method": "remove_link", "par')
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_client_killed_within_a_request_changes_nothing(lab: Any) -> None:
    client = lab.daemon()
    client.add_link("space", *lab.cable())
    client.load_timeline("space", "ab", [Segment(0, MS)])
    done = subprocess.run([sys.executable, "-c", KILLED, str(client.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    sink = lab.listen(5, 5)
    lab.send(5, 1000)
    assert lab.told(sink)["got"] == 5
    assert client.ping()["links"] == ["space"]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="the program tshark is not installed")
def test_tshark_reads_send_and_arrival_times(lab: Any, tmp_path: Path) -> None:
    client = lab.daemon()
    client.add_link("space", *lab.cable())
    client.load_timeline("space", "ab", [Segment(0, 250 * MS)])
    client.capture_start("space", "ab", tmp_path / "x.pcapng")
    started = time.time()
    sink = lab.listen(3, 5)
    lab.send(3, 100)
    assert lab.told(sink)["got"] == 3
    client.capture_stop("space", "ab")
    fields = ("frame.time_epoch", "frame.interface_name", "frame.packet_id", "frame.len")
    options = [word for name in fields for word in ("-e", name)]
    done = subprocess.run(
        ["tshark", "-r", str(tmp_path / "x.pcapng"), "-T", "fields", *options],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    times: dict[tuple[str, str], float] = {}
    for line in done.stdout.splitlines():
        at, interface, ident, size = line.split("\t")
        assert size == "530"
        times[interface, ident] = float(at)
    assert {name for name, _ in times} == {"space ma0 transmit", "space mb0 receive"}
    for ident in {ident for _, ident in times}:
        left = times["space ma0 transmit", ident]
        assert 0 <= left - started < 5
        assert times["space mb0 receive", ident] - left == pytest.approx(0.25, abs=1e-6)


ALONE = """
import os, socket, subprocess, sys, tempfile, time
from pathlib import Path
from marsnet.errors import EnvironmentLacksError
from marsnet.links.client import DaemonProcess, DelayLineClient
from marsnet.links.timeline import Segment
for host in "ab":
    subprocess.run(["ip", "link", "add", "name", f"m{host}", "type", "veth", "peer", "name", f"e{host}"], check=True)
    for name in (f"m{host}", f"e{host}"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        subprocess.run(["ip", "link", "set", "dev", name, "up"], check=True)
ends = {}
for host in "ab":
    ends[host] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
    ends[host].bind((f"e{host}", 0x88b5))
    ends[host].settimeout(10)
with tempfile.TemporaryDirectory() as folder:
    with DaemonProcess(Path(folder) / "s", "--spill-dir", folder) as line, line.client() as client:
        client.add_link("space", "ma", "mb")
        for direction in ("ab", "ba"):
            client.load_timeline("space", direction, [Segment(0, 200_000_000)])
        start = time.monotonic()
        for k in range(50):
            ends["a"].send(bytes([255] * 6 + [2, 0, 0, 0, 0, 1]) + b"\\x88\\xb5" + k.to_bytes(4, "big") + bytes(100))
        got = [int.from_bytes(ends["b"].recv(2000)[14:18], "big") for _ in range(50)]
        assert got == list(range(50)), got
        assert time.monotonic() - start >= 0.2
        stats = client.stats()
        assert stats["realtime"] is False
        assert stats["links"]["space"]["directions"]["ab"]["delivered"]["frames"] == 50
    path = Path(folder) / "t"
    read, write = os.pipe()
    bare = subprocess.Popen(["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", sys.executable, "-m",
                             "marsnet.links.daemon", "--socket", str(path), "--ready-fd", str(write)], pass_fds=[write])
    os.close(write)
    assert os.read(read, 10) == b"ready\\n"
    with DelayLineClient(path) as client:
        try:
            client.add_link("space", "ma", "mb")
        except EnvironmentLacksError as error:
            print("REFUSED", error)
        client.shutdown()
    bare.wait(10)
print("DONE")
"""


def test_without_root_it_works_in_a_user_namespace_and_says_what_it_lacks() -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urn"]
    able = subprocess.run([*nobody, sys.executable, "-c", "import marsnet"], capture_output=True, check=False)
    if able.returncode:
        pytest.skip(f"a user namespace without root, or marsnet in it: {able.stderr.decode().strip()[-200:]}")
    done = subprocess.run(
        [*nobody, sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SCHED_FIFO is not permitted: frames may be late" in done.stderr
    assert re.search(r"REFUSED .*raw sockets are not permitted.*CAP_NET_RAW", done.stdout, re.DOTALL)


def test_the_daemon_refuses_values_that_json_cannot_say(lab: Any) -> None:
    client = lab.daemon()
    client.add_link("space", *lab.cable())
    for name, segment, words in (
        ("space", {"t0_ns": 0, "delay_ns": float("inf")}, "delay_ns is inf"),
        ("space", {"t0_ns": 0, "rate_bps": float("nan")}, "rate_bps is nan"),
        ("space", {"t0_ns": 0, "rate_bps": -1}, "rate_bps is -1"),
        ("space", {"t0_ns": 10**30}, "t0_ns is 10{30}"),
        ("space", {"t0_ns": 0, "bursts": {"to_bad": 2, "to_good": 0}}, "to_bad is 2"),
        ("space", {"t0_ns": 0, "bursts": 7}, "bursts is 7"),
        ("space", {"t0_ns": 0, "bursts": {"to_bad": 0}}, "to_good"),
        ("space", [], r"segment is \[\]"),
    ):
        with pytest.raises(InputError, match=words):
            client.call("load_timeline", name=name, direction="ab", segments=[segment])
    for intervals, words in (
        ([[5, 1]], "5"),
        ([[0, 10], [5, 20]], "5"),
        (["x"], "intervals"),
        ([[0, float("nan")]], "nan"),
    ):
        with pytest.raises(InputError, match=words):
            client.call("receiver_down", name="space", direction="ab", intervals=intervals)
    for now in (float("inf"), "x", 10**30, None):
        with pytest.raises(InputError, match="now_ns is"):
            client.call("set_now", now_ns=now)
    for extra, words in (({"replace_from_ns": 1.5}, "replace_from_ns is 1.5"), ({"until_ns": "x"}, "until_ns is 'x'")):
        with pytest.raises(InputError, match=words):
            client.call("load_timeline", name="space", direction="ab", segments=[{"t0_ns": 0}], **extra)
    for method, extra, words in (
        ("load_timeline", {"path": 5}, "path is 5"),
        ("load_timeline", {"path": "nowhere"}, "timeline nowhere: No such file"),
        ("load_timeline", {"segments": 5}, "segments are 5"),
        ("capture_start", {"path": "/nowhere/x"}, "capture file /nowhere/x"),
        ("capture_start", {"path": "a\0b"}, "path is"),
    ):
        with pytest.raises(InputError, match=words):
            client.call(method, name="space", direction="ab", **extra)
    with pytest.raises(InputError, match="direction is"):
        client.call("capture_stop", name="space", direction={})
    with pytest.raises(InputError, match="no link"):
        client.call("truth", name=["space"])
    assert client.ping()["links"] == ["space"]
