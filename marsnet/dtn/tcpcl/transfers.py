"""Transfers of one session, out and in (RFC 9174 section 5.2)."""

from __future__ import annotations

from collections import Counter, deque
from heapq import heappop, heappush

from marsnet.dtn.tcpcl.config import TcpclConfig
from marsnet.dtn.tcpcl.events import (
    TcpclEvent,
    TransferAcknowledged,
    TransferFailed,
    TransferInterrupted,
    TransferReceived,
    TransferRefused,
)
from marsnet.dtn.tcpcl.messages import (
    CRITICAL,
    REST,
    TRANSFER_LENGTH,
    Extension,
    Kind,
    RefuseReason,
    RejectReason,
    SegmentData,
    SegmentFlags,
    SegmentHead,
    SessInit,
    XferAck,
    XferRefuse,
    encode_ack,
    encode_refuse,
    encode_reject,
    encode_segment_head,
    transfer_length,
)


class _Sending:
    """A bundle on its way: `offset` octets have left, `acknowledged` were acknowledged."""

    __slots__ = ("acknowledged", "data", "handle", "offset", "rest", "tag", "transfer", "withdrawn")

    def __init__(self, handle: int, tag: object, data: memoryview, rest: int | None) -> None:
        self.handle, self.tag, self.data, self.rest = handle, tag, data, rest
        self.transfer = self.offset = self.acknowledged = 0
        self.withdrawn = False


class Outbound:
    """Bundles to the peer: queued by priority, one at a time in segments, then waiting for their acknowledgement.

    Attributes:
        queued_octets: of bundles that have not left whole.
    """

    def __init__(self, config: TcpclConfig, events: list[TcpclEvent], counters: Counter[str]) -> None:
        self.queued_octets = 0
        self._events, self._counters = events, counters
        self._segment = config.segment_size
        self._transfer_mru = 0
        self._queue: list[tuple[int, int, _Sending]] = []
        self._waiting: dict[int, _Sending] = {}
        self._current: _Sending | None = None
        self._sent: dict[int, _Sending] = {}
        self._handles = self._transfers = 0

    @property
    def busy(self) -> bool:
        """Whether a transfer is under way or waits for its acknowledgement."""
        return self._current is not None or bool(self._sent)

    def open(self, peer: SessInit) -> None:
        """The session is established."""
        self._segment = min(self._segment, peer.segment_mru)
        self._transfer_mru = peer.transfer_mru

    def add(self, data: bytes | memoryview, tag: object, priority: int, rest: int | None = None) -> int:
        """Queue a bundle; returns its handle."""
        self._handles += 1
        sending = _Sending(self._handles, tag, memoryview(data), rest)
        heappush(self._queue, (-priority, self._handles, sending))
        self._waiting[self._handles] = sending
        self.queued_octets += len(data)
        return self._handles

    def withdraw(self, handle: int) -> bool:
        """Forget a queued bundle."""
        sending = self._waiting.pop(handle, None)
        if sending is None:
            return False
        sending.withdrawn = True
        self.queued_octets -= len(sending.data)
        return True

    def fill(self, parts: list[bytes | memoryview], room: int) -> None:
        """Append segments until `room` octets are used up."""
        while room > 0:
            sending = self._current or self._begin()
            if sending is None:
                return
            total, start = len(sending.data), sending.offset
            length = min(self._segment, total - start)
            sending.offset = end = start + length
            flags = (SegmentFlags.END if end == total else 0) | (0 if start else SegmentFlags.START)
            extensions: tuple[Extension, ...] = () if start or end == total else (transfer_length(total),)
            if sending.rest is not None and not start:
                extensions += (Extension(CRITICAL, REST, sending.rest.to_bytes(8, "big")),)
            head = encode_segment_head(flags, sending.transfer, length, extensions)
            parts += (head, sending.data[start:end])
            room -= len(head) + length
            self.queued_octets -= length
            self._counters["sent.xfer_segment"] += 1
            self._counters["sent.octets"] += length
            if end == total:
                self._sent[sending.transfer] = sending
                self._current = None

    def _begin(self) -> _Sending | None:
        while self._queue:
            sending = heappop(self._queue)[2]
            if sending.withdrawn:
                continue
            del self._waiting[sending.handle]
            if len(sending.data) > self._transfer_mru:
                self.queued_octets -= len(sending.data)
                self._fail(sending, too_large=True)
                continue
            sending.transfer = self._transfers
            self._transfers += 1
            self._current = sending
            return sending
        return None

    def on_ack(self, message: XferAck) -> bool:
        """An acknowledgement; returns whether it fits what was sent."""
        sending = self._find(message.transfer)
        if sending is None or not sending.acknowledged <= message.length <= sending.offset:
            return False
        sending.acknowledged = message.length
        if message.flags & SegmentFlags.END:
            if message.length != len(sending.data) or message.transfer not in self._sent:
                return False
            del self._sent[message.transfer]
            self._counters["acknowledged"] += 1
            self._events.append(TransferAcknowledged(sending.handle, sending.tag))
        return True

    def on_refuse(self, message: XferRefuse) -> bool:
        """A refusal; returns whether it is for a transfer that is under way."""
        sending = self._find(message.transfer)
        if sending is None:
            return False
        self._sent.pop(message.transfer, None)
        if sending is self._current:
            self._current = None
            self.queued_octets -= len(sending.data) - sending.offset
        if message.reason == RefuseReason.COMPLETED:
            self._counters["acknowledged"] += 1
            self._events.append(TransferAcknowledged(sending.handle, sending.tag))
        else:
            self._counters["refused"] += 1
            refused = TransferRefused(sending.handle, sending.tag, message.reason, sending.acknowledged, sending.rest)
            self._events.append(refused)
        return True

    def fail_queued(self) -> None:
        """No further transfer begins."""
        for sending in self._waiting.values():
            sending.withdrawn = True
            self.queued_octets -= len(sending.data)
            self._fail(sending, too_large=False)
        self._waiting.clear()
        self._queue.clear()

    def fail_all(self) -> None:
        """Nothing is sent or acknowledged any more."""
        under_way = list(self._sent.values())
        if self._current is not None:
            under_way.append(self._current)
        self._sent.clear()
        self._current = None
        for sending in under_way:
            self._fail(sending, too_large=False)
        self.fail_queued()
        self.queued_octets = 0

    def _find(self, transfer: int) -> _Sending | None:
        if self._current is not None and self._current.transfer == transfer:
            return self._current
        return self._sent.get(transfer)

    def _fail(self, sending: _Sending, *, too_large: bool) -> None:
        self._counters["failed"] += 1
        self._events.append(TransferFailed(sending.handle, sending.tag, sending.acknowledged, too_large))


class _Answer:
    """An XFER_ACK or XFER_REFUSE that leaves in its turn, when it is `ready`; `size` octets wait for the node."""

    __slots__ = ("octets", "ready", "size")

    def __init__(self, octets: bytes, *, ready: bool, size: int = 0) -> None:
        self.octets, self.ready, self.size = octets, ready, size


class Inbound:
    """Bundles from the peer. Answers leave in the order of the segments that they answer.

    Attributes:
        unconfirmed: octets of bundles that were delivered and wait for the node.
        ending: whether new transfers are refused.
    """

    def __init__(
        self, config: TcpclConfig, control: list[bytes], events: list[TcpclEvent], counters: Counter[str]
    ) -> None:
        self.unconfirmed = 0
        self.ending = False
        self._config, self._control, self._events, self._counters = config, control, events, counters
        self._transfer: int | None = None
        self._total: int | None = None
        self._parts: list[memoryview] = []
        self._length = 0
        self._last = -1
        self._flags = 0
        self._ignore = False
        self._rest: int | None = None
        self._answers: deque[_Answer] = deque()
        self._waiting: dict[int, _Answer] = {}

    @property
    def busy(self) -> bool:
        """Whether a transfer is under way or an answer waits."""
        return self._transfer is not None or bool(self._answers)

    def on_head(self, message: SegmentHead) -> None:
        """A segment begins. Its data is ignored when the segment does not belong to the transfer under way."""
        self._flags = message.flags
        if message.flags & SegmentFlags.START:
            self._ignore = not self._start(message)
        else:
            self._ignore = message.transfer != self._transfer
            if self._ignore and message.transfer != self._last:
                self._reject()
        if self._ignore:
            return
        if self._length + message.length > (self._config.transfer_mru if self._total is None else self._total):
            too_long = self._total is not None and self._total <= self._config.transfer_mru
            self._drop(RefuseReason.NOT_ACCEPTABLE if too_long else RefuseReason.NO_RESOURCES)

    def on_data(self, message: SegmentData) -> None:
        """Data of the segment that has begun."""
        if self._ignore or self._transfer is None:
            return
        if len(message.data):
            self._parts.append(message.data)
            self._length += len(message.data)
        if not message.last:
            return
        transfer = self._transfer
        acknowledgement = encode_ack(self._flags, transfer, self._length)
        if not self._flags & SegmentFlags.END:
            self._answer(_Answer(acknowledgement, ready=True))
            return
        if self._total is not None and self._length != self._total:
            self._drop(RefuseReason.NOT_ACCEPTABLE)
            return
        data = b"".join(self._parts)
        self._clear()
        self._counters["received"] += 1
        self._counters["received.octets"] += len(data)
        self._events.append(TransferReceived(transfer, data, self._rest))
        answer = _Answer(acknowledgement, ready=not self._config.require_confirm, size=len(data))
        if not answer.ready:
            self._waiting[transfer] = answer
            self.unconfirmed += answer.size
        self._answer(answer)

    def confirm(self, transfer: int) -> None:
        """Acknowledge a delivered bundle."""
        answer = self._waiting.pop(transfer, None)
        if answer is not None:
            self._release(answer)

    def refuse(self, transfer: int, reason: int) -> None:
        """Refuse a delivered bundle."""
        answer = self._waiting.pop(transfer, None)
        if answer is not None:
            self._counters["declined"] += 1
            answer.octets = encode_refuse(reason, transfer)
            self._release(answer)

    def interrupt(self) -> None:
        """The session is over: hand out what came of a transfer, forget what waits."""
        if self._transfer is not None and self._length:
            self._events.append(TransferInterrupted(b"".join(self._parts), self._total, self._rest))
        self._clear()
        self._answers.clear()
        self._waiting.clear()
        self.unconfirmed = 0

    def _start(self, message: SegmentHead) -> bool:
        """Begin a transfer; returns whether its data is wanted."""
        if self._transfer is not None or message.transfer <= self._last:
            self._reject()
            return False
        self._transfer = self._last = message.transfer
        self._total = self._rest = None
        for item in message.extensions:
            if item.type == TRANSFER_LENGTH and len(item.value) == 8:
                self._total = int.from_bytes(item.value, "big")
            elif item.type == REST and len(item.value) == 8 and self._config.resume:
                self._rest = int.from_bytes(item.value, "big")
            elif item.flags & CRITICAL or item.type == TRANSFER_LENGTH:
                self._drop(RefuseReason.EXTENSION_FAILURE)
                return False
        if self.ending:
            self._drop(RefuseReason.SESSION_TERMINATING)
        elif self._total is not None and self._total > self._config.transfer_mru:
            self._drop(RefuseReason.NO_RESOURCES)
        return self._transfer is not None

    def _drop(self, reason: RefuseReason) -> None:
        """Refuse the transfer under way; what still comes of it is ignored."""
        self._counters["declined"] += 1
        self._answer(_Answer(encode_refuse(reason, self._last), ready=True))
        self._clear()
        self._ignore = True

    def _clear(self) -> None:
        self._transfer = self._total = None
        self._parts, self._length = [], 0

    def _reject(self) -> None:
        self._counters["protocol_errors"] += 1
        self._control.append(encode_reject(RejectReason.UNEXPECTED, Kind.XFER_SEGMENT))

    def _release(self, answer: _Answer) -> None:
        self.unconfirmed -= answer.size
        answer.ready = True
        self._flush()

    def _answer(self, answer: _Answer) -> None:
        self._answers.append(answer)
        self._flush()

    def _flush(self) -> None:
        while self._answers and self._answers[0].ready:
            self._control.append(self._answers.popleft().octets)
