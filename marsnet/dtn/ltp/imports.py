"""Import sessions: blocks that come from a peer (RFC 5326 sections 6.8 to 6.11, 6.14, 6.21)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

from marsnet.dtn.ltp.config import LtpConfig
from marsnet.dtn.ltp.link import Link, Pending
from marsnet.dtn.ltp.ranges import RangeSet
from marsnet.dtn.ltp.sdnv import sdnv_size
from marsnet.dtn.ltp.segments import (
    RED_BLOCK_END,
    RED_END,
    DataSegment,
    ReportSegment,
    SessionId,
    encode_segment,
)
from marsnet.dtn.ltp.trains import Extent, joined

if TYPE_CHECKING:
    from marsnet.dtn.recipe import Rope

MAX_REPORTS = 8192
"""Reports that one session may cause, so that a peer that invents checkpoints cannot fill the memory."""
RECORD = 512
"""Octets that a piece of data or a report occupies besides its own: a peer may send single octets."""


class Owner(Protocol):
    """The engine, as a session sees it."""

    config: LtpConfig
    rng: random.Random
    held: int

    def abandon_import(self, block: ImportSession, now: float) -> None:
        """The session cannot go on."""


class Report(Pending):
    """A report segment and the wait for its acknowledgement."""

    __slots__ = ("lower", "octets", "session")
    name = "report"

    def __init__(self, session: ImportSession, lower: int, octets: bytes) -> None:
        config = session.owner.config
        super().__init__(session.link, config.control_priority, config.report_limit)
        self.session, self.lower, self.octets = session, lower, octets

    def encode(self, room: int) -> bytes | None:
        """The segment, whatever the room."""
        return self.octets

    def give_up(self, now: float) -> None:
        """The peer does not acknowledge."""
        self.session.owner.abandon_import(self.session, now)


class MiscoloredError(Exception):
    """A segment contradicts where the red part ends."""


class ImportSession:
    """One block that is arriving.

    Attributes:
        id: the session.
        service: client service id of its first segment.
        red: octets of the red part, None until its end has arrived.
        whole: whether the red part ends the block.
        held: octets of memory that its data and its reports take.
        delivered: the red part was handed to the node.
        confirmed: the node has made it durable.
        last: time of the latest segment.
    """

    __slots__ = (
        "_answers",
        "_green_from",
        "_kept",
        "_lowers",
        "_outstanding",
        "_pieces",
        "_primary_end",
        "_ranges",
        "_waiting",
        "confirmed",
        "delivered",
        "held",
        "id",
        "last",
        "link",
        "next_report",
        "owner",
        "red",
        "service",
        "whole",
    )

    def __init__(self, session: SessionId, link: Link, service: int, now: float, owner: Owner) -> None:
        self.id, self.link, self.service, self.owner = session, link, service, owner
        self.red: int | None = None
        self.whole = True
        self.delivered = self.confirmed = False
        self.held = 0
        self.last = now
        self.next_report = owner.rng.randrange(1, 1 << 14)
        self._ranges = RangeSet()
        self._pieces: list[tuple[int, bytes | memoryview | Extent]] = []
        self._kept = 0
        """Octets of memory that the pieces take."""
        self._green_from: int | None = None
        self._primary_end = 0
        self._answers: dict[int, list[Report]] = {}
        self._waiting: list[DataSegment] = []
        self._outstanding: dict[int, Report] = {}
        self._lowers: dict[int, int] = {}

    @property
    def complete(self) -> bool:
        """Whether the whole red part is here."""
        return self._ranges.total == self.red

    @property
    def reports(self) -> int:
        """Report segments made so far, and checkpoints that wait for theirs."""
        return len(self._lowers) + len(self._waiting)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: delivered, durable, and every report acknowledged."""
        return self.confirmed and not self._outstanding and not self._waiting

    def add_green(self, offset: int) -> None:
        """Note where green data is.

        Raises:
            MiscoloredError: when that is inside the red part.
        """
        if offset < (self._ranges.end if self.red is None else self.red):
            raise MiscoloredError
        if self._green_from is None or offset < self._green_from:
            self._green_from = offset

    def add_red(self, segment: DataSegment, end: int) -> int:
        """Keep the data, which goes up to `end` in the block, and return how many octets of it are new.

        Raises:
            MiscoloredError: when the segment lies outside of the red part.
        """
        start = segment.offset
        if self.red is not None and end > self.red:
            raise MiscoloredError
        if self._green_from is not None and end > self._green_from:
            raise MiscoloredError
        if segment.kind in (RED_END, RED_BLOCK_END):
            if self.red not in (None, end) or end < self._ranges.end:
                raise MiscoloredError
            self.red, self.whole = end, segment.kind == RED_BLOCK_END
        ranges = self._ranges
        if start >= ranges.end:
            new = ranges.add(start, end)
            if new:
                self._keep(start, segment.data, new)
        else:
            new = 0
            for low, high in ranges.gaps(start, end):
                self._keep(low, segment.data[low - start : high - start], high - low)
                new += high - low
            ranges.add(start, end)
        return new

    def _keep(self, offset: int, data: bytes | memoryview | Extent, size: int) -> None:
        self._pieces.append((offset, data))
        self._kept += size + RECORD
        self._hold(size + RECORD)

    def _hold(self, octets: int) -> None:
        self.held += octets
        self.owner.held += octets

    def take(self) -> bytes | Rope:
        """The red part, which the session no longer keeps."""
        self.delivered = True
        self._hold(-self._kept)
        pieces, self._pieces, self._kept = self._pieces, [], 0
        pieces.sort(key=lambda piece: piece[0])
        return joined(pieces)

    def knows(self, report: int) -> bool:
        """Whether this session has made the report that a checkpoint says it answers; 0 stands for none."""
        return not report or report in self._lowers

    def on_checkpoint(self, segment: DataSegment, now: float) -> None:
        """Answer a checkpoint: with its reports again when it is a repetition, else with a new one.

        The report of a whole red part waits for the node (`confirm`), so that nothing is acknowledged that could
        still be lost.
        """
        answers = self._answers.get(segment.checkpoint)
        if answers is not None:
            self.link.counters.duplicate_checkpoints += 1
            for report in answers:
                if report.done:
                    self.link.post(report.octets, now)
                else:
                    self.link.request(report, now)
        elif self.complete and not self.confirmed:
            if all(waiting.checkpoint != segment.checkpoint for waiting in self._waiting):
                self._waiting.append(segment._replace(data=b"", offset=segment.offset + len(segment.data)))
        else:
            self._report(segment.checkpoint, segment.report, segment.offset + len(segment.data), now)

    def confirm(self, now: float) -> None:
        """The node has the data for good: release the reports."""
        self.confirmed = True
        waiting, self._waiting = self._waiting, []
        for segment in waiting:
            self._report(segment.checkpoint, segment.report, segment.offset, now)

    def on_ack(self, serial: int) -> bool:
        """A report was acknowledged; returns whether it was outstanding."""
        report = self._outstanding.pop(serial, None)
        if report is None:
            return False
        self.link.settle(report)
        return True

    def close(self) -> None:
        """Wait for nothing and keep nothing."""
        for report in self._outstanding.values():
            self.link.settle(report)
        self._outstanding.clear()
        self._answers.clear()
        self._waiting.clear()
        self._pieces.clear()
        self._kept = 0
        self._hold(-self.held)

    def _report(self, checkpoint: int, cause: int, upper: int, now: float) -> None:
        """RFC 5326 section 6.11. A checkpoint that a later one has overtaken gets the scope from 0, so that its sender
        is not left without an answer."""
        if cause:
            lower = self._lowers.get(cause, 0)
        else:
            lower = self._primary_end if self._primary_end < upper else 0
            self._primary_end = max(self._primary_end, upper)
        if lower >= upper:
            lower = 0
        answers = self._answers[checkpoint] = []
        claims = tuple(self._ranges.within(lower, upper))
        whole = ReportSegment(self.id, self.next_report, checkpoint, upper, lower, claims)
        for segment in split_report(whole, self.link.model.mtu):
            report = Report(self, segment.lower, encode_segment(segment))
            self._hold(len(report.octets) + RECORD)
            answers.append(report)
            self._outstanding[segment.report] = report
            self._lowers[segment.report] = segment.lower
            self.next_report = segment.report + 1
            self.link.request(report, now)


def split_report(whole: ReportSegment, mtu: int) -> list[ReportSegment]:
    """Segments of at most `mtu` octets that together say what `whole` does.

    The first has its serial number, each further one the next. Their scopes adjoin.
    """
    session, claims, fixed = whole.session, whole.claims, 12
    for number in (session.origin, session.number, whole.checkpoint, whole.upper, whole.upper):
        fixed += sdnv_size(number)
    segments: list[ReportSegment] = []
    begin, room, first = whole.lower, mtu - fixed, 0
    for place, (start, end) in enumerate(claims):
        size = sdnv_size(start - begin) + sdnv_size(end - start)
        if size > room and place > first:
            until = claims[place - 1][1]
            part = whole._replace(report=whole.report + len(segments), upper=until, lower=begin)
            segments.append(part._replace(claims=claims[first:place]))
            begin, room, first = until, mtu - fixed, place
            size = sdnv_size(start - begin) + sdnv_size(end - start)
        room -= size
    last = whole._replace(report=whole.report + len(segments), lower=begin, claims=claims[first:])
    return [*segments, last]


def full_report(session: SessionId, serial: int, checkpoint: int, red: int) -> bytes:
    """The report of a red part of `red` octets that is complete."""
    return encode_segment(ReportSegment(session, serial, checkpoint, red, 0, ((0, red),)))
