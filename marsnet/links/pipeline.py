"""One direction of a link, without sockets: push frames, poll what became of them.

`Pipeline` is the compiled core; `marsnet.links.reference.ReferencePipeline` does the same in Python, to the nanosecond.
"""

from __future__ import annotations

import ctypes as c
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mypy_extensions import mypyc_attr

from marsnet.errors import InputError
from marsnet.links.config import QUANTUM, DirectionConfig, whole
from marsnet.links.feed import TimelineFeed
from marsnet.links.native import REASONS, CPipeConfig, CPipeStats, CRecord, CSegment, Reason, core
from marsnet.links.segment import ALWAYS, NEVER, UP, RawSegment, Segment

_BY_NUMBER: tuple[Reason | None, ...] = (None, *Reason)
_BATCH = 256
_OCTETS = tuple(bytes((number,)) for number in range(256))
LIGHT = 299_792_458.0
"""Metres per second."""


class Outcome(NamedTuple):
    """What became of a frame.

    Attributes:
        time_ns: when it arrived, or when it was dropped.
        handle: what the caller pushed with it.
        reason: None when it arrived.
        length: bytes.
        cls: class index.
        sent_ns: when its first bit left; None when it never did.
        corrupted: it arrived with bit errors.
    """

    time_ns: int
    handle: Any
    reason: Reason | None
    length: int
    cls: int
    sent_ns: int | None
    corrupted: bool


@dataclass(frozen=True, slots=True)
class PipelineStats:
    """The balance of a direction: entered = delivered + queued + in_flight + the sum of dropped, in (frames, bytes).

    Attributes:
        entered: frames pushed.
        delivered: frames that arrived.
        queued: frames that wait or are being sent.
        in_flight: frames on their way.
        dropped: by reason, without the reasons that did not occur.
        classes: by class index: entered, delivered, queued, dropped.
        corrupted: frames delivered, or on their way, with bit errors.
        stalls: times the timeline ended before the frame that needed it.
        broken: times the balance did not hold; anything but 0 is a defect.
    """

    entered: tuple[int, int]
    delivered: tuple[int, int]
    queued: tuple[int, int]
    in_flight: tuple[int, int]
    dropped: dict[str, tuple[int, int]]
    classes: tuple[dict[str, tuple[int, int]], ...]
    corrupted: int
    stalls: int
    broken: int


class Truth(NamedTuple):
    """Ground truth for navigation at an instant.

    Attributes:
        delay_ns: light time of what leaves now, line time.
        slope: its change per second.
        last_tx_ns: when the last frame sent began to leave; None before the first.
        last_rx_ns: when the last frame arrived; None before the first.
    """

    delay_ns: int
    slope: float
    last_tx_ns: int | None
    last_rx_ns: int | None

    def range_m(self, clock_rate: float = 1.0) -> float:
        """Range in metres, when line time runs `clock_rate` times slower than mission time."""
        return self.delay_ns * 1e-9 * clock_rate * LIGHT

    @property
    def range_rate(self) -> float:
        """Metres per second, positive when the ends recede."""
        return self.slope * LIGHT


@mypyc_attr(allow_interpreted_subclasses=True)
class PhysicsPipeline(ABC):
    """One direction of a link. Calls carry line time in ns, which never goes back."""

    def __init__(self, config: DirectionConfig, window: int = 1024) -> None:
        self.config = config
        self._feed = TimelineFeed(self._replace, window)
        self._now = ALWAYS

    def load(
        self, segments: Iterable[Segment], replace_from_ns: int | None = None, until_ns: int | None = None
    ) -> None:
        """Load a timeline, or replace the present one from an instant on. What is already decided stays.

        Args:
            segments: in order of time; an iterator is read as far as needed, in constant memory.
            replace_from_ns: earlier segments stay; None replaces all.
            until_ns: end of what is known; frames wait there for `extend`. None lets the last segment hold for ever.

        Raises:
            InputError: when the segments are out of order.
        """
        self._feed.load((s.raw for s in segments), replace_from_ns, until_ns)
        self._feed.refill(self._now)

    def extend(self, segments: Iterable[Segment], until_ns: int | None = None) -> None:
        """Append to the timeline.

        Raises:
            InputError: when the segments do not follow what is loaded.
        """
        self._feed.extend((s.raw for s in segments), until_ns)
        self._feed.refill(self._now)

    def receiver_down(self, intervals: Iterable[tuple[int, int]], replace_from_ns: int | None = None) -> None:
        """State when the receiver is down: frames whose last bit arrives in [start, end) are dropped.

        Raises:
            InputError: when the intervals are empty, overlap or are out of order.
        """
        self._deafen(ALWAYS if replace_from_ns is None else replace_from_ns, checked_intervals(intervals))

    def push(self, length: int, cls: int, now_ns: int, handle: Any = None) -> None:
        """A frame of `length` bytes arrives at the transmit queue of a class.

        Raises:
            InputError: when the length or the class is out of range.
        """
        if not 0 < length < 2**31 or not 0 <= cls < len(self.config.classes):
            raise InputError(f"frame of {length} bytes in class {cls}", remedy="push a configured class and a length")
        self._now = max(self._now, now_ns)
        self._feed.refill(self._now)
        self._push(length, cls, now_ns, handle)

    def poll(self, now_ns: int) -> list[Outcome]:
        """What became of frames up to `now_ns`: drops at the sending side in order, then arrivals in order."""
        self._now = max(self._now, now_ns)
        self._feed.refill(self._now)
        return self._poll(now_ns)

    @abstractmethod
    def next_deadline(self) -> int | None:
        """Line time at which `poll` is due next; None when nothing will happen by itself."""

    @abstractmethod
    def stats(self) -> PipelineStats:
        """The balance."""

    @abstractmethod
    def truth(self, now_ns: int) -> Truth | None:
        """Ground truth at an instant that the loaded timeline covers; None elsewhere."""

    @abstractmethod
    def _replace(self, from_ns: int, segments: list[RawSegment], horizon_ns: int) -> None: ...

    @abstractmethod
    def _deafen(self, from_ns: int, intervals: list[tuple[int, int]]) -> None: ...

    @abstractmethod
    def _push(self, length: int, cls: int, now_ns: int, handle: Any) -> None: ...

    @abstractmethod
    def _poll(self, now_ns: int) -> list[Outcome]: ...


def checked_intervals(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Intervals in order and disjoint.

    Raises:
        InputError: naming the first that is not.
    """
    result: list[tuple[int, int]] = []
    for start, end in intervals:
        whole(start, "interval: start", ALWAYS), whole(end, "interval: end", ALWAYS)
        if end <= start or (result and start < result[-1][1]):
            raise InputError(
                f"interval {start}..{end} ns", remedy="give disjoint intervals in order, each end after its start"
            )
        result.append((start, end))
    return result


def pipe_config(config: DirectionConfig, *, carry: bool) -> CPipeConfig:
    """The configuration as the core reads it."""
    result = CPipeConfig(
        classes=len(config.classes),
        weighted=config.scheduler == "weighted",
        max_frame=config.max_frame,
        carry=carry,
        seed=config.seed,
    )
    for index, item in enumerate(config.classes):
        result.limit_bytes[index] = item.limit_bytes
        result.limit_frames[index] = item.limit_frames
        result.quantum[index] = item.weight * QUANTUM
    return result


def segment_array(segments: list[RawSegment]) -> c.Array[CSegment]:
    """Segments as the core reads them."""
    return (CSegment * len(segments))(*(CSegment(*segment) for segment in segments))


def receiver_array(from_ns: int, intervals: list[tuple[int, int]]) -> c.Array[CSegment]:
    """The receiver's timeline from an instant on, as the core reads it: up but in the intervals."""
    steps = [(from_ns, UP)]
    for start, end in intervals:
        steps += [(start, 0), (end, UP)]
    return (CSegment * len(steps))(*(CSegment(t0=time_ns, flags=up) for time_ns, up in steps))


def stats_from(raw: CPipeStats, classes: int) -> PipelineStats:
    """The balance from the core's counters."""

    def pair(count: Any) -> tuple[int, int]:
        return (count.frames, count.bytes)

    def total(counts: Any) -> tuple[int, int]:
        return (sum(n.frames for n in counts), sum(n.bytes for n in counts))

    return PipelineStats(
        entered=total(raw.entered),
        delivered=total(raw.out),
        queued=total(raw.wait),
        in_flight=pair(raw.fly),
        dropped={name: pair(raw.reason[i]) for i, name in enumerate(REASONS) if raw.reason[i].frames},
        classes=tuple(
            {
                "entered": pair(raw.entered[i]),
                "delivered": pair(raw.out[i]),
                "queued": pair(raw.wait[i]),
                "dropped": pair(raw.drop[i]),
            }
            for i in range(classes)
        ),
        corrupted=raw.corrupted,
        stalls=raw.stalls,
        broken=raw.broken,
    )


class _Train:
    """What is to be returned for frames that were pushed together, and how many of them have not ended."""

    __slots__ = ("handle", "left")

    def __init__(self, handle: Any, left: int) -> None:
        self.handle, self.left = handle, left


class Pipeline(PhysicsPipeline):
    """The compiled core."""

    def __init__(self, config: DirectionConfig, window: int = 1024) -> None:
        super().__init__(config, window)
        self._core = core()
        self._pipe = self._core.pipe_new(c.byref(pipe_config(config, carry=False)), None)
        if not self._pipe:
            raise MemoryError
        weakref.finalize(self, self._core.pipe_free, self._pipe)
        self._handles: dict[int, Any] = {}
        self._next_id = 0
        self._records = (CRecord * _BATCH)()
        self._trains: dict[int, _Train] = {}
        self._next_train = 0
        self._classes = len(config.classes)
        self._length, self._count = (c.c_uint32 * 1)(), (c.c_uint32 * 1)()
        self._runs = (c.c_uint64 * (2 * _BATCH))()

    def next_deadline(self) -> int | None:
        due: int = self._core.pipe_next(self._pipe)
        return None if due == NEVER else due

    def push_train(self, length: int, count: int, cls: int, now_ns: int, handle: Any, *, quiet: bool) -> None:
        """A train of frames arrives at the transmit queues, one after another. In place of `push`.

        Args:
            length: bytes of each frame.
            count: how many frames, 1 or more.
            cls: class index.
            now_ns: line time.
            handle: what `take` returns for them.
            quiet: whether the receiver need not see them before what is not quiet.

        Raises:
            InputError: when the length or the class is out of range.
        """
        if not 0 < length < 2**31 or not 0 <= cls < self._classes:
            raise InputError(f"frames of {length} bytes in class {cls}", remedy="push a configured class and a length")
        self._now = max(self._now, now_ns)
        if self._feed.refill_ns is not None:
            self._feed.refill(self._now)
        train = self._next_train
        self._next_train = train + 1
        self._trains[train] = _Train(handle, count)
        self._length[0], self._count[0] = length, count
        self._core.pipe_push_trains(
            self._pipe, 1, self._length, self._count, _OCTETS[cls], _OCTETS[quiet], now_ns, train
        )

    def take(self, now_ns: int) -> list[tuple[Any, int, int]]:
        """What has arrived by `now_ns` without bit errors, in order; in place of `poll`.

        Returns:
            The handle of each train, the first of its frames that has come, and how many with that.
        """
        self._now = max(self._now, now_ns)
        if self._feed.refill_ns is not None:
            self._feed.refill(self._now)
        arrived: list[tuple[Any, int, int]] = []
        trains = self._trains
        count = _BATCH
        while count == _BATCH:
            count = self._core.pipe_take(self._pipe, now_ns, self._runs, _BATCH)
            if not count:
                break
            runs = self._runs[: 2 * count]
            for place in range(0, 2 * count, 2):
                first, ended = runs[place], runs[place + 1]
                number, frames = first >> 32, ended >> 1
                train = trains[number]
                train.left -= frames
                if not train.left:
                    del trains[number]
                if ended & 1:
                    arrived.append((train.handle, first & 0xFFFFFFFF, frames))
        return arrived

    def alarm(self) -> int | None:
        """Line time before which no frame arrives that is not quiet; None when there is none. It may be too early."""
        due: int = self._core.pipe_alarm(self._pipe)
        return None if due == NEVER else due

    def stats(self) -> PipelineStats:
        raw = CPipeStats()
        self._core.pipe_stats(self._pipe, c.byref(raw))
        return stats_from(raw, len(self.config.classes))

    def truth(self, now_ns: int) -> Truth | None:
        segment, delay, raw = CSegment(), c.c_int64(), CPipeStats()
        if not self._core.pipe_at(self._pipe, now_ns, c.byref(segment), c.byref(delay)):
            return None
        self._core.pipe_stats(self._pipe, c.byref(raw))
        return Truth(delay.value, segment.slope / 2**62, known(raw.last_tx), known(raw.last_rx))

    def _replace(self, from_ns: int, segments: list[RawSegment], horizon_ns: int) -> None:
        if self._core.pipe_replace(self._pipe, from_ns, segment_array(segments), len(segments), horizon_ns):
            raise MemoryError

    def _deafen(self, from_ns: int, intervals: list[tuple[int, int]]) -> None:
        steps = receiver_array(from_ns, intervals)
        if self._core.pipe_receiver(self._pipe, from_ns, steps, len(steps)):
            raise MemoryError

    def _push(self, length: int, cls: int, now_ns: int, handle: Any) -> None:
        self._next_id += 1
        self._handles[self._next_id] = handle
        self._core.pipe_push(self._pipe, None, length, cls, now_ns, self._next_id)

    def _poll(self, now_ns: int) -> list[Outcome]:
        result: list[Outcome] = []
        count = _BATCH
        while count == _BATCH:
            count = self._core.pipe_pop(self._pipe, now_ns, self._records, _BATCH)
            for record in self._records[:count]:
                handle = self._handles.pop(record.id)
                result.append(
                    Outcome(
                        record.t,
                        handle,
                        _BY_NUMBER[record.reason],
                        record.len,
                        record.cls,
                        known(record.sent),
                        bool(record.corrupt),
                    )
                )
        return result


def known(time_ns: int) -> int | None:
    """A time of the core, None when it has not happened."""
    return None if time_ns == ALWAYS else time_ns
