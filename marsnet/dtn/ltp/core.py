"""What the sending and the receiving half of an engine share."""

from __future__ import annotations

import random

from marsnet.dtn.ltp.config import LtpConfig
from marsnet.dtn.ltp.events import LtpEvent
from marsnet.dtn.ltp.link import Datagram, Link, Pending
from marsnet.dtn.ltp.segments import CancelSegment, SessionId, encode_segment
from marsnet.dtn.ltp.timers import TimerQueue


class Core:
    """State of one engine.

    Attributes:
        engine_id: its own id.
        config: limits and margins.
        rng: where serial numbers come from.
        timers: all of its timers.
        links: its peers.
        cancellations: sessions whose cancellation waits for its acknowledgement.
        datagrams: what leaves now.
        events: what has happened.
    """

    def __init__(self, engine_id: int, config: LtpConfig, rng: random.Random) -> None:
        self.engine_id, self.config, self.rng = engine_id, config, rng
        self.timers = TimerQueue()
        self.links: dict[int, Link] = {}
        self.cancellations: dict[SessionId, Cancellation] = {}
        self.datagrams: list[Datagram] = []
        self.events: list[LtpEvent] = []

    def cancel(self, session: SessionId, link: Link, kind: int, reason: int, now: float) -> None:
        """Send a cancellation until it is acknowledged (RFC 5326 sections 6.15 to 6.19).

        When a great many wait for that already, it is sent once: the peer is told again when it repeats itself.
        """
        if len(self.cancellations) >= self.config.closed_memory:
            link.post(encode_segment(CancelSegment(kind, session, reason)), now)
            return
        cancellation = Cancellation(self, link, CancelSegment(kind, session, reason))
        self.cancellations[session] = cancellation
        link.request(cancellation, now)

    def cancel_acknowledged(self, session: SessionId) -> bool:
        """Stop sending a cancellation; returns whether one was under way."""
        cancellation = self.cancellations.pop(session, None)
        if cancellation is None:
            return False
        cancellation.link.settle(cancellation)
        return True


class Cancellation(Pending):
    """A cancellation segment and the wait for its acknowledgement."""

    __slots__ = ("core", "octets", "session")
    name = "cancel"

    def __init__(self, core: Core, link: Link, segment: CancelSegment) -> None:
        super().__init__(link, core.config.control_priority, core.config.cancel_limit)
        self.core, self.session = core, segment.session
        self.octets = encode_segment(segment)

    def encode(self, room: int) -> bytes | None:
        """The segment, whatever the room."""
        return self.octets

    def give_up(self, now: float) -> None:
        """The peer does not acknowledge: close all the same."""
        self.core.cancel_acknowledged(self.session)
