"""The delay line inside this process: links between interfaces, driven by a thread of the compiled core."""

from __future__ import annotations

import contextlib
import ctypes as c
import os
import socket
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.links.config import whole
from marsnet.links.direction import WireDirection
from marsnet.links.fidelity import LinkConfig, StealMeter
from marsnet.links.interfaces import Interface, claim
from marsnet.links.native import CHUNK_BYTES, CEngineStats, core
from marsnet.links.segment import ALWAYS, RawSegment

DIRECTIONS = ("ab", "ba")
DEFAULT_RAM = 1 << 30
PRIORITY = 50
_LEAST_RAM = 1 << 20
_FARTHEST = 2**62 - 1
_CLOSERS = 32
"""Threads that end links: the kernel takes tens of milliseconds to close each ring, but many at once."""


@dataclass
class _Link:
    name: str
    ends: tuple[Interface, Interface]
    config: LinkConfig
    claims: list[socket.socket]
    directions: dict[str, WireDirection] = field(default_factory=dict)
    error: str | None = None


class DelayLine:
    """Many links in one process. Two threads run nothing but the compiled core: one moves frames, one serves the disk.

    Args:
        spill_dir: directory for frames in flight beyond half of the RAM budget; None keeps all in RAM.
        ram: budget in bytes for all frames that wait or fly.
        priority: of SCHED_FIFO for the thread that moves frames; 0 does not ask for it.

    Attributes:
        event_fd: becomes readable when an interface may have gone, or the disk has failed.
        realtime: SCHED_FIFO was granted.

    Raises:
        EnvironmentLacksError: when the core is not built, or the system has no file descriptors left.
        InputError: when the spill directory cannot be used, or the budget is below 1 MiB.
    """

    def __init__(self, spill_dir: Path | None = None, ram: int = DEFAULT_RAM, priority: int = PRIORITY) -> None:
        self._core = core()
        self.ram, self.spill_dir, self.realtime = whole(ram, "ram", _LEAST_RAM), spill_dir, False
        self._fds = [] if spill_dir is None else [_spill_file(spill_dir)]
        self.event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._engine = self._core.engine_new(ram, *(self._fds or [-1]), self.event_fd)
        self._fds.append(self.event_fd)
        if not self._engine:
            raise EnvironmentLacksError(f"the delay line: {os.strerror(c.get_errno())}", fix="raise ulimit -n")
        self._links: dict[str, _Link] = {}
        self._steal = StealMeter()
        started = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(priority, started), name="marsnet-links", daemon=True),
            threading.Thread(target=self._core.store_run, args=(self._engine,), name="marsnet-disk", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        started.wait()

    def _work(self, priority: int, started: threading.Event) -> None:
        if priority:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))  # 0: this thread
                self.realtime = True
        started.set()
        self._core.engine_run(self._engine)

    def close(self) -> None:
        """Stop. Frames under way are lost."""
        if self._engine:
            with ThreadPoolExecutor(_CLOSERS) as pool:
                list(pool.map(WireDirection.close, self._every(None)))
            self._core.engine_stop(self._engine)
            for thread in self._threads:
                thread.join()
            self._core.engine_free(self._engine)
            self._engine = None
            for fd in self._fds:
                os.close(fd)
            for link in self._links.values():
                for item in link.claims:
                    item.close()
            self._links.clear()

    @property
    def names(self) -> list[str]:
        """The links, in the order they were added."""
        return list(self._links)

    def add_link(self, name: str, if_a: str, if_b: str, config: LinkConfig | None = None) -> None:
        """Join two interfaces. Until timelines are loaded, both transmitters are down and hold.

        Raises:
            InputError: unknown or unsuitable interface, different MTUs, a name or an interface that is taken.
            EnvironmentLacksError: when raw sockets are not allowed.
        """
        config = config or LinkConfig()
        if not isinstance(name, str) or not name or name in self._links:
            raise InputError(f"link name {name!r} is taken or empty", remedy="give each link a name of its own")
        if if_a == if_b:
            raise InputError(f"link {name!r} has {if_a!r} at both ends", remedy="name two interfaces")
        ends = (Interface.find(if_a), Interface.find(if_b))
        if ends[0].mtu != ends[1].mtu:
            raise InputError(
                f"link {name!r}: MTU {ends[0].mtu} of {if_a} differs from {ends[1].mtu} of {if_b}",
                remedy=f"ip link set {if_b} mtu {ends[0].mtu}",
            )
        link = _Link(name, ends, config, [])
        try:
            for end in ends:
                link.claims.append(claim(end))
            for direction, (source, target), item in (("ab", ends, config.ab), ("ba", ends[::-1], config.ba)):
                link.directions[direction] = WireDirection(self._engine, source, target, item, config.ring_slots)
        except BaseException:
            self._dismantle(link)
            raise
        self._links[name] = link

    def remove_link(self, name: str) -> None:
        """Take a link out. Frames under way are lost.

        Raises:
            InputError: when there is no such link.
        """
        self._dismantle(self._link(name))
        del self._links[name]

    @staticmethod
    def _dismantle(link: _Link) -> None:
        for direction in link.directions.values():
            direction.close()
        for item in link.claims:
            item.close()

    def load_timeline(
        self,
        name: str,
        direction: str,
        segments: Iterable[RawSegment],
        replace_from_ns: int | None = None,
        until_ns: int | None = None,
    ) -> None:
        """Load a direction's timeline, or replace it from an instant on; see `PhysicsPipeline.load`."""
        item = self._direction(name, direction)
        item.feed.load(segments, _instant(replace_from_ns, "replace_from_ns"), _instant(until_ns, "until_ns"))
        item.error = None
        item.refill()

    def extend(self, name: str, direction: str, segments: Iterable[RawSegment], until_ns: int | None = None) -> None:
        """Append to a direction's timeline; see `PhysicsPipeline.extend`."""
        item = self._direction(name, direction)
        item.feed.extend(segments, _instant(until_ns, "until_ns"))
        item.refill()

    def receiver_down(
        self, name: str, direction: str, intervals: Iterable[tuple[int, int]], replace_from_ns: int | None = None
    ) -> None:
        """State when a direction's receiver is down; see `PhysicsPipeline.receiver_down`."""
        self._direction(name, direction).receiver_down(intervals, _instant(replace_from_ns, "replace_from_ns"))

    def refill(self) -> float | None:
        """Load more of the timelines that need it; returns when to call again, seconds of CLOCK_MONOTONIC."""
        return min((due for item in self._every(None) if (due := item.refill()) is not None), default=None)

    def set_now(self, name: str | None, now_ns: int) -> None:
        """Let line time be `now_ns` from here on, of one link or of all."""
        now_ns = whole(now_ns, "now_ns", -_FARTHEST, _FARTHEST)
        for item in self._every(name):
            item.set_clock(now_ns=now_ns)

    def pause(self, name: str | None = None) -> None:
        """Let line time stand still, of one link or of all: nothing in flight moves, arriving frames queue."""
        for item in self._every(name):
            item.set_clock(paused=True)

    def resume(self, name: str | None = None) -> None:
        """Let line time go on from where it stood."""
        for item in self._every(name):
            item.set_clock(paused=False)

    def capture_start(self, name: str, direction: str, path: Path, offset_ns: int | None = None) -> None:
        """Write a direction's frames to a pcapng file: each as it leaves and as it arrives.

        Args:
            name: of the link.
            direction: `ab` or `ba`.
            path: of the file, overwritten.
            offset_ns: from line time to the time written; None writes UTC.

        Raises:
            InputError: when the file cannot be written or a capture is running.
        """
        self._direction(name, direction).start_capture(path, _instant(offset_ns, "offset_ns"), name)

    def capture_stop(self, name: str, direction: str) -> None:
        """Finish the capture; the file is complete when this returns.

        Raises:
            InputError: when none is running, or its file could not be written.
        """
        self._direction(name, direction).stop_capture(name)

    def check_interfaces(self) -> list[str]:
        """Mark links whose interface has gone; returns a message for each that is new."""
        news = []
        for link in self._links.values():
            if link.error is None and not all(end.exists for end in link.ends):
                for item in link.directions.values():
                    item.fail()
                link.error = f"link {link.name!r} is dead: {' or '.join(e.name for e in link.ends)} has gone"
                news.append(link.error)
        return news

    def truth(self, name: str) -> dict[str, Any]:
        """Ground truth of a link for navigation: by direction, at this instant of its line time."""
        link = self._link(name)
        return {direction: item.truth(link.config.clock_rate) for direction, item in link.directions.items()}

    def stats(self) -> dict[str, Any]:
        """Everything that is counted, as JSON."""
        steal, store = self._steal.fraction(), CEngineStats()
        self._core.engine_stats(self._engine, c.byref(store))
        return {
            "realtime": self.realtime,
            "steal": steal,
            "wakes": store.wakes,
            "store": {
                "ram_bytes": store.ram_chunks * CHUNK_BYTES,
                "ram_peak_bytes": store.peak_ram_chunks * CHUNK_BYTES,
                "ram_budget_bytes": self.ram,
                "disk_bytes": store.disk_chunks * CHUNK_BYTES,
                "chunks_written": store.written,
                "chunks_read": store.read,
                "write_errors": store.write_errors,
                "read_errors": store.read_errors,
                "state": f"failed: {os.strerror(store.last_errno)}" if store.last_errno else "ok",
            },
            "links": {
                link.name: {
                    "interfaces": [end.name for end in link.ends],
                    "error": link.error,
                    "directions": {
                        name: item.figures(link.config.budget, steal) for name, item in link.directions.items()
                    },
                }
                for link in self._links.values()
            },
        }

    def _link(self, name: str) -> _Link:
        if not isinstance(name, str) or name not in self._links:
            raise InputError(f"there is no link {name!r}", remedy=f"links: {', '.join(self._links) or 'none'}")
        return self._links[name]

    def _direction(self, name: str, direction: str) -> WireDirection:
        link = self._link(name)
        if not isinstance(direction, str) or direction not in link.directions:
            raise InputError(f"direction is {direction!r}", remedy="use ab or ba")
        return link.directions[direction]

    def _every(self, name: str | None) -> list[WireDirection]:
        links = self._links.values() if name is None else [self._link(name)]
        return [item for link in links for item in link.directions.values()]


def _instant(value: int | None, what: str) -> int | None:
    return None if value is None else whole(value, what, ALWAYS)


def _spill_file(directory: Path) -> int:
    """An unnamed file in a directory, with direct transfer where its file system knows that."""
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    try:
        try:
            return os.open(directory, flags | os.O_DIRECT, 0o600)
        except OSError:
            return os.open(directory, flags, 0o600)
    except OSError as error:
        raise InputError(
            f"spill directory {directory}: {error.strerror}", remedy="name a directory on a local disk"
        ) from error
