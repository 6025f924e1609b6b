"""A socket that listens from the start, and a server that is imported when the first client knocks.

The HTTP interface is half of what a node imports; a node that nobody asks anything starts and lives without it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from marsnet.dtn.node.config import Address
from marsnet.errors import EnvironmentLacksError

_BACKLOG = 128
"""Clients that the kernel keeps waiting until the server is there."""


class Server(Protocol):
    """What serves once somebody has knocked."""

    async def cleanup(self) -> None:
        """End."""


Serve = Callable[[socket.socket], Awaitable[Server]]
"""Serves the clients of a socket that listens."""


class Door:
    """A listening TCP socket without a server behind it, until there is somebody to serve."""

    def __init__(self, address: Address, prepare: Callable[[], Serve], loop: asyncio.AbstractEventLoop) -> None:
        """Listen.

        Args:
            address: where.
            prepare: called once, in another thread, when the first client has knocked: imports what is to serve it.
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
        self._prepare, self._loop = prepare, loop
        self._opening: asyncio.Task[Server] | None = None
        loop.add_reader(self._socket, self._knocked)

    def _knocked(self) -> None:
        self._loop.remove_reader(self._socket)
        self._opening = self._loop.create_task(self._open())
        # What goes wrong is for the loop's exception handler: nobody waits for the result.
        self._opening.add_done_callback(lambda opening: opening.result())

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
        self._socket.close()
