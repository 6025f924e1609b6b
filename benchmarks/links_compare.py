"""The delay line beside what people would use instead, on the same work.

    sudo python benchmarks/links_compare.py [--delays 300 1200]

Three measurements of each: 1,000 frames of 200 bytes per second for five seconds over a delay of 1 s, which is set to
0.2 s while frames fly; up to 100,000 frames in ten seconds over a delay of 20 s; and eleven frames over each of the
long delays.
netem and Mininet's TCLink run in user-mode Linux, which has netem when this kernel has not; vde2's wirefilter joins two
taps. The long delays are waited for, all at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from links_bench import Bench, sh

from marsnet.links.timeline import Segment

ROOT = Path(__file__).parents[1]
S = 10**9
SECONDS = 5.0
CHANGE = 2.5
FLOOD = (100_000, 10.0, 20.0)
"""Frames, the seconds in which they are sent, the delay."""


def measure(bench: Bench, change: Callable[[], None]) -> dict[str, Any]:
    """Steady delay error, then frames out of order when the delay shrinks."""
    sent, steady = bench.flow(200, 1000, SECONDS, 1, S)
    timer = threading.Timer(CHANGE, change)
    timer.start()
    again, changed = bench.flow(200, 1000, SECONDS, 1, S)
    timer.join()
    return told(steady | sent, changed | again)


def told(steady: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """What the two flows of `measure` show."""
    return {
        "p50_us": steady["p50_ns"] / 1e3,
        "p99_us": steady["p99_ns"] / 1e3,
        "early": steady["early"],
        "lost": steady["sent"] - steady["frames"],
        "out_of_order": changed["disorder"],
        "lost_at_change": changed["sent"] - changed["frames"],
    }


def reach(bench: Bench, delay: float) -> dict[str, Any]:
    """Eleven frames over a long delay."""
    _, got = bench.flow(200, 10, 1.0, 1, round(delay * S))
    return arrived(got, delay)


def arrived(got: dict[str, Any], delay: float) -> dict[str, Any]:
    """How many of eleven frames came, and how late or early the median was."""
    return {"delay_s": delay, "arrived": got["frames"], "error_s": got["p50_ns"] / 1e9 if got["frames"] else None}


def flying(bench: Bench) -> dict[str, Any]:
    """Frames that arrive of those that were in flight at the same time."""
    frames, seconds, delay = FLOOD
    sent, got = bench.flow(200, frames / seconds, seconds, 1, round(delay * S))
    return {"in_flight": sent["sent"], "arrived": got["frames"], "median_error_s": got["p50_ns"] / 1e9}


@contextmanager
def wirefilter(bench: Bench, delay: float) -> Iterator[Path]:
    """vde2's, between two switches with a tap each; yields its management socket."""
    d = bench.directory
    started = []
    for host in "ab":
        sh("ip", "-n", bench.tag + host, "link", "set", "e0", "name", "old0")
        started.append(subprocess.Popen(
            bench.inside(host, "vde_switch", "-s", str(d / host), "-tap", "e0"),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        ))  # fmt: skip
        while (
            subprocess.run(bench.inside(host, "test", "-e", "/sys/class/net/e0"), check=False).returncode
            or not (d / host / "ctl").exists()
        ):
            time.sleep(0.02)
        sh("ip", "netns", "exec", bench.tag + host, "sysctl", "-qw", "net.ipv6.conf.e0.disable_ipv6=1")
        sh("ip", "-n", bench.tag + host, "link", "set", "e0", "up", "promisc", "on")
    started.append(subprocess.Popen(
        ["wirefilter", "-v", f"{d / 'a'}:{d / 'b'}", "-d", f"{delay * 1000:.0f}", "-M", str(d / "wf")],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ))  # fmt: skip
    while not (d / "wf").exists():
        time.sleep(0.02)
    try:
        yield d / "wf"
    finally:
        for process in started:
            process.kill()
            process.wait()


def command(path: Path, text: bytes) -> None:
    """Say something to wirefilter's management socket."""
    with socket.socket(socket.AF_UNIX) as talk:
        talk.connect(str(path))
        talk.sendall(text)
        while b"1000" not in talk.recv(4096):  # its "success"
            pass


def of_delay_line(what: str, delay: float) -> Any:
    """One measurement of this project's."""
    with bench_of() as bench, bench.line(Segment(0, round(delay * S))) as (client, _):

        def change() -> None:
            now = time.monotonic_ns()
            client.load_timeline("x", "ab", [Segment(now, S // 5)], replace_from_ns=now)

        return {"steady": lambda: measure(bench, change), "reach": lambda: reach(bench, delay)}.get(
            what, lambda: flying(bench)
        )()


def of_wirefilter(what: str, delay: float) -> Any:
    """One measurement of vde2's wirefilter."""
    with bench_of() as bench, wirefilter(bench, delay) as control:
        if what == "steady":
            return measure(bench, lambda: command(control, b"delay 200\n"))
        return reach(bench, delay) if what == "reach" else flying(bench)


@contextmanager
def bench_of() -> Iterator[Bench]:
    """Namespaces of one's own."""
    with ExitStack() as stack:
        bench = Bench(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(bench.close)
        yield bench


UML = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run
export LOAD_QDISC=1 PYTHONPATH={root} PATH={bin}:/usr/sbin:/usr/bin:/sbin:/bin
for m in drivers/net/veth net/sched/sch_netem; do insmod {modules}/kernel/$m.ko; done
ip link set lo up; ip link add x0 type veth peer name x1
for i in x0 x1; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; ip link set $i up; done
load={directory}/load; cd {directory}
{script}
poweroff -f
"""
TC_STEADY = f"""
tc qdisc add dev x0 root netem limit 100000 delay 1s
$load sink x1 7 1000000000 > steady & sleep 0.3
$load send x0 200 1000 {SECONDS} 1 > sent1; wait
$load sink x1 7 1000000000 > changed & sleep 0.3
(sleep {CHANGE}; tc qdisc change dev x0 root netem limit 100000 delay 200ms) &
$load send x0 200 1000 {SECONDS} 1 > sent2; wait
"""
FLOW = """
$load sink {sink} {listen} {nominal} > {name} & sleep 0.3
$load send {source} 200 {per_second} {seconds} 1 > sent; wait
"""
NETLINK = """
python - <<'END'
from marsnet.links.netem import NetemLine
from marsnet.links.timeline import Segment
line = NetemLine()
line.add_link("s", "x0", "x1")
line.load_timeline("s", "ab", [Segment(0, {nominal}, rate_bps=1e9)])
END
"""
TCLINK = """
python - <<'END' > said 2>&1
from mininet.net import Mininet
from mininet.link import TCLink
net = Mininet(controller=None)
a, b = (net.addHost(n, ip=None) for n in "ab")
net.addLink(a, b, cls=TCLink, delay="{delay:g}s")
for node in (a, b):
    node.cmd("ip link set " + node.name + "-eth0 up")
sink = b.popen("{load} sink b-eth0 {listen} {nominal}")
sink.stdout.readline()
a.cmd("LOAD_QDISC=1 {load} send a-eth0 200 {per_second} {seconds} 1 > {directory}/sent")
open("{name}", "w").write("ready\\n" + sink.communicate()[0].decode())
net.stop()
END
"""


def in_uml(bench: Bench, script: str, seconds: float) -> str:
    """Run a script in user-mode Linux on this machine's file system; returns what it printed."""
    modules = sorted(Path("/usr/lib/uml/modules").glob("*"))[-1]
    init = bench.directory / "init"
    folder = Path(sys.executable).parent
    init.write_text(UML.format(modules=modules, directory=bench.directory, root=ROOT, bin=folder, script=script))
    init.chmod(0o755)
    done = subprocess.run(
        ["linux.uml", "mem=512M", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}", "con=null",
         "con0=fd:0,fd:1", "ssl=null", "quiet", f"umid={bench.tag}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 60, check=False,
    )  # fmt: skip
    return done.stdout


def sunk(bench: Bench, name: str) -> dict[str, Any]:
    """What a sink in user-mode Linux wrote."""
    return dict(json.loads((bench.directory / name).read_text().splitlines()[1]))


def flow_values(what: str, delay: float) -> dict[str, Any]:
    """The placeholders of a flow."""
    frames, seconds, flood_delay = FLOOD
    if what == "flying":
        delay = flood_delay
    per_second, seconds = (frames / seconds, seconds) if what == "flying" else (10, 1.0)
    return {"nominal": round(delay * S), "listen": seconds + delay + 3, "per_second": per_second, "seconds": seconds,
            "name": "flow", "sink": "x1", "source": "x0", "delay": delay}  # fmt: skip


def of_tc(what: str, delay: float) -> Any:
    """One measurement of netem as `tc` sets it: the limit as large as `tc` takes it, 1000 for the flood."""
    with bench_of() as bench:
        if what == "steady":
            in_uml(bench, TC_STEADY, 30)
            sent = [json.loads((bench.directory / name).read_text()) for name in ("sent1", "sent2")]
            return told(sunk(bench, "steady") | sent[0], sunk(bench, "changed") | sent[1])
        values = flow_values(what, delay)
        limit = "" if what == "flying" else "limit 100000"
        said = in_uml(
            bench,
            f"tc qdisc add dev x0 root netem {limit} delay {values['delay']:g}s 2>&1\n" + FLOW.format(**values),
            values["listen"] + 10,
        )
        return ended(bench, what, delay) | {"said": complaints(said)}


def of_netlink(what: str, delay: float) -> Any:
    """One measurement of netem as this project sets it, through netlink."""
    with bench_of() as bench:
        values = flow_values(what, delay)
        in_uml(bench, NETLINK.format(**values) + FLOW.format(**values), values["listen"] + 10)
        return ended(bench, what, delay)


def of_tclink(what: str, delay: float) -> Any:
    """One measurement of Mininet's TCLink where there is netem."""
    with bench_of() as bench:
        values = flow_values(what, delay)
        in_uml(bench, TCLINK.format(load=bench.load, directory=bench.directory, **values), values["listen"] + 20)
        return ended(bench, what, delay) | {"said": complaints((bench.directory / "said").read_text())}


def complaints(text: str) -> list[str]:
    """Lines that tell of an error."""
    return [line.strip() for line in text.splitlines() if "rror" in line or "llegal" in line][:2]


def ended(bench: Bench, what: str, delay: float) -> dict[str, Any]:
    """The figures of a flow in user-mode Linux."""
    got = sunk(bench, "flow")
    if what != "flying":
        return arrived(got, delay)
    sent = json.loads((bench.directory / "sent").read_text())["sent"]
    return {"in_flight": sent, "arrived": got["frames"], "median_error_s": got["p50_ns"] / 1e9}


TOOLS: tuple[tuple[str, Callable[[str, float], Any], str, tuple[str, ...]], ...] = (
    ("delay line", of_delay_line, "ip", ("steady", "flying", "reach")),
    ("netem by tc", of_tc, "linux.uml", ("steady", "flying", "reach")),
    ("netem by netlink", of_netlink, "linux.uml", ("flying", "reach")),
    ("wirefilter", of_wirefilter, "wirefilter", ("steady", "flying", "reach")),
    ("TCLink", of_tclink, "mn", ("flying", "reach")),
)


def main() -> None:
    """Run those that are installed and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", nargs="*", type=float, default=[300.0, 1200.0], help="the long ones, seconds")
    parser.add_argument("--tools", nargs="*", help="only these")
    parser.add_argument("--skip", nargs="*", default=[], help="measurements to leave out")
    options = parser.parse_args()
    asked = [tool for tool in TOOLS if options.tools is None or tool[0] in options.tools]
    present = [tool for tool in asked if shutil.which(tool[2])]
    for name in {tool[0] for tool in asked} - {tool[0] for tool in present}:
        print(name, "skipped: not installed", flush=True)

    def one(name: str, run: Callable[[str, float], Any], what: str, delay: float) -> None:
        try:
            found = run(what, delay)
        except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
            found = f"failed: {error}"
        print(f"{name}, {what}:", json.dumps(found), flush=True)

    with ThreadPoolExecutor(len(TOOLS) * max(len(options.delays), 1)) as pool:
        for what in ("steady", "flying"):  # one after another: each would disturb the others
            for name, run, _, parts in present:
                if what in parts and what not in options.skip:
                    one(name, run, what, 1.0 if what == "steady" else FLOOD[2])
        for delay in [] if "reach" in options.skip else options.delays:
            for name, run, _, _parts in present:
                pool.submit(one, name, run, "reach", delay)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    main()
