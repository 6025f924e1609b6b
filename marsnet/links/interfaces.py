"""What the delay line needs to know of network interfaces, and who owns them."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass

from marsnet.errors import InputError

_SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCGIFHWADDR = 0x8913, 0x8921, 0x8927  # netdevice(7)
_IFF_UP, _ARPHRD_ETHER = 1, 1


@dataclass(frozen=True, slots=True)
class Interface:
    """An Ethernet interface of this network namespace.

    Attributes:
        name: its name.
        index: its number.
        mtu: bytes.
    """

    name: str
    index: int
    mtu: int

    @classmethod
    def find(cls, name: str) -> Interface:
        """The interface of a name.

        Raises:
            InputError: when there is none, when it is down, or when it is not Ethernet.
        """
        if not isinstance(name, str) or not 0 < len(name.encode()) < 16:
            raise InputError(f"interface name {name!r}", remedy="name an interface of this network namespace")
        request = struct.pack("16s24x", name.encode())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                index = socket.if_nametoindex(name)
                mtu = struct.unpack_from("i", fcntl.ioctl(probe, _SIOCGIFMTU, request), 16)[0]
                flags = struct.unpack_from("H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)[0]
                kind = struct.unpack_from("H", fcntl.ioctl(probe, _SIOCGIFHWADDR, request), 16)[0]
            except OSError as error:
                raise InputError(
                    f"there is no interface {name!r} in this network namespace", remedy="see: ip link"
                ) from error
        if kind != _ARPHRD_ETHER:
            raise InputError(f"interface {name!r} is not Ethernet", remedy="use a veth")
        if not flags & _IFF_UP:
            raise InputError(f"interface {name!r} is down", remedy=f"ip link set {name} up")
        return cls(name, index, mtu)

    @property
    def exists(self) -> bool:
        """Whether the interface is still in this network namespace."""
        try:
            socket.if_indextoname(self.index)
        except OSError:
            return False
        return True


def watch() -> socket.socket:
    """A socket that becomes readable whenever a link of this network namespace changes (rtnetlink(7), RTMGRP_LINK)."""
    watcher = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    watcher.bind((0, 1))
    return watcher


def claim(interface: Interface) -> socket.socket:
    """Take an interface for oneself until the returned socket is closed.

    The claim is an abstract Unix socket, known within the network namespace only, so it ends with its process.

    Raises:
        InputError: when another delay line has it, naming its process.
    """
    address = f"\0marsnet-link-{interface.index}"
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(address)
        lock.listen(1)
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise InputError(
            f"interface {interface.name!r} already belongs to a link of process {_owner(address)}",
            remedy="remove that link first",
        ) from error
    return lock


def _owner(address: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
            pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        except OSError:
            return "(unknown)"
        return str(pid)
