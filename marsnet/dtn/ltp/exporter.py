"""The sending half of an engine: opens, completes and cancels export sessions, and fills aggregated blocks."""

from __future__ import annotations

from marsnet.dtn.ltp.aggregate import Aggregate
from marsnet.dtn.ltp.config import SERVICE_AGGREGATED, SERVICE_BUNDLES
from marsnet.dtn.ltp.core import Core
from marsnet.dtn.ltp.events import BlockSent, ExportCancelled, ExportCompleted
from marsnet.dtn.ltp.exports import Block, ExportSession
from marsnet.dtn.ltp.link import Link
from marsnet.dtn.ltp.sdnv import MAX_VALUE, encode_sdnv
from marsnet.dtn.ltp.segments import (
    CANCEL_BY_SENDER,
    CancelReason,
    CancelSegment,
    ReportAckSegment,
    ReportSegment,
    SessionId,
    encode_segment,
)
from marsnet.errors import InputError, MarsnetError


class SessionLimitError(MarsnetError):
    """The peer has as many open export sessions as the engine's configuration allows."""


class Exporter:
    """All export sessions of an engine.

    Attributes:
        sessions: the open ones by number.
        next_number: number of the next one.
        gone: sessions whose last octet has left since the last `note_sent`.
    """

    def __init__(self, core: Core) -> None:
        self.config, self.rng, self._core = core.config, core.rng, core
        base = self.config.session_base
        self.next_number = self.rng.randrange(1, 1 << 31) if base is None else base
        self.sessions: dict[int, ExportSession] = {}
        self._closed: dict[int, None] = {}
        self._aggregates: dict[tuple[int, int], Aggregate] = {}
        self.gone: list[ExportSession] = []

    def room(self, peer: int) -> int:
        """Sessions that may still be opened to a peer; an aggregate in the making counts."""
        waiting = sum(aggregate.peer == peer for aggregate in self._aggregates.values())
        return self.config.max_exports - self._core.links[peer].exports - waiting

    def send(self, peer: int, block: Block, now: float) -> int:
        """See `LtpEngine.send`."""
        if not block.data or not 0 <= block.red <= len(block.data):
            raise InputError(
                f"a block of {len(block.data)} octets with a red part of {block.red}",
                remedy="send at least one octet, red or not",
            )
        if peer not in self._core.links:
            raise InputError(f"LTP engine {peer} is no peer", remedy="call add_peer first")
        if self.config.aggregate_size and block.red == len(block.data) and block.service == SERVICE_BUNDLES:
            return self._aggregate(peer, block, now)
        self._check_room(peer)
        number = self._take_number()
        self._open(peer, number, block, now)
        return number

    def cancel(self, number: int, now: float, reason: CancelReason) -> bool:
        """See `LtpEngine.cancel`."""
        for key, aggregate in list(self._aggregates.items()):
            if aggregate.number == number:
                self._core.timers.stop(aggregate)
                del self._aggregates[key]
                self._core.events.append(ExportCancelled(key[0], number, tuple(aggregate.tags), reason, False))
                return True
        session = self.sessions.get(number)
        if session is None:
            return False
        self.fail_export(session, reason, now)
        return True

    def release(self, now: float) -> None:
        """Do not let aggregates wait for a link that has nothing else to do."""
        if not self._aggregates:
            return
        for aggregate in list(self._aggregates.values()):
            link = self._core.links[aggregate.peer]
            if link.idle and link.model.can_send(now):
                self._flush(aggregate, now)

    def note_sent(self) -> None:
        """Tell which blocks have left whole."""
        for session in self.gone:
            self._core.events.append(BlockSent(session.link.peer, session.number, session.tags))
            self._complete(session)
        self.gone.clear()

    def on_report(self, segment: ReportSegment, link: Link, now: float) -> None:
        """RFC 5326 section 6.13: every report is acknowledged. One for a session that this engine does not remember,
        because it was restarted, is answered with a cancellation too, so that the peer need not wait for the rest."""
        number = segment.session.number
        session = self.sessions.get(number)
        if session is not None and not session.on_report(segment, now):
            link.counters.inconsistent_segments += 1
            return
        link.post(encode_segment(ReportAckSegment(segment.session, segment.report)), now)
        if session is not None:
            self._complete(session)
            return
        link.counters.late_segments += 1
        if number not in self._closed:
            link.post(encode_segment(CancelSegment(CANCEL_BY_SENDER, segment.session, CancelReason.SYSTEM)), now)

    def on_cancel(self, segment: CancelSegment, link: Link) -> None:
        """The receiver has cancelled."""
        session = self.sessions.get(segment.session.number)
        if session is None:
            link.counters.late_segments += 1
            return
        self._close(session)
        link.counters.exports_cancelled[segment.reason] += 1
        self._core.events.append(ExportCancelled(link.peer, session.number, session.tags, segment.reason, True))

    def fail_export(self, session: ExportSession, reason: CancelReason, now: float) -> None:
        """Close and cancel a session of ours."""
        if session.closed:
            return
        link = session.link
        self._close(session)
        link.counters.exports_cancelled[reason] += 1
        self._core.events.append(ExportCancelled(link.peer, session.number, session.tags, reason, False))
        self._core.cancel(SessionId(self._core.engine_id, session.number), link, CANCEL_BY_SENDER, reason, now)

    def _check_room(self, peer: int) -> None:
        if self.room(peer) <= 0:
            raise SessionLimitError(
                f"{self.config.max_exports} LTP sessions to engine {peer} are open; wait for one to close"
            )

    def _take_number(self) -> int:
        number = self.next_number
        self.next_number = number + 1 if number < MAX_VALUE else 1
        return number

    def _open(self, peer: int, number: int, block: Block, now: float) -> None:
        link = self._core.links[peer]
        session = ExportSession(SessionId(self._core.engine_id, number), link, block, self)
        self.sessions[number] = session
        link.exports += 1
        link.counters.exports_opened += 1
        link.offer(session, now)

    def _aggregate(self, peer: int, block: Block, now: float) -> int:
        key = (peer, block.priority)
        aggregate = self._aggregates.get(key)
        if aggregate is None:
            self._check_room(peer)
            aggregate = Aggregate(peer, block.priority, self._take_number(), self._flush)
            self._aggregates[key] = aggregate
            self._core.timers.start(aggregate, now + self.config.aggregate_time)
        capsule = encode_sdnv(block.service) if self.config.aggregate_service == SERVICE_AGGREGATED else b""
        aggregate.add(capsule, bytes(block.data), block.tags[0])
        link = self._core.links[peer]
        if aggregate.size >= self.config.aggregate_size:
            self._flush(aggregate, now)
        elif link.idle:
            link.wake = now if link.model.can_send(now) else link.model.next_change(now)
        return aggregate.number

    def _flush(self, aggregate: Aggregate, now: float) -> None:
        del self._aggregates[aggregate.peer, aggregate.priority]
        self._core.timers.stop(aggregate)
        data, tags = b"".join(aggregate.parts), tuple(aggregate.tags)
        block = Block(data, len(data), self.config.aggregate_service, aggregate.priority, tags)
        self._open(aggregate.peer, aggregate.number, block, now)

    def _complete(self, session: ExportSession) -> None:
        if session.acknowledged and session.sent and not session.closed:
            self._close(session)
            session.link.counters.exports_completed += 1
            session.link.counters.exported_bytes += session.size
            completed = ExportCompleted(session.link.peer, session.number, session.tags, session.rounds)
            self._core.events.append(completed)

    def _close(self, session: ExportSession) -> None:
        session.close()
        session.link.exports -= 1
        del self.sessions[session.number]
        self._closed[session.number] = None
        while len(self._closed) > self.config.closed_memory:
            del self._closed[next(iter(self._closed))]
