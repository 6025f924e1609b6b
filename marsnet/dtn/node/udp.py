"""Datagrams on real sockets, for LTP (CCSDS 734.1-B-1 section 8) and UDPCL: one socket to receive, one a class to send
with its DSCP."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from itertools import groupby
from operator import itemgetter

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.ltp import Train
from marsnet.dtn.node.config import Address
from marsnet.dtn.node.layer import Figure
from marsnet.dtn.node.steering import steer
from marsnet.errors import EnvironmentLacksError

_BATCH, _BATCH_OCTETS = 128, 2 << 20
"""Datagrams, and octets in them, read before the node acts on them: bounds both its delay and the cost of acting."""
_BUFFER = 8 << 20
_UDP_SEGMENT, _MOST_CUT, _LARGEST = 103, 64, 65_000
"""Generic segmentation of UDP (udp(7)): the option, and how many datagrams and octets at once."""
_UNABLE = {errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP}
"""What kernels say that cannot do it, or not on this way (before Linux 6.11: not without checksums in hardware)."""
_MEMINFO, _COUNTS, _DROPS = 55, 9, 8
"""What a socket says of its memory (SO_MEMINFO of Linux), how many numbers, and which of them counts what was lost."""


class UdpTransport:
    """Datagrams to and from the neighbours of a node.

    Attributes:
        lost: datagrams that could not be sent, by reason. LTP sends their content again.
        unknown: datagrams from addresses that are no neighbour's.
    """

    def __init__(
        self,
        listen: Address,
        neighbours: Mapping[str, Address],
        loop: asyncio.AbstractEventLoop,
        *,
        patient: bool = False,
    ) -> None:
        """Bind the sockets.

        Args:
            listen: where to receive.
            neighbours: where they are, by name.
            loop: that the node runs on.
            patient: whether datagrams are LTP's, of which some can wait (`steering`).

        Raises:
            EnvironmentLacksError: the address or the port is not to be had.
        """
        self.lost: Counter[str] = Counter()
        self.unknown = 0
        self._loop = loop
        self._addresses = dict(neighbours)
        self._names = _by_origin(neighbours)
        self._cut = {name for name, (host, _) in neighbours.items() if not ip_address(host).is_loopback}
        """Neighbours to whom the kernel cuts datagrams, until it refuses: on a loopback they would arrive uncut."""
        self._family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        self._waiting: dict[ServiceClass, deque[tuple[bytes, Address]]] = {c: deque() for c in ServiceClass}
        self._senders: dict[ServiceClass, socket.socket] = {}
        self._receiver = self._socket()
        self._patient: socket.socket | None = None
        self._receive: Callable[[str | None, list[bytes]], None] = lambda neighbour, datagrams: None
        try:
            self._receiver.bind(listen)
            for service_class in ServiceClass:
                sender = self._senders[service_class] = self._socket()
                self._mark(sender, service_class.dscp << 2)
                sender.bind((listen.host, 0))
        except OSError as error:
            self._close_sockets()
            raise EnvironmentLacksError(
                f"cannot bind UDP {listen.host}:{listen.port}: {error.strerror}",
                fix="listen elsewhere, or end what holds it (see 'ss -lup')",
            ) from None
        if patient and steer(self._receiver, waiting := self._socket()):
            self._patient = waiting

    def _socket(self) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        for force, option in ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF)):
            try:
                # SO_RCVBUFFORCE and SO_SNDBUFFORCE go beyond the system's limit, where allowed.
                made.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
            except PermissionError:
                made.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        return made

    def _mark(self, sender: socket.socket, traffic_class: int) -> None:
        if self._family == socket.AF_INET6:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)
        else:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)

    def open(self, receive: Callable[[str | None, list[bytes]], None], pump: Callable[[], None]) -> None:
        """Begin to receive: `receive` is called with a neighbour and its datagrams, `pump` after each batch.

        The neighbour is None where several are at the address that datagrams came from.
        """
        self._receive = receive

        def read() -> None:
            # What waits belongs before what came for certain later, so that is looked for first.
            prompt = self._read(self._receiver, _BATCH, _BATCH_OCTETS)
            self.collect()
            self._hand_over(prompt)
            pump()

        self._loop.add_reader(self._receiver, read)
        # Before there was a filter, anything may have come to the socket that nobody is woken by.
        self._loop.call_soon(read)

    def collect(self) -> None:
        """Receive what has waited for an occasion: no more than what did when this was called."""
        if self._patient is not None:
            self._hand_over(self._read(self._patient, _BUFFER, _BUFFER))

    def _read(self, receiver: socket.socket, most: int, octets: int) -> list[tuple[str, bytes]]:
        """Datagrams and their neighbours, until there are none, so many, or so many octets."""
        names, found, take = self._names, [], receiver.recvfrom
        for _ in range(most):
            try:
                datagram, origin = take(65535)
            except (BlockingIOError, InterruptedError):
                break
            neighbour = names.get(origin[:2])
            if neighbour is None:
                neighbour = names.get(origin[0])
            if neighbour is None:
                self.unknown += 1
                continue
            found.append((neighbour, datagram))
            octets -= len(datagram)
            if octets <= 0:
                break
        return found

    def _hand_over(self, found: list[tuple[str, bytes]]) -> None:
        for neighbour, group in groupby(found, itemgetter(0)):
            self._receive(neighbour or None, [datagram for _, datagram in group])

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """For Prometheus, as those of a layer."""
        for reason, count in self.lost.items():
            text = "Datagrams that the operating system refused."
            yield "", Figure("unsent_datagrams", text, "counter", {"reason": reason}, count)
        text = "Datagrams from addresses that are no neighbour's."
        yield "", Figure("unknown_datagrams", text, "counter", {}, self.unknown)
        text = "Datagrams that found no room in a socket."
        yield "", Figure("overrun_datagrams", text, "counter", {}, self.overrun)
        for service_class, waiting in self._waiting.items():
            text = "Datagrams that wait for room in a socket."
            yield "", Figure("waiting_datagrams", text, "gauge", {"class": service_class.name.lower()}, len(waiting))

    @property
    def overrun(self) -> int:
        """Datagrams that came and found no room."""
        told = [s.getsockopt(socket.SOL_SOCKET, _MEMINFO, 4 * _COUNTS) for s in self._receivers]
        return sum(struct.unpack(f"={_COUNTS}I", each)[_DROPS] for each in told)

    @property
    def _receivers(self) -> list[socket.socket]:
        return [self._receiver] if self._patient is None else [self._receiver, self._patient]

    def close(self) -> None:
        """Release the sockets."""
        self._loop.remove_reader(self._receiver)
        for sender in self._senders.values():
            self._loop.remove_writer(sender)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for each in (*self._receivers, *self._senders.values()):
            each.close()

    def send(self, neighbour: str, datagram: bytes | Train, service_class: ServiceClass) -> None:
        """Send now, or as soon as the socket takes more; a train as its datagrams."""
        waiting = self._waiting[service_class]
        address = self._addresses[neighbour]
        datagrams = datagram.datagrams() if isinstance(datagram, Train) else [datagram]
        if len(datagrams) > 1 and not waiting and neighbour in self._cut:
            datagrams = datagrams[self._together(neighbour, datagrams, service_class) :]
        for each in datagrams:
            if waiting:
                waiting.append((each, address))
            elif not self._try(service_class, each, address):
                waiting.append((each, address))
                self._loop.add_writer(self._senders[service_class], self._drain, service_class)

    def _together(self, neighbour: str, datagrams: list[bytes], service_class: ServiceClass) -> int:
        """Give the kernel datagrams of one size in one piece, which it cuts; returns how many it has taken."""
        size = len(datagrams[0])
        if len(datagrams[-1]) != size:
            return 0
        most = min(_MOST_CUT, _LARGEST // size)
        how = ((socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size)),)
        sender, address = self._senders[service_class], self._addresses[neighbour]
        for begin in range(0, len(datagrams), most):
            try:
                sender.sendmsg(datagrams[begin : begin + most], how, 0, address)
            except OSError as error:
                if error.errno in _UNABLE:
                    self._cut.discard(neighbour)
                # One by one they wait, or are lost and counted.
                return begin
        return len(datagrams)

    def _try(self, service_class: ServiceClass, datagram: bytes, address: Address) -> bool:
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


def _by_origin(neighbours: Mapping[str, Address]) -> dict[object, str]:
    """Neighbour by address and port and, where it is the only one there, by address; empty text where several are."""
    names: dict[object, str] = {}
    for name, (host, port) in neighbours.items():
        names[host, port] = name
        names[host] = "" if host in names else name
    return names
