"""A TCP proxy that cuts a TCPCL connection in the middle of a transfer, once so many segments were acknowledged."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Sequence

_CONTACT, _ACK = 6, 18
"""Octets of a contact header and of an XFER_ACK (RFC 9174 sections 4.2 and 5.2.3)."""


def _sess_init(node_id: str) -> int:
    return 1 + 2 + 8 + 8 + 2 + len(node_id) + 4


class CuttingProxy:
    """Stands between a node that calls and the one that it wants to reach.

    Attributes:
        address: to call.
        forwarded: octets that went on to the one that is called, by connection.
    """

    def __init__(self, target: tuple[str, int], node_id: str, cuts: Sequence[int], segment: int) -> None:
        """Begin to listen.

        Args:
            target: where the called node listens.
            node_id: of that node; it sends nothing but its greeting and acknowledgements.
            cuts: segments that each of the first connections lets pass, and half of one more; it is cut when the
                acknowledgements of the whole ones have gone back.
            segment: octets of one.
        """
        self._segment = segment
        self.forwarded: list[int] = []
        self._target, self._greeting, self._cuts = target, _CONTACT + _sess_init(node_id), list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *unused: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            try:
                called = socket.create_connection(self._target)
            except OSError:
                caller.close()
                continue
            self.forwarded.append(0)
            segments = self._cuts.pop(0) if self._cuts else None
            with caller, called, selectors.DefaultSelector() as ready:
                ready.register(caller, selectors.EVENT_READ, called)
                ready.register(called, selectors.EVENT_READ, caller)
                self._relay(ready, caller, called, segments)
                for each in (caller, called):
                    _end(each)

    def _relay(
        self, ready: selectors.BaseSelector, caller: socket.socket, called: socket.socket, segments: int | None
    ) -> None:
        answered, room = 0, None if segments is None else round((segments + 0.5) * self._segment)
        while segments is None or answered < self._greeting + _ACK * segments:
            for key, _ in ready.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                try:
                    octets = source.recv(16_384 if room is None or source is called else min(room, 16_384))
                    key.data.sendall(octets)
                except OSError:
                    return
                if not octets:
                    return
                if source is called:
                    answered += len(octets)
                else:
                    self.forwarded[-1] += len(octets)
                    if room is not None:
                        room -= len(octets)
                        if not room:
                            ready.unregister(caller)


def _end(connection: socket.socket) -> None:
    """End a connection so that all that was passed on to it is read: with octets unread, it would be reset."""
    try:
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    except OSError:
        pass
