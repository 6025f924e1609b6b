"""QEMU's own control channel (QEMU Machine Protocol), as far as keeping and resuming a guest needs it."""

from __future__ import annotations

import json
import shlex
import socket
from contextlib import suppress
from typing import Any

from marsnet.errors import RunInvalidError

_PATIENCE = 120.0
"""Host seconds for an answer; saving and loading take a fraction of one."""
# Memory that is a shared file is not written into the state: the file is that memory.
_CAPABILITIES = [{"capability": "x-ignore-shared", "state": True}, {"capability": "events", "state": True}]


class Control:
    """The driver's end of the channel."""

    def __init__(self, end: socket.socket) -> None:
        """Greet.

        Args:
            end: of a pair of sockets; QEMU has the other.
        """
        end.settimeout(_PATIENCE)
        self._socket = end
        self._pending = b""
        self._unanswered = 0
        self._events: list[dict[str, Any]] = []

    def greet(self) -> None:
        """Say what this end can do, and wait until QEMU is up.

        Raises:
            RunInvalidError: QEMU has ended, as with every other method.
        """
        while "QMP" not in self._message():
            pass
        self.ask("qmp_capabilities")
        self.ask("migrate-set-capabilities", capabilities=_CAPABILITIES)

    def save(self, path: str) -> None:
        """Write the state of a machine that stands still, without its memory, to a file."""
        self.ask("migrate", uri=f"exec:cat >{shlex.quote(path)}")
        self._migrated()

    def take_over(self, path: str) -> None:
        """Take over a state that `save` has written."""
        self.ask("migrate-incoming", uri=f"exec:cat {shlex.quote(path)}")
        self._migrated()

    def begin(self) -> None:
        """Let the machine run, from its start or from the state that it has taken over."""
        self._send("cont", {})
        # QEMU answers when the guest first idles (turns.c).
        self._unanswered += 1

    def await_stop(self) -> None:
        """Wait until the machine stands still."""
        self._await("STOP")

    def ask(self, command: str, **arguments: object) -> Any:
        """What QEMU answers to a command."""
        self._send(command, arguments)
        while True:
            message = self._message()
            if "error" in message:
                raise RunInvalidError(f"QEMU refuses {command!r}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self._events.append(message)

    def close(self) -> None:
        """Let the channel go."""
        self._socket.close()

    def _send(self, command: str, arguments: dict[str, object]) -> None:
        with suppress(BrokenPipeError):  # QEMU has ended: the missing answer tells
            self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    def _migrated(self) -> None:
        status = ""
        while status not in {"completed", "failed"}:
            status = self._await("MIGRATION")["data"]["status"]
        if status == "failed":
            raise RunInvalidError("QEMU cannot keep or take over the state of the guest")

    def _await(self, event: str) -> dict[str, Any]:
        while True:
            message = self._events.pop(0) if self._events else self._message()
            if message.get("event") == event:
                return message

    def _message(self) -> dict[str, Any]:
        message = self._next()
        while "return" in message and self._unanswered:
            self._unanswered -= 1
            message = self._next()
        return message

    def _next(self) -> dict[str, Any]:
        try:
            while b"\n" not in self._pending:
                received = self._socket.recv(65536)
                if not received:
                    raise RunInvalidError("QEMU ended early")
                self._pending += received
        except (TimeoutError, ConnectionError) as error:
            raise RunInvalidError(f"QEMU does not answer: {error}") from None
        line, _, self._pending = self._pending.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
