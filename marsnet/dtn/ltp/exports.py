"""Export sessions: blocks that go to a peer (RFC 5326 sections 6.1 to 6.4, 6.7, 6.12, 6.13)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple, Protocol

from marsnet.dtn.ltp.config import LtpConfig
from marsnet.dtn.ltp.link import Link, Pending
from marsnet.dtn.ltp.ranges import RangeSet
from marsnet.dtn.ltp.sdnv import encode_sdnv, sdnv_size
from marsnet.dtn.ltp.segments import (
    GREEN,
    GREEN_BLOCK_END,
    RED,
    RED_BLOCK_END,
    RED_CHECKPOINT,
    RED_END,
    CancelReason,
    ReportSegment,
    SessionId,
)
from marsnet.dtn.ltp.timers import Timer
from marsnet.dtn.ltp.trains import Train

if TYPE_CHECKING:
    from marsnet.dtn.recipe import Rope

MAX_REPORTS = 65536
"""Reports that one session may receive, so that a peer that invents them cannot fill the memory."""

_NUMBERED = 256
"""A report whose serial number lies farther from the last one's is of a receiver that was restarted and numbers anew
from a random start (RFC 5326 section 3.2.2): what was claimed before, it no longer has."""


class Block(NamedTuple):
    """What a session sends: octets, how many of them are red, their client service, priority and tags."""

    data: bytes | memoryview | Rope
    red: int
    service: int
    priority: int
    tags: tuple[object, ...]


class Owner(Protocol):
    """The engine, as a session sees it."""

    config: LtpConfig
    rng: random.Random
    gone: list[ExportSession]
    """Sessions whose last octet has left, for the engine to look at."""

    def fail_export(self, session: ExportSession, reason: CancelReason, now: float) -> None:
        """The session cannot go on."""


class Burst:
    """Red data to send that ends in a checkpoint.

    Attributes:
        ranges: (start, end) in descending order, so that the next one is the last.
        report: serial number of the report that asks for it, 0 in the first transmission.
        depth: rounds of retransmission before it, plus one; 0 in the first transmission.
    """

    __slots__ = ("depth", "ranges", "report")

    def __init__(self, ranges: list[tuple[int, int]], report: int, depth: int) -> None:
        self.ranges, self.report, self.depth = ranges, report, depth


class Checkpoint(Pending):
    """A checkpoint segment of `session` and the wait for its report."""

    __slots__ = ("end", "report", "serial", "session", "start")
    name = "checkpoint"

    def __init__(self, session: ExportSession, serial: int, report: int, start: int, end: int) -> None:
        super().__init__(session.link, session.priority, session.config.checkpoint_limit)
        self.session, self.serial, self.report, self.start, self.end = session, serial, report, start, end

    def encode(self, room: int) -> bytes | Train | None:
        """The segment. Where there is less room than at first, its tail: the next report asks for the rest."""
        session = self.session
        fixed = session.head_size + sdnv_size(self.end) + sdnv_size(room) + sdnv_size(self.serial)
        space = room - fixed - sdnv_size(self.report)
        if space < 1:
            return None
        start = max(self.start, self.end - space)
        octets = session.encode_red(start, self.end, self)
        if self.tries:
            session.link.counters.retransmitted_bytes += self.end - start
        return octets

    def give_up(self, now: float) -> None:
        """The peer does not answer."""
        self.session.fail(CancelReason.RETRANSMISSION_LIMIT, now)


class Stall(Timer):
    """The end of the wait for reports that the peer owes, though no checkpoint of ours is unanswered."""

    __slots__ = ("session",)
    name = "stall"

    def __init__(self, session: ExportSession) -> None:
        super().__init__()
        self.session = session

    def waits_for(self) -> int:
        """The engine whose reports are missing."""
        return self.session.link.peer

    def expire(self, now: float) -> None:
        """Ask anew."""
        self.session.resume(now)


class ExportSession:
    """One block on its way.

    Attributes:
        id: the session.
        number: its number.
        red: octets of the red part.
        tags: of the service data in the block.
        waiting: queued in the link.
        sent: every octet has left once.
        rounds: rounds of retransmission so far.
    """

    __slots__ = (
        "_alike",
        "_block",
        "_claimed",
        "_depths",
        "_green",
        "_head",
        "_newest",
        "_next_checkpoint",
        "_outstanding",
        "_owner",
        "_queued_bytes",
        "_reports",
        "_serial",
        "_service",
        "_stall",
        "_view",
        "_work",
        "closed",
        "config",
        "head_size",
        "id",
        "link",
        "number",
        "priority",
        "red",
        "rounds",
        "sent",
        "tags",
        "waiting",
    )

    def __init__(self, session: SessionId, link: Link, block: Block, owner: Owner) -> None:
        self.id, self.number, self.link, self.config, self._owner = session, session.number, link, owner.config, owner
        self.red, self.priority, self.tags = block.red, block.priority, block.tags
        self.waiting = self.sent = self.closed = False
        self.rounds = 0
        self._service, self._block = block.service, block.data
        self._view = memoryview(block.data) if isinstance(block.data, bytes) else block.data
        self._head = encode_sdnv(session.origin) + encode_sdnv(session.number) + b"\0" + encode_sdnv(block.service)
        self.head_size = len(self._head) + 1
        self._serial = owner.rng.randrange(1, 1 << 14)
        self._work: list[Burst] = [Burst([(0, self.red)], 0, 0)] if self.red else []
        self._green = self.red
        self._next_checkpoint = min(self.config.checkpoint_every or self.red, self.red)
        self._outstanding: dict[int, Checkpoint] = {}
        self._depths: dict[int, int] = {}
        self._reports: set[int] = set()
        self._newest = 0
        self._claimed = RangeSet()
        self._queued_bytes = self.red
        self._stall: Stall | None = None
        self._alike = 0, 0
        """Octets of data in each segment that `run` last told of, and of the segment."""

    @property
    def size(self) -> int:
        """Octets of the block."""
        return len(self._view)

    @property
    def unsent(self) -> int:
        """Octets that wait to leave, for the first time or again."""
        return self._queued_bytes + len(self._view) - self._green

    @property
    def acknowledged(self) -> bool:
        """Whether the peer has the whole red part."""
        return self._claimed.total == self.red

    @property
    def _frontier(self) -> int:
        """One past the last octet of the red part that has left: nobody can have received more."""
        return self._work[-1].ranges[-1][0] if self._work and not self._work[-1].depth else self.red

    def fail(self, reason: CancelReason, now: float) -> None:
        """Tell the engine that the session cannot go on."""
        self._owner.fail_export(self, reason, now)

    def has_work(self) -> bool:
        """Whether there are segments to send."""
        return bool(self._work) or (self._green < len(self._view) and not self.closed)

    def encode_red(self, start: int, end: int, checkpoint: Checkpoint | None) -> bytes | Train:
        """A red segment, of the type that its place and the checkpoint want."""
        kind = RED
        if checkpoint is not None:
            last = RED_END if self.red < len(self._view) else RED_BLOCK_END
            kind = RED_CHECKPOINT if end < self.red else last
        if self.config.trains:
            return self._train(start, end - start, kind, checkpoint)
        head = (_KINDS[kind], self._head, encode_sdnv(start), encode_sdnv(end - start))
        data = self._view[start:end]
        if checkpoint is None:
            return b"".join((*head, data))
        return b"".join((*head, encode_sdnv(checkpoint.serial), encode_sdnv(checkpoint.report), data))

    def _train(self, start: int, length: int, kind: int, checkpoint: Checkpoint | None) -> Train:
        size = self.head_size + sdnv_size(start) + sdnv_size(length) + length
        if checkpoint is None:
            return Train(self.id, self._service, self._block, start, length, 1, size)
        size += sdnv_size(checkpoint.serial) + sdnv_size(checkpoint.report)
        serials = checkpoint.serial, checkpoint.report
        return Train(self.id, self._service, self._block, start, length, 1, size, kind, *serials)

    def run(self, room: int) -> tuple[int, int]:
        """How many of the next segments of at most `room` octets are alike, without the last of a range, and the octets
        of each."""
        if not self._work:
            return 0, 0
        burst = self._work[0]
        start, end = burst.ranges[-1]
        if burst.depth == 0:
            end = min(end, self._next_checkpoint)
        width = (start.bit_length() + 6) // 7 or 1
        length = room - self.head_size - width - (room.bit_length() + 6) // 7
        if length < 1:
            return 0, 0
        # The offsets of all of them take as many octets.
        alike = ((1 << 7 * width) - start + length - 1) // length
        size = self.head_size + width + sdnv_size(length) + length
        self._alike = length, size
        return min(alike, (end - start - 1) // length), size

    def take_run(self, count: int) -> Train:
        """So many of the segments that `run` has told of just now."""
        burst = self._work[0]
        start, end = burst.ranges[-1]
        length, size = self._alike
        octets = count * length
        if burst.depth:
            self.link.counters.retransmitted_bytes += octets
        self._queued_bytes -= octets
        burst.ranges[-1] = (start + octets, end)
        return Train(self.id, self._service, self._block, start, length, count, size)

    def next_segment(self, room: int, now: float) -> tuple[bytes | Train, Pending | None] | None:
        """The next segment of at most `room` octets, and the checkpoint that it is; None when none fits."""
        if not self._work:
            return self._next_green(room)
        burst = self._work[0]
        start, end = burst.ranges[-1]
        if burst.depth == 0:
            end, last = min(end, self._next_checkpoint), True
        else:
            last = len(burst.ranges) == 1
        space = room - self.head_size - ((start.bit_length() + 6) // 7 or 1) - (room.bit_length() + 6) // 7
        length = end - start
        checkpoint: Checkpoint | None = None
        if last:
            inner = space - sdnv_size(self._serial) - sdnv_size(burst.report)
            if length <= inner:
                checkpoint = Checkpoint(self, self._serial, burst.report, start, end)
                self._outstanding[self._serial] = checkpoint
                self._depths[self._serial] = burst.depth
                self._serial += 1
                self._next_checkpoint = min(end + (self.config.checkpoint_every or self.red), self.red)
            elif length <= space:
                space = inner
        length = min(length, space)
        if length < 1:
            return None
        if burst.depth:
            self.link.counters.retransmitted_bytes += length
        self._queued_bytes -= length
        stop = start + length
        if stop < burst.ranges[-1][1]:
            burst.ranges[-1] = (stop, burst.ranges[-1][1])
        else:
            burst.ranges.pop()
            if not burst.ranges:
                del self._work[0]
                if burst.depth == 0 and self.red == len(self._view):
                    self._note_sent()
        return self.encode_red(start, stop, checkpoint), checkpoint

    def _next_green(self, room: int) -> tuple[bytes, None] | None:
        start = self._green
        length = min(len(self._view) - start, room - self.head_size - sdnv_size(start) - sdnv_size(room))
        if length < 1:
            return None
        self._green = start + length
        last = self._green == len(self._view)
        if last:
            self._note_sent()
        kind = GREEN_BLOCK_END if last else GREEN
        data = self._view[start : self._green]
        return b"".join((_KINDS[kind], self._head, encode_sdnv(start), encode_sdnv(length), data)), None

    def _note_sent(self) -> None:
        self.sent = True
        self._owner.gone.append(self)

    def on_report(self, report: ReportSegment, now: float) -> bool:
        """Take a report in; returns whether it was consistent. Its acknowledgement is the engine's affair.

        What the report lacks is queued for retransmission, or, when there were too many rounds, the session fails.
        """
        if report.report in self._reports:
            self.link.counters.duplicate_reports += 1
            return True
        if report.upper > self.red or not report.report:
            return False
        if report.claims and report.claims[-1][1] > self._frontier:
            return False
        if len(self._reports) >= MAX_REPORTS:
            self.fail(CancelReason.CYCLES, now)
            return True
        if self._newest and abs(report.report - self._newest) > _NUMBERED:
            self._claimed = RangeSet()
        self._newest = report.report
        self._reports.add(report.report)
        self._stop_checkpoints(report)
        for start, end in report.claims:
            self._claimed.add(start, end)
        if self.acknowledged:
            self._work.clear()
            self._queued_bytes = 0
            for checkpoint in self._outstanding.values():
                self.link.settle(checkpoint)
            self._outstanding.clear()
            return True
        missing = self._claimed.gaps(report.lower, report.upper)
        if missing:
            depth = 1 + self._depths.get(report.checkpoint, self.rounds if not report.checkpoint else 0)
            self._retransmit(missing, report.report, depth, now)
        if not self.closed:
            self._watch(now)
        return True

    def _watch(self, now: float) -> None:
        """What is missing now is in reports that were not received yet. The peer repeats those, unless it has given up
        the session and its cancellation was lost, or a report was not what it sent."""
        if not self._work and not self._outstanding:
            self._stall = self._stall or Stall(self)
            self.link.watch(self._stall, now)

    def resume(self, now: float) -> None:
        """Send again what no report has claimed, unless that is under way."""
        if not self.closed and not self._work and not self._outstanding:
            self.link.counters.stalls += 1
            self._retransmit(self._claimed.gaps(0, self.red), 0, self.rounds + 1, now)

    def _stop_checkpoints(self, report: ReportSegment) -> None:
        """A report answers its checkpoint, and earlier ones within its scope, which may have overtaken one another."""
        if not report.checkpoint:
            return
        for serial in [s for s in self._outstanding if s <= report.checkpoint]:
            checkpoint = self._outstanding[serial]
            if serial == report.checkpoint or report.lower < checkpoint.end <= report.upper:
                self.link.settle(checkpoint)
                del self._outstanding[serial]

    def _retransmit(self, missing: list[tuple[int, int]], report: int, depth: int, now: float) -> None:
        octets = sum(end - start for start, end in missing)
        if depth > self.config.round_limit or self._queued_bytes + octets > 2 * self.red:
            self.fail(CancelReason.CYCLES, now)
            return
        self.rounds = max(self.rounds, depth)
        self._queued_bytes += octets
        missing.reverse()
        first = 0
        while first < len(self._work) and self._work[first].depth:
            first += 1
        self._work.insert(first, Burst(missing, report, depth))
        self.link.offer(self, now, ahead=True)

    def close(self) -> None:
        """Send nothing more and wait for nothing."""
        self.closed = True
        if self._stall is not None:
            self.link.unwatch(self._stall)
        self._work.clear()
        self._queued_bytes, self._green = 0, len(self._view)
        for checkpoint in self._outstanding.values():
            self.link.settle(checkpoint)
        self._outstanding.clear()


_KINDS = tuple(bytes((kind,)) for kind in range(16))
