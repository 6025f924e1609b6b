"""The physics of one direction in plain Python: what core/pipeline.c must agree with, to the nanosecond."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, NamedTuple

from marsnet.links.config import QUANTUM, DirectionConfig
from marsnet.links.native import Reason
from marsnet.links.pipeline import Outcome, PhysicsPipeline, PipelineStats, Truth, known
from marsnet.links.segment import ALWAYS, BURSTS, CORRUPT, HOLD, NEVER, UP, RawSegment, raw_delay

_MASK = 2**64 - 1


class _Frame(NamedTuple):
    arrival: int
    length: int
    cls: int
    handle: Any


class _Service(NamedTuple):
    frame: _Frame
    segment: RawSegment
    start: int
    free: int  # in 2^-30 ns


class ReferencePipeline(PhysicsPipeline):
    """Specification: `start = max(arrival, free); free = start + length * byte_time`, deadline `free + delay(free)`."""

    def __init__(self, config: DirectionConfig, window: int = 1024) -> None:
        super().__init__(config, window)
        self._queues: list[deque[_Frame]] = [deque() for _ in config.classes]
        self._segments: list[RawSegment] = []
        self._horizon, self._clock, self._arrival = NEVER, ALWAYS, ALWAYS
        self._free = ALWAYS << 30  # in 2^-30 ns
        self._service: _Service | None = None
        self._drops: deque[Outcome] = deque()
        self._flight: deque[Outcome] = deque()
        self._deaf: list[tuple[int, int]] = []
        self._last_deadline, self._last_tx, self._last_rx = ALWAYS, ALWAYS, ALWAYS
        self._rng, self._bad = config.seed, False
        self._turn, self._fresh, self._deficit = 0, True, [0] * len(config.classes)
        self._counts: Counter[tuple[str, int]] = Counter()
        self._bytes: Counter[tuple[str, int]] = Counter()
        self._corrupted = 0

    def _draw(self) -> int:
        self._rng = (self._rng + 0x9E3779B97F4A7C15) & _MASK
        z = self._rng
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
        return z ^ (z >> 31)

    def _hit(self, probability: int) -> bool:
        return self._draw() < probability or probability == _MASK

    def _count(self, what: str, cls: int, length: int) -> None:
        self._counts[what, cls] += 1
        self._bytes[what, cls] += length

    def _drop(self, frame: _Frame, when: int, reason: Reason, sent: int | None = None) -> None:
        self._count(reason.value, frame.cls, frame.length)
        self._drops.append(Outcome(when, frame.handle, reason, frame.length, frame.cls, sent, False))

    def _replace(self, from_ns: int, segments: list[RawSegment], horizon_ns: int) -> None:
        decided = min(self._clock + 1, self._horizon)
        start = max(from_ns, decided)
        kept = {s.t0: s for s in self._segments if s.t0 < start}
        kept.update((max(s.t0, start), s._replace(t0=max(s.t0, start))) for s in segments)
        self._segments, self._horizon = list(kept.values()), max(horizon_ns, decided)

    def _deafen(self, from_ns: int, intervals: list[tuple[int, int]]) -> None:
        kept = [(start, min(end, from_ns)) for start, end in self._deaf if start < from_ns]
        self._deaf = kept + [(max(start, from_ns), end) for start, end in intervals if end > from_ns]

    def _push(self, length: int, cls: int, now_ns: int, handle: Any) -> None:
        self._arrival = now = max(now_ns, self._arrival)
        self._advance(now)
        frame, queue, limits = _Frame(now, length, cls, handle), self._queues[cls], self.config.classes[cls]
        self._count("entered", cls, length)
        if length > self.config.max_frame:
            self._drop(frame, now, Reason.OVERSIZED)
        elif sum(f.length for f in queue) + length > limits.limit_bytes or len(queue) + 1 > limits.limit_frames:
            self._drop(frame, now, Reason.QUEUE_FULL)
        else:
            queue.append(frame)

    def _in_force(self, time: int) -> tuple[int, RawSegment | None]:
        """Index and value of the segment in force; index of the next one and None before the first."""
        index = -1
        for index, segment in enumerate(self._segments):
            if segment.t0 > time:
                return index - 1, self._segments[index - 1] if index else None
        return index, self._segments[index] if self._segments else None

    def _next_event(self) -> tuple[int, str, int, int]:
        """When the serializer acts next, what it does, when exactly (2^-30 ns), and the index of the segment."""
        if self._service is not None:
            end, what, exact = -(-self._service.free >> 30), "end", self._service.free
            for segment in self._segments:
                if self._service.start < segment.t0 < end and not segment.flags & UP:
                    end, what, exact = segment.t0, "cut", segment.t0 << 30
                    break
            return (end, what, exact, 0) if end <= self._horizon else (self._horizon, "wait", 0, 0)
        waiting = [queue[0].arrival for queue in self._queues if queue]
        if not waiting:
            return NEVER, "wait", 0, 0
        exact = max(min(waiting) << 30, self._free)
        while self._segments and exact >> 30 < self._horizon:
            index, current = self._in_force(exact >> 30)
            if current is None:
                exact = self._segments[0].t0 << 30
            elif current.flags & UP:
                return exact >> 30, "start", exact, index
            elif not current.flags & HOLD:
                return exact >> 30, "down", exact, index
            elif index + 1 < len(self._segments):
                exact = self._segments[index + 1].t0 << 30
            else:
                break
        return self._horizon, "wait", 0, 0

    def _advance(self, until: int) -> None:
        self._clock = max(self._clock, until)
        while True:
            when, what, exact, index = self._next_event()
            if when > until or what == "wait":
                return
            if what in ("cut", "end"):
                assert self._service is not None  # noqa: S101 - `_next_event` says so
                service, self._service, self._free = self._service, None, exact
                self._finish(service, when, cut=what == "cut")
            elif what == "down":
                oldest = min((q for q in self._queues if q), key=lambda q: q[0].arrival)
                self._drop(oldest.popleft(), when, Reason.DOWN)
            else:
                frame = self._queues[self._pick(when)].popleft()
                segment = self._segments[index]
                self._service = _Service(frame, segment, when, exact + frame.length * segment.byte_time)

    def _pick(self, start: int) -> int:
        eligible = [bool(queue) and queue[0].arrival <= start for queue in self._queues]
        if self.config.scheduler == "strict":
            return eligible.index(True)
        while True:
            cls = self._turn
            if not eligible[cls]:
                self._deficit[cls] = 0
            else:
                if self._fresh:
                    self._deficit[cls] += self.config.classes[cls].weight * QUANTUM
                self._fresh = False
                if self._deficit[cls] >= self._queues[cls][0].length:
                    self._deficit[cls] -= self._queues[cls][0].length
                    return cls
            self._turn, self._fresh = (cls + 1) % len(eligible), True

    def _fate(self, segment: RawSegment, length: int) -> tuple[Reason | None, bool]:
        bursts = bool(segment.flags & BURSTS)
        if bursts and self._hit(segment.to_good if self._bad else segment.to_bad):
            self._bad = not self._bad
        loss = segment.bad_loss if bursts and self._bad else segment.loss
        if loss and self._hit(loss):
            return Reason.LOSS, False
        if segment.ber and self._draw() >= survival(segment.ber, 8 * length):
            return (None, True) if segment.flags & CORRUPT else (Reason.BIT_ERROR, False)
        return None, False

    def _finish(self, service: _Service, when: int, *, cut: bool) -> None:
        frame, segment, start, _ = service
        self._last_tx = start
        reason, corrupted = (Reason.CUT, False) if cut else self._fate(segment, frame.length)
        if reason is not None:
            self._drop(frame, when, reason, start)
            return
        self._last_deadline = max(self._last_deadline, when + raw_delay(segment, when))
        self._corrupted += corrupted
        self._flight.append(Outcome(self._last_deadline, frame.handle, None, frame.length, frame.cls, start, corrupted))

    def _poll(self, now_ns: int) -> list[Outcome]:
        self._advance(now_ns)
        result = list(self._drops)
        self._drops.clear()
        while self._flight and self._flight[0].time_ns <= now_ns:
            frame = self._flight.popleft()
            if any(start <= frame.time_ns < end for start, end in self._deaf):
                frame = frame._replace(reason=Reason.RECEIVER_DOWN)
                self._count("receiver_down", frame.cls, frame.length)
            else:
                self._count("delivered", frame.cls, frame.length)
                self._last_rx = frame.time_ns
            result.append(frame)
        return result

    def next_deadline(self) -> int | None:
        self._advance(self._clock)
        when, what, _, _ = self._next_event()
        if what == "wait" and when <= self._clock:
            when = NEVER
        due = [when] + [o.time_ns for o in list(self._flight)[:1]] + [self._clock] * bool(self._drops)
        return None if min(due) == NEVER else min(due)

    def truth(self, now_ns: int) -> Truth | None:
        _, segment = self._in_force(now_ns)
        if segment is None or now_ns >= self._horizon:
            return None
        return Truth(raw_delay(segment, now_ns), segment.slope / 2**62, known(self._last_tx), known(self._last_rx))

    def stats(self) -> PipelineStats:
        service = [] if self._service is None else [self._service.frame]
        queued = [f for queue in self._queues for f in queue] + service
        reasons = [r.value for r in Reason]

        def total(name: str) -> tuple[int, int]:
            return tuple(sum(n for (what, _), n in c.items() if what == name) for c in (self._counts, self._bytes))  # type: ignore[return-value]

        def of(cls: int, *names: str) -> tuple[int, int]:
            return (sum(self._counts[n, cls] for n in names), sum(self._bytes[n, cls] for n in names))

        return PipelineStats(
            entered=total("entered"),
            delivered=total("delivered"),
            queued=(len(queued), sum(f.length for f in queued)),
            in_flight=(len(self._flight), sum(o.length for o in self._flight)),
            dropped={r: total(r) for r in reasons if total(r)[0]},
            classes=tuple(
                {
                    "entered": of(i, "entered"),
                    "delivered": of(i, "delivered"),
                    "queued": (
                        sum(f.cls == i for f in queued),
                        sum(f.length for f in queued if f.cls == i),
                    ),
                    "dropped": of(i, *reasons),
                }
                for i in range(len(self._queues))
            ),
            corrupted=self._corrupted,
            stalls=0,
            broken=0,
        )


def survival(ber: int, bits: int) -> int:
    """(1 - ber)^bits in units of 2^-64, rounded down at every step of the squaring as the core does."""
    base, result = 2**64 - ber, 2**64
    while bits:
        if bits & 1:
            result = result * base >> 64
        base, bits = base * base >> 64, bits >> 1
    return result & _MASK
