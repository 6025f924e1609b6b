"""What the running kernel offers: modules, namespaces, scheduling, clock. Nothing here loads a module."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from marsnet.worlds.machine_finding import Finding, judge

Module = Literal["loaded", "built in", "loadable", "absent"]

NET_ADMIN, NET_RAW, SYS_ADMIN = 12, 13, 21
"""Capability numbers (linux/capability.h)."""
_STEADY_CLOCKS = frozenset({"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"})


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel's answers.

    Attributes:
        release: as `uname -r` says.
        namespace: `network`, `user and network` (without root), or empty when no namespace can be made.
        realtime: whether SCHED_FIFO is allowed.
        veth: whether pairs of virtual interfaces can be made; empty text means yes, else the reason.
        netem: the same for the netem queueing discipline.
        netem_module: where the kernel has netem.
        openvswitch: where the kernel has the Open vSwitch datapath.
        tun: whether /dev/net/tun can be opened, which Open vSwitch's userspace datapath needs.
        capabilities: those in force for this process, as a bit mask.
        clock_source: the kernel's clock source.
    """

    release: str
    namespace: str
    realtime: bool
    veth: str
    netem: str
    netem_module: Module
    openvswitch: Module
    tun: bool
    capabilities: int
    clock_source: str

    def may(self, capability: int) -> bool:
        """Whether this process has the capability."""
        return bool(self.capabilities >> capability & 1)


def find_module(name: str, folder: Path, sysfs: Path = Path("/sys/module")) -> Module:
    """Where the kernel has a module.

    Args:
        name: the module, with underscores.
        folder: /lib/modules/RELEASE.
        sysfs: where the kernel lists the modules in memory.
    """
    if (sysfs / name / "refcnt").exists():
        return "loaded"
    if (sysfs / name).is_dir() or name in _names(folder / "modules.builtin"):
        return "built in"
    return "loadable" if name in _names(folder / "modules.dep") else "absent"


def _names(listing: Path) -> set[str]:
    try:
        lines = listing.read_text().splitlines()
    except OSError:
        return set()
    files = (line.partition(":")[0].rpartition("/")[2] for line in lines)
    return {file.partition(".ko")[0].replace("-", "_") for file in files}


@cache
def detect() -> Kernel:
    """Asks the kernel once per process."""
    folder = Path("/lib/modules") / platform.release()
    netem_module = find_module("sch_netem", folder)
    # A try on a loadable module would load it, which would outlast the probe; that it is there is answer enough.
    tried = ["netem"] if netem_module != "loadable" else []
    done = subprocess.run(
        [sys.executable, "-m", "marsnet.worlds.machine_probe", *tried], capture_output=True, text=True, check=False
    )
    try:
        answers = json.loads(done.stdout)
    except json.JSONDecodeError:
        answers = {"namespace": "", "realtime": False, "qdisc": {}, "link": {}}
    return Kernel(
        release=platform.release(),
        namespace=answers["namespace"],
        realtime=answers["realtime"],
        veth=answers["link"].get("veth", "no namespace"),
        netem=answers["qdisc"].get("netem", "" if netem_module == "loadable" else "no namespace"),
        netem_module=netem_module,
        openvswitch=find_module("openvswitch", folder),
        tun=_opens(Path("/dev/net/tun")),
        capabilities=_capabilities(Path("/proc/self/status").read_text()),
        clock_source=_read(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource"), "unknown"),
    )


def _opens(device: Path) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError:
        return False
    return True


def _capabilities(status: str) -> int:
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return int(line.split()[1], 16)


def _read(path: Path, otherwise: str) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return otherwise


def findings(kernel: Kernel) -> Iterator[Finding]:
    """What the kernel lets marsnet do."""
    privileged = all(kernel.may(capability) for capability in (NET_ADMIN, NET_RAW, SYS_ADMIN))
    yield judge(
        "privileges", privileged, "root" if privileged else "not root", required=True, fix="run it as root (sudo)"
    )
    made = kernel.namespace or "not allowed"
    yield judge("network namespaces", bool(kernel.namespace), made, required=True, fix="vagrant up")
    yield judge("veth", not kernel.veth, kernel.veth or "works", required=True, fix="modprobe veth")
    yield _netem(kernel)
    yield judge(
        "real-time scheduling",
        kernel.realtime,
        "SCHED_FIFO allowed" if kernel.realtime else "SCHED_FIFO refused: delays are less exact",
        fix="run it as root (sudo)",
    )
    steady = kernel.clock_source in _STEADY_CLOCKS
    yield judge(
        "clock source", steady, kernel.clock_source + ("" if steady else ": slow to read, delays are less exact")
    )
    yield judge("kernel", True, kernel.release)


def _netem(kernel: Kernel) -> Finding:
    instead = "the delay line carries the links"
    if kernel.netem_module == "loadable":
        return judge("netem", True, "module, loaded when used")
    if not kernel.netem:
        return judge("netem", True, "works")
    reason = "not in this kernel" if kernel.netem == "ENOENT" else f"refused: {kernel.netem}"
    return judge("netem", False, f"{reason}; {instead}", fix="vagrant up")
