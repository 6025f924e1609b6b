"""A Mininet link whose two ends are joined by the delay line.

Each end is a veth; the other halves of the two pairs stay in the present network namespace, where the daemon's process
must run, and belong to it.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mininet.link import Link, OVSLink, TCLink, TCULink

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.links.client import DaemonProcess, DelayLineClient
from marsnet.links.timeline import Segment
from marsnet.units import quantity

_OFFLOADS = ("tx", "tso", "gso", "gro")
"""Off at the ends: a frame of 64 kB would count as one, and a checksum left to the hardware is never computed."""


class SpaceLink(Link):  # type: ignore[misc]
    """A point-to-point link through space.

    Args:
        node1: Mininet node at end a.
        node2: Mininet node at end b.
        delay: one-way light time with its unit; `0 s` when empty. Ignored when `timeline` is False.
        rate: of both transmitters with its unit; unlimited when empty.
        loss: probability that a frame is lost.
        ber: bit error rate.
        mtu: bytes, of all four interfaces.
        client: of a running delay line; one for this process is started, and ended with its last link, when None.
        link_name: in the delay line; the names of the ends when empty.
        config: JSON form of `marsnet.links.fidelity.LinkConfig`.
        timeline: load a constant timeline at once; False leaves both transmitters down until the caller loads one.
        params: as for `mininet.link.Link`.

    Raises:
        InputError: when a quantity or the configuration is wrong.
        EnvironmentLacksError: when an interface cannot be made or the daemon does not start.
    """

    _numbers: ClassVar[itertools.count[int]] = itertools.count()

    def __init__(
        self,
        node1: Any,
        node2: Any,
        *,
        delay: str = "",
        rate: str = "",
        loss: float = 0.0,
        ber: float = 0.0,
        mtu: int = 1500,
        client: DelayLineClient | None = None,
        link_name: str = "",
        config: Mapping[str, Any] | None = None,
        timeline: bool = True,
        **params: Any,
    ) -> None:
        segment = Segment(
            0,
            round(quantity(delay or "0 s", "time") * 1e9),
            rate_bps=quantity(rate, "rate") if rate else None,
            loss=float(loss),
            ber=float(ber),
        )
        number = next(self._numbers)
        self.middles = (f"sl{os.getpid():x}.{number}a", f"sl{os.getpid():x}.{number}b")
        self.mtu, self.link_name = int(mtu), link_name
        if not 68 <= self.mtu <= 9216:
            raise InputError(f"mtu is {mtu}", remedy="use 68 to 9216 bytes")
        self._shared = client is None
        self.client: DelayLineClient | None = _OwnLine.take() if client is None else client
        self._linked = False
        try:
            super().__init__(node1, node2, **params)
            self.link_name = link_name or f"{self.intf1.name}-{self.intf2.name}"
            self.client.add_link(self.link_name, *self.middles, dict(config or {}))
            self._linked = True
            if timeline:
                for direction in ("ab", "ba"):
                    self.client.load_timeline(self.link_name, direction, [segment])
        except BaseException:
            self._release()
            raise

    def makeIntfPair(  # noqa: N802 - Mininet's name
        self,
        intfname1: str,
        intfname2: str,
        addr1: str | None = None,
        addr2: str | None = None,
        node1: Any = None,
        node2: Any = None,
        deleteIntfs: bool = True,  # noqa: N803 - Mininet's name
    ) -> None:
        """Make a veth pair for each end. Old interfaces are never deleted: a name that is taken is an error."""
        del deleteIntfs
        ends = ((intfname1, addr1, node1), (intfname2, addr2, node2))
        for middle, (name, address, node) in zip(self.middles, ends, strict=True):
            hardware = ["address", address] if address else []
            mtu = ["mtu", str(self.mtu)]
            _run("ip", "link", "add", middle, *mtu, "type", "veth",
                 "peer", "name", name, *hardware, *mtu, "netns", str(node.pid))  # fmt: skip
            no_ipv6 = Path(f"/proc/sys/net/ipv6/conf/{middle}/disable_ipv6")
            if no_ipv6.exists():
                no_ipv6.write_text("1")
            _run("ip", "link", "set", middle, "up")
            off = [word for feature in _OFFLOADS for word in (feature, "off")]
            _run("nsenter", f"--net=/proc/{node.pid}/ns/net", "ethtool", "-K", name, *off)

    def delete(self) -> None:
        """Take the link out of the delay line and delete its interfaces."""
        self._release()
        super().delete()

    def _release(self) -> None:
        if self.client is None:
            return
        client, self.client = self.client, None
        try:
            if self._linked:
                client.remove_link(self.link_name)
        finally:
            for middle in self.middles:
                if _exists(middle):
                    _run("ip", "link", "del", middle)
            if self._shared:
                _OwnLine.give()


class _OwnLine:
    """The delay line of this process, alive while one of its links is."""

    _users: ClassVar[int] = 0
    _process: ClassVar[DaemonProcess | None] = None
    _directory: ClassVar[tempfile.TemporaryDirectory[str] | None] = None
    _client: ClassVar[DelayLineClient | None] = None

    @classmethod
    def take(cls) -> DelayLineClient:
        if cls._client is None:
            cls._directory = tempfile.TemporaryDirectory(prefix="marsnet-line-")
            cls._process = DaemonProcess(Path(cls._directory.name) / "line.sock")
            cls._client = cls._process.client()
        cls._users += 1
        return cls._client

    @classmethod
    def give(cls) -> None:
        cls._users -= 1
        if cls._users or cls._client is None or cls._process is None or cls._directory is None:
            return
        cls._client.close()
        cls._process.close()
        cls._directory.cleanup()
        cls._client = cls._process = cls._directory = None


def _exists(interface: str) -> bool:
    """Whether this network namespace has it; /sys may be a mount that shows another namespace's."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EnvironmentLacksError(
            f"the program {command[0]!r} is missing", fix="apt install iproute2 ethtool"
        ) from error
    if done.returncode:
        raise EnvironmentLacksError(f"{' '.join(command)}: {done.stderr.strip()}", fix="run as root; see: ip link")


LINKS = {"default": Link, "tc": TCLink, "tcu": TCULink, "ovs": OVSLink, "space": SpaceLink}
"""For `mn --custom`: Mininet 2.3.0 ignores `links` (a comma is missing in `mn`), but lets its table be replaced."""
