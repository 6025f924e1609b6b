"""A small HTTP server for controllers: os-ken has none any more, and Ryu's would tie the application to Ryu."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_MAX_BODY = 64 * 1024**2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to one request.

    Attributes:
        status: HTTP status.
        body: content.
        kind: media type.
    """

    status: int
    body: bytes
    kind: str

    @classmethod
    def of_json(cls, status: int, document: object) -> Answer:
        """An answer whose content is a JSON document."""
        return cls(status, json.dumps(document).encode() + b"\n", "application/json")


Application = Callable[[str, str, dict[str, str], bytes], Answer]
"""Takes method, path, query and body."""


class ApiServer:
    """Answers HTTP requests on the loopback, each in a thread of the given kind.

    Args:
        port: TCP port; 0 lets the system choose.
        application: makes the answers.
        spawn: starts a function in a thread (`hub.spawn`).
    """

    def __init__(self, port: int, application: Application, spawn: Callable[..., Any]) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._application, self._spawn = application, spawn

    def start(self) -> None:
        """Begin to accept connections."""
        self._spawn(self._accept)

    def _accept(self) -> None:
        while True:
            connection, peer = self._listener.accept()
            self._spawn(self._serve, connection, peer)

    def _serve(self, connection: socket.socket, peer: Any) -> None:
        application = self._application

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                target = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                if length > _MAX_BODY:
                    answer = Answer.of_json(413, {"error": f"{length} bytes are more than {_MAX_BODY}"})
                else:
                    query = dict(parse_qsl(target.query))
                    answer = application(self.command, target.path, query, self.rfile.read(length))
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_PUT = _answer  # noqa: N815

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                _log.debug(format, *arguments)

        try:
            # The handler needs no server object: it serves in its constructor and asks the server for nothing.
            Handler(connection, peer, None)  # type: ignore[arg-type]
        except OSError as error:
            _log.debug("a client went away: %s", error)
        finally:
            connection.close()
