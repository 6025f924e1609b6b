"""The delay line beside what people would use instead, on the same work.

    sudo python benchmarks/links_compare.py

Each carries 1,000 frames of 200 bytes per second for five seconds over a delay of 1 s; while frames fly, the delay is
set to 0.2 s. netem runs in user-mode Linux where this kernel lacks it; vde2's wirefilter joins two taps.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from links_bench import Bench, sh

from marsnet.links.timeline import Segment

S = 10**9
SECONDS = 5.0
CHANGE = 2.5


def measure(bench: Bench, change: Callable[[], None]) -> dict[str, Any]:
    """Steady delay error, then frames out of order when the delay shrinks."""
    sent, steady = bench.flow(200, 1000, SECONDS, 1, S)
    timer = threading.Timer(CHANGE, change)
    timer.start()
    again, changed = bench.flow(200, 1000, SECONDS, 1, S)
    timer.join()
    return {
        "p50_us": steady["p50_ns"] / 1e3,
        "p99_us": steady["p99_ns"] / 1e3,
        "early": steady["early"],
        "lost": sent["sent"] - steady["frames"],
        "out_of_order": changed["disorder"],
        "lost_at_change": again["sent"] - changed["frames"],
    }


def delay_line(bench: Bench) -> dict[str, Any]:
    """This project's."""
    with bench.line(Segment(0, S)) as (client, _):

        def change() -> None:
            now = time.monotonic_ns()
            client.load_timeline("x", "ab", [Segment(now, S // 5)], replace_from_ns=now)

        return measure(bench, change)


def wirefilter(bench: Bench) -> dict[str, Any]:
    """vde2's, between two switches with a tap each."""
    d = bench.directory
    started = []
    for host in "ab":
        sh("ip", "-n", bench.tag + host, "link", "set", "e0", "name", "old0")
        started.append(subprocess.Popen(
            bench.inside(host, "vde_switch", "-s", str(d / host), "-tap", "e0"),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        ))  # fmt: skip
        while not (d / host / "ctl").exists():
            time.sleep(0.02)
        sh("ip", "netns", "exec", bench.tag + host, "sysctl", "-qw", "net.ipv6.conf.e0.disable_ipv6=1")
        sh("ip", "-n", bench.tag + host, "link", "set", "e0", "up", "promisc", "on")
    started.append(subprocess.Popen(
        ["wirefilter", "-v", f"{d / 'a'}:{d / 'b'}", "-d", "1000", "-M", str(d / "wf")],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ))  # fmt: skip
    while not (d / "wf").exists():
        time.sleep(0.02)
    try:
        return measure(bench, lambda: command(d / "wf", b"delay 200\n"))
    finally:
        for process in started:
            process.kill()
            process.wait()
        for host in "ab":
            sh("ip", "-n", bench.tag + host, "link", "set", "old0", "name", "e0")
            sh("ip", "-n", bench.tag + host, "link", "set", "e0", "up", "promisc", "on")


def command(path: Path, text: bytes) -> None:
    """Say something to wirefilter's management socket."""
    with socket.socket(socket.AF_UNIX) as talk:
        talk.connect(str(path))
        talk.sendall(text)
        while b"1000" not in talk.recv(4096):  # its "success"
            pass


UML = """#!/bin/sh
export LOAD_QDISC=1
mount -t proc proc /proc; mount -t sysfs sysfs /sys
for m in drivers/net/veth net/sched/sch_netem; do insmod {modules}/kernel/$m.ko; done
ip link set lo up; ip link add x0 type veth peer name x1
for i in x0 x1; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; ip link set $i up; done
tc qdisc add dev x0 root netem limit 100000 delay 1s
tc qdisc change dev x0 root netem limit 100000 delay 275s 2>/dev/null && echo tc_takes_275_s
tc qdisc change dev x0 root netem limit 100000 delay 1s
{load} sink x1 7 1000000000 > {directory}/steady & sleep 0.3
{load} send x0 200 1000 {seconds} 1; wait
{load} sink x1 7 1000000000 > {directory}/changed & sleep 0.3
(sleep {change}; tc qdisc change dev x0 root netem limit 100000 delay 200ms) &
{load} send x0 200 1000 {seconds} 1; wait
poweroff -f
"""


def netem(bench: Bench) -> dict[str, Any]:
    """The kernel's, in user-mode Linux."""
    modules = sorted(Path("/usr/lib/uml/modules").glob("*"))[-1]
    init = bench.directory / "init"
    init.write_text(
        UML.format(modules=modules, load=bench.load, directory=bench.directory, seconds=SECONDS, change=CHANGE)
    )
    init.chmod(0o755)
    done = subprocess.run(
        ["linux.uml", "mem=256M", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}", "con=null",
         "con0=fd:0,fd:1", "ssl=null", "quiet"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    steady, changed = (json.loads((bench.directory / n).read_text().splitlines()[1]) for n in ("steady", "changed"))
    return {
        "p50_us": steady["p50_ns"] / 1e3,
        "p99_us": steady["p99_ns"] / 1e3,
        "early": steady["early"],
        "lost": 5001 - steady["frames"],
        "out_of_order": changed["disorder"],
        "lost_at_change": 5001 - changed["frames"],
        "tc_takes_275_s": "tc_takes_275_s" in done.stdout,
    }


TCLINK = """
from mininet.net import Mininet
from mininet.link import TCLink
net = Mininet(controller=None)
a, b = (net.addHost(n, ip=None) for n in "ab")
net.addLink(a, b, cls=TCLink, delay="1s")
for node, last in ((a, 1), (b, 2)):
    node.cmd(f"ip address add 10.0.0.{last}/24 dev {node.name}-eth0")
print("PING", a.cmd("ping -c 2 -i 1 -W 3 10.0.0.2").replace(chr(10), " "))
net.stop()
"""


def tclink(_: Bench) -> dict[str, Any]:
    """Mininet's, on this kernel."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
         'mount -t sysfs sysfs /sys; ip link set lo up; exec "$@"', "-", sys.executable, "-c", TCLINK],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = next((line for line in (done.stdout + done.stderr).splitlines() if "qdisc" in line), "")
    times = [word[5:] for word in done.stdout.split() if word.startswith("time=")]
    return {"ping_ms": times, "said": said}


def main() -> None:
    """Run those that are installed and print the figures."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        os.chdir(directory)
        try:
            for name, run, needs in (
                ("delay line", delay_line, "ip"),
                ("netem", netem, "linux.uml"),
                ("wirefilter", wirefilter, "wirefilter"),
                ("TCLink", tclink, "mn"),
            ):
                found = run(bench) if shutil.which(needs) else f"skipped: {needs} is not installed"
                print(name, json.dumps(found), flush=True)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
