"""What waits to leave for one peer: order, pacing, and the timers of what must be answered."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from marsnet.dtn.ltp.config import LtpConfig, PeerModel
from marsnet.dtn.ltp.counters import LtpCounters
from marsnet.dtn.ltp.segments import RED
from marsnet.dtn.ltp.timers import Timer, TimerQueue, answer_departure
from marsnet.dtn.ltp.trains import Train

MAX_CONTROL = 65536
"""Reports, acknowledgements and cancellations that wait for the link before answers are dropped."""
MIN_SEGMENT = 96
"""Octets. The end of a contact is not filled with data segments smaller than this."""

LEVELS = 4
"""Priorities that the line below tells apart, at most."""
Datagram = tuple[int, bytes | Train, int]
"""Peer, octets (or a train of them), priority."""


class Pending(Timer):
    """A checkpoint, report or cancellation that waits to leave or for its answer.

    Attributes:
        link: its way.
        priority: with which it is handed out.
        limit: transmissions before it is given up.
        tries: transmissions so far.
        sent_at: when the last octet of the latest one left.
        done: answered, or no longer of interest.
        queued: waits in the link's queue.
    """

    __slots__ = ("done", "limit", "link", "priority", "queued", "sent_at", "tries")
    name = ""

    def __init__(self, link: Link, priority: int, limit: int) -> None:
        super().__init__()
        self.link, self.priority, self.limit = link, priority, limit
        self.tries, self.sent_at = 0, 0.0
        self.done = self.queued = False

    def waits_for(self) -> int:
        """The engine that is to answer."""
        return self.link.peer

    def encode(self, room: int) -> bytes | Train | None:
        """The datagram, in at most `room` octets; None when it does not fit."""
        raise NotImplementedError

    def give_up(self, now: float) -> None:
        """`limit` transmissions were not answered."""
        raise NotImplementedError

    def expire(self, now: float) -> None:
        """No answer in time: send again, or give up."""
        self.link.expired(self, now)


class Sender(Protocol):
    """A session with block data to send."""

    priority: int
    waiting: bool

    def has_work(self) -> bool:
        """Whether there are segments to send."""

    def next_segment(self, room: int, now: float) -> tuple[bytes | Train, Pending | None] | None:
        """The next one of at most `room` octets, and the checkpoint that it is; None when none fits."""

    def run(self, room: int) -> tuple[int, int]:
        """How many of the next segments are alike, and the octets of each."""

    def take_run(self, count: int) -> Train:
        """So many of these."""


class Link:
    """The way to one peer.

    Attributes:
        peer: its engine id.
        model: the plan for it.
        counters: what happened on it.
        exports: open export sessions.
        margin: seconds added to each expected instant of an answer.
        most_ahead: octets that may be handed out ahead of time, with those of lower layers.
        wake: when `pump` has something to do next; None while nothing waits.
    """

    def __init__(
        self, peer: int, model: PeerModel, *, config: LtpConfig, timers: TimerQueue, outbox: list[Datagram]
    ) -> None:
        self.peer, self.model, self.config = peer, model, config
        self.counters = LtpCounters()
        self.exports = 0
        self.margin = config.timer_margin
        self.most_ahead = math.inf
        self.wake: float | None = None
        self._timers, self._outbox = timers, outbox
        self._free = [float("-inf")] * LEVELS
        """When all is sent that was handed out with at least the priority 0, 1, 2, 3."""
        self._control: deque[Pending | bytes | Train] = deque()
        self._levels: dict[int, deque[Sender]] = {}
        self._order: list[int] = []
        self._passed_over = self._turn = 0
        self._running: set[Pending] = set()
        self._ahead: list[Pending] = []
        """Handed out, and still to leave: what is more urgent goes first."""
        self._ahead_least = LEVELS
        """The least priority among them."""

    @property
    def idle(self) -> bool:
        """Whether nothing waits to leave."""
        return not self._control and not self._levels

    def post(self, octets: bytes, now: float) -> None:
        """Queue a segment that needs no answer. The peer asks again for one that is dropped because too many wait."""
        if len(self._control) >= MAX_CONTROL:
            self.counters.dropped_answers += 1
            return
        self._begin(now)
        self._control.append(octets)

    def request(self, pending: Pending, now: float) -> None:
        """Queue a segment that needs an answer, unless it waits already."""
        if not pending.queued and not pending.done:
            self._begin(now)
            pending.queued = True
            self._timers.stop(pending)
            self._running.discard(pending)
            self._control.append(pending)

    def settle(self, pending: Pending) -> None:
        """The segment was answered, or nobody waits for the answer any more."""
        pending.done = True
        self._timers.stop(pending)
        self._running.discard(pending)

    def watch(self, timer: Timer, now: float) -> None:
        """Let a timer end when the peer should have repeated itself twice, had it anything to say."""
        instant: float | None = now
        for _ in range(3):
            if instant is not None:
                instant = self._answer_by(instant + self.model.owlt(instant) + self.config.peer_latency)
        self._timers.start(timer, now + self.config.import_idle_limit if instant is None else instant)

    def unwatch(self, timer: Timer) -> None:
        """Stop such a timer."""
        self._timers.stop(timer)

    def expired(self, pending: Pending, now: float) -> None:
        """A timer ended; what the end of another one has settled meanwhile is left alone."""
        if pending.done:
            return
        self._running.discard(pending)
        name = f"{pending.name}_expiries"
        setattr(self.counters, name, getattr(self.counters, name) + 1)
        if pending.tries >= pending.limit:
            pending.give_up(now)
        else:
            self.request(pending, now)

    def offer(self, session: Sender, now: float, *, ahead: bool = False) -> None:
        """A session has block data to send; `ahead` of others of its priority."""
        if session.waiting:
            return
        self._begin(now)
        session.waiting = True
        level = self._levels.get(session.priority)
        if level is None:
            level = self._levels[session.priority] = deque()
            self._order = sorted(self._levels, reverse=True)
        if ahead:
            level.appendleft(session)
        else:
            level.append(session)

    def replan(self, now: float) -> None:
        """The plan has changed: compute the deadlines of all answers that can still be sent, and the next departure.

        What should have been answered before `now` keeps its deadline (RFC 5326 section 6.5), unless it had none.
        """
        if not self.idle:
            self.wake = now
        for pending in self._running:
            arrival = pending.sent_at + self.model.owlt(pending.sent_at) + self.config.peer_latency
            if pending.deadline is None:
                arrival = max(arrival, now)
            if arrival >= now:
                self._timers.start(pending, self._answer_by(arrival))

    def pump(self, now: float) -> None:
        """Hand out what the contact's rate allows by `now`: control segments first, then data by priority."""
        model, config = self.model, self.config
        if not self._control and not self._levels:
            self.wake = None
            return
        rate = model.rate(now)
        closes = model.next_change(now)
        if rate <= 0 or not model.can_send(now):
            self.wake = closes
            return
        mtu, overhead = model.mtu, config.datagram_overhead
        per_octet = 8.0 / rate
        ahead = config.pacing_ahead
        if per_octet:
            least = config.segments_ahead * (mtu + overhead) * per_octet
            ahead = min(max(ahead, least), self.most_ahead * per_octet)
        # What was handed out ahead of time gives way to what is more urgent, in the queues of the transmitter.
        top = LEVELS - 1 if config.pacing_ahead else 0
        floor, limit = now - config.pacing_burst, now + ahead
        counters, outbox, line = self.counters, self._outbox, self._free
        if self._ahead:
            self._ahead = [pending for pending in self._ahead if pending.sent_at > now and not pending.done]
            self._ahead_least = min((pending.priority for pending in self._ahead), default=LEVELS)
        control, order = self._control, self._order
        while True:
            head = config.control_priority if control or not order else order[0]
            free = line[top if head > top else max(head, 0)]
            free = max(free, floor)
            if free > limit:
                self.wake = free - ahead / 2
                return
            if config.trains and order and not control and self._send_train(now, free, limit, closes, per_octet):
                continue
            room = mtu
            if closes is not None and per_octet:
                room = min(mtu, int((closes - (free if free > now else now)) / per_octet) - overhead)
            chosen = self._choose(room, mtu, now)
            if chosen is None:
                self.wake = None if self.idle else closes
                return
            octets, priority, pending = chosen
            size = len(octets)
            duration = (size + overhead) * per_octet
            level = top if priority > top else max(priority, 0)
            for lower in range(level + 1):
                ends = line[lower]
                line[lower] = (ends if ends > floor else floor) + duration
            if level > self._ahead_least:
                self._overtake(level, duration, now)
            counters.sent_segments[octets[0] if isinstance(octets, bytes) else octets.kind] += 1
            counters.sent_bytes += size
            outbox.append((self.peer, octets, priority))
            if pending is not None:
                self._await(pending, max(line[level], now))
                if line[level] > now and level < top:
                    self._ahead.append(pending)
                    self._ahead_least = min(self._ahead_least, level)
                if pending.tries == 1 and config.control_copies > 1:
                    self._control.extend([octets] * (config.control_copies - 1))
            if not self._control and not self._levels:
                self.wake = None
                return

    def _send_train(self, now: float, free: float, limit: float, closes: float | None, per_octet: float) -> bool:
        """Hand out together what would leave one by one: segments of one size, until the line is full."""
        config, mtu, priority = self.config, self.model.mtu, self._order[0]
        level = max(0, min(priority, LEVELS - 1 if config.pacing_ahead else 0))
        session = self._levels[priority][0]
        if level > self._ahead_least or not session.has_work():
            return False
        most, size = session.run(mtu)
        if most < 2:
            return False
        if len(self._order) > 1 and config.starvation_bound:
            most = min(most, config.starvation_bound - self._passed_over)
        octets = size + config.datagram_overhead
        duration, count = octets * per_octet, 0
        room = mtu + config.datagram_overhead
        until = math.inf if closes is None or not per_octet else closes
        while count < most and free <= limit:
            if until != math.inf and int((until - (free if free > now else now)) / per_octet) < room:
                break
            count += 1
            free += duration
        if count < 2:
            return False
        line, floor = self._free, now - config.pacing_burst
        for lower in range(level + 1):
            # One by one, so that times are the same to the bit as without trains.
            ends = line[lower]
            ends = max(ends, floor)
            for _ in range(count):
                ends += duration
            line[lower] = ends
        self._passed_over = 0 if len(self._order) == 1 else self._passed_over + count
        self.counters.sent_segments[RED] += count
        self.counters.sent_bytes += count * size
        self._outbox.append((self.peer, session.take_run(count), priority))
        return True

    def _begin(self, now: float) -> None:
        if not self._control and not self._levels:
            self._free = [free if free > now else now for free in self._free]
        if self.wake is None or self.wake > now:
            self.wake = now

    def _await(self, pending: Pending, sent_at: float) -> None:
        pending.tries += 1
        pending.sent_at = sent_at
        self._running.add(pending)
        self._timers.start(pending, self._answer_by(sent_at + self.model.owlt(sent_at) + self.config.peer_latency))

    def _overtake(self, level: int, duration: float, now: float) -> None:
        """Something more urgent than what waits in the line goes first there: answers come so much later."""
        for pending in self._ahead:
            if pending.priority < level and pending.sent_at > now and pending.deadline is not None:
                pending.sent_at += duration
                arrival = pending.sent_at + self.model.owlt(pending.sent_at) + self.config.peer_latency
                self._timers.start(pending, self._answer_by(arrival))

    def _answer_by(self, arrival: float) -> float | None:
        leaves = answer_departure(self.model, arrival)
        return None if leaves is None else leaves + self.model.owlt(leaves) + self.margin

    def _choose(self, room: int, mtu: int, now: float) -> tuple[bytes | Train, int, Pending | None] | None:
        control = self._control
        while control:
            item = control[0]
            if not isinstance(item, Pending):
                if len(item) > room and room < mtu:
                    return None
                control.popleft()
                return item, self.config.control_priority, None
            if item.done:
                control.popleft()
                continue
            octets = item.encode(room)
            if octets is None or (len(octets) > room and room < mtu):
                return None
            control.popleft()
            item.queued = False
            if item.tries:
                name = f"retransmitted_{item.name}s"
                setattr(self.counters, name, getattr(self.counters, name) + 1)
            return octets, item.priority, item
        if room < MIN_SEGMENT and room < mtu:
            return None
        while self._order:
            place = self._pick()
            priority = self._order[place]
            level = self._levels[priority]
            session = level[0]
            if session.has_work():
                found = session.next_segment(room, now)
                if found is None:
                    return None
                self._passed_over = 0 if place or len(self._order) == 1 else self._passed_over + 1
                if not session.has_work():
                    self._drop(level, priority)
                octets, pending = found
                return octets, priority, pending
            self._drop(level, priority)
        return None

    def _pick(self) -> int:
        """Index of the level to serve: the most urgent, or another in turn when those were passed over too often."""
        bound = self.config.starvation_bound
        if not bound or self._passed_over < bound or len(self._order) < 2:
            return 0
        self._turn += 1
        return 1 + self._turn % (len(self._order) - 1)

    def _drop(self, level: deque[Sender], priority: int) -> None:
        level.popleft().waiting = False
        if not level:
            del self._levels[priority]
            self._order.remove(priority)
