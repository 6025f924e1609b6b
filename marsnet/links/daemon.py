"""The delay line as a process: `python -m marsnet.links.daemon --socket PATH`.

Requests and answers are JSON objects, one per line: `{"id": 1, "method": "stats", "params": {}}` is answered by
`{"id": 1, "result": ...}` or `{"id": 1, "error": {"kind", "problem", "remedy"}}`. Links outlive the client that made
them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import json
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from marsnet.errors import EnvironmentLacksError, InputError, MarsnetError
from marsnet.links.fidelity import LinkConfig
from marsnet.links.interfaces import watch
from marsnet.links.line import DEFAULT_RAM, PRIORITY, DelayLine
from marsnet.links.metrics import serve_metrics
from marsnet.links.segment import RawSegment, Segment, read_timeline
from marsnet.units import quantity

LOG = logging.getLogger("marsnet.links")
LINE_LIMIT = 8 << 20
"""Bytes of the longest request; a longer timeline is handed over as a file."""


class Daemon:
    """Serves one delay line."""

    def __init__(self, line: DelayLine) -> None:
        self.line = line
        self.stopped = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._disk_state, self._unread = "ok", 0
        self._methods: dict[str, Callable[..., Any]] = {
            name.removeprefix("do_"): method for name, method in inspect.getmembers(self) if name.startswith("do_")
        }

    def do_ping(self) -> dict[str, Any]:
        """Who answers, and the present line time of a link that was never paused."""
        return {"pid": os.getpid(), "now_ns": time.monotonic_ns(), "links": self.line.names}

    def do_add_link(self, name: str, if_a: str, if_b: str, config: dict[str, Any] | None = None) -> None:
        """See `DelayLine.add_link`."""
        self.line.add_link(name, if_a, if_b, LinkConfig.from_json(config or {}))

    def do_remove_link(self, name: str) -> None:
        """See `DelayLine.remove_link`."""
        self.line.remove_link(name)

    def do_load_timeline(
        self,
        name: str,
        direction: str,
        segments: list[dict[str, Any]] | None = None,
        path: str | None = None,
        replace_from_ns: int | None = None,
        until_ns: int | None = None,
    ) -> None:
        """See `DelayLine.load_timeline`; the segments come inline or in a packed file."""
        self.line.load_timeline(name, direction, _segments(segments, path), replace_from_ns, until_ns)
        self._refill()

    def do_extend(
        self,
        name: str,
        direction: str,
        segments: list[dict[str, Any]] | None = None,
        path: str | None = None,
        until_ns: int | None = None,
    ) -> None:
        """See `DelayLine.extend`."""
        self.line.extend(name, direction, _segments(segments, path), until_ns)
        self._refill()

    def do_receiver_down(
        self, name: str, direction: str, intervals: list[list[int]], replace_from_ns: int | None = None
    ) -> None:
        """See `DelayLine.receiver_down`."""
        if not isinstance(intervals, list) or not all(map(_is_interval, intervals)):
            raise InputError(f"intervals are {intervals!r}", remedy="write [[start_ns, end_ns], ...]")
        self.line.receiver_down(name, direction, [(a, b) for a, b in intervals], replace_from_ns)

    def do_set_now(self, now_ns: int, name: str | None = None) -> None:
        """See `DelayLine.set_now`."""
        self.line.set_now(name, now_ns)
        self._refill()

    def do_pause(self, name: str | None = None) -> None:
        """See `DelayLine.pause`."""
        self.line.pause(name)

    def do_resume(self, name: str | None = None) -> None:
        """See `DelayLine.resume`."""
        self.line.resume(name)
        self._refill()

    def do_stats(self) -> dict[str, Any]:
        """See `DelayLine.stats`."""
        return self.line.stats()

    def do_truth(self, name: str) -> dict[str, Any]:
        """See `DelayLine.truth`."""
        return self.line.truth(name)

    def do_capture_start(self, name: str, direction: str, path: str, offset_ns: int | None = None) -> None:
        """See `DelayLine.capture_start`."""
        self.line.capture_start(name, direction, _path(path), offset_ns)

    def do_capture_stop(self, name: str, direction: str) -> None:
        """See `DelayLine.capture_stop`."""
        self.line.capture_stop(name, direction)

    def do_shutdown(self) -> None:
        """End the process once the answer is out."""
        asyncio.get_running_loop().call_soon(self.stopped.set)

    def on_event(self) -> None:
        """An interface has gone, or the disk has failed."""
        os.eventfd_read(self.line.event_fd)
        self._check_interfaces()
        store = self.line.stats()["store"]
        if store["state"] != self._disk_state and store["state"] != "ok":
            LOG.error("spilling to %s %s", self.line.spill_dir, store["state"])
        if store["read_errors"] > self._unread:
            LOG.error(
                "%d chunks in %s cannot be read: their frames are dropped as disk_error",
                store["read_errors"] - self._unread,
                self.line.spill_dir,
            )
        self._disk_state, self._unread = store["state"], store["read_errors"]

    def on_link_change(self, watcher: socket.socket) -> None:
        """An interface has come, gone or changed."""
        with contextlib.suppress(OSError):  # ENOBUFS: so many changes that some went untold
            while watcher.recv(65536):
                pass
        self._check_interfaces()

    def _check_interfaces(self) -> None:
        for message in self.line.check_interfaces():
            LOG.error("%s", message)

    def _refill(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self.line.refill()
        loop = asyncio.get_running_loop()
        self._timer = None if due is None else loop.call_at(loop.time() + max(due - time.monotonic(), 0), self._refill)

    def answer(self, text: bytes) -> dict[str, Any]:
        """Carry out one request."""
        ident = None
        try:
            request = json.loads(text)
            ident = request.get("id") if isinstance(request, dict) else None
            return {"id": ident, "result": self._carry_out(request)}
        except (ValueError, RecursionError) as error:
            return _error(ident, "input", f"the request cannot be read: {error}", "send one JSON object per line")
        except InputError as error:
            return _error(ident, "input", error.problem, error.remedy)
        except EnvironmentLacksError as error:
            return _error(ident, "environment", error.missing, error.fix)
        except Exception as error:  # one request must not end the links of the others
            LOG.exception("request failed")
            return _error(ident, "internal", f"{type(error).__name__}: {error}", "")

    def _carry_out(self, request: object) -> Any:
        if not isinstance(request, dict) or not isinstance(request.get("params", {}), dict):
            raise InputError("the request is no object", remedy='send {"id", "method", "params"}')
        name, params = request.get("method"), request.get("params", {})
        method = self._methods.get(name) if isinstance(name, str) else None
        if method is None:
            raise InputError(f"unknown method {name!r}", remedy=f"use {', '.join(self._methods)}")
        try:
            inspect.signature(method).bind(**params)
        except TypeError as error:
            raise InputError(f"{name}: {error}", remedy=f"it takes {inspect.signature(method)}") from error
        return method(**params)

    async def serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it goes."""
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while True:
                try:
                    text = await reader.readuntil(b"\n")
                except asyncio.IncompleteReadError as cut:
                    if cut.partial:
                        LOG.warning("a client left within a request of %d bytes; it is ignored", len(cut.partial))
                    break
                except asyncio.LimitOverrunError:
                    reply = _error(None, "input", f"the request is longer than {LINE_LIMIT} bytes", "send a file")
                    writer.write(json.dumps(reply).encode() + b"\n")
                    await writer.drain()
                    break
                writer.write(json.dumps(self.answer(text)).encode() + b"\n")
                await writer.drain()
        writer.close()


def _error(ident: object, kind: str, problem: str, remedy: str) -> dict[str, Any]:
    return {"id": ident, "error": {"kind": kind, "problem": problem, "remedy": remedy}}


def _segments(inline: list[dict[str, Any]] | None, path: str | None) -> Iterator[RawSegment]:
    if (inline is None) == (path is None):
        raise InputError("the timeline has no segments, or two sources", remedy="give either segments or path")
    if path is not None:
        return read_timeline(_path(path))
    if not isinstance(inline, list):
        raise InputError(f"segments are {inline!r}", remedy="write a list of segments")
    return iter([Segment.from_json(item).raw for item in inline])


def _is_interval(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(end) is int for end in value)


def _path(value: object) -> Path:
    if not isinstance(value, str) or "\0" in value:
        raise InputError(f"path is {value!r}", remedy="write the path of a file")
    return Path(value)


def bind_socket(path: Path) -> socket.socket:
    """A listening Unix socket; one that a dead process left behind is replaced.

    Raises:
        InputError: when a living process listens there, or the path cannot be used.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            if path.is_socket():  # a file of another kind refuses connections, too
                path.unlink()
        except OSError:
            pass
        else:
            server.close()
            raise InputError(f"another process listens at {path}", remedy="choose another --socket")
    try:
        server.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        server.close()
        raise InputError(
            f"socket {path}: {error.strerror or error}", remedy="name a short path in a writable directory"
        ) from error
    return server


async def run(options: argparse.Namespace) -> None:
    """Serve until shutdown, SIGTERM or SIGINT."""
    line = DelayLine(options.spill_dir, options.ram, options.priority)
    loop = asyncio.get_running_loop()
    daemon = Daemon(line)
    server = await asyncio.start_unix_server(daemon.serve_client, sock=bind_socket(options.socket), limit=LINE_LIMIT)
    metrics = None if options.metrics is None else await serve_metrics(line, *options.metrics)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stopped.set)
    loop.add_reader(line.event_fd, daemon.on_event)
    watcher = watch()
    loop.add_reader(watcher, daemon.on_link_change, watcher)
    if options.priority and not line.stats()["realtime"]:
        LOG.warning("SCHED_FIFO is not permitted: frames may be late when the processors are busy")
    _report_ready(options)
    await daemon.stopped.wait()
    loop.remove_reader(line.event_fd)
    loop.remove_reader(watcher)
    watcher.close()
    server.close()
    if metrics is not None:
        await metrics.cleanup()
    options.socket.unlink(missing_ok=True)
    line.close()


def _report_ready(options: argparse.Namespace) -> None:
    if options.ready_fd is None:
        print(f"ready {options.socket}", flush=True)
    else:
        os.write(options.ready_fd, b"ready\n")
        os.close(options.ready_fd)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write 127.0.0.1:9100")
    return host or "127.0.0.1", int(port)


def _size(text: str) -> int:
    try:
        return int(quantity(text, "size"))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: list[str] | None = None) -> int:
    """The process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m marsnet.links.daemon", description="The delay line.")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket of the control interface")
    parser.add_argument("--spill-dir", type=Path, help="directory for frames in flight beyond half of the RAM budget")
    parser.add_argument("--ram", type=_size, default=DEFAULT_RAM, help="RAM budget for frames, such as '512 MiB'")
    parser.add_argument("--metrics", type=_address, help="address:port of the Prometheus exporter")
    parser.add_argument("--priority", type=int, default=PRIORITY, help="of SCHED_FIFO; 0 for ordinary scheduling")
    parser.add_argument("--ready-fd", type=int, help="write a line to this descriptor when ready, instead of stdout")
    options = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a link takes eight descriptors
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(levelname)s: %(message)s")
    try:
        asyncio.run(run(options))
    except MarsnetError as error:
        LOG.error("%s", error)  # noqa: TRY400 - the message is for a person; a traceback would bury it
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
