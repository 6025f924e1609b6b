"""Talks to a delay line's process, and starts one.

Every method of `DelayLineClient` is one short exchange over a Unix socket (well under a millisecond), so an asyncio
program may call it directly.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from marsnet.errors import EnvironmentLacksError, InputError, MarsnetError
from marsnet.links.segment import Segment, in_order, write_timeline

INLINE = 512
"""Longest timeline that is sent inline; a longer one is handed over as a packed file."""


class DelayLineClient:
    """A connection to a delay line. Times are line time in ns: CLOCK_MONOTONIC until `pause` or `set_now`.

    Raises, from every method:
        InputError: the daemon refused a value.
        EnvironmentLacksError: it lacks a privilege, or nobody answers.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise _nobody(self.path, error) from error
        self._file = self._socket.makefile("rb")
        self._count = 0

    def close(self) -> None:
        """Hang up; the links stay."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, method: str, **params: Any) -> Any:
        """One request and its result."""
        self._count += 1
        request = json.dumps({"id": self._count, "method": method, "params": params})
        try:
            self._socket.sendall(request.encode() + b"\n")
            text = self._file.readline()
        except OSError as error:
            raise _nobody(self.path, error) from error
        return _result(self.path, text)

    def ping(self) -> dict[str, Any]:
        """Process id, present time and links."""
        return dict(self.call("ping"))

    def add_link(self, name: str, if_a: str, if_b: str, config: dict[str, Any] | None = None) -> None:
        """Join two interfaces; `config` is the JSON form of `LinkConfig`."""
        self.call("add_link", name=name, if_a=if_a, if_b=if_b, config=config)

    def remove_link(self, name: str) -> None:
        """Take a link out."""
        self.call("remove_link", name=name)

    def load_timeline(
        self,
        name: str,
        direction: str,
        segments: Iterable[Segment],
        replace_from_ns: int | None = None,
        until_ns: int | None = None,
    ) -> None:
        """Load the timeline of direction `ab` or `ba`, or replace it from an instant on.

        Args:
            name: of the link.
            direction: `ab` or `ba`.
            segments: in order; an iterator is written to a file as it comes, in constant memory.
            replace_from_ns: earlier segments stay; None replaces all.
            until_ns: end of what is known; frames wait there for `extend`. None: the last segment holds for ever.
        """
        with _timeline(segments) as source:
            self.call(
                "load_timeline",
                name=name,
                direction=direction,
                replace_from_ns=replace_from_ns,
                until_ns=until_ns,
                **source,
            )

    def extend(self, name: str, direction: str, segments: Iterable[Segment], until_ns: int | None = None) -> None:
        """Append to a timeline."""
        with _timeline(segments) as source:
            self.call("extend", name=name, direction=direction, until_ns=until_ns, **source)

    def receiver_down(
        self, name: str, direction: str, intervals: Iterable[tuple[int, int]], replace_from_ns: int | None = None
    ) -> None:
        """Frames whose last bit arrives in [start, end) of an interval are dropped as `receiver_down`."""
        spans = [list(i) for i in intervals]
        self.call("receiver_down", name=name, direction=direction, intervals=spans, replace_from_ns=replace_from_ns)

    def set_now(self, now_ns: int, name: str | None = None) -> None:
        """Let line time be `now_ns` from here on, of one link or of all."""
        self.call("set_now", now_ns=now_ns, name=name)

    def pause(self, name: str | None = None) -> None:
        """Let line time stand still."""
        self.call("pause", name=name)

    def resume(self, name: str | None = None) -> None:
        """Let line time go on."""
        self.call("resume", name=name)

    def stats(self) -> dict[str, Any]:
        """Everything that is counted."""
        return dict(self.call("stats"))

    def truth(self, name: str) -> dict[str, Any]:
        """Range, range rate, last transmission and last arrival, by direction."""
        return dict(self.call("truth", name=name))

    def capture_start(self, name: str, direction: str, path: Path, offset_ns: int | None = None) -> None:
        """Capture a direction to a pcapng file."""
        self.call("capture_start", name=name, direction=direction, path=str(path.absolute()), offset_ns=offset_ns)

    def capture_stop(self, name: str, direction: str) -> None:
        """Finish a capture."""
        self.call("capture_stop", name=name, direction=direction)

    def shutdown(self) -> None:
        """End the process."""
        self.call("shutdown")


class DaemonProcess:
    """A delay line of one's own, in the present network namespace, ended by `close`.

    Raises:
        EnvironmentLacksError: when it does not start, with what it said.
    """

    def __init__(self, socket_path: Path | str, *options: str) -> None:
        self.path = Path(socket_path)
        read, write = os.pipe()
        command = [sys.executable, "-m", "marsnet.links.daemon", "--socket", str(self.path), "--ready-fd", str(write)]
        self.process = subprocess.Popen([*command, *options], pass_fds=[write], start_new_session=True)
        os.close(write)
        with os.fdopen(read, "rb") as ready:
            started = ready.readline()
        if not started:
            code = self.process.wait()
            raise EnvironmentLacksError(
                f"the delay line ended with code {code} before it was ready", fix="read what it wrote to stderr"
            )

    def client(self) -> DelayLineClient:
        """A new connection."""
        return DelayLineClient(self.path)

    def close(self) -> None:
        """End the process and wait for it."""
        self.process.terminate()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _timeline(segments: Iterable[Segment]) -> Iterator[dict[str, Any]]:
    source = iter(segments)
    head = list(islice(source, INLINE + 1))
    if len(head) <= INLINE:
        list(in_order(s.raw for s in head))
        yield {"segments": [s.to_json() for s in head]}
        return
    with tempfile.NamedTemporaryFile(prefix="marsnet-timeline-") as file:
        write_timeline(Path(file.name), chain(head, source))
        yield {"path": file.name}


def _result(path: Path, text: bytes) -> Any:
    if not text.endswith(b"\n"):
        raise _nobody(path, ConnectionResetError("it hung up"))
    reply = json.loads(text)
    if "error" not in reply:
        return reply["result"]
    error = reply["error"]
    if error["kind"] == "input":
        raise InputError(error["problem"], remedy=error["remedy"])
    if error["kind"] == "environment":
        raise EnvironmentLacksError(error["problem"], fix=error["remedy"])
    raise MarsnetError(error["problem"])


def _nobody(path: Path, error: OSError) -> EnvironmentLacksError:
    return EnvironmentLacksError(
        f"no delay line answers at {path} ({error})", fix=f"python -m marsnet.links.daemon --socket {path}"
    )
