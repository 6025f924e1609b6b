"""The client that blocks."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

from marsnet.client.calls import GRACE, Answer, Call, Operations
from marsnet.dtn.apps.documents import Received
from marsnet.errors import EnvironmentLacksError, InputError

T = TypeVar("T")


class NodeClient(Operations):
    """A node's interface for programs that wait. One connection, kept open; use it from one thread at a time."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: of the node's HTTP interface, as `http://127.0.0.1:8080`.
            token: bearer token, where the node asks for one.

        Raises:
            InputError: the URL is none of HTTP.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise InputError(f"{url!r} is no URL of a node", remedy="write it as http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=GRACE)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._rate: float | None = None

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

    def _unreachable(self, error: Exception) -> EnvironmentLacksError:
        return EnvironmentLacksError(
            f"no node answers at {self.url} ({error})", fix="start it, or give the URL of its HTTP interface"
        )

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
