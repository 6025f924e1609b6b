"""A TCPCL session on an asyncio connection: reads, writes, TLS and timers around the engine."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from marsnet.dtn.tcpcl.config import TcpclConfig, TlsPolicy
from marsnet.dtn.tcpcl.engine import TcpclEngine
from marsnet.dtn.tcpcl.events import SessionEstablished, StartTls, TcpclEvent
from marsnet.dtn.tcpcl.messages import TermReason
from marsnet.dtn.tcpcl.tls import node_ids
from marsnet.errors import InputError

HIGH_WATER = 1 << 20
"""Octets that may wait in the transport before segments are held back."""
CLOSE_GRACE = 5.0
"""Host seconds in which a closing connection may still write."""


class Clock(Protocol):
    """Mission time; `marsnet.clock.MissionClock` is one.

    Attributes:
        rate: mission seconds per second of the event loop.
    """

    @property
    def rate(self) -> float:
        """Mission seconds per second of the event loop."""

    def now(self) -> float:
        """Mission time."""


class TcpclSession(asyncio.Protocol):
    """One connection. Events go to a callback, in order, from within the event loop.

    Attributes:
        engine: the protocol engine; call the methods of this class instead of those that have the same names.
        on_event: called with the session and each event.

    Raises:
        InputError: when the configuration speaks of TLS and there is no context for it.
    """

    def __init__(
        self,
        config: TcpclConfig,
        on_event: Callable[[TcpclSession, TcpclEvent], None],
        *,
        clock: Clock,
        active: bool,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if tls is None and config.tls is not TlsPolicy.NEVER:
            raise InputError(f"TCPCL with tls={config.tls.value} has no TLS context", remedy="give one, or set never")
        self.engine = TcpclEngine(config, active=active, now=clock.now())
        self.on_event = on_event
        self._clock, self._tls = clock, tls
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._writable, self._reading, self._busy = True, True, False
        self._closed = self._loop.create_future()
        self._established: asyncio.Future[bool] = self._loop.create_future()

    # For the node

    @property
    def peer_name(self) -> object:
        """Address of the other end, None before the connection."""
        return None if self._transport is None else self._transport.get_extra_info("peername")

    def send(self, data: bytes | memoryview, *, tag: object = None, priority: int = 0, rest: int | None = None) -> int:
        """Queue a bundle; see `TcpclEngine.send`."""
        handle = self.engine.send(data, self._clock.now(), tag=tag, priority=priority, rest=rest)
        self._process()
        return handle

    def confirm(self, transfer: int) -> None:
        """Acknowledge a received bundle; see `TcpclEngine.confirm`."""
        self.engine.confirm(transfer, self._clock.now())
        self._process()

    def refuse(self, transfer: int, reason: int) -> None:
        """Refuse a received bundle; see `TcpclEngine.refuse`."""
        self.engine.refuse(transfer, reason, self._clock.now())
        self._process()

    def terminate(self, reason: int = TermReason.UNKNOWN) -> None:
        """End the session in order; `wait_closed` tells when it has."""
        self.engine.terminate(self._clock.now(), reason)
        self._process()

    async def wait_established(self) -> bool:
        """Whether the session came to be; returns when it has, or when it has ended."""
        return await asyncio.shield(self._established)

    async def wait_closed(self) -> None:
        """Return when the connection is closed."""
        await asyncio.shield(self._closed)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is up; also called when TLS has replaced the transport."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"TCPCL runs over streams, not over {type(transport).__name__}")
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._process()

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        self.engine.receive(data, self._clock.now())
        self._process()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._writable = False

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        self._writable = True
        self._process()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.engine.connection_lost(self._clock.now())
        self._writable = False
        self._process()
        if self._timer is not None:
            self._timer.cancel()
        for future in (self._established, self._closed):
            if not future.done():
                future.set_result(False)

    # Inside

    def _process(self) -> None:
        """Write, tell, and set the timer. What the callback calls is done by the call that is under way."""
        if self._busy:
            return
        self._busy = True
        try:
            while self._write() | self._tell():
                pass
        finally:
            self._busy = False
        self._attend()

    def _write(self) -> bool:
        wrote = False
        while self._writable and self._transport is not None and self._handshake is None:
            parts = self.engine.data_to_send(self._clock.now())
            if not parts:
                break
            self._transport.writelines(parts)
            wrote = True
        return wrote

    def _tell(self) -> bool:
        events = self.engine.take_events()
        for event in events:
            if isinstance(event, StartTls):
                self._handshake = self._loop.create_task(self._secure())
                continue
            if isinstance(event, SessionEstablished) and not self._established.done():
                self._established.set_result(True)
            self.on_event(self, event)
        return bool(events)

    def _attend(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self.engine.finished:
            transport.close()
            # A peer that does not read must not keep the connection.
            self._timer = self._loop.call_later(CLOSE_GRACE, transport.abort)
            return
        if self.engine.congested == self._reading and self._handshake is None:
            self._reading = not self._reading
            if self._reading:
                transport.resume_reading()
            else:
                transport.pause_reading()
        now = self._clock.now()
        deadline = self.engine.next_deadline(now)
        if deadline is not None:
            self._timer = self._loop.call_later((deadline - now) / self._clock.rate, self._advance)

    def _advance(self) -> None:
        self._timer = None
        self.engine.advance(self._clock.now())
        self._process()

    async def _secure(self) -> None:
        """Replace the transport by one that encrypts. The contact header must have left in the clear before."""
        plain, secured = self._transport, None
        if plain is not None and self._tls is not None:
            try:
                secured = await self._loop.start_tls(plain, self, self._tls, server_side=not self.engine.active)
            except (OSError, ssl.SSLError):
                plain.abort()
        self._handshake = None
        if secured is None:
            self.connection_lost(None)
            return
        certificate = secured.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self._transport = secured
        secured.set_write_buffer_limits(high=HIGH_WATER)
        self.engine.tls_established(node_ids(certificate or b""), self._clock.now())
        self._process()


async def connect(
    address: tuple[str, int],
    config: TcpclConfig,
    on_event: Callable[[TcpclSession, TcpclEvent], None],
    *,
    clock: Clock,
    tls: ssl.SSLContext | None = None,
) -> TcpclSession:
    """Connect to a peer. The session is established when its event says so.

    Raises:
        OSError: when nobody listens there.
    """
    loop = asyncio.get_running_loop()
    session = TcpclSession(config, on_event, clock=clock, active=True, tls=tls)
    await loop.create_connection(lambda: session, *address)
    return session


async def listen(
    address: tuple[str, int],
    config: TcpclConfig,
    on_event: Callable[[TcpclSession, TcpclEvent], None],
    *,
    clock: Clock,
    tls: ssl.SSLContext | None = None,
) -> asyncio.Server:
    """Accept sessions; each tells of itself by its events. Closing the server leaves them open.

    Raises:
        OSError: when the address cannot be had.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: TcpclSession(config, on_event, clock=clock, active=False, tls=tls), *address
    )
