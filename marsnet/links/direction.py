"""One direction of a link between two interfaces: its sockets, its timeline, its capture and its figures."""

from __future__ import annotations

import ctypes as c
import errno
import mmap
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.links.capture import Capture
from marsnet.links.config import DirectionConfig
from marsnet.links.feed import TimelineFeed
from marsnet.links.fidelity import Budget, percentile
from marsnet.links.interfaces import Interface
from marsnet.links.native import CWireConfig, CWireStats, core
from marsnet.links.pipeline import (
    Truth,
    checked_intervals,
    known,
    pipe_config,
    receiver_array,
    segment_array,
    stats_from,
)
from marsnet.links.segment import ALWAYS, NEVER, RawSegment
from marsnet.links.sockets import receiver, ring_shape, sender


class WireDirection:
    """What enters at one interface and leaves at another.

    Attributes:
        config: as given.
        feed: keeps its timeline loaded.
        error: why its timeline is not loaded any further.

    Raises:
        InputError: when an interface does not allow it.
        EnvironmentLacksError: when raw sockets are not allowed.
    """

    def __init__(
        self, engine: int, source: Interface, target: Interface, config: DirectionConfig, ring_slots: int
    ) -> None:
        self._core = core()
        self.config = config
        self.error: str | None = None
        self.feed = TimelineFeed(self._replace)
        self._ends = (source.name, target.name)
        self._capture: Capture | None = None
        self._sockets: list[socket.socket] = []
        self._ring: mmap.mmap | None = None
        slot_bytes, slots = ring_shape(source.mtu, ring_slots)
        try:
            self._sockets.append(receiver(source, slot_bytes, slots))
            self._sockets.append(sender(target))
            self._ring = mmap.mmap(self._sockets[0].fileno(), slots * slot_bytes)
            self._anchor: c.c_char | None = c.c_char.from_buffer(self._ring)
            wire = CWireConfig(
                *(item.fileno() for item in self._sockets),
                slot_bytes,
                slots,
                (c.c_uint8 * 64)(*config.class_of()),
                config.default_index,
                c.addressof(self._anchor),
            )
            self._handle = self._add(engine, wire)
        except OSError as error:
            self._hang_up()
            if error.errno == errno.EPERM:
                raise EnvironmentLacksError("raw sockets are not permitted", fix="run with CAP_NET_RAW") from error
            raise InputError(f"interface {source.name!r}: {error.strerror}", remedy="see: ip link") from error

    def _add(self, engine: int, wire: CWireConfig) -> int:
        handle = self._core.dir_add(engine, c.byref(wire), c.byref(pipe_config(self.config, carry=True)))
        if not handle:
            raise OSError(errno.ENOSPC, "no room for another direction")
        return int(handle)

    def _hang_up(self) -> None:
        self._anchor = None  # what is pointed at cannot be unmapped
        if self._ring is not None:
            self._ring.close()
        for item in self._sockets:
            item.close()

    def close(self) -> None:
        """Take it out. Frames under way are lost."""
        self._core.dir_remove(self._handle)
        if self._capture is not None:
            self._capture.stop()
        self._hang_up()

    def fail(self) -> None:
        """An interface has gone: what is under way is dropped as `link_gone`."""
        self._core.dir_fail(self._handle)

    def _replace(self, from_ns: int, segments: list[RawSegment], horizon_ns: int) -> None:
        if self._core.dir_timeline(self._handle, from_ns, segment_array(segments), len(segments), horizon_ns):
            raise MemoryError

    def refill(self) -> float | None:
        """Load more of the timeline if need be; returns when to call again, seconds of CLOCK_MONOTONIC."""
        if self.feed.refill_ns is None or self.error is not None:
            return None
        try:
            self.feed.refill(self.raw().now)
        except InputError as error:
            self.error = str(error)
            return None
        raw = self.raw()
        if self.feed.refill_ns is None or raw.paused:
            return None
        return float((self.feed.refill_ns - raw.offset) / 1e9)

    def receiver_down(self, intervals: Iterable[tuple[int, int]], replace_from_ns: int | None) -> None:
        """See `PhysicsPipeline.receiver_down`."""
        start = ALWAYS if replace_from_ns is None else replace_from_ns
        steps = receiver_array(start, checked_intervals(intervals))
        if self._core.dir_receiver(self._handle, start, steps, len(steps)):
            raise MemoryError

    def set_clock(self, now_ns: int | None = None, *, paused: bool | None = None) -> None:
        """Let line time be `now_ns` from here on; let it stand still, or go on from where it stood."""
        halted = self.raw().paused if paused is None else paused
        self._core.dir_clock(self._handle, NEVER if now_ns is None else now_ns, halted)

    def start_capture(self, path: Path, offset_ns: int | None, link: str) -> None:
        """Write frames to a pcapng file; see `DelayLine.capture_start`."""
        if self._capture is not None:
            raise InputError(f"a direction of {link!r} is being captured", remedy="stop that capture first")
        if offset_ns is None:
            offset_ns = time.time_ns() - self.raw().now
        names = (f"{link} {self._ends[0]} transmit", f"{link} {self._ends[1]} receive")
        self._capture = Capture(path, offset_ns, names)
        self._core.dir_capture(self._handle, c.byref(self._capture.raw))

    def stop_capture(self, link: str) -> None:
        """Finish the file; see `DelayLine.capture_stop`."""
        if self._capture is None:
            raise InputError(f"this direction of {link!r} is not being captured", remedy="start a capture first")
        done, self._capture = self._capture, None
        self._core.dir_capture(self._handle, None)
        done.stop()
        if done.error is not None:
            raise InputError(f"the capture is incomplete: {done.error.strerror}", remedy="make room and capture again")
        if done.raw.lost:
            raise InputError(
                f"the capture is incomplete: {done.raw.lost} frames came faster than they could be written",
                remedy="capture to a faster disk",
            )

    def raw(self) -> CWireStats:
        """The core's counters."""
        out = CWireStats()
        self._core.dir_stats(self._handle, c.byref(out))
        return out

    def truth(self, clock_rate: float) -> dict[str, Any]:
        """Ground truth for navigation at this instant of line time."""
        raw = self.raw()
        truth = Truth(raw.delay, raw.seg.slope / 2**62, known(raw.pipe.last_tx), known(raw.pipe.last_rx))
        return {
            "now_ns": raw.now,
            "delay_ns": raw.delay if raw.known else None,
            "range_m": truth.range_m(clock_rate) if raw.known else None,
            "range_rate_m_s": truth.range_rate if raw.known else None,
            "up": bool(raw.known and raw.seg.flags & 1),
            "last_tx_ns": truth.last_tx_ns,
            "last_rx_ns": truth.last_rx_ns,
        }

    def figures(self, budget: Budget, steal: float | None) -> dict[str, Any]:
        """Everything that is counted, as JSON."""
        raw = self.raw()
        balance = stats_from(raw.pipe, len(self.config.classes))
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
        problems = budget.exceeded(figures)
        if raw.unfinished_sums:
            problems.append(
                f"{raw.unfinished_sums} frames came without checksum: turn transmit offload off at the ends"
            )
        if self.error is not None:
            problems.append(self.error)
        failed = None if self._capture is None else self._capture.error
        return {
            "in": _count(balance.entered),
            "delivered": _count(balance.delivered),
            "queued": _count(balance.queued),
            "in_flight": _count(balance.in_flight),
            "dropped": {reason: _count(n) for reason, n in balance.dropped.items()},
            "classes": {
                cls.name: {key: _count(n) for key, n in counts.items()}
                for cls, counts in zip(self.config.classes, balance.classes, strict=True)
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
            "capture_error": None if failed is None else failed.strerror,
            "capture_lost": raw.capture_lost,
            **figures,
            "valid": not problems,
            "invalid_because": problems,
        }


def _count(pair: tuple[int, int]) -> dict[str, int]:
    return {"frames": pair[0], "bytes": pair[1]}


def _balanced(entered: tuple[int, int], *rest: tuple[int, int]) -> bool:
    return entered == (sum(p[0] for p in rest), sum(p[1] for p in rest))
