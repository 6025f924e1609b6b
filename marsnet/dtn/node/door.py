"""A socket that listens from the start, and a server that is imported when a client asks for more than a world does.

The HTTP interface is half of what a node imports; a node that nobody asks anything, or only a world, which tells it the
clock and asks for its figures, starts and lives without it.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from marsnet.dtn.node.config import Address
from marsnet.dtn.node.questions import Answer, Answers
from marsnet.errors import EnvironmentLacksError

_BACKLOG = 128
"""Clients that the kernel keeps waiting until the server is there."""
_HEAD, _LARGEST = 1 << 13, 1 << 16
"""Octets of the head and the body of a request that is answered without the server."""
_END = b"\r\n\r\n"
_PHRASES = {200: "OK", 400: "Bad Request", 409: "Conflict"}


class Server(Protocol):
    """What serves once somebody has asked for it."""

    @property
    def server(self) -> Callable[[], asyncio.Protocol] | None:
        """Makes what speaks to one client."""

    async def cleanup(self) -> None:
        """End."""


Serve = Callable[[socket.socket], Awaitable[Server]]
"""Serves the clients of a socket that listens."""


class Door:
    """A listening TCP socket without a server behind it, until there is somebody to serve."""

    def __init__(
        self, address: Address, answers: Answers, prepare: Callable[[], Serve], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Listen.

        Args:
            address: where.
            answers: what is answered without the server.
            prepare: called once, in another thread, when a client asks for something else: imports what serves it.
            loop: that the server runs on.

        Raises:
            EnvironmentLacksError: the address or the port is not to be had.
        """
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            self._socket = socket.create_server(address, family=family, backlog=_BACKLOG)
        except OSError as error:
            raise EnvironmentLacksError(
                f"cannot listen on TCP {address.host}:{address.port}: {error.strerror}",
                fix="give other 'metrics', or end what holds it (see 'ss -ltp')",
            ) from None
        self._socket.setblocking(False)
        self._answers, self._prepare, self._loop = answers, prepare, loop
        self._opening: asyncio.Task[Server] | None = None
        self._visits: set[asyncio.Task[None]] = set()
        loop.add_reader(self._socket, self._knocked)

    def _knocked(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError:  # It has gone again.
            return
        client.setblocking(False)
        visit = self._loop.create_task(self._receive(client))
        self._visits.add(visit)
        visit.add_done_callback(self._left)

    def _left(self, visit: asyncio.Task[None]) -> None:
        self._visits.discard(visit)
        if not visit.cancelled():
            # What goes wrong is for the loop's exception handler: nobody waits for the result.
            visit.result()

    async def _receive(self, client: socket.socket) -> None:
        try:
            with suppress(OSError):
                found = recognized(await self._peek(client), self._answers)
                if found is None:
                    await self._admit(client)
                    return
                answer, size = found
                body = (await self._read(client, size)).partition(_END)[2]
                await self._loop.sock_sendall(client, await _answered(answer, body))
            client.close()
        except BaseException:
            client.close()
            raise

    async def _read(self, client: socket.socket, size: int) -> bytes:
        octets = b""
        while len(octets) < size:
            more = await self._loop.sock_recv(client, size - len(octets))
            if not more:
                raise ConnectionAbortedError
            octets += more
        return octets

    async def _peek(self, client: socket.socket) -> bytes:
        """What a client has sent, which stays to be read."""
        ready = asyncio.Event()
        self._loop.add_reader(client, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(client)
        return client.recv(_HEAD, socket.MSG_PEEK)

    async def _admit(self, client: socket.socket) -> None:
        if self._opening is None:
            self._loop.remove_reader(self._socket)
            self._opening = self._loop.create_task(self._open())
        make = (await asyncio.shield(self._opening)).server
        if make is None:
            client.close()
        else:
            await self._loop.connect_accepted_socket(make, client)

    async def _open(self) -> Server:
        serve = await asyncio.to_thread(self._prepare)
        return await serve(self._socket)

    async def close(self) -> None:
        """Serve nobody any more."""
        if self._opening is None:
            self._loop.remove_reader(self._socket)
        else:
            await asyncio.wait([self._opening])
            if self._opening.exception() is None:
                await self._opening.result().cleanup()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)
        self._socket.close()


def recognized(octets: bytes, answers: Answers) -> tuple[Answer, int] | None:
    """The answer that a request is for, and how many octets the request has (RFC 9112).

    Args:
        octets: what a client has sent until now.
        answers: that there are.

    Returns:
        None where it is not for one of them, or in a form that only the server understands, or too little of it to say.
    """
    head, end, body = octets.partition(_END)
    first, *fields = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    path, _, version = rest.partition(" ")
    answer = answers.get((method, path))
    if not end or answer is None or version not in ("HTTP/1.0", "HTTP/1.1"):
        return None
    named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    length = named.get("content-length", "0")
    if {"transfer-encoding", "expect", "authorization"} & set(named) or not re.fullmatch(r"[0-9]{1,5}", length):
        return None
    return (answer, len(octets) - len(body) + int(length)) if len(body) <= int(length) <= _LARGEST else None


async def _answered(answer: Answer, body: bytes) -> bytes:
    status, content = await answer(body)
    text = json.dumps(content).encode()
    head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: application/json; charset=utf-8\r\n"
    return f"{head}Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode() + text
