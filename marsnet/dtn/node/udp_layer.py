"""UDPCL as a convergence layer of a node: a bundle is a datagram, at the contact's rate, without acknowledgement."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Protocol

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.layer import Figure, Layer, Received, Returned, Sent, Taken, Waiting, withdraw
from marsnet.dtn.recipe import Rope
from marsnet.dtn.udpcl import DatagramError, from_datagram, to_datagram

_OVERHEAD = 42
"""Octets of Ethernet, IP and UDP around a datagram."""
_CATCH_UP = 0.02
"""Host seconds of lateness that are made up for: what bounds a burst."""


class Datagrams(Protocol):
    """Sends datagrams to neighbours; `UdpTransport` does."""

    def open(self, receive: Callable[[str | None, list[bytes]], None], pump: Callable[[], None]) -> None:
        """Begin to receive."""

    def send(self, neighbour: str, datagram: bytes, service_class: ServiceClass) -> None:
        """Send one."""

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """For Prometheus, as those of a layer."""

    def close(self) -> None:
        """Release sockets."""


class _Way:
    """What waits for one neighbour."""

    __slots__ = ("free", "limit", "rate", "sent", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.rate = 0.0
        self.free = 0.0
        self.sent = 0
        self.waiting: deque[Waiting] = deque()


class UdpclLayer(Layer):
    """Bundles in datagrams. What has left counts as taken: nobody says whether it arrived."""

    def __init__(self, transport: Datagrams, limits: Mapping[str, int], rate: float = 1.0) -> None:
        """Prepare.

        Args:
            transport: of the datagrams.
            limits: octets of the largest datagram by neighbour.
            rate: mission seconds per host second.
        """
        super().__init__("udpcl", one_way=True)
        self._transport = transport
        self._ways = {name: _Way(limit) for name, limit in limits.items()}
        self._handles = itertools.count(1)
        self._catch_up = _CATCH_UP * rate
        self._received = 0
        transport.open(self._take, self._batch)

    def send(
        self, neighbour: str, octets: bytes | Rope, now: float, *, tag: object, service_class: ServiceClass
    ) -> Hashable:
        """Queue a bundle behind what waits, unless no datagram carries it."""
        way, handle = self._ways[neighbour], next(self._handles)
        try:
            datagram = to_datagram(bytes(octets), way.limit)
        except DatagramError:
            self.drops["too large"] += 1
            self._events.append(Returned((tag,), "too large", refused=True))
            return handle
        if not way.waiting:
            way.free = max(way.free, now - self._catch_up)
        way.waiting.append(Waiting(handle, datagram, tag, service_class))
        return handle

    def cancel(self, handle: Hashable, now: float) -> None:
        """Take back what has not left."""
        self._events += withdraw((way.waiting for way in self._ways.values()), handle)

    def max_bundle(self, neighbour: str) -> int | None:
        """The datagram's limit."""
        return self._ways[neighbour].limit

    def contact(self, neighbour: str, rate: float, now: float) -> None:
        """The contact's rate has changed."""
        self._ways[neighbour].rate = rate

    def advance(self, now: float) -> None:
        """Send what the rates allow."""
        for name, way in self._ways.items():
            while way.waiting and way.rate and way.free <= now:
                _, datagram, tag, service_class = way.waiting.popleft()
                way.free = max(way.free, now - self._catch_up) + 8 * (len(datagram) + _OVERHEAD) / way.rate
                way.sent += 1
                self._transport.send(name, datagram, service_class)
                self._events += (Sent((tag,)), Taken((tag,)))

    def next_deadline(self, now: float) -> float | None:
        """When the next datagram may leave."""
        return min((max(way.free, now) for way in self._ways.values() if way.waiting and way.rate), default=None)

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Datagrams."""
        yield from super().figures()
        yield from self._transport.figures()
        for name, way in self._ways.items():
            yield name, Figure("udpcl_sent_bundles", "Bundles sent in datagrams.", "counter", {}, way.sent)
        yield "", Figure("udpcl_received_bundles", "Bundles received in datagrams.", "counter", {}, self._received)

    def close(self) -> None:
        """Release the sockets."""
        self._transport.close()

    def _batch(self) -> None:
        self.wake()

    def _take(self, neighbour: str | None, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            try:
                bundle = from_datagram(datagram)
            except DatagramError:
                self.drops["no bundle"] += 1
                continue
            if bundle is not None:
                self._received += 1
                self._events.append(Received(self, neighbour, (bytes(bundle),)))
