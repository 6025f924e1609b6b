"""The TCPCLv4 engine (RFC 9174): time and octets in, events, octets and the next deadline out. One for a connection."""

from __future__ import annotations

from collections import Counter
from enum import Enum

from marsnet.dtn.tcpcl.config import TcpclConfig, TlsPolicy
from marsnet.dtn.tcpcl.events import SessionEnded, SessionEstablished, StartTls, TcpclEvent
from marsnet.dtn.tcpcl.messages import (
    CAN_TLS,
    CRITICAL,
    KEEPALIVE,
    REPLY,
    RESUMES,
    VERSION,
    ContactHeader,
    Extension,
    Keepalive,
    Kind,
    Message,
    MessageError,
    MessageReader,
    MsgReject,
    RejectReason,
    SegmentData,
    SegmentHead,
    SessInit,
    SessTerm,
    TermReason,
    UnknownMessage,
    XferAck,
    XferRefuse,
    encode_contact_header,
    encode_reject,
    encode_sess_init,
    encode_term,
)
from marsnet.dtn.tcpcl.transfers import Inbound, Outbound

MAX_ANSWERS = 1 << 16
"""Messages that may wait for a connection that takes no more, before reading from it pauses."""


class State(Enum):
    """Where a session is."""

    CONTACT = "contact"
    """Contact headers are exchanged."""
    TLS = "tls"
    """The connection is being secured."""
    INIT = "init"
    """Parameters are exchanged."""
    OPEN = "open"
    """Transfers flow."""
    ENDING = "ending"
    """Transfers under way are finished, no new ones begin."""
    CLOSED = "closed"
    """To be disconnected as soon as the output is written."""


class TcpclEngine:
    """One session. Its caller connects, reads, writes and disconnects.

    After each call of another method, write what `data_to_send` gives, take the events, disconnect when `finished`, and
    call `advance` at `next_deadline`. Times are mission seconds and must not decrease.

    Attributes:
        config: our parameters.
        active: whether we made the connection.
        state: where the session is.
        peer: the peer's parameters, once known.
        counters: messages sent and received by type (`sent.xfer_ack`), octets of bundles (`sent.octets`), transfers
            (`acknowledged`, `refused`, `failed`, `received`, `declined`) and `protocol_errors`.
    """

    def __init__(self, config: TcpclConfig, *, active: bool, now: float) -> None:
        self.config, self.active = config, active
        self.state = State.CONTACT
        self.peer: SessInit | None = None
        self.counters: Counter[str] = Counter()
        self._events: list[TcpclEvent] = []
        self._control: list[bytes] = []
        self._inbound = Inbound(config, self._control, self._events, self.counters)
        self._outbound = Outbound(config, self._events, self.counters)
        self._reader = MessageReader()
        self._keepalive = 0
        self._secure = self._term_sent = self._term_received = False
        self._peer_ids: tuple[str, ...] | None = None
        self._ended: SessionEnded | None = None
        self._sent_at = self._received_at = self._transfer_at = self._progress_at = now
        self._give_up_at: float | None = now + config.contact_timeout
        if active:
            self._control.append(encode_contact_header(self._contact_flags()))

    # For the node

    def send(
        self, data: bytes | memoryview, now: float, *, tag: object = None, priority: int = 0, rest: int | None = None
    ) -> int:
        """Queue a bundle; higher priority goes first. It may be called before the session is established.

        Args:
            data: the bundle.
            now: mission seconds.
            tag: comes back in the transfer's event.
            priority: higher ones go first.
            rest: for a fragment that the peer has the beginning to, and is to refuse where it has not: offset of that
                beginning in the whole payload. Only where the session `resumes`.

        Returns:
            A handle that comes back, with the tag, in the transfer's event.
        """
        self._transfer_at = now
        handle = self._outbound.add(data, tag, priority, rest)
        if self.state in (State.ENDING, State.CLOSED):
            self._outbound.fail_queued()
        return handle

    def withdraw(self, handle: int) -> bool:
        """Take a bundle back whose transfer has not begun; returns whether that was so."""
        return self._outbound.withdraw(handle)

    def confirm(self, transfer: int, now: float) -> None:
        """The bundle of a `TransferReceived` is durable: acknowledge it. Unknown transfers are ignored."""
        self._inbound.confirm(transfer)
        self._end_if_done(now)

    def refuse(self, transfer: int, reason: int, now: float) -> None:
        """The bundle of a `TransferReceived` is not wanted. Unknown transfers are ignored."""
        self._inbound.refuse(transfer, reason)
        self._end_if_done(now)

    def terminate(self, now: float, reason: int = TermReason.UNKNOWN) -> None:
        """End the session in order: what is under way is finished, what is queued fails."""
        if self.state in (State.ENDING, State.CLOSED):
            return
        if self.state is not State.OPEN:
            self._close(now, SessionEnded(reason, False), term=self.state is State.INIT)
            return
        self._begin_ending(now, SessionEnded(reason, False), reply=False)

    @property
    def queued_octets(self) -> int:
        """Octets of bundles that have not left yet."""
        return self._outbound.queued_octets

    @property
    def congested(self) -> bool:
        """Whether the caller should stop reading, until more transfers are confirmed or more answers are written."""
        return self._inbound.unconfirmed > self.config.max_unconfirmed or len(self._control) >= MAX_ANSWERS

    @property
    def resumes(self) -> bool:
        """Whether both ends keep the beginnings of broken transfers."""
        extensions = () if self.peer is None else self.peer.extensions
        return self.config.resume and any(item.type == RESUMES for item in extensions)

    # For the connection

    def receive(self, octets: bytes, now: float) -> None:
        """Take octets of the connection in. They must not change later."""
        if self.state is State.CLOSED:
            return
        self._received_at = now
        self._reader.feed(octets)
        self._read(now)

    def tls_established(self, peer_ids: tuple[str, ...], now: float) -> None:
        """TLS is in use from now on; `peer_ids` are the node ids of the peer's certificate."""
        if self.state is State.TLS:
            self._secure, self._peer_ids = True, peer_ids
            self._enter_init()
            self._read(now)

    def connection_lost(self, now: float) -> None:
        """The connection is gone."""
        if self.state is not State.CLOSED:
            self._close(now, SessionEnded(None, True, "the connection was lost"), term=False)
        self._control.clear()

    def advance(self, now: float) -> None:
        """Do what time demands: keepalives, and the end of what takes too long."""
        if self.state is State.CLOSED:
            return
        if self._give_up_at is not None and now >= self._give_up_at:
            if self.state is State.ENDING:
                self._close(now, self._ended or SessionEnded(TermReason.UNKNOWN, False), term=False)
            else:
                self._fail(now, TermReason.CONTACT_FAILURE, f"no session after {self.config.contact_timeout:g} s")
            return
        if self._outbound.busy and self.config.ack_timeout and now >= self._progress_at + self.config.ack_timeout:
            detail = f"nothing acknowledged for {self.config.ack_timeout:g} s"
            self._fail(now, TermReason.CONTACT_FAILURE, detail)
            return
        if self._keepalive:
            if now >= self._received_at + 2 * self._keepalive:
                self._fail(now, TermReason.IDLE_TIMEOUT, f"nothing received for {2 * self._keepalive} s")
                return
            if now >= self._sent_at + self._keepalive and not self._control:
                self._control.append(KEEPALIVE)
                self._sent_at = now
        if self.state is State.OPEN and self.config.idle_timeout:
            busy = self._outbound.busy or self._inbound.busy
            if not busy and now >= self._transfer_at + self.config.idle_timeout:
                self.terminate(now, TermReason.IDLE_TIMEOUT)

    def next_deadline(self, now: float) -> float | None:
        """When to call `advance` next, `now` at the earliest; None when only a call of another method can matter."""
        if self.state is State.CLOSED:
            return None
        deadlines = [] if self._give_up_at is None else [self._give_up_at]
        if self._outbound.busy and self.config.ack_timeout:
            deadlines.append(self._progress_at + self.config.ack_timeout)
        if self._keepalive:
            deadlines.append(self._received_at + 2 * self._keepalive)
            if not self._control:
                deadlines.append(self._sent_at + self._keepalive)
        if self.state is State.OPEN and self.config.idle_timeout and not (self._outbound.busy or self._inbound.busy):
            deadlines.append(self._transfer_at + self.config.idle_timeout)
        return max(min(deadlines), now) if deadlines else None

    def data_to_send(self, now: float, limit: int = 1 << 18) -> list[bytes | memoryview]:
        """Octets to write, in order: what answers the peer first, then segments, at least one and about `limit` octets.

        Call it again, until it gives nothing, when the connection takes more.
        """
        parts: list[bytes | memoryview] = []
        size = 0
        for octets in self._control:
            self.counters["sent." + ("contact" if octets[:4] == b"dtn!" else Kind(octets[0]).name.lower())] += 1
            parts.append(octets)
            size += len(octets)
        self._control.clear()
        if self.state in (State.OPEN, State.ENDING):
            if not self._outbound.busy:
                self._progress_at = now
            self._outbound.fill(parts, limit - size)
            if self._outbound.busy:
                self._transfer_at = now
            self._end_if_done(now)
        if parts:
            self._sent_at = now
        return parts

    def take_events(self) -> list[TcpclEvent]:
        """What has happened since the last call, in order."""
        taken = self._events[:]
        self._events.clear()
        return taken

    @property
    def finished(self) -> bool:
        """Whether the connection is to be closed: the session has ended and everything is written."""
        return self.state is State.CLOSED and not self._control

    # Messages

    def _read(self, now: float) -> None:
        try:
            while self.state not in (State.CLOSED, State.TLS):
                message = self._reader.next()
                if message is None:
                    break
                self._on_message(message, now)
        except MessageError as error:
            self._fail(now, TermReason.CONTACT_FAILURE, str(error))

    def _contact_flags(self) -> int:
        return 0 if self.config.tls is TlsPolicy.NEVER else CAN_TLS

    def _on_message(self, message: Message, now: float) -> None:
        match message:
            case SegmentData():
                self._inbound.on_data(message)
                self._transfer_at = now
                self._end_if_done(now)
            case ContactHeader():
                self._on_contact(message, now)
            case UnknownMessage(header=header):
                self._reject(RejectReason.TYPE_UNKNOWN, header)
                self._fail(now, TermReason.CONTACT_FAILURE, f"message type {header:#04x} is unknown")
            case SessTerm():
                self.counters["received.sess_term"] += 1
                self._on_term(message, now)
            case SessInit() if self.state is State.INIT:
                self.counters["received.sess_init"] += 1
                self._on_init(message, now)
            case SessInit():
                self._reject(RejectReason.UNEXPECTED, Kind.SESS_INIT)
            case Keepalive():
                self.counters["received.keepalive"] += 1
            case MsgReject():
                self.counters["received.msg_reject"] += 1
                if self.state is State.INIT:
                    self._fail(now, TermReason.CONTACT_FAILURE, f"the peer rejects message {message.header:#04x}")
            case _ if self.state is State.INIT:
                self._fail(now, TermReason.CONTACT_FAILURE, "a transfer before SESS_INIT")
            case SegmentHead():
                self.counters["received.xfer_segment"] += 1
                if message.length > self.config.segment_mru:
                    detail = f"a segment of {message.length} octets exceeds our MRU {self.config.segment_mru}"
                    self._fail(now, TermReason.RESOURCE_EXHAUSTION, detail)
                else:
                    self._inbound.on_head(message)
            case XferAck():
                self.counters["received.xfer_ack"] += 1
                self._progress_at = now
                if not self._outbound.on_ack(message):
                    self._reject(RejectReason.UNEXPECTED, Kind.XFER_ACK)
                self._end_if_done(now)
            case XferRefuse():
                self.counters["received.xfer_refuse"] += 1
                if not self._outbound.on_refuse(message):
                    self._reject(RejectReason.UNEXPECTED, Kind.XFER_REFUSE)
                self._end_if_done(now)

    def _reject(self, reason: RejectReason, header: int) -> None:
        self.counters["protocol_errors"] += 1
        self._control.append(encode_reject(reason, header))

    def _on_contact(self, message: ContactHeader, now: float) -> None:
        if not self.active:
            self._control.append(encode_contact_header(self._contact_flags()))
        if message.version != VERSION:
            self._fail(now, TermReason.VERSION_MISMATCH, f"the peer speaks version {message.version}, not {VERSION}")
        elif message.flags & self._contact_flags() & CAN_TLS:
            if self._reader.pending:
                self._fail(now, TermReason.CONTACT_FAILURE, "octets between the contact header and TLS")
            else:
                self.state = State.TLS
                self._events.append(StartTls())
        elif self.config.tls is TlsPolicy.REQUIRE:
            self._fail(now, TermReason.CONTACT_FAILURE, "the peer does not offer TLS, which we require")
        else:
            self._enter_init()

    def _enter_init(self) -> None:
        self.state = State.INIT
        if self.active:
            self._send_init()

    def _send_init(self) -> None:
        config = self.config
        extensions = (Extension(0, RESUMES, b""),) if config.resume else ()
        own = SessInit(config.keepalive, config.segment_mru, config.transfer_mru, config.node_id, extensions)
        self._control.append(encode_sess_init(own))

    def _on_init(self, message: SessInit, now: float) -> None:
        expected = self.config.expected_peer
        if not self.active:
            self._send_init()
        if expected is not None and message.node_id != expected:
            detail = f"the peer is {message.node_id[:200]!r}, not {expected!r}"
            self._fail(now, TermReason.CONTACT_FAILURE, detail)
        elif self.config.require_peer_id and message.node_id not in (self._peer_ids or ()):
            detail = f"the peer's certificate is for {self._peer_ids}, not for {message.node_id[:200]!r}"
            self._fail(now, TermReason.CONTACT_FAILURE, detail)
        elif any(item.flags & CRITICAL for item in message.extensions):
            self._fail(now, TermReason.CONTACT_FAILURE, "a critical session extension is unknown")
        elif not message.segment_mru:
            self._fail(now, TermReason.CONTACT_FAILURE, "the peer takes segments of 0 octets only")
        else:
            self.peer = message
            self.state = State.OPEN
            self._give_up_at = None
            self._keepalive = min(self.config.keepalive, message.keepalive)
            self._transfer_at = now
            self._outbound.open(message)
            self._events.append(
                SessionEstablished(
                    message.node_id, self._keepalive, message.segment_mru, message.transfer_mru, self._secure
                )
            )

    # The end (RFC 9174 section 6)

    def _on_term(self, message: SessTerm, now: float) -> None:
        self._term_received = True
        if self.state is State.OPEN:
            self._begin_ending(now, SessionEnded(message.reason, True), reply=True)
        elif self.state is State.INIT:
            self._close(now, SessionEnded(message.reason, True, "the peer declined the session"), term=False)
        else:
            self._end_if_done(now)

    def _begin_ending(self, now: float, ended: SessionEnded, *, reply: bool) -> None:
        self.state = State.ENDING
        self._ended = ended
        self._inbound.ending = True
        self._give_up_at = now + self.config.contact_timeout
        self._control.append(encode_term(REPLY if reply else 0, ended.reason or 0))
        self._term_sent = True
        self._outbound.fail_queued()
        self._end_if_done(now)

    def _end_if_done(self, now: float) -> None:
        ending = self.state is State.ENDING and self._term_received
        if ending and not self._outbound.busy and not self._inbound.busy:
            self._close(now, self._ended or SessionEnded(TermReason.UNKNOWN, False), term=False)

    def _fail(self, now: float, reason: TermReason, detail: str, *, term: bool = True) -> None:
        self.counters["protocol_errors"] += 1
        self._close(now, SessionEnded(reason, False, detail), term=term)

    def _close(self, now: float, ended: SessionEnded, *, term: bool) -> None:
        if (
            term
            and not self._term_sent
            and ended.reason is not None
            and self._reader.greeted
            and self.state is not State.TLS
        ):
            self._control.append(encode_term(0, ended.reason))
        self.state = State.CLOSED
        self._give_up_at = None
        self._outbound.fail_all()
        self._inbound.interrupt()
        self._events.append(ended)
