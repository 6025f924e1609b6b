"""What layers over TCP have in common: whom to call and when, who calls, and ports that are not to be had."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from marsnet.clock import MissionClock
from marsnet.dtn.node.backoff import Backoff
from marsnet.dtn.node.config import Address
from marsnet.dtn.node.layer import Figure, Layer
from marsnet.errors import EnvironmentLacksError

_CONNECT_LIMIT = 20.0
"""Host seconds that a connection may take to come about."""


class Called:
    """A neighbour that this node may connect to.

    Attributes:
        name: of the node.
        address: where it listens; None when it is the one to connect.
        backoff: when to call it.
        dialling: the call under way.
    """

    name: str

    def __init__(self, address: Address | None, backoff: Backoff) -> None:
        self.address, self.backoff = address, backoff
        self.dialling: asyncio.Task[None] | None = None


_C = TypeVar("_C", bound=Called)


class ConnectingLayer(Layer, Generic[_C]):
    """A layer that calls its neighbours while there is contact, and may be called."""

    ahead = 0.5

    def __init__(self, name: str, clock: MissionClock, listen: Address | None, *, one_way: bool = False) -> None:
        """Prepare.

        Args:
            name: as `Layer.name`.
            clock: the mission clock.
            listen: where to accept connections; None for nowhere.
            one_way: as `Layer.one_way`.
        """
        super().__init__(name, one_way=one_way)
        self._clock, self._listen = clock, listen
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._closed = False

    @abstractmethod
    def _callable(self) -> Iterable[_C]:
        """All neighbours that may be called."""

    @abstractmethod
    def _accept(self) -> asyncio.BaseProtocol:
        """Somebody calls."""

    @abstractmethod
    async def _connect(self, called: _C, address: Address) -> None:
        """Call a neighbour. Raises OSError when that fails."""

    @abstractmethod
    def _unreachable(self, called: _C, why: str) -> None:
        """A call has failed."""

    def advance(self, now: float) -> None:
        """Make the connections that are due."""
        for called in self._callable():
            if called.dialling is None and called.address is not None and called.backoff.due(now):
                called.dialling = self._loop.create_task(self._dial(called, called.address))

    def next_deadline(self, now: float) -> float | None:
        """Of the next attempt to connect. Connections have timers of their own."""
        return min((called.backoff.at for called in self._callable() if called.backoff.at is not None), default=None)

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Calls under way and to come."""
        yield from super().figures()
        for called in self._callable():
            text = "1 while a neighbour is to be called again at a certain time."
            yield called.name, Figure("call_timers", text, "gauge", {}, called.backoff.at is not None)
            yield (
                called.name,
                Figure("calls", "1 while a neighbour is called.", "gauge", {}, called.dialling is not None),
            )

    async def open(self) -> None:
        """Accept connections, where the configuration says so.

        Raises:
            EnvironmentLacksError: the address or the port is not to be had.
        """
        if self._listen is None:
            return
        try:
            self._server = await self._loop.create_server(self._accept, *self._listen)
        except OSError as error:
            raise EnvironmentLacksError(
                f"cannot listen on TCP {self._listen.host}:{self._listen.port}: {error.strerror}",
                fix="listen elsewhere, or end what holds it (see 'ss -ltp')",
            ) from None

    def close(self) -> None:
        """Accept and make no more connections."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        for called in self._callable():
            if called.dialling is not None:
                called.dialling.cancel()

    async def _dial(self, called: _C, address: Address) -> None:
        why = None
        try:
            async with asyncio.timeout(_CONNECT_LIMIT):
                await self._connect(called, address)
        except (OSError, TimeoutError) as error:
            why = str(error) or "no answer"
        called.dialling = None
        if why is not None:
            self._unreachable(called, why)
            self.wake()
