"""What runs inside the warp guest: the container daemon, then the emulated world at rate 1, then the results go out.

Started by the guest's first process as `python3 -m marsnet.worlds.warp.guest FOLDER`. The folder has `order.json` and
what it speaks of. Everything that is to be known outside is a line of JSON on a virtual serial port.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from marsnet.clock import parse_utc
from marsnet.worlds.images import connect
from marsnet.worlds.spec import EmulatedOptions, Outcome, RunSpec
from marsnet.worlds.warp.machine import CHANNEL
from marsnet.worlds.warp.recipe import NODE_IMAGE
from marsnet.worlds.warp.shell import looking_in

PACKAGES = "mission/packages"
"""Where the guest has the Python packages of the scenario's programs, without the leading slash."""
_GROUP = Path("/sys/fs/cgroup/platform")
"""The control group of the container daemon and all that it starts beside the containers themselves."""


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

    def _write(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            rest = rest[self._file.write(rest) :]


class Platform:
    """The container daemon. It wakes up hundreds of times a second for nothing, so it sleeps while nobody needs it."""

    def __init__(self) -> None:
        _GROUP.mkdir()
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind("/run/notify")
        # sd_notify(3): the daemon says READY=1 when its socket answers.
        # The daemon inherits the group; only the containers that it makes get groups of their own.
        (_GROUP / "cgroup.procs").write_text("0")
        with Path("/run/dockerd.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--iptables=false", "--ip-masq=false", "--ip-forward=false", "--bridge=none",
                 "--live-restore", "--storage-driver=overlay2", "--exec-opt=native.cgroupdriver=cgroupfs",
                 "--log-level=error"],
                env={**os.environ, "NOTIFY_SOCKET": "/run/notify"}, stdout=log, stderr=log,
            )  # fmt: skip
        (_GROUP.parent / "cgroup.procs").write_text("0")
        while b"READY=1" not in ready.recv(4096):
            pass

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Freeze it for a while."""
        (_GROUP / "cgroup.freeze").write_text("1")
        try:
            yield
        finally:
            (_GROUP / "cgroup.freeze").write_text("0")
            # It has slept through the time at which it gives up idle connections, and does so now: a fresh one is
            # answered after that, and those that others kept are seen to be closed.
            connect().close()


def load_image(archive: Path) -> None:
    """Give the daemon an image, and forget the archive, which is memory here."""
    client = connect()
    with archive.open("rb") as file:
        client.images.load(file)
    client.close()
    archive.unlink()


def prepare_store(channel: Channel, folder: Path) -> None:
    """Load the image into an empty store and send the store out."""
    platform = Platform()
    channel.say(state="the container daemon is up", guest=time.monotonic())
    load_image(folder / "image.tar")
    channel.say(state="the image is loaded", guest=time.monotonic())
    platform.process.terminate()
    platform.process.wait()
    channel.send("store.tar", _packed(Path("/var/lib/docker"), "var/lib/docker"))


def run_mission(channel: Channel, folder: Path, order: dict[str, Any]) -> None:
    """Run the scenario as the emulated world does, and send out what it observed and left."""
    from marsnet.worlds.emulated import run_emulated  # noqa: PLC0415
    from marsnet.worlds.warp.wakers import Wakers  # noqa: PLC0415

    platform = Platform()
    load_image(folder / "image.tar")
    spec: RunSpec = pickle.loads((folder / "spec.pickle").read_bytes())  # noqa: S301 - the driver outside wrote it
    origin = time.monotonic() + (parse_utc(spec.plan.epoch).timestamp() - time.time())
    options = EmulatedOptions(
        lab="warp",
        image=NODE_IMAGE,
        origin=origin,
        metrics=False,
        asleep=platform.asleep,
        packages=Path("/", PACKAGES),
        pause=looking_in((folder / "moment").read_bytes(), spec.folder, channel.say),
        links=order["links"],
        datapath=order["datapath"],
    )
    wakers = Wakers()

    def tell(share: float, state: str) -> None:
        if share > 0:
            wakers.begin()
        channel.say(share=share, state=state, guest=time.monotonic())

    outcome = run_emulated(spec, options, tell)
    channel.say(wakers=wakers.end())
    channel.send("outcome.json", TypeAdapter(Outcome).dump_json(outcome))
    channel.send("run.tar", _packed(spec.folder, "."))


def _packed(folder: Path, name: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(folder, name)
    return packed.getvalue()


def main() -> int:
    """Do what is ordered; returns the exit code."""
    folder = Path(sys.argv[1])
    channel = Channel()
    channel.say(state="the guest is up", guest=time.monotonic())
    try:
        order = json.loads((folder / "order.json").read_text())
        if order["action"] == "prepare":
            prepare_store(channel, folder)
        else:
            run_mission(channel, folder, order)
    except BaseException as error:
        channel.say(error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
        channel.say(end=True)
        raise
    channel.say(end=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
