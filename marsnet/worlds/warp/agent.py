"""The first program of marsnet's in the warp guest, and what the later ones need of the guest's machine.

It starts the container daemon, loads the layers of the node's image that rarely change, and stops the machine, whose
state is then kept. A machine that goes on from a kept state finds on its mission device what it is to do next. Only
the standard library and Docker's SDK: `python3 agent.py` runs it where marsnet is not there yet.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import io
import json
import mmap
import os
import random
import socket
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker

CHANNEL = "marsnet.out"
"""Name of the virtual serial port by which the guest speaks."""
LENGTH = struct.Struct(">Q")
"""What the mission device begins with: octets of the tar file that follows."""
BASE_IMAGE = Path("/opt/warp/image.tar")
FOLDER = Path("/mission")
PACKAGES = "mission/packages"
"""Where the guest has the Python packages of the scenario's programs, without the leading slash."""

_GROUP = Path("/sys/fs/cgroup/platform")
"""The control group of the container daemon and of all that it starts beside the containers themselves."""
_SHIM = "containerd-shim-runc-v2"
# <linux/random.h>: _IOW('R', 0x03, int[2]) and _IO('R', 0x07).
_RNDADDENTROPY, _RNDRESEEDCRNG = 0x40085203, 0x5207
# PCI ids of QEMU's pvpanic device (docs/specs/pci-ids.rst); a 1 in its only register stops the machine.
_PVPANIC = ("0x1b36", "0x0011")
# ACPI 6.3, 5.2.25: a header of 40 octets, then structures; QEMU's first one is the range of its only module.
_NFIT, _NFIT_BASE = Path("/sys/firmware/acpi/tables/NFIT"), 40 + 32


class Channel:
    """The way out of the guest."""

    def __init__(self) -> None:
        names = Path("/sys/class/virtio-ports").glob("*/name")
        port = next(name.parent.name for name in names if name.read_text().strip() == CHANNEL)
        self._file = Path("/dev", port).open("wb", buffering=0)  # noqa: SIM115

    def say(self, **message: object) -> None:
        """Send one message; the console shows it too."""
        line = json.dumps(message)
        print(line, flush=True)
        self._write(line.encode() + b"\n")

    def send(self, name: str, content: bytes) -> None:
        """Send a file."""
        self.say(file=name, size=len(content))
        self._write(content)

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()

    def _write(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            rest = rest[self._file.write(rest) :]


def stop_until_resumed(channel: Channel) -> dict[str, Any]:
    """Stop the machine here. Whoever lets a machine go on from here has laid its orders on the mission device.

    Returns:
        The orders: for a mission `clock` (Unix time) and `seed`, which hold on return; for the agent, `program`, the
        Python module that takes over.
    """
    channel.say(stop=True)
    register = _register()
    register[0] = 1
    _receive()
    order: dict[str, Any] = json.loads((FOLDER / "order.json").read_text())
    if "clock" in order:
        time.clock_settime(time.CLOCK_REALTIME, float(order["clock"]))
    if "seed" in order:
        _seed(int(order["seed"]))
    return order


def _register() -> ctypes.Array[ctypes.c_uint8]:
    for device in Path("/sys/bus/pci/devices").iterdir():
        if tuple((device / name).read_text().strip() for name in ("vendor", "device")) == _PVPANIC:
            (device / "enable").write_text("1")
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mmap.restype = ctypes.c_void_p
            libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
            # The register is smaller than a page, for which Python's own mmap refuses.
            with (device / "resource0").open("r+b") as file:
                address = libc.mmap(
                    None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, file.fileno(), 0
                )
            return (ctypes.c_uint8 * 1).from_address(address)
    raise RuntimeError("the machine has no pvpanic device")


def _receive() -> None:
    """Unpack what the mission device holds, relative to the root."""
    address = int.from_bytes(_NFIT.read_bytes()[_NFIT_BASE : _NFIT_BASE + 8], "little")
    with Path("/dev/mem").open("rb") as memory:

        def read(start: int, size: int) -> bytes:
            pages = start // mmap.PAGESIZE * mmap.PAGESIZE
            with mmap.mmap(
                memory.fileno(), start - pages + size, prot=mmap.PROT_READ, offset=address + pages
            ) as window:
                return window[start - pages :]

        (size,) = LENGTH.unpack(read(0, LENGTH.size))
        content = read(LENGTH.size, size)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall("/")  # noqa: S202 - the driver outside wrote it


def _seed(seed: int) -> None:
    octets = hashlib.sha256(seed.to_bytes(8, "little")).digest()
    with Path("/dev/urandom").open("wb") as device:
        fcntl.ioctl(device, _RNDADDENTROPY, struct.pack(f"ii{len(octets)}s", 8 * len(octets), len(octets), octets))
        fcntl.ioctl(device, _RNDRESEEDCRNG)
    random.seed(seed)


def start_platform() -> None:
    """Start the container daemon; it is ready on return."""
    _GROUP.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind("/run/notify")
        # sd_notify(3): the daemon says READY=1 when its socket answers.
        # The daemon inherits the group; the containers that it makes get groups of their own.
        (_GROUP / "cgroup.procs").write_text("0")
        with Path("/run/dockerd.log").open("wb") as log:
            subprocess.Popen(
                ["dockerd", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false",
                 "--userland-proxy=false", "--bridge=none", "--live-restore", "--storage-driver=overlay2",
                 "--exec-opt=native.cgroupdriver=cgroupfs", "--log-level=error"],
                env={**os.environ, "NOTIFY_SOCKET": "/run/notify"}, stdout=log, stderr=log,
            )  # fmt: skip
        (_GROUP.parent / "cgroup.procs").write_text("0")
        while b"READY=1" not in ready.recv(4096):
            pass


@contextmanager
def platform_asleep() -> Iterator[None]:
    """Freeze the container daemon for a while: it wakes up hundreds of times a second for nothing."""
    for process in Path("/proc").glob("[0-9]*"):
        # Each shim was started in a group of its own.
        with suppress(OSError):  # It may have ended just now.
            if (process / "comm").read_text().strip() == _SHIM[:15]:
                (_GROUP / "cgroup.procs").write_text(process.name)
    (_GROUP / "cgroup.freeze").write_text("1")
    try:
        yield
    finally:
        (_GROUP / "cgroup.freeze").write_text("0")
        # It has slept through the time at which it gives up idle connections, and does so now: a fresh one is
        # answered after that, and those that others kept are seen to be closed.
        with docker_client() as client:
            client.ping()


@contextmanager
def docker_client() -> Iterator[Any]:
    """A connection to the guest's container daemon."""
    client = docker.from_env(timeout=600)
    try:
        yield client
    finally:
        client.close()


def load_image(archive: Path) -> None:
    """Give the container daemon an image, and forget the archive, which is memory here."""
    with docker_client() as client, archive.open("rb") as file:
        client.images.load(file)
    archive.unlink()


def main() -> None:
    """From boot to the first stop, and on as the program that the orders have brought."""
    channel = Channel()
    channel.say(state="the guest is up", guest=time.monotonic())
    start_platform()
    channel.say(state="the container daemon is up", guest=time.monotonic())
    load_image(BASE_IMAGE)
    channel.say(state="the container image is loaded", guest=time.monotonic())
    order = stop_until_resumed(channel)
    channel.close()
    os.execv(sys.executable, [sys.executable, "-m", str(order["program"])])  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    main()
