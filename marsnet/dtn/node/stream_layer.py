"""MTCP and STCP as convergence layers of a node: a connection for each direction, without acknowledgement."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.mtcp import FramingError, MtcpDeframer, StcpDeframer, mtcp_frame, stcp_frame
from marsnet.dtn.node.backoff import Backoff
from marsnet.dtn.node.config import Address
from marsnet.dtn.node.connecting import Called, ConnectingLayer
from marsnet.dtn.node.layer import Figure, PeerDown, PeerUp, Received, Returned, Sent, Taken, Waiting, withdraw
from marsnet.dtn.recipe import Rope

MAX_CONNECTIONS = 256
"""Connections accepted at the same time."""
_FIRST, _LAST = 1.0, 60.0
"""Host seconds between attempts to connect."""

log = logging.getLogger(__name__)


class _Way(Called, asyncio.Protocol):
    """The connection to one neighbour, and what waits for it."""

    def __init__(self, layer: StreamLayer, name: str, address: Address, backoff: Backoff) -> None:
        super().__init__(address, backoff)
        self.name = name
        self.waiting: deque[Waiting] = deque()
        self.written: list[object] = []
        self.open = False
        self.transport: asyncio.Transport | None = None
        self.connections = self.sent = 0
        self._layer, self._full = layer, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"streams run over TCP, not over {type(transport).__name__}")
        # With no buffer of its own, the transport tells when the system has taken what was written.
        transport.set_write_buffer_limits(high=0)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport, self._full = transport, False
        self.connections += 1
        self._layer.connected(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self.flush()
        self._layer.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._layer.lost(self, str(exc or "closed by the peer"))

    def flush(self) -> None:
        """Write one bundle after another, as long as the system takes them."""
        while self.transport is not None and not self._full:
            self._layer.left(self, self.written)
            self.written = []
            if not self.waiting:
                return
            each = self.waiting.popleft()
            self.written.append(each.tag)
            self.transport.writelines(self._layer.frame(each.octets))
            self.sent += 1


class StreamLayer(ConnectingLayer[_Way]):
    """Bundles one after another on TCP connections. What the operating system has taken counts as taken."""

    def __init__(
        self, name: str, neighbours: Mapping[str, Address], clock: MissionClock, *, listen: Address | None = None
    ) -> None:
        """Prepare.

        Args:
            name: `mtcp` or `stcp`.
            neighbours: where they listen, by name.
            clock: the mission clock.
            listen: where to accept connections; None for nowhere.
        """
        super().__init__(name, clock, listen, one_way=True)
        self.frame: Callable[[bytes], list[bytes | memoryview]]
        self.frame = mtcp_frame if name == "mtcp" else stcp_frame
        rate = clock.rate
        self._ways = {
            neighbour: _Way(self, neighbour, address, Backoff(_FIRST * rate, _LAST * rate))
            for neighbour, address in neighbours.items()
        }
        hosts = [address.host for address in neighbours.values()]
        self._hosts = {a.host: n for n, a in neighbours.items() if hosts.count(a.host) == 1}
        self._handles = itertools.count(1)
        self._accepted: set[asyncio.Transport] = set()
        self._received = 0

    # For the node

    def send(
        self, neighbour: str, octets: bytes | Rope, now: float, *, tag: object, service_class: ServiceClass
    ) -> Hashable:
        """Write a bundle, or queue it behind what waits."""
        way, handle = self._ways[neighbour], next(self._handles)
        way.waiting.append(Waiting(handle, bytes(octets), tag, service_class))
        way.flush()
        return handle

    def cancel(self, handle: Hashable, now: float) -> None:
        """Take back what has not been written."""
        self._events += withdraw((way.waiting for way in self._ways.values()), handle)

    def ready(self, neighbour: str) -> bool:
        """Whether there is a connection."""
        return self._ways[neighbour].transport is not None

    def contact(self, neighbour: str, rate: float, now: float) -> None:
        """Connect when a contact opens, and close the connection when it closes."""
        way = self._ways[neighbour]
        way.open = rate > 0
        if not way.open:
            way.backoff.stop()
            if way.transport is not None:
                way.transport.close()
        elif way.transport is None and way.dialling is None:
            way.backoff.begin(now)

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for way in self._ways.values():
            if way.transport is not None:
                way.transport.close()
        for transport in list(self._accepted):
            transport.close()

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Connections and bundles."""
        yield from super().figures()
        for name, way in self._ways.items():
            is_up = way.transport is not None
            yield name, Figure("stream_connected", "1 while there is a connection.", "gauge", {}, is_up)
            yield name, Figure("stream_connections", "Connections made.", "counter", {}, way.connections)
            yield name, Figure("stream_sent_bundles", "Bundles written.", "counter", {}, way.sent)
            yield name, Figure("stream_waiting_bundles", "Bundles not written.", "gauge", {}, len(way.waiting))
        yield "", Figure("stream_received_bundles", "Bundles read.", "counter", {}, self._received)
        yield "", Figure("stream_accepted", "Connections accepted that are open.", "gauge", {}, len(self._accepted))

    # What connections say

    def connected(self, way: _Way) -> None:
        """The connection to a neighbour is up."""
        way.backoff.succeeded()
        log.info("connected", extra={"peer": way.name, "layer": self.name})
        self._events.append(PeerUp(self, way.name))
        self.wake()

    def lost(self, way: _Way, why: str) -> None:
        """The connection to a neighbour is gone: what was not written whole is sent again."""
        back = [*way.written, *(each.tag for each in way.waiting)]
        way.written = []
        way.waiting.clear()
        self._events += [Returned((tag,), "connection lost") for tag in back]
        self._failed(way, why)
        self.wake()

    def left(self, way: _Way, tags: list[object]) -> None:
        """The operating system has taken bundles."""
        for tag in tags:
            self._events += (Sent((tag,)), Taken((tag,)))

    def accepted(self, transport: asyncio.Transport) -> str | None:
        """Somebody has connected; returns which neighbour, where the address tells."""
        if len(self._accepted) >= MAX_CONNECTIONS:
            self.drops["too many connections"] += 1
            transport.abort()
            return None
        self._accepted.add(transport)
        return self._hosts.get(transport.get_extra_info("peername")[0])

    def gone(self, transport: asyncio.Transport, *, cut: bool) -> None:
        """Such a connection has ended, inside of a bundle or not."""
        self._accepted.discard(transport)
        if cut:
            self.drops["cut off"] += 1

    def take(self, neighbour: str | None, bundles: list[bytes]) -> None:
        """Bundles have come."""
        self._received += len(bundles)
        self._events += [Received(self, neighbour, (bundle,)) for bundle in bundles]
        self.wake()

    def deframer(self) -> MtcpDeframer | StcpDeframer:
        """For a new connection."""
        return MtcpDeframer() if self.name == "mtcp" else StcpDeframer()

    def _callable(self) -> Iterable[_Way]:
        return self._ways.values()

    def _accept(self) -> asyncio.BaseProtocol:
        return _Reader(self)

    async def _connect(self, called: _Way, address: Address) -> None:
        await self._loop.create_connection(lambda: called, *address)

    def _unreachable(self, called: _Way, why: str) -> None:
        self.drops["attempt"] += 1
        self._failed(called, why)

    def _failed(self, way: _Way, why: str) -> None:
        if self._closed or not way.open:
            return
        log.info("no connection", extra={"peer": way.name, "layer": self.name, "why": why})
        way.backoff.failed(self._clock.now())
        self._events.append(PeerDown(self, way.name, retries=True))


class _Reader(asyncio.Protocol):
    """A connection that somebody sends bundles on."""

    def __init__(self, layer: StreamLayer) -> None:
        self._layer, self._deframer = layer, layer.deframer()
        self._transport: asyncio.Transport | None = None
        self._neighbour: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"streams run over TCP, not over {type(transport).__name__}")
        self._transport = transport
        self._neighbour = self._layer.accepted(transport)

    def data_received(self, data: bytes) -> None:
        try:
            bundles = self._deframer.feed(data)
        except FramingError as error:
            self._layer.drops["framing"] += 1
            log.warning("connection closed", extra={"peer": self._neighbour, "why": str(error)})
            if self._transport is not None:
                self._transport.abort()
            return
        if bundles:
            self._layer.take(self._neighbour, bundles)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._layer.gone(self._transport, cut=self._deframer.unfinished)
