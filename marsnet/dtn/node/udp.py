"""LTP over UDP on real sockets (CCSDS 734.1-B-1 section 8): one to receive, one a class to send with its DSCP."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter, deque
from collections.abc import Callable

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.config import NodeConfig
from marsnet.errors import EnvironmentLacksError

_BATCH = 128
"""Datagrams read before the node acts on them: bounds both its delay and the cost of acting."""
_BUFFER = 8 << 20


class UdpTransport:
    """Datagrams to and from the neighbours of a node.

    Attributes:
        lost: datagrams that could not be sent, by reason. LTP sends their content again.
        unknown: datagrams from addresses that are no neighbour's.
    """

    def __init__(self, config: NodeConfig, loop: asyncio.AbstractEventLoop) -> None:
        """Bind the sockets.

        Raises:
            EnvironmentLacksError: the address or the port is not to be had.
        """
        self.lost: Counter[str] = Counter()
        self.unknown = 0
        self._loop = loop
        self._addresses = {name: (n.address, n.port) for name, n in config.neighbours.items()}
        self._names = {n.address: name for name, n in config.neighbours.items()}
        self._waiting: dict[ServiceClass, deque[tuple[bytes, tuple[str, int]]]] = {c: deque() for c in ServiceClass}
        try:
            self._receiver = self._socket()
            self._receiver.bind((config.bind, config.port))
        except OSError as error:
            raise EnvironmentLacksError(
                f"cannot bind UDP {config.bind}:{config.port}: {error.strerror}",
                fix="give another 'bind' or 'port', or end what holds it (see 'ss -lup')",
            ) from None
        self._senders = {}
        for service_class in ServiceClass:
            sender = self._socket()
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, service_class.dscp << 2)
            sender.bind((config.bind, 0))
            self._senders[service_class] = sender

    @staticmethod
    def _socket() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        for force, option in ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF)):
            try:
                # SO_RCVBUFFORCE and SO_SNDBUFFORCE go beyond the system's limit, where allowed.
                made.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
            except PermissionError:
                made.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        return made

    def open(self, receive: Callable[[str | None, bytes], None], pump: Callable[[], None]) -> None:
        """Begin to receive: `receive` is called with each neighbour and datagram, `pump` after each batch."""

        def read() -> None:
            for _ in range(_BATCH):
                try:
                    datagram, address = self._receiver.recvfrom(65535)
                except (BlockingIOError, InterruptedError):
                    break
                neighbour = self._names.get(address[0])
                if neighbour is None:
                    self.unknown += 1
                    continue
                receive(neighbour, datagram)
            pump()

        self._loop.add_reader(self._receiver, read)

    def close(self) -> None:
        """Release the sockets."""
        self._loop.remove_reader(self._receiver)
        self._receiver.close()
        for sender in self._senders.values():
            self._loop.remove_writer(sender)
            sender.close()

    def send(self, neighbour: str, datagram: bytes, service_class: ServiceClass) -> None:
        """Send now, or as soon as the socket takes more."""
        waiting = self._waiting[service_class]
        address = self._addresses[neighbour]
        if waiting:
            waiting.append((datagram, address))
        elif not self._try(service_class, datagram, address):
            waiting.append((datagram, address))
            self._loop.add_writer(self._senders[service_class], self._drain, service_class)

    def _try(self, service_class: ServiceClass, datagram: bytes, address: tuple[str, int]) -> bool:
        try:
            self._senders[service_class].sendto(datagram, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.lost[errno.errorcode.get(error.errno or 0, "unknown")] += 1
        return True

    def _drain(self, service_class: ServiceClass) -> None:
        waiting = self._waiting[service_class]
        while waiting and self._try(service_class, *waiting[0]):
            waiting.popleft()
        if not waiting:
            self._loop.remove_writer(self._senders[service_class])
