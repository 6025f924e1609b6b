"""The delay line inside this process: links between interfaces, driven by the compiled engine's own thread."""

from __future__ import annotations

import ctypes as c
import errno
import os
import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.links.config import DirectionConfig, whole
from marsnet.links.feed import TimelineFeed
from marsnet.links.fidelity import LinkConfig, StealMeter, percentile
from marsnet.links.interfaces import Interface, claim
from marsnet.links.native import CEngineStats, CWireConfig, CWireStats, core
from marsnet.links.pipeline import Truth, checked_intervals, known, pipe_config, segment_array, span_array, stats_from
from marsnet.links.segment import ALWAYS, RawSegment

DIRECTIONS = ("ab", "ba")
DEFAULT_RAM = 1 << 30
PRIORITY = 50
_RING_BLOCK = 1 << 20
_HEADROOM = 128  # tpacket2_hdr, sockaddr_ll and alignment before the frame, packet(7)
_CHUNK = 256 << 10
_LEAST_RAM = 1 << 20
_FARTHEST = 2**62 - 1
_CLOSERS = 32
"""Threads that end links: the kernel takes tens of milliseconds to close each ring, but many at once."""


@dataclass
class _Direction:
    ident: int
    config: DirectionConfig
    feed: TimelineFeed
    error: str | None = None


@dataclass
class _Link:
    name: str
    ends: tuple[Interface, Interface]
    config: LinkConfig
    claims: list[socket.socket]
    directions: dict[str, _Direction] = field(default_factory=dict)
    error: str | None = None


class DelayLine:
    """Many links in one process.

    Args:
        spill_dir: directory for frames in flight beyond half of the RAM budget; None keeps all in RAM.
        ram: budget in bytes for all frames that wait or fly.
        priority: of SCHED_FIFO for the worker thread; 0 does not ask for it.

    Raises:
        EnvironmentLacksError: when the core is not built.
        InputError: when the spill directory cannot be used, or the budget is below 1 MiB.
    """

    def __init__(self, spill_dir: Path | None = None, ram: int = DEFAULT_RAM, priority: int = PRIORITY) -> None:
        self._core = core()
        ram = whole(ram, "ram", _LEAST_RAM)
        error = c.c_int()
        directory = None if spill_dir is None else os.fsencode(spill_dir)
        self._engine = self._core.engine_open(priority, ram, directory, c.byref(error))
        if not self._engine:
            raise InputError(
                f"spill directory {spill_dir}: {os.strerror(error.value)}", remedy="name a directory on a local disk"
            )
        self._links: dict[str, _Link] = {}
        self._steal = StealMeter()
        self.ram, self.spill_dir = ram, spill_dir

    def close(self) -> None:
        """Stop. Frames under way are lost."""
        if self._engine:
            idents = [d.ident for link in self._links.values() for d in link.directions.values()]
            with ThreadPoolExecutor(_CLOSERS) as pool:
                list(pool.map(lambda ident: self._core.engine_remove(self._engine, ident), idents))
            self._core.engine_close(self._engine)
            self._engine = None
            for link in self._links.values():
                for item in link.claims:
                    item.close()
            self._links.clear()

    @property
    def event_fd(self) -> int:
        """Becomes readable when an interface has gone or the disk has failed."""
        return int(self._core.engine_event_fd(self._engine))

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
            for direction, (source, target), item in (
                ("ab", ends, config.ab),
                ("ba", ends[::-1], config.ba),
            ):
                link.directions[direction] = self._add(source, target, item, config.ring_slots)
        except BaseException:
            self._dismantle(link)
            raise
        self._links[name] = link

    def _add(self, source: Interface, target: Interface, config: DirectionConfig, slots: int) -> _Direction:
        slot = max(2048, 1 << (source.mtu + _HEADROOM).bit_length())
        per_block = max(_RING_BLOCK // slot, 1)
        slots = -(-slots // per_block) * per_block
        wire = CWireConfig(
            in_if=source.index,
            out_if=target.index,
            slot_bytes=slot,
            slots=slots,
            class_of=(c.c_uint8 * 64)(*config.class_of()),
            class_default=config.default_index,
        )
        ident = self._core.engine_add(self._engine, c.byref(wire), c.byref(pipe_config(config, carry=True)))
        if ident == -errno.EPERM:
            raise EnvironmentLacksError("raw sockets are not permitted", fix="run with CAP_NET_RAW")
        if ident < 0:
            raise InputError(f"interface {source.name!r}: {os.strerror(-ident)}", remedy="see: ip link")

        def sink(from_ns: int, segments: list[RawSegment], horizon_ns: int) -> None:
            self._check(
                self._core.engine_timeline(
                    self._engine, ident, from_ns, segment_array(segments), len(segments), horizon_ns
                )
            )

        return _Direction(ident, config, TimelineFeed(sink))

    def remove_link(self, name: str) -> None:
        """Take a link out. Frames under way are lost.

        Raises:
            InputError: when there is no such link.
        """
        self._dismantle(self._link(name))
        del self._links[name]

    def _dismantle(self, link: _Link) -> None:
        for direction in link.directions.values():
            self._core.engine_remove(self._engine, direction.ident)
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
        self._refill(item)

    def extend(self, name: str, direction: str, segments: Iterable[RawSegment], until_ns: int | None = None) -> None:
        """Append to a direction's timeline; see `PhysicsPipeline.extend`."""
        item = self._direction(name, direction)
        item.feed.extend(segments, _instant(until_ns, "until_ns"))
        self._refill(item)

    def receiver_down(
        self, name: str, direction: str, intervals: Iterable[tuple[int, int]], replace_from_ns: int | None = None
    ) -> None:
        """State when a direction's receiver is down; see `PhysicsPipeline.receiver_down`."""
        item, spans = self._direction(name, direction), checked_intervals(intervals)
        instant = _instant(replace_from_ns, "replace_from_ns")
        start = ALWAYS if instant is None else instant
        self._check(self._core.engine_deaf(self._engine, item.ident, start, span_array(spans), len(spans)))

    def refill(self) -> float | None:
        """Load more of the timelines that need it; returns when to call again, seconds of CLOCK_MONOTONIC."""
        waits = []
        for link in self._links.values():
            for item in link.directions.values():
                if item.feed.refill_ns is not None and item.error is None:
                    self._refill(item)
                if item.feed.refill_ns is not None and item.error is None:
                    raw = self._raw([item])[0][0]
                    if not raw.paused:
                        waits.append((item.feed.refill_ns - raw.offset) / 1e9)
        return min(waits, default=None)

    def _refill(self, item: _Direction) -> None:
        if item.feed.refill_ns is None:
            return
        try:
            item.feed.refill(self._raw([item])[0][0].now)
        except InputError as error:
            item.error = str(error)

    def set_now(self, name: str | None, now_ns: int) -> None:
        """Let line time be `now_ns` from here on, of one link or of all."""
        now_ns = whole(now_ns, "now_ns", -_FARTHEST, _FARTHEST)
        for item in self._every(name):
            self._check(self._core.engine_set_now(self._engine, item.ident, now_ns))

    def pause(self, name: str | None = None) -> None:
        """Let line time stand still, of one link or of all: nothing in flight moves, arriving frames queue."""
        for item in self._every(name):
            self._check(self._core.engine_pause(self._engine, item.ident, 1))

    def resume(self, name: str | None = None) -> None:
        """Let line time go on from where it stood."""
        for item in self._every(name):
            self._check(self._core.engine_pause(self._engine, item.ident, 0))

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
        item, link = self._direction(name, direction), self._link(name)
        offset_ns = _instant(offset_ns, "offset_ns")
        source, target = link.ends if direction == "ab" else link.ends[::-1]
        if offset_ns is None:
            offset_ns = time.time_ns() - self._raw([item])[0][0].now
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"capture file {path}: {error.strerror}", remedy="name a writable file") from error
        names = (f"{name} {source.name} transmit", f"{name} {target.name} receive")
        answer = self._core.engine_capture(self._engine, item.ident, fd, offset_ns, *(n.encode() for n in names))
        if answer == -errno.EBUSY:
            raise InputError(f"direction {direction} of {name!r} is being captured", remedy="stop that capture first")
        self._check(answer)

    def capture_stop(self, name: str, direction: str) -> None:
        """Finish the capture; the file is complete when this returns.

        Raises:
            InputError: when none is running, or its file could not be written.
        """
        answer = self._core.engine_capture_stop(self._engine, self._direction(name, direction).ident)
        if answer == -errno.ENODATA:
            raise InputError(f"direction {direction} of {name!r} is not being captured", remedy="start a capture first")
        if answer:
            raise InputError(f"the capture is incomplete: {os.strerror(-answer)}", remedy="make room and capture again")

    def check_interfaces(self) -> list[str]:
        """Mark links whose interface has gone; returns a message for each that is new."""
        news = []
        for link in self._links.values():
            if link.error is not None:
                continue
            if any(raw.gone for raw in self._raw(link.directions.values())[0]) or not all(e.exists for e in link.ends):
                for item in link.directions.values():
                    self._core.engine_fail(self._engine, item.ident)
                link.error = f"link {link.name!r} is dead: {' or '.join(e.name for e in link.ends)} has gone"
                news.append(link.error)
        return news

    def truth(self, name: str) -> dict[str, Any]:
        """Ground truth of a link for navigation: by direction, at this instant of its line time."""
        link = self._link(name)
        raws = self._raw(link.directions.values())[0]
        result: dict[str, Any] = {}
        for direction, raw in zip(link.directions, raws, strict=True):
            truth = Truth(raw.delay, raw.seg.slope / 2**62, known(raw.pipe.last_tx_start), known(raw.pipe.last_rx))
            result[direction] = {
                "now_ns": raw.now,
                "delay_ns": raw.delay if raw.known else None,
                "range_m": truth.range_m(link.config.clock_rate) if raw.known else None,
                "range_rate_m_s": truth.range_rate if raw.known else None,
                "up": bool(raw.known and raw.seg.flags & 1),
                "last_tx_ns": truth.last_tx_ns,
                "last_rx_ns": truth.last_rx_ns,
            }
        return result

    def stats(self) -> dict[str, Any]:
        """Everything that is counted, as JSON."""
        raws, engine = self._raw([d for link in self._links.values() for d in link.directions.values()])
        steal, at = self._steal.fraction(), iter(raws)
        store = engine.store
        return {
            "realtime": bool(engine.realtime),
            "steal": steal,
            "wakes": engine.wakes,
            "store": {
                "ram_bytes": store.ram_chunks * _CHUNK,
                "ram_peak_bytes": store.peak_ram_chunks * _CHUNK,
                "ram_budget_bytes": self.ram,
                "disk_bytes": store.disk_chunks * _CHUNK,
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
                        name: self._figures(link, item, next(at), steal) for name, item in link.directions.items()
                    },
                }
                for link in self._links.values()
            },
        }

    def _figures(self, link: _Link, item: _Direction, raw: CWireStats, steal: float | None) -> dict[str, Any]:
        balance = stats_from(raw.pipe, len(item.config.classes))
        late = list(raw.late)
        figures: dict[str, Any] = {
            "lateness_p50_ns": percentile(late, 0.5),
            "lateness_p99_ns": percentile(late, 0.99),
            "lateness_max_ns": raw.late_max,
            "ring_drops": raw.ring_drops,
            "clock_steps": raw.clock_steps,
            "steal": steal,
            "stalls": balance.stalls,
            "broken": balance.broken,
            "early": raw.early,
            "gone": raw.gone,
        }
        problems = link.config.budget.exceeded(figures)
        if raw.unfinished_sums:
            problems.append(
                f"{raw.unfinished_sums} frames came without checksum: turn transmit offload off at the ends"
            )
        if item.error is not None:
            problems.append(item.error)
        return {
            "in": _count(balance.entered),
            "delivered": _count(balance.delivered),
            "queued": _count(balance.queued),
            "in_flight": _count(balance.in_flight),
            "dropped": {reason: _count(n) for reason, n in balance.dropped.items()},
            "classes": {
                cls.name: {key: _count(n) for key, n in counts.items()}
                for cls, counts in zip(item.config.classes, balance.classes, strict=True)
            },
            "corrupted": balance.corrupted,
            "balanced": _balanced(
                balance.entered, balance.delivered, balance.queued, balance.in_flight, *balance.dropped.values()
            ),
            "now_ns": raw.now,
            "paused": bool(raw.paused),
            "lateness_histogram": late,
            "lateness_frames": raw.late_frames,
            "lateness_sum_ns": raw.late_sum,
            "bad_stamps": raw.bad_stamps,
            "egress_error": os.strerror(raw.egress_errno) if raw.egress_errno else None,
            "capture_error": os.strerror(raw.capture_errno) if raw.capture_errno else None,
            "capture_lost": raw.capture_lost,
            **figures,
            "valid": not problems,
            "invalid_because": problems,
        }

    def _raw(self, items: Iterable[_Direction]) -> tuple[Sequence[CWireStats], CEngineStats]:
        idents = [item.ident for item in items]
        out, engine = (CWireStats * len(idents))(), CEngineStats()
        self._check(
            self._core.engine_stats(self._engine, (c.c_int32 * len(idents))(*idents), len(idents), out, c.byref(engine))
        )
        return list(out), engine

    def _link(self, name: str) -> _Link:
        if not isinstance(name, str) or name not in self._links:
            raise InputError(f"there is no link {name!r}", remedy=f"links: {', '.join(self._links) or 'none'}")
        return self._links[name]

    def _direction(self, name: str, direction: str) -> _Direction:
        link = self._link(name)
        if not isinstance(direction, str) or direction not in link.directions:
            raise InputError(f"direction is {direction!r}", remedy="use ab or ba")
        return link.directions[direction]

    def _every(self, name: str | None) -> list[_Direction]:
        links = self._links.values() if name is None else [self._link(name)]
        return [item for link in links for item in link.directions.values()]

    @staticmethod
    def _check(answer: int) -> None:
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer))


def _instant(value: int | None, what: str) -> int | None:
    return None if value is None else whole(value, what, ALWAYS)


def _count(pair: tuple[int, int]) -> dict[str, int]:
    return {"frames": pair[0], "bytes": pair[1]}


def _balanced(entered: tuple[int, int], *rest: tuple[int, int]) -> bool:
    return entered == (sum(p[0] for p in rest), sum(p[1] for p in rest))
