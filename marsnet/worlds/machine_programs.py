"""The programs and daemons that an emulated run uses, and those that only some commands want."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from typing import Any

import docker
from docker.errors import DockerException

from marsnet import compiled
from marsnet.worlds.machine_finding import SETUP, Finding, judge
from marsnet.worlds.machine_kernel import Kernel

_NUMBER = re.compile(r"\d+\.\d+[\w.+~-]*")
_SYSTEM_PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(*names: str) -> str | None:
    """The path of the first of these programs that is installed, also where PATH leaves out the system's folders."""
    found = (shutil.which(name) or shutil.which(name, path=_SYSTEM_PATHS) for name in names)
    return next((path for path in found if path), None)


def version(program: str, *arguments: str) -> str:
    """The version that a program prints in its first line, that line where it has no number, or nothing."""
    try:
        done = subprocess.run(
            [program, *(arguments or ("--version",))], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    line = (done.stdout or done.stderr).strip().partition("\n")[0]
    number = _NUMBER.search(line)
    return number[0] if number else line


def findings(kernel: Kernel) -> Iterator[Finding]:
    """Everything an emulated run starts, then the extras."""
    yield docker_finding()
    yield _switches(kernel)
    core = importlib.util.find_spec("marsnet.links._core") is not None
    yield judge("link core", core, "compiled" if core else "not compiled", required=True, fix=SETUP)
    yield _machine_code(bool(compiled.files()))
    mininet = _has_mininet() and find("mnexec") is not None
    yield judge("mininet", mininet, "installed" if mininet else "not installed", required=True, fix=SETUP)
    yield _program("prometheus", ["prometheus"], required=True, package="prometheus")
    yield _program("promtool", ["promtool"], required=True, package="prometheus")
    for name, package in (("ip", "iproute2"), ("ethtool", "ethtool"), ("nsenter", "util-linux")):
        yield _program(name, [name], required=True, package=package, arguments=["-V"] if name == "ip" else [])
    yield _program("mmdebstrap", ["mmdebstrap"], package="mmdebstrap", without="images need a registry")
    yield _program("tshark", ["tshark"], package="tshark", without="its tests are skipped")
    yield _program("chromium", ["chromium", "chromium-browser"], package="chromium", without="no pictures of reports")


def _machine_code(made: bool) -> Finding:
    if made:
        return Finding("machine code", "ok", "of the modules where bundles are handled")
    return Finding("machine code", "limited", "none of these sources; Python interprets them", fix="make compiled")


def _has_mininet() -> bool:
    """Mininet belongs to the distribution's Python; it is looked for there too."""
    here = importlib.util.find_spec("mininet")
    return (here or PathFinder.find_spec("mininet", ["/usr/lib/python3/dist-packages"])) is not None


def docker_finding(client: Any = None) -> Finding:
    """Whether a Docker daemon answers this user, and which.

    Args:
        client: a Docker client, else one is made as the environment says.
    """
    try:
        client = client or docker.from_env(timeout=20)
        told = client.version()
    except DockerException as error:
        if find("dockerd") is None:
            return judge("docker", False, "not installed", required=True, fix=SETUP)
        refused = "Permission" in str(error)
        value = "this user may not speak to it" if refused else "installed, and no daemon answers"
        return judge("docker", False, value, required=True, fix=SETUP)
    return judge("docker", True, f"{told['Version']}, API {told['ApiVersion']}", required=True)


def _switches(kernel: Kernel) -> Finding:
    daemon = find("ovs-vswitchd")
    if daemon is None or find("ovsdb-server") is None:
        return judge("open vswitch", False, "not installed", required=True, fix=SETUP)
    name = version(daemon)
    if kernel.openvswitch != "absent":
        return judge("open vswitch", True, f"{name}, kernel datapath ({kernel.openvswitch})", required=True)
    if kernel.tun:
        return judge("open vswitch", True, f"{name}, userspace datapath", required=True)
    told = f"{name}, and neither a kernel datapath nor /dev/net/tun"
    return judge("open vswitch", False, told, required=True, fix="modprobe tun")


def _program(
    name: str,
    names: Sequence[str],
    *,
    package: str,
    required: bool = False,
    without: str = "",
    arguments: Sequence[str] = (),
) -> Finding:
    path = find(*names)
    if path is None:
        value = "not installed" + (f": {without}" if without else "")
        return judge(name, False, value, required=required, fix=f"apt-get install {package}")
    return judge(name, True, version(path, *arguments) or path, required=required)
