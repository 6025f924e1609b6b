"""netem in a kernel that has it: this one, or else user-mode Linux on this machine's file system."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow]
ROOT = Path(__file__).parents[3]

PROGRAM = """
import socket, time
from marsnet.errors import InputError
from marsnet.links.interfaces import Interface
from marsnet.links.netem import NetemLine, NetemParameters, read_back
from marsnet.links.timeline import Segment
S = 10**9
line = NetemLine()
line.add_link("s", "x0", "x1")
line.load_timeline("s", "ab", [Segment(0, S // 5)])
line.load_timeline("s", "ba", [Segment(0, 3 * S // 10)])
print("SET", read_back(Interface.find("x0")).latency_ns)
for bad in ([Segment(0, S // 10)], [Segment(0), Segment(5)]):
    try:
        line.load_timeline("s", "ab", bad)
    except InputError as error:
        print("REFUSED", error)
line.load_timeline("s", "ab", [Segment(0, 1440 * S, rate_bps=2e6)])
assert read_back(Interface.find("x0")) == NetemParameters(1440 * S, 6_625_000, 250_000, 0)
line.remove_link("s")
assert read_back(Interface.find("x0")) is None
print("REMOVED")
line.add_link("s", "x0", "x1")
line.load_timeline("s", "ab", [Segment(0, S // 5)])
line.load_timeline("s", "ba", [Segment(0, 3 * S // 10)])
ends = {}
for name in ("x0", "x1"):
    ends[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    ends[name].bind((name, 0x88B5))
    ends[name].settimeout(3)
for source, target, delay in (("x0", "x1", 0.2), ("x1", "x0", 0.3)):
    start = time.monotonic()
    ends[source].send(bytes(6) + bytes([2, 0, 0, 0, 0, 1, 0x88, 0xB5]) + source.encode() * 30)
    while source.encode() * 30 not in ends[target].recv(2000):
        pass
    assert delay <= time.monotonic() - start < delay + 0.1, time.monotonic() - start
print("DONE")
"""
SETUP = """
ip link set lo up
ip link add x0 type veth peer name x1 && ip link set x0 up && ip link set x1 up
"""


def in_user_mode_linux(tmp_path: Path, program: Path) -> str:
    linux = shutil.which("linux.uml")
    modules = sorted(Path("/usr/lib/uml/modules").glob("*"))
    if linux is None or not modules or platform.machine() != "x86_64":
        pytest.skip("this kernel has no netem, and user-mode-linux is not installed")
    init = tmp_path / "init"
    init.write_text(
        "#!/bin/sh\nmount -t proc proc /proc\nmount -t sysfs sysfs /sys\n"
        f"insmod {modules[-1]}/kernel/drivers/net/veth.ko\ninsmod {modules[-1]}/kernel/net/sched/sch_netem.ko\n"
        f"export PATH={Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin\n{SETUP}\n"
        f"cd {ROOT}\ntimeout 60 {sys.executable} {program} 2>&1\npoweroff -f\n"
    )
    init.chmod(0o755)
    done = subprocess.run(
        [linux, "mem=256M", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}", "con=null", "con0=fd:0,fd:1",
         "ssl=null", "quiet"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_netem_does_what_it_is_told_and_refuses_the_rest(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    probe = subprocess.run(
        ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem"], capture_output=True, check=False
    )
    if probe.returncode == 0:
        done = subprocess.run(
            [
                "unshare",
                "--net",
                "--mount",
                "sh",
                "-c",
                f"mount -t sysfs sysfs /sys\n{SETUP}\n{sys.executable} {program} 2>&1",
            ],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        out = done.stdout + done.stderr
    else:
        out = in_user_mode_linux(tmp_path, program)
    assert "SET 200000000" in out, out
    assert "netem reorders frames when the delay shrinks from 200000000 to 100000000 ns" in out
    assert "netem has no schedule" in out
    assert "REMOVED" in out
    assert "DONE" in out, out
