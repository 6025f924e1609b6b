"""The client for asyncio, and the stream of an endpoint's bundles."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from marsnet.client.calls import GRACE, Answer, Call, Operations, RequestError
from marsnet.dtn.apps.documents import Failure, Received

T = TypeVar("T")
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 5.0
"""Host seconds between attempts to reach a node again: doubled each time, up to a limit."""
_HEARTBEAT = 30.0


class AsyncNodeClient(Operations):
    """A node's interface for asyncio. Use it as an asynchronous context manager."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        """As `Operations`."""
        super().__init__(url, token=token)
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """Its connections."""
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        return self._session

    async def run(self, call: Call[T]) -> T:
        """Make a call and read its answer."""
        patience = GRACE
        if call.wait:
            if self._rate is None:
                self._rate = (await self.status()).clock.rate
            patience += call.wait / self._rate
        headers = {} if call.body is None else {"Content-Type": call.content_type}
        url, timeout = URL(self.url + call.target, encoded=True), aiohttp.ClientTimeout(total=patience)
        try:
            async with self.session.request(
                call.method, url, data=call.body, headers=headers, timeout=timeout
            ) as response:
                answer = Answer(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from None
        return call.result(answer)

    def stream(self, endpoint: int | str, *, window: int = 1) -> Stream:
        """The bundles of an endpoint as they come, also across restarts of the node: use it with `async with`.

        Args:
            endpoint: service number of the node, or endpoint ID in full.
            window: bundles handed over and not acknowledged, at most.
        """
        return Stream(self, endpoint, window)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> AsyncNodeClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class StreamedBundle:
    """A bundle of a stream, to be acknowledged or released.

    Attributes:
        document: what the node says of it.
    """

    def __init__(self, stream: Stream, document: Received) -> None:
        self.document, self._stream = document, stream

    @property
    def payload(self) -> bytes:
        """The application data unit."""
        return self.document.data

    async def acknowledge(self) -> None:
        """It was taken for good; returns when that is durable at the node, however often it has to be told.

        Raises:
            RequestError: the node does not know that it was handed over.
        """
        await self._stream.settle(self.document.bundle, "acknowledge")

    async def release(self) -> None:
        """It is for another application."""
        await self._stream.settle(self.document.bundle, "release")


class Stream:
    """The bundles of an endpoint over a WebSocket that is made again whenever it breaks.

    A stream shows each bundle once: when it comes again because the connection broke, acknowledging what was shown
    settles it. What was shown and never acknowledged comes again to the next stream, marked as repeated.

    Attributes:
        connected: set while the node is there.
        connections: how often the WebSocket was made.
    """

    def __init__(self, client: AsyncNodeClient, endpoint: int | str, window: int) -> None:
        self.connected = asyncio.Event()
        self.connections = 0
        self._client = client
        place = quote(str(endpoint), safe="")
        self._url = URL(f"{client.url}/v1/endpoints/{place}/stream?window={window}", encoded=True)
        self._queue: asyncio.Queue[Received | BaseException] = asyncio.Queue()
        self._shown: set[str] = set()
        self._answers: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Stream:
        self._task = asyncio.create_task(self._keep())
        waiting = asyncio.create_task(self.connected.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task

    async def __aiter__(self) -> AsyncIterator[StreamedBundle]:
        while True:
            yield await self.next()

    async def next(self) -> StreamedBundle:
        """The next bundle, however long it takes.

        Raises:
            RequestError: the node refuses the stream.
        """
        item = await self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return StreamedBundle(self, item)

    async def settle(self, bundle: str, what: str) -> None:
        """Acknowledge or release; returns when the node has said that it is done."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers[bundle] = what, done
        await self._tell(bundle, what)
        await done

    async def _tell(self, bundle: str, what: str) -> None:
        if self._socket is not None and not self._socket.closed:
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await self._socket.send_str(json.dumps({what: bundle}))

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    async with self._client.session.ws_connect(
                        self._url, heartbeat=_HEARTBEAT, max_msg_size=0
                    ) as self._socket:
                        pause = _FIRST_PAUSE
                        self.connections += 1
                        self.connected.set()
                        for bundle, (what, _) in list(self._answers.items()):
                            await self._tell(bundle, what)
                        await self._read(self._socket)
                except aiohttp.WSServerHandshakeError as error:
                    if error.status < 500 and error.status != 409:
                        raise await self._refusal(error) from None
                except (aiohttp.ClientError, ConnectionError):
                    pass
                self.connected.clear()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE)
        except RequestError as error:
            self._queue.put_nowait(error)
            raise

    async def _refusal(self, error: aiohttp.WSServerHandshakeError) -> RequestError:
        async with self._client.session.get(self._url) as response:
            failure = Failure.model_validate_json(await response.read())
        return RequestError(error.status, failure.error.problem, remedy=failure.error.remedy)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type != aiohttp.WSMsgType.TEXT:
                break
            fields = json.loads(message.data)
            if "payload" in fields:
                if fields["bundle"] not in self._shown:
                    self._shown.add(fields["bundle"])
                    self._queue.put_nowait(Received.model_validate(fields))
                continue
            bundle = fields.get("acknowledged") or fields.get("released") or fields.get("bundle")
            self._shown.discard(bundle)
            _, done = self._answers.pop(bundle, ("", None))
            if done is None or done.done():
                continue
            if fields.get("error"):
                error = fields["error"]
                done.set_exception(RequestError(404, error["problem"], remedy=error["remedy"]))
            else:
                done.set_result(None)
