"""The LTP engine (RFC 5326; CCSDS 734.1-B-1): time and datagrams in, events, datagrams and the next deadline out."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from marsnet.dtn.ltp.config import SERVICE_BUNDLES, LtpConfig, PeerModel
from marsnet.dtn.ltp.core import Core
from marsnet.dtn.ltp.counters import LtpCounters
from marsnet.dtn.ltp.events import LtpEvent
from marsnet.dtn.ltp.exporter import Exporter
from marsnet.dtn.ltp.exports import Block
from marsnet.dtn.ltp.importer import Importer
from marsnet.dtn.ltp.link import Datagram, Link
from marsnet.dtn.ltp.runs import Run, runs
from marsnet.dtn.ltp.sdnv import MAX_VALUE, SegmentError
from marsnet.dtn.ltp.segments import (
    CANCEL_ACK_TO_RECEIVER,
    CANCEL_ACK_TO_SENDER,
    CANCEL_BY_RECEIVER,
    GREEN,
    RED,
    REPORT,
    CancelAckSegment,
    CancelReason,
    CancelSegment,
    DataSegment,
    ReportAckSegment,
    ReportSegment,
    Segment,
    SessionId,
    decode_segment,
    encode_segment,
)
from marsnet.dtn.ltp.trains import Extent, Train
from marsnet.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marsnet.dtn.recipe import Rope

_TO_ORIGIN = frozenset((REPORT, CANCEL_ACK_TO_SENDER, CANCEL_BY_RECEIVER))
"""Types that travel to the engine that originated the session."""


class LtpEngine:
    """One LTP engine with any number of peers.

    Call `receive` for each datagram and `send` for each block, then `advance`, then collect `take_datagrams` and
    `take_events`; call `advance` again at `next_deadline`. Times are mission seconds and must not decrease.

    Attributes:
        config: limits and margins.
        malformed: datagrams whose octets, or whose remaining octets, were no LTP segment.
        unknown_peers: segments from, or reports to, engines that were not added.
    """

    def __init__(self, engine_id: int, config: LtpConfig | None = None, rng: random.Random | None = None) -> None:
        if not 0 <= engine_id <= MAX_VALUE:
            raise InputError(f"LTP engine id {engine_id}", remedy="write a number from 0 to 2**64 - 1")
        self.config = config or LtpConfig()
        self.malformed = self.unknown_peers = 0
        self._core = Core(engine_id, self.config, rng or random.Random())
        self._exporter = Exporter(self._core)
        self._importer = Importer(self._core)
        self._links = self._core.links

    @property
    def engine_id(self) -> int:
        """Its own id."""
        return self._core.engine_id

    def add_peer(
        self, peer: int, model: PeerModel, *, timer_margin: float | None = None, most_ahead: float = math.inf
    ) -> None:
        """Know an engine, or replace what is known of it (call `plan_changed` then).

        Segments of engines that were not added are ignored. `timer_margin` replaces the configuration's; `most_ahead`
        bounds the octets that the configuration's `pacing_ahead` lets leave ahead of time.
        """
        link = self._links.get(peer)
        if link is None:
            core = self._core
            link = Link(peer, model, config=self.config, timers=core.timers, outbox=core.datagrams)
            self._links[peer] = link
        link.model = model
        link.margin = self.config.timer_margin if timer_margin is None else timer_margin
        link.most_ahead = most_ahead

    def plan_changed(self, now: float, peer: int | None = None) -> None:
        """The answers of a model have changed (of all models when `peer` is None): a new plan, or an opportunistic
        contact that opens or closes. Timers and departures are computed anew."""
        for link in self._links.values() if peer is None else (self._links[peer],):
            link.replan(now)

    @property
    def peers(self) -> tuple[int, ...]:
        """Engine ids that were added, in order."""
        return tuple(self._links)

    def counters(self, peer: int) -> LtpCounters:
        """What was counted for a peer."""
        return self._links[peer].counters

    def room(self, peer: int) -> int:
        """Export sessions that may still be opened to a peer."""
        return self._exporter.room(peer)

    def open_sessions(self, peer: int | None = None) -> tuple[int, int]:
        """How many export and import sessions are open, with a peer or with all."""
        exports, imports = self._exporter.sessions, self._importer.sessions
        if peer is None:
            return len(exports), len(imports)
        return self._links[peer].exports, sum(session.origin == peer for session in imports)

    def backlog(self, peer: int) -> dict[int, int]:
        """Octets of blocks that wait to leave for a peer, by priority. It looks at every open session."""
        waiting: dict[int, int] = {}
        for session in self._exporter.sessions.values():
            if session.link.peer == peer and session.unsent:
                waiting[session.priority] = waiting.get(session.priority, 0) + session.unsent
        return waiting

    @property
    def running_timers(self) -> int:
        """Timers that have a deadline."""
        return len(self._core.timers)

    def timers(self) -> Counter[tuple[int | None, str]]:
        """Timers that have a deadline, by peer (None where they wait for none) and by what they are for."""
        return Counter((timer.waits_for(), timer.name) for timer in self._core.timers.running())

    @property
    def held_bytes(self) -> int:
        """Octets of unfinished imports."""
        return self._importer.held

    @property
    def cancelling(self) -> int:
        """Sessions whose cancellation waits for its acknowledgement."""
        return len(self._core.cancellations)

    @property
    def next_number(self) -> int:
        """Number of the next session. Kept over a restart as `session_base`, numbers never repeat."""
        return self._exporter.next_number

    def send(
        self,
        peer: int,
        data: bytes | memoryview | Rope,
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
        return self._exporter.send(peer, Block(data, red, service, priority, (tag,)), now)

    def cancel(self, number: int, now: float, reason: CancelReason = CancelReason.USER) -> bool:
        """Give an export session up; returns whether it was open."""
        return self._exporter.cancel(number, now, reason)

    def confirm(self, session: SessionId, now: float) -> None:
        """The red part of a `RedPartReceived` is durable: acknowledge it. Unknown sessions are ignored."""
        self._importer.confirm(session, now)

    def refuse(self, session: SessionId, now: float, reason: CancelReason = CancelReason.SYSTEM) -> None:
        """The red part of a `RedPartReceived` cannot be kept: cancel the session. Unknown sessions are ignored."""
        self._importer.refuse(session, now, reason)

    def receive(self, datagram: bytes | memoryview, now: float, peer: int | None = None) -> None:
        """Take a datagram in: one segment, or several one after another.

        Args:
            datagram: its octets, which must not change later.
            now: mission seconds.
            peer: the engine it came from, when the layer below knows; segments of others are then dropped.
        """
        position, size = 0, len(datagram)
        while True:
            try:
                segment, end = decode_segment(datagram, position)
            except SegmentError:
                self.malformed += 1
                return
            link = self._link_of(segment, peer)
            if link is not None:
                link.counters.received_segments[segment.kind] += 1
                link.counters.received_bytes += end - position
                if isinstance(segment, DataSegment) and 2 * len(segment.data) < size:
                    segment = segment._replace(data=bytes(segment.data))
                self._dispatch(segment, link, now)
            if end == size:
                return
            position = end

    def receive_all(self, datagrams: Iterable[bytes], now: float, peer: int | None = None) -> None:
        """Take datagrams in that came one after another, as `receive` does with each."""
        for run in runs(datagrams):
            if isinstance(run, Run):
                self._receive_run(run.segment, run.count, run.octets, now, peer)
            else:
                self.receive(run, now, peer)

    def receive_trains(self, arrivals: Sequence[tuple[Train, int, int]], now: float, peer: int | None = None) -> None:
        """Take segments of trains in that have arrived one after another.

        Args:
            arrivals: trains as a peer's `take_datagrams` returned them; of each, the first of its segments that has
                come, and how many follow one another, with that.
            now: mission seconds.
            peer: the engine they came from, as in `receive`.
        """
        place, last = 0, len(arrivals)
        while place < last:
            train, first, count = arrivals[place]
            place += 1
            session, kind = train.session, train.kind
            begin = train.start + first * train.length
            end, octets = begin + count * train.length, count * train.size
            while kind == RED and place < last:
                other, skipped, more = arrivals[place]
                if other.kind or other.block is not train.block or other.session != session:
                    break
                if other.start + skipped * other.length != end:
                    break
                # It goes on where the one before ended: both are taken in as one.
                end, octets, count = end + more * other.length, octets + more * other.size, count + more
                place += 1
            data = Extent(train.block, begin, end)
            segment = DataSegment(kind, session, train.service, begin, data, train.checkpoint, train.report)
            self._receive_run(segment, count, octets, now, peer)

    def advance(self, now: float) -> None:
        """Fire the timers that have ended and hand out the datagrams that may leave by now."""
        self._core.timers.fire(now)
        self._exporter.release(now)
        for link in self._links.values():
            if link.wake is not None and link.wake <= now:
                link.pump(now)
        if self._exporter.gone:
            self._exporter.note_sent()

    def next_deadline(self, now: float) -> float | None:
        """When to call `advance` next, `now` at the earliest; None when only a call of another method can matter."""
        deadline = self._core.timers.next()
        for link in self._links.values():
            if link.wake is not None and (deadline is None or link.wake < deadline):
                deadline = link.wake
        return None if deadline is None else max(deadline, now)

    def take_datagrams(self) -> list[Datagram]:
        """(peer, octets, priority) of what leaves now, in order; a train in place of octets where they make one."""
        waiting = self._core.datagrams
        if not waiting:
            return []
        taken = waiting[:]
        waiting.clear()
        return taken

    @property
    def tells(self) -> bool:
        """Whether `take_events` has something."""
        return bool(self._core.events)

    def take_events(self) -> list[LtpEvent]:
        """What has happened since the last call, in order."""
        taken, self._core.events = self._core.events, []
        return taken

    def _receive_run(self, segment: DataSegment, count: int, octets: int, now: float, peer: int | None) -> None:
        """Take in what was so many segments of red data."""
        link = self._link_of(segment, peer, count)
        if link is not None:
            link.counters.received_segments[segment.kind] += count
            link.counters.received_bytes += octets
            self._importer.on_red(segment, link, now, count)

    def _link_of(self, segment: Segment, hint: int | None, segments: int = 1) -> Link | None:
        """The link that a segment belongs to; None, and counted, when it belongs to none."""
        session = segment.session
        peer: int | None = session.origin
        if segment.kind in _TO_ORIGIN:
            peer = self._receiver_of(session, hint)
        link = None if peer is None else self._links.get(peer)
        if link is None:
            self.unknown_peers += segments
        elif hint is not None and hint != peer:
            link.counters.misdirected_segments += segments
            return None
        return link

    def _receiver_of(self, session: SessionId, hint: int | None) -> int | None:
        """The peer that a session of ours goes or went to."""
        if session.origin != self._core.engine_id:
            return None
        export = self._exporter.sessions.get(session.number)
        if export is not None:
            return export.link.peer
        cancellation = self._core.cancellations.get(session)
        return hint if cancellation is None else cancellation.link.peer

    def _dispatch(self, segment: Segment, link: Link, now: float) -> None:
        match segment:
            case DataSegment(kind=kind):
                if kind >= GREEN:
                    self._importer.on_green(segment, link, now)
                else:
                    self._importer.on_red(segment, link, now)
            case ReportSegment():
                self._exporter.on_report(segment, link, now)
            case ReportAckSegment():
                self._importer.on_report_ack(segment, link)
            case CancelSegment(kind=kind):
                # RFC 5326 section 6.17: a cancellation is acknowledged whether its session is known or not.
                by_receiver = kind == CANCEL_BY_RECEIVER
                answer = CANCEL_ACK_TO_RECEIVER if by_receiver else CANCEL_ACK_TO_SENDER
                link.post(encode_segment(CancelAckSegment(answer, segment.session)), now)
                if by_receiver:
                    self._exporter.on_cancel(segment, link)
                else:
                    self._importer.on_cancel(segment, link)
            case CancelAckSegment():
                if not self._core.cancel_acknowledged(segment.session):
                    link.counters.late_segments += 1
