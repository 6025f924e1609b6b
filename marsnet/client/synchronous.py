"""The client that blocks."""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

from marsnet.client.calls import GRACE, Answer, Call, Operations
from marsnet.dtn.apps.documents import Received

T = TypeVar("T")


class NodeClient(Operations):
    """A node's interface for programs that wait. One connection, kept open; use it from one thread at a time."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        """As `Operations`."""
        super().__init__(url, token=token)
        parts = urlsplit(self.url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=GRACE)

    def run(self, call: Call[T]) -> T:
        """Make a call and read its answer."""
        patience = GRACE
        if call.wait:
            if self._rate is None:
                self._rate = self.status().clock.rate
            patience += call.wait / self._rate
        headers = dict(self._headers)
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        return call.result(self._exchange(call, headers, patience))

    def _exchange(self, call: Call[T], headers: dict[str, str], patience: float) -> Answer:
        connection = self._connection
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            # Nothing is to come now: the node has closed a connection that was idle for long.
            connection.close()
        fresh = connection.sock is None
        try:
            connection.timeout = patience
            if connection.sock is not None:
                connection.sock.settimeout(patience)
            connection.request(call.method, call.target, call.body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            connection.close()
            if fresh or call.method == "POST":
                # A bundle that may have been taken must not be sent again unasked.
                raise self._unreachable(error) from None
            return self._exchange(call, headers, patience)
        except (OSError, socket.gaierror, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from None

    def deliveries(self, endpoint: int | str, *, wait: float = 3600.0, lease: float = 60.0) -> Iterator[Received]:
        """Bundles of an endpoint, one after another, until none comes for `wait` mission seconds.

        Each is acknowledged when the next one is asked for: a loop whose body fails leaves it to be handed over again.
        """
        while (bundle := self.receive(endpoint, wait=wait, lease=lease)) is not None:
            yield bundle
            self.acknowledge(endpoint, bundle.bundle)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
