"""The receiving half of an engine: opens, delivers, closes and remembers import sessions."""

from __future__ import annotations

from typing import NamedTuple

from marsnet.dtn.ltp.core import Core
from marsnet.dtn.ltp.events import GreenSegmentReceived, ImportCancelled, RedPartReceived
from marsnet.dtn.ltp.imports import MAX_REPORTS, ImportSession, MiscoloredError, full_report
from marsnet.dtn.ltp.link import Link
from marsnet.dtn.ltp.segments import (
    CANCEL_BY_RECEIVER,
    GREEN_BLOCK_END,
    CancelReason,
    CancelSegment,
    DataSegment,
    ReportAckSegment,
    SessionId,
    encode_segment,
)
from marsnet.dtn.ltp.timers import CallTimer


class _Closed(NamedTuple):
    """What is remembered of a closed import: was its red part delivered, how long was it, the next report's number."""

    delivered: bool
    red: int
    next_report: int


class Importer:
    """All import sessions of an engine.

    Attributes:
        sessions: the open ones.
        held: octets of memory that unfinished red parts and their reports take.
    """

    def __init__(self, core: Core) -> None:
        self.config, self.rng, self._core = core.config, core.rng, core
        self.sessions: dict[SessionId, ImportSession] = {}
        self.held = 0
        self._counts: dict[int, int] = {}
        self._closed: dict[SessionId, _Closed] = {}
        self._sweeper = CallTimer(self._sweep)

    def on_red(self, segment: DataSegment, link: Link, now: float, segments: int = 1) -> None:
        """Red data has arrived, in a segment or in several that follow one another."""
        session = segment.session
        block = self.sessions.get(session)
        if block is None:
            if session in self._closed:
                self._on_late(segment, link, now, segments)
                return
            block = self._open(segment, link, now)
            if block is None:
                return
        counters = link.counters
        block.last = now
        size = len(segment.data)
        end = segment.offset + size
        if segment.service != block.service or (segment.kind > 0 and not segment.checkpoint):
            counters.inconsistent_segments += segments
            return
        if end > self.config.max_block or self.held + size > self.config.max_import_bytes:
            self._cancel(block, CancelReason.SYSTEM, now, tell=not block.delivered)
            return
        try:
            new = block.add_red(segment, end)
        except MiscoloredError:
            counters.inconsistent_segments += 1
            self._cancel(block, CancelReason.MISCOLORED, now, tell=not block.delivered)
            return
        counters.duplicate_bytes += size - new
        if block.complete and not block.delivered:
            self._deliver(block, now)
        if segment.kind:
            if not block.knows(segment.report) and not block.complete:
                # It answers a report of ours from before a restart: what that claimed is lost, and will not be sent.
                self._cancel(block, CancelReason.SYSTEM, now, tell=True)
                return
            block.on_checkpoint(segment, now)
            if block.reports > MAX_REPORTS:
                self._cancel(block, CancelReason.CYCLES, now, tell=not block.delivered)
                return
        if block.confirmed:
            self._finish(block)

    def on_green(self, segment: DataSegment, link: Link, now: float) -> None:
        """Green data needs no session: it is delivered as it comes."""
        if segment.service not in self.config.services:
            link.counters.refused_imports += 1
            return
        block = self.sessions.get(segment.session)
        closed = self._closed.get(segment.session)
        if block is not None:
            block.last = now
            try:
                block.add_green(segment.offset)
            except MiscoloredError:
                link.counters.inconsistent_segments += 1
                self._cancel(block, CancelReason.MISCOLORED, now, tell=not block.delivered)
                return
        elif closed is not None and not closed.delivered:
            link.counters.late_segments += 1
            return
        link.counters.imported_bytes += len(segment.data)
        data, ends = bytes(segment.data), segment.kind == GREEN_BLOCK_END
        self._core.events.append(
            GreenSegmentReceived(link.peer, segment.session, segment.service, segment.offset, data, ends)
        )

    def on_report_ack(self, segment: ReportAckSegment, link: Link) -> None:
        """A report of ours has arrived."""
        block = self.sessions.get(segment.session)
        if block is None or not block.on_ack(segment.report):
            link.counters.late_segments += 1
        else:
            self._finish(block)

    def on_cancel(self, segment: CancelSegment, link: Link) -> None:
        """The sender has cancelled. What was delivered stays delivered."""
        block = self.sessions.get(segment.session)
        if block is None:
            link.counters.late_segments += 1
            return
        self._close(block, delivered=block.confirmed)
        link.counters.imports_cancelled[segment.reason] += 1
        if not block.delivered:
            self._core.events.append(ImportCancelled(link.peer, block.id, segment.reason, True))

    def confirm(self, session: SessionId, now: float) -> None:
        """See `LtpEngine.confirm`."""
        block = self.sessions.get(session)
        if block is not None and block.delivered and not block.confirmed:
            block.confirm(now)
            self._finish(block)

    def refuse(self, session: SessionId, now: float, reason: CancelReason) -> None:
        """See `LtpEngine.refuse`."""
        block = self.sessions.get(session)
        if block is not None and not block.confirmed:
            self._cancel(block, reason, now, tell=False)

    def abandon_import(self, block: ImportSession, now: float) -> None:
        """A report is never acknowledged, or the peer has fallen silent. What was delivered stays delivered."""
        if block.confirmed:
            self._close(block, delivered=True)
        else:
            self._cancel(block, CancelReason.RETRANSMISSION_LIMIT, now, tell=not block.delivered)

    def _open(self, segment: DataSegment, link: Link, now: float) -> ImportSession | None:
        config = self.config
        if segment.service not in config.services:
            reason = CancelReason.UNREACHABLE
        elif self._counts.get(link.peer, 0) >= config.max_imports or self.held >= config.max_import_bytes:
            reason = CancelReason.SYSTEM
        else:
            block = ImportSession(segment.session, link, segment.service, now, self)
            self.sessions[segment.session] = block
            self._counts[link.peer] = self._counts.get(link.peer, 0) + 1
            link.counters.imports_opened += 1
            if self._sweeper.deadline is None:
                self._core.timers.start(self._sweeper, now + config.import_idle_limit / 4)
            return block
        link.counters.refused_imports += 1
        link.post(encode_segment(CancelSegment(CANCEL_BY_RECEIVER, segment.session, reason)), now)
        return None

    def _sweep(self, now: float) -> None:
        """Give up the imports whose peer could send and did not."""
        for block in list(self.sessions.values()):
            silent = now - block.last >= self.config.import_idle_limit
            if silent and block.link.model.peer_can_send(now):
                self.abandon_import(block, now)
        if self.sessions:
            self._core.timers.start(self._sweeper, now + self.config.import_idle_limit / 4)

    def _deliver(self, block: ImportSession, now: float) -> None:
        data = block.take()
        block.link.counters.imported_bytes += len(data)
        self._core.events.append(RedPartReceived(block.link.peer, block.id, block.service, data, block.whole))
        if not self.config.require_confirm:
            block.confirm(now)

    def _on_late(self, segment: DataSegment, link: Link, now: float, segments: int) -> None:
        """Data for a closed import: a repeated checkpoint gets the report of the whole red part, or a cancellation."""
        link.counters.late_segments += segments
        if not segment.kind or segment.session in self._core.cancellations:
            return
        closed = self._closed[segment.session]
        if closed.delivered:
            self._closed[segment.session] = closed._replace(next_report=closed.next_report + 1)
            link.counters.duplicate_checkpoints += 1
            link.post(full_report(segment.session, closed.next_report, segment.checkpoint, closed.red), now)
        else:
            answer = CancelSegment(CANCEL_BY_RECEIVER, segment.session, CancelReason.SYSTEM)
            link.post(encode_segment(answer), now)

    def _cancel(self, block: ImportSession, reason: CancelReason, now: float, *, tell: bool) -> None:
        self._close(block, delivered=block.confirmed)
        block.link.counters.imports_cancelled[reason] += 1
        if tell:
            self._core.events.append(ImportCancelled(block.link.peer, block.id, reason, False))
        self._core.cancel(block.id, block.link, CANCEL_BY_RECEIVER, reason, now)

    def _close(self, block: ImportSession, *, delivered: bool) -> None:
        block.close()
        del self.sessions[block.id]
        self._counts[block.link.peer] -= 1
        self._closed[block.id] = _Closed(delivered, block.red or 0, block.next_report)
        while len(self._closed) > self.config.closed_memory:
            del self._closed[next(iter(self._closed))]

    def _finish(self, block: ImportSession) -> None:
        if block.finished:
            block.link.counters.imports_completed += 1
            self._close(block, delivered=True)
