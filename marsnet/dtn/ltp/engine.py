"""The LTP engine (RFC 5326; CCSDS 734.1-B-1): time and datagrams in, events, datagrams and the next deadline out."""

from __future__ import annotations

import random

from marsnet.dtn.ltp.aggregate import Aggregate
from marsnet.dtn.ltp.config import SERVICE_AGGREGATED, SERVICE_BUNDLES, LtpConfig, PeerModel
from marsnet.dtn.ltp.counters import LtpCounters
from marsnet.dtn.ltp.events import (
    BlockSent,
    ExportCancelled,
    ExportCompleted,
    GreenSegmentReceived,
    ImportCancelled,
    LtpEvent,
    RedPartReceived,
)
from marsnet.dtn.ltp.exports import Block, ExportSession
from marsnet.dtn.ltp.imports import ImportSession, MiscoloredError, full_report
from marsnet.dtn.ltp.link import Datagram, Link, Pending
from marsnet.dtn.ltp.sdnv import MAX_VALUE, SegmentError, encode_sdnv
from marsnet.dtn.ltp.segments import (
    CANCEL_ACK_TO_RECEIVER,
    CANCEL_ACK_TO_SENDER,
    CANCEL_BY_RECEIVER,
    CANCEL_BY_SENDER,
    GREEN,
    GREEN_BLOCK_END,
    CancelAckSegment,
    CancelReason,
    CancelSegment,
    DataSegment,
    ReportAckSegment,
    ReportSegment,
    SessionId,
    decode_segment,
    encode_segment,
)
from marsnet.dtn.ltp.timers import CallTimer, TimerQueue
from marsnet.errors import InputError, MarsnetError


class SessionLimitError(MarsnetError):
    """The peer has as many open export sessions as the engine's configuration allows."""


class Cancellation(Pending):
    """A cancellation segment and the wait for its acknowledgement."""

    __slots__ = ("engine", "octets", "session")
    name = "cancel"

    def __init__(self, engine: LtpEngine, link: Link, session: SessionId, kind: int, reason: int) -> None:
        super().__init__(link, engine.config.control_priority, engine.config.cancel_limit)
        self.engine, self.session = engine, session
        self.octets = encode_segment(CancelSegment(kind, session, reason))

    def encode(self, room: int) -> bytes | None:
        """The segment, whatever the room."""
        return self.octets

    def give_up(self, now: float) -> None:
        """The peer does not acknowledge: close all the same."""
        self.engine.cancellations.pop(self.session, None)
        self.link.settle(self)


class LtpEngine:
    """One LTP engine with any number of peers.

    Call `receive` for each datagram and `send` for each block, then `advance`, then collect `take_datagrams` and
    `take_events`; call `advance` again at `next_deadline`. Times are mission seconds and must not decrease.

    Attributes:
        engine_id: its own id.
        config: limits and margins.
        rng: where serial numbers come from.
        malformed: datagrams whose octets, or whose remaining octets, were no LTP segment.
        unknown_peers: segments from, or reports to, engines that were not added.
        cancellations: sessions whose cancellation waits for its acknowledgement.
    """

    def __init__(self, engine_id: int, config: LtpConfig | None = None, rng: random.Random | None = None) -> None:
        if not 0 <= engine_id <= MAX_VALUE:
            raise InputError(f"LTP engine id {engine_id}", remedy="write a number from 0 to 2**64 - 1")
        self.engine_id = engine_id
        self.config = config or LtpConfig()
        self.malformed = self.unknown_peers = 0
        self.cancellations: dict[SessionId, Cancellation] = {}
        self.rng = rng or random.Random()
        base = self.config.session_base
        self._next_number = self.rng.randrange(1, 1 << 31) if base is None else base
        self._timers = TimerQueue()
        self._sweeper = CallTimer(self._sweep)
        self._links: dict[int, Link] = {}
        self._exports: dict[int, ExportSession] = {}
        self._imports: dict[SessionId, ImportSession] = {}
        self._import_counts: dict[int, int] = {}
        self._held = 0
        self._closed_exports: dict[int, None] = {}
        self._closed_imports: dict[SessionId, tuple[int, int] | None] = {}
        self._aggregates: dict[tuple[int, int], Aggregate] = {}
        self._unsent: set[ExportSession] = set()
        self._datagrams: list[Datagram] = []
        self._events: list[LtpEvent] = []

    # Peers

    def add_peer(self, peer: int, model: PeerModel, *, timer_margin: float | None = None) -> None:
        """Know an engine, or replace what is known of it. Segments of engines that were not added are ignored."""
        link = self._links.get(peer)
        if link is None:
            link = Link(peer, model, config=self.config, timers=self._timers, outbox=self._datagrams)
            self._links[peer] = link
        link.model = model
        link.margin = self.config.timer_margin if timer_margin is None else timer_margin

    def plan_changed(self, now: float, peer: int | None = None) -> None:
        """The answers of a model have changed (all models when `peer` is None): a new plan, or an opportunistic
        contact that opens or closes. Timers and departures are computed anew."""
        for link in self._links.values() if peer is None else (self._links[peer],):
            link.replan(now)

    def counters(self, peer: int) -> LtpCounters:
        """What was counted for a peer."""
        return self._links[peer].counters

    @property
    def peers(self) -> tuple[int, ...]:
        """Engine ids that were added, in order."""
        return tuple(self._links)

    def room(self, peer: int) -> int:
        """Export sessions that may still be opened to a peer."""
        return self.config.max_exports - self._links[peer].exports

    def open_sessions(self) -> tuple[int, int]:
        """How many export and import sessions are open."""
        return len(self._exports), len(self._imports)

    @property
    def held_bytes(self) -> int:
        """Octets of unfinished imports."""
        return self._held

    @property
    def next_number(self) -> int:
        """Number of the next session. Kept over a restart as `session_base`, numbers never repeat."""
        return self._next_number

    # Sending

    def send(
        self,
        peer: int,
        data: bytes | memoryview,
        now: float,
        *,
        red_length: int | None = None,
        service: int = SERVICE_BUNDLES,
        tag: object = None,
        priority: int = 0,
    ) -> int:
        """Send service data in a block of its own, or, when the configuration aggregates, with others in one block.

        Args:
            peer: engine id.
            data: at least one octet; not to be changed while the session is open.
            now: mission seconds.
            red_length: octets that are sent reliably, the first ones; None for all. Only all-red data is aggregated.
            service: client service id.
            tag: comes back in the session's events.
            priority: higher goes first, also between the segments of a block of lower priority.

        Returns:
            The session's number.

        Raises:
            SessionLimitError: when `room` is 0.
            InputError: when the data is empty, the red part longer than it, or the peer unknown.
        """
        red = len(data) if red_length is None else red_length
        if not data or not 0 <= red <= len(data):
            raise InputError(
                f"a block of {len(data)} octets with a red part of {red}", remedy="send at least one octet, red or not"
            )
        if peer not in self._links:
            raise InputError(f"LTP engine {peer} is no peer", remedy="call add_peer first")
        if self.config.aggregate_size and red == len(data) and service == SERVICE_BUNDLES:
            return self._aggregate(peer, data, now, priority, tag)
        self._check_room(peer)
        number = self._take_number()
        block = Block(data, red, service, priority, (tag,))
        self._open(ExportSession(SessionId(self.engine_id, number), self._links[peer], block, self), now)
        return number

    def cancel(self, number: int, now: float, reason: CancelReason = CancelReason.USER) -> bool:
        """Give an export session up; returns whether it was open."""
        for key, aggregate in list(self._aggregates.items()):
            if aggregate.number == number:
                self._timers.stop(aggregate)
                del self._aggregates[key]
                self._events.append(ExportCancelled(key[0], number, tuple(aggregate.tags), reason, False))
                return True
        session = self._exports.get(number)
        if session is None:
            return False
        self.fail_export(session, reason, now)
        return True

    # Receiving

    def receive(self, datagram: bytes | memoryview, now: float, peer: int | None = None) -> None:
        """Take a datagram in: one segment, or several one after another.

        Args:
            datagram: its octets, which must not change later.
            now: mission seconds.
            peer: the engine it came from, when the layer below knows; segments of others are then dropped.
        """
        position, size = 0, len(datagram)
        while position < size or not size:
            try:
                segment, end = decode_segment(datagram, position)
            except SegmentError:
                self.malformed += 1
                return
            self._dispatch(segment, end - position, size, now, peer)
            position = end

    def confirm(self, session: SessionId, now: float) -> None:
        """The red part of a `RedPartReceived` is durable: acknowledge it. Unknown sessions are ignored."""
        block = self._imports.get(session)
        if block is not None and block.delivered and not block.confirmed:
            block.confirm(now)
            self._finish_import(block)

    def refuse(self, session: SessionId, now: float, reason: CancelReason = CancelReason.SYSTEM) -> None:
        """The red part of a `RedPartReceived` cannot be kept: cancel the session. Unknown sessions are ignored."""
        block = self._imports.get(session)
        if block is not None and not block.confirmed:
            self._cancel_import(block, reason, now, tell=False)

    # Time

    def advance(self, now: float) -> None:
        """Fire the timers that have ended and hand out the datagrams that may leave by now."""
        self._timers.fire(now)
        for (peer, _), aggregate in list(self._aggregates.items()):
            link = self._links[peer]
            if link.idle and link.model.can_send(now):
                self._flush(aggregate, now)
        for link in self._links.values():
            if link.wake is not None and link.wake <= now:
                link.pump(now)
        if self._unsent:
            for session in [s for s in self._unsent if s.sent or s.closed]:
                self._unsent.discard(session)
                if session.sent:
                    self._events.append(BlockSent(session.link.peer, session.number, session.tags))
                    self._complete_export(session)

    def next_deadline(self, now: float) -> float | None:
        """When to call `advance` next, `now` at the earliest; None when only a call of another method can matter."""
        deadline = self._timers.next()
        for link in self._links.values():
            if link.wake is not None and (deadline is None or link.wake < deadline):
                deadline = link.wake
        return None if deadline is None else max(deadline, now)

    def take_datagrams(self) -> list[Datagram]:
        """(peer, octets, priority) of what leaves now, in order."""
        taken = self._datagrams[:]
        self._datagrams.clear()
        return taken

    def take_events(self) -> list[LtpEvent]:
        """What has happened since the last call, in order."""
        taken, self._events = self._events, []
        return taken

    # Exports

    def _check_room(self, peer: int) -> None:
        if self.room(peer) <= 0:
            raise SessionLimitError(
                f"{self.config.max_exports} LTP sessions to engine {peer} are open; wait for one to close"
            )

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number = number + 1 if number < MAX_VALUE else 1
        return number

    def _open(self, session: ExportSession, now: float) -> None:
        link = session.link
        self._exports[session.number] = session
        self._unsent.add(session)
        link.exports += 1
        link.counters.exports_opened += 1
        link.offer(session, now)

    def _aggregate(self, peer: int, data: bytes | memoryview, now: float, priority: int, tag: object) -> int:
        aggregate = self._aggregates.get((peer, priority))
        if aggregate is None:
            self._check_room(peer)
            aggregate = Aggregate(peer, priority, self._take_number(), self._flush)
            self._aggregates[peer, priority] = aggregate
            self._timers.start(aggregate, now + self.config.aggregate_time)
        if self.config.aggregate_service == SERVICE_AGGREGATED:
            aggregate.add(encode_sdnv(SERVICE_BUNDLES), data, tag)
        else:
            aggregate.add(b"", data, tag)
        if aggregate.size >= self.config.aggregate_size:
            self._flush(aggregate, now)
        else:
            link = self._links[peer]
            if link.idle:
                link.wake = now if link.model.can_send(now) else link.model.next_change(now)
        return aggregate.number

    def _flush(self, aggregate: Aggregate, now: float) -> None:
        del self._aggregates[aggregate.peer, aggregate.priority]
        self._timers.stop(aggregate)
        data = b"".join(aggregate.parts)
        block = Block(data, len(data), self.config.aggregate_service, aggregate.priority, tuple(aggregate.tags))
        session = SessionId(self.engine_id, aggregate.number)
        self._open(ExportSession(session, self._links[aggregate.peer], block, self), now)

    def _complete_export(self, session: ExportSession) -> None:
        if session.acknowledged and session.sent and not session.closed:
            self._close_export(session)
            session.link.counters.exports_completed += 1
            session.link.counters.exported_bytes += session.size
            self._events.append(ExportCompleted(session.link.peer, session.number, session.tags, session.rounds))

    def fail_export(self, session: ExportSession, reason: CancelReason, now: float) -> None:
        """Close and cancel a session of ours."""
        if session.closed:
            return
        self._close_export(session)
        session.link.counters.exports_cancelled[reason] += 1
        self._events.append(ExportCancelled(session.link.peer, session.number, session.tags, reason, False))
        self._cancel(SessionId(self.engine_id, session.number), session.link, CANCEL_BY_SENDER, reason, now)

    def _close_export(self, session: ExportSession) -> None:
        session.close()
        session.link.exports -= 1
        del self._exports[session.number]
        self._closed_exports[session.number] = None
        _trim(self._closed_exports, self.config.closed_memory)

    def _cancel(self, session: SessionId, link: Link, kind: int, reason: int, now: float) -> None:
        cancellation = Cancellation(self, link, session, kind, reason)
        self.cancellations[session] = cancellation
        link.request(cancellation, now)

    # Imports

    def _open_import(self, segment: DataSegment, link: Link, now: float) -> ImportSession | None:
        config = self.config
        if segment.service not in config.services:
            reason = CancelReason.UNREACHABLE
        elif self._import_counts.get(link.peer, 0) >= config.max_imports or self._held >= config.max_import_bytes:
            reason = CancelReason.SYSTEM
        else:
            block = ImportSession(segment.session, link, segment.service, now, self)
            self._imports[segment.session] = block
            self._import_counts[link.peer] = self._import_counts.get(link.peer, 0) + 1
            link.counters.imports_opened += 1
            if self._sweeper.deadline is None:
                self._timers.start(self._sweeper, now + config.import_idle_limit / 4)
            return block
        link.counters.refused_imports += 1
        link.post(encode_segment(CancelSegment(CANCEL_BY_RECEIVER, segment.session, reason)), now)
        return None

    def _sweep(self, now: float) -> None:
        """Give up the imports whose peer could send and did not."""
        for block in list(self._imports.values()):
            silent = now - block.last >= self.config.import_idle_limit
            if silent and block.link.model.peer_can_send(now):
                self.abandon_import(block, now)
        if self._imports:
            self._timers.start(self._sweeper, now + self.config.import_idle_limit / 4)

    def abandon_import(self, block: ImportSession, now: float) -> None:
        """A report is never acknowledged, or the peer has fallen silent. What was delivered stays delivered."""
        if block.confirmed:
            self._close_import(block, delivered=True)
        else:
            self._cancel_import(block, CancelReason.RETRANSMISSION_LIMIT, now, tell=not block.delivered)

    def _cancel_import(self, block: ImportSession, reason: CancelReason, now: float, *, tell: bool = True) -> None:
        self._close_import(block, delivered=False)
        block.link.counters.imports_cancelled[reason] += 1
        if tell:
            self._events.append(ImportCancelled(block.link.peer, block.id, reason, False))
        self._cancel(block.id, block.link, CANCEL_BY_RECEIVER, reason, now)

    def _close_import(self, block: ImportSession, *, delivered: bool) -> None:
        self._held -= block.held
        block.close()
        del self._imports[block.id]
        self._import_counts[block.link.peer] -= 1
        self._closed_imports[block.id] = (block.red or 0, block.next_report) if delivered else None
        _trim(self._closed_imports, self.config.closed_memory)

    def _finish_import(self, block: ImportSession) -> None:
        if block.finished:
            block.link.counters.imports_completed += 1
            self._close_import(block, delivered=True)

    # Segments

    def _dispatch(
        self,
        segment: DataSegment | ReportSegment | ReportAckSegment | CancelSegment | CancelAckSegment,
        octets: int,
        datagram: int,
        now: float,
        hint: int | None,
    ) -> None:
        kind, session = segment.kind, segment.session
        ours = kind in _TO_SENDER
        export = None
        if not ours:
            peer = session.origin
        elif session.origin != self.engine_id:
            self.unknown_peers += 1
            return
        else:
            export = self._exports.get(session.number)
            cancellation = self.cancellations.get(session)
            if export is not None:
                peer = export.link.peer
            elif cancellation is not None:
                peer = cancellation.link.peer
            elif hint is not None:
                peer = hint
            else:
                self.unknown_peers += 1
                return
        link = self._links.get(peer)
        if link is None:
            self.unknown_peers += 1
            return
        if hint is not None and hint != peer:
            link.counters.misdirected_segments += 1
            return
        link.counters.received_segments[kind] += 1
        link.counters.received_bytes += octets
        if isinstance(segment, DataSegment):
            if 2 * len(segment.data) < datagram:
                segment = segment._replace(data=bytes(segment.data))
            if kind >= GREEN:
                self._on_green(segment, link, now)
            else:
                self._on_red(segment, link, now)
        elif isinstance(segment, ReportSegment):
            self._on_report(segment, export, link, now)
        elif isinstance(segment, ReportAckSegment):
            block = self._imports.get(session)
            if block is None or not block.on_ack(segment.report):
                link.counters.late_segments += 1
            else:
                self._finish_import(block)
        elif isinstance(segment, CancelSegment):
            self._on_cancel(segment, export, link, now)
        else:
            waiting = self.cancellations.get(session)
            if waiting is None or (kind == CANCEL_ACK_TO_SENDER) != (session.origin == self.engine_id):
                link.counters.late_segments += 1
            else:
                del self.cancellations[session]
                link.settle(waiting)

    def _on_red(self, segment: DataSegment, link: Link, now: float) -> None:
        session = segment.session
        block = self._imports.get(session)
        if block is None:
            if session in self._closed_imports:
                self._on_late(segment, link, now)
                return
            block = self._open_import(segment, link, now)
            if block is None:
                return
        counters = link.counters
        block.last = now
        end = segment.offset + len(segment.data)
        if segment.service != block.service or (segment.kind > 0 and not segment.checkpoint):
            counters.inconsistent_segments += 1
            return
        if end > self.config.max_block or self._held + len(segment.data) > self.config.max_import_bytes:
            self._cancel_import(block, CancelReason.SYSTEM, now)
            return
        try:
            new = block.add_red(segment)
        except MiscoloredError:
            counters.inconsistent_segments += 1
            self._cancel_import(block, CancelReason.MISCOLORED, now, tell=not block.delivered)
            return
        counters.duplicate_bytes += len(segment.data) - new
        self._held += new
        if segment.kind:
            completes = block.complete and not block.delivered
            if completes:
                self._deliver(block, now)
            block.on_checkpoint(segment, now)
        elif block.complete and not block.delivered:
            self._deliver(block, now)
        if block.finished:
            self._finish_import(block)

    def _deliver(self, block: ImportSession, now: float) -> None:
        self._held -= block.held
        data = block.take()
        block.link.counters.imported_bytes += len(data)
        self._events.append(RedPartReceived(block.link.peer, block.id, block.service, data, block.whole))
        if not self.config.require_confirm:
            block.confirm(now)

    def _on_late(self, segment: DataSegment, link: Link, now: float) -> None:
        """Data for a closed import: a repeated checkpoint gets the report of the whole red part, or a cancellation."""
        link.counters.late_segments += 1
        if not segment.kind or segment.session in self.cancellations:
            return
        memory = self._closed_imports[segment.session]
        if memory is None:
            answer = CancelSegment(CANCEL_BY_RECEIVER, segment.session, CancelReason.SYSTEM)
            link.post(encode_segment(answer), now)
        else:
            red, serial = memory
            self._closed_imports[segment.session] = (red, serial + 1)
            link.counters.duplicate_checkpoints += 1
            link.post(full_report(segment.session, serial, segment.checkpoint, red), now)

    def _on_green(self, segment: DataSegment, link: Link, now: float) -> None:
        """Green data needs no session: it is delivered as it comes."""
        block = self._imports.get(segment.session)
        if segment.service not in self.config.services:
            link.counters.refused_imports += 1
            return
        if block is not None:
            block.last = now
            try:
                block.add_green(segment.offset)
            except MiscoloredError:
                link.counters.inconsistent_segments += 1
                self._cancel_import(block, CancelReason.MISCOLORED, now, tell=not block.delivered)
                return
        elif self._closed_imports.get(segment.session, (0, 0)) is None:
            link.counters.late_segments += 1
            return
        link.counters.imported_bytes += len(segment.data)
        self._events.append(
            GreenSegmentReceived(
                link.peer,
                segment.session,
                segment.service,
                segment.offset,
                bytes(segment.data),
                segment.kind == GREEN_BLOCK_END,
            )
        )

    def _on_report(self, segment: ReportSegment, export: ExportSession | None, link: Link, now: float) -> None:
        """RFC 5326 section 6.13: every report is acknowledged. One for a session that this engine does not remember,
        because it was restarted, is answered with a cancellation too, so that the peer need not wait for the rest."""
        if export is not None and not export.on_report(segment, now):
            link.counters.inconsistent_segments += 1
            return
        link.post(encode_segment(ReportAckSegment(segment.session, segment.report)), now)
        if export is not None:
            self._complete_export(export)
            return
        link.counters.late_segments += 1
        if segment.session.number not in self._closed_exports:
            cancel = CancelSegment(CANCEL_BY_SENDER, segment.session, CancelReason.SYSTEM)
            link.post(encode_segment(cancel), now)

    def _on_cancel(self, segment: CancelSegment, export: ExportSession | None, link: Link, now: float) -> None:
        """RFC 5326 sections 6.17 and 6.19: acknowledge always, and close what is open."""
        by_receiver = segment.kind == CANCEL_BY_RECEIVER
        acknowledgement = CANCEL_ACK_TO_RECEIVER if by_receiver else CANCEL_ACK_TO_SENDER
        link.post(encode_segment(CancelAckSegment(acknowledgement, segment.session)), now)
        block = None if by_receiver else self._imports.get(segment.session)
        if export is not None and by_receiver:
            self._close_export(export)
            link.counters.exports_cancelled[segment.reason] += 1
            self._events.append(ExportCancelled(link.peer, export.number, export.tags, segment.reason, True))
        elif block is not None:
            delivered = block.delivered
            self._close_import(block, delivered=block.confirmed)
            link.counters.imports_cancelled[segment.reason] += 1
            if not delivered:
                self._events.append(ImportCancelled(link.peer, block.id, segment.reason, True))
        else:
            link.counters.late_segments += 1


_TO_SENDER = frozenset((8, 13, 14))
"""Types that travel to the engine that originated the session."""


def _trim(memory: dict[int, None] | dict[SessionId, tuple[int, int] | None], size: int) -> None:
    while len(memory) > size:
        del memory[next(iter(memory))]  # type: ignore[arg-type]
