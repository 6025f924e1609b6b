"""The distribution packages that marsnet needs: which are missing, and installing just those."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from frame import say

MININET = Path("/usr/lib/python3/dist-packages/mininet")


def _command(name: str) -> Callable[[], bool]:
    search = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return lambda: shutil.which(name, path=search) is not None


def _runs(python: str, code: str) -> Callable[[], bool]:
    return lambda: subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Package:
    """A package, why marsnet needs it, and how to see that something on this machine already does its work.

    Attributes:
        name: as apt knows it.
        use: what for, in a few words.
        present: whether its work can be done, whoever installed it (docker-ce is as good as docker.io).
    """

    name: str
    use: str
    present: Callable[[], bool]


def for_units(python: str) -> list[Package]:
    """What the virtual environment and the unit tests need.

    Args:
        python: the interpreter that the virtual environment is made of.
    """
    version = "3" if python == "/usr/bin/python3" else f"{sys.version_info.major}.{sys.version_info.minor}"
    header = "import sysconfig, pathlib; assert pathlib.Path(sysconfig.get_path('include'), 'Python.h').exists()"
    return [
        Package(f"python{version}-venv", "virtual environment", _runs(python, "import ensurepip, venv")),
        Package(f"python{version}-dev", "headers for what is written in C", _runs(python, header)),
        Package("gcc", "compiler of what is written in C", _command("gcc")),
        Package("libc6-dev", "headers for what is written in C", lambda: Path("/usr/include/stdio.h").exists()),
    ]


def for_labs() -> list[Package]:
    """What an emulated network needs beside `for_units`."""
    return [
        Package("docker.io", "containers", _command("dockerd")),
        Package("openvswitch-switch", "switches", _command("ovs-vswitchd")),
        Package("mininet", "the network around the containers", MININET.is_dir),
        Package("prometheus", "metrics of a run", lambda: _command("prometheus")() and _command("promtool")()),
        Package("mmdebstrap", "the base image where no registry is", _command("mmdebstrap")),
        Package("iproute2", "interfaces and namespaces", _command("ip")),
        Package("ethtool", "offload settings", _command("ethtool")),
        Package("iputils-ping", "reachability", _command("ping")),
        Package("iperf3", "throughput", _command("iperf3")),
        Package("procps", "process limits", _command("sysctl")),
    ]


def for_warp() -> list[Package]:
    """What the warp world needs beside `for_units`; the last one only where it runs without root."""
    return [
        Package("qemu-system-x86", "the guest's machine", _command("qemu-system-x86_64")),
        Package("mmdebstrap", "the guest's root", _command("mmdebstrap")),
        Package("libarchive-tools", "the guest's root as an initramfs", _command("bsdtar")),
        Package("kmod", "the guest's modules", _command("depmod")),
        Package("uidmap", "the guest's root, made without root", _command("newuidmap")),
    ]


def for_tests() -> list[Package]:
    """What the tests need beside `for_labs`."""
    return [
        Package("tshark", "an independent reader of the wire formats", _command("tshark")),
        Package("chromium", "a browser that looks at reports", _command("chromium")),
    ]


def missing(packages: Sequence[Package]) -> list[Package]:
    """Those whose work nothing on this machine does."""
    return [package for package in packages if not package.present()]


def ensure(packages: Sequence[Package], log: Path) -> None:
    """Installs the missing ones with apt; exits with 4 without root, without apt, or when apt fails.

    Args:
        packages: what must be there afterwards.
        log: file that takes apt's output.
    """
    lacking = missing(packages)
    if not lacking:
        return
    names = [package.name for package in lacking]
    by_hand = f"sudo apt-get install --no-install-recommends {' '.join(names)}"
    if shutil.which("apt-get") is None:
        say.lacks(f"missing, and there is no apt here: {', '.join(names)}", "vagrant up, or install them your way")
    if not say.is_root():
        say.lacks(f"missing, and installing needs root: {', '.join(names)}", by_hand)
    for package in lacking:
        say.step(f"installing {package.name} ({package.use})")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]
    say.run([*apt, "update"], log, "apt-get update", env=env)
    say.run([*apt, "install", "--no-install-recommends", *names], log, by_hand, env=env)
    if "prometheus" in names and Path("/run/systemd/system").is_dir():
        say.step("switching off the prometheus service that came with the package: a run starts its own")
        say.run(["systemctl", "disable", "--now", "prometheus"], log, "systemctl disable --now prometheus")
    still = [package.name for package in missing(packages)]
    if still:
        say.lacks(f"installed, yet not usable: {', '.join(still)}", f"read {log}")
