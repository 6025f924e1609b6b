"""uD3TN's Application Agent Protocol 2.0, the node's side of one connection, sans-IO.

The node greets with the octet 0x2F and a Welcome. Every message is preceded by its length as a varint; the payload of
an application data unit follows its message as it is. The client's first call configures the connection: it goes on
calling (an active client, which sends bundles), or the roles turn and the node calls (a passive client, which receives
them). Each call but the Welcome is answered before the next one is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from marsnet.dtn.apps.aap2_schema import MESSAGES, AduFlag, AuthType, DecodeError, LinkStatus, Status

GREETING = b"\x2f"
"""Tells clients of the protocol's first version that this is another one."""
LONGEST_MESSAGE = 1 << 16
"""Octets of a message without its payload. The longest that is legitimate holds a few endpoint IDs."""
_VARINT = 10


@dataclass(frozen=True, slots=True)
class Configure:
    """The client asks for its role; answer with `configured` or `refuse`.

    Attributes:
        subscribe: whether it is to receive.
        auth_type: `AuthType`, or a number that is none.
        secret: of its endpoint, or of the node.
        endpoint: endpoint ID; empty for none.
        keepalive: host seconds; 0 for never.
    """

    subscribe: bool
    auth_type: int
    secret: str
    endpoint: str
    keepalive: int


@dataclass(frozen=True, slots=True)
class Adu:
    """The client sends an application data unit; answer with `respond`.

    Attributes:
        source: endpoint ID; empty for that of the connection.
        destination: endpoint ID.
        report_to: endpoint ID; empty for no reports.
        time_ms: creation time, DTN milliseconds; 0 for now.
        sequence: sequence number.
        flags: of `AduFlag`.
        payload: what it carries.
    """

    source: str
    destination: str
    report_to: str
    time_ms: int
    sequence: int
    flags: frozenset[int]
    payload: bytes


@dataclass(frozen=True, slots=True)
class LinkChange:
    """The client wants to change forwarding; answer with `respond`."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The client has answered the call that was made to it.

    Attributes:
        status: `Status`, or a number that is none.
    """

    status: int


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection is of no more use; send what is left and close it.

    Attributes:
        reason: why, in words that are the same each time: they label a counter.
    """

    reason: str


Event = Configure | Adu | LinkChange | Answered | Broken


@dataclass(frozen=True, slots=True)
class Headers:
    """What tells about a bundle without its payload.

    Attributes:
        source: endpoint ID.
        destination: endpoint ID.
        time_ms: creation time, DTN milliseconds.
        sequence: sequence number.
        size: octets of the payload.
        lifetime_ms: milliseconds.
    """

    source: str
    destination: str
    time_ms: int
    sequence: int
    size: int
    lifetime_ms: int = 0


class _State(Enum):
    CONNECTED = auto()
    ACTIVE = auto()
    PASSIVE = auto()
    BROKEN = auto()


class Aap2Session:
    """One connection from the node's side.

    Times are host seconds: keepalives watch a connection, not the mission.

    Attributes:
        calling: whether the client has yet to answer a call.
    """

    def __init__(self, node_id: str, now: float, *, payload_limit: int) -> None:
        """Greet.

        Args:
            node_id: the node's own endpoint ID.
            now: host seconds.
            payload_limit: octets of an application data unit that are taken at most.
        """
        self._state = _State.CONNECTED
        self._limit = payload_limit
        self._buffer = bytearray()
        self._adu: Any = None
        self._events: list[Event] = []
        self._out = bytearray(GREETING)
        self._keepalive = 0.0
        self._heard = now
        self._asked: float | None = None
        """When the call was made that the client has yet to answer."""
        self._probing = False
        self._owing = False
        """Whether the client waits for an answer: what it sent meanwhile is read afterwards, in the right role."""
        self._put(MESSAGES["AAPMessage"](welcome={"node_id": node_id}))

    @property
    def calling(self) -> bool:
        """Whether the client has yet to answer a call."""
        return self._asked is not None

    @property
    def idle(self) -> bool:
        """Whether a passive client can be called now."""
        return self._state is _State.PASSIVE and self._asked is None

    def receive(self, data: bytes, now: float) -> None:
        """Octets came from the client."""
        if self._state is _State.BROKEN:
            return
        self._heard = now
        self._buffer += data
        self._read()

    def take_events(self) -> list[Event]:
        """What happened since the last time."""
        events, self._events = self._events, []
        return events

    def take_output(self) -> bytes:
        """What is to be sent."""
        out, self._out = bytes(self._out), bytearray()
        return out

    def next_deadline(self) -> float | None:
        """Host seconds at which `advance` has something to do; None when never."""
        if not self._keepalive or self._state not in {_State.ACTIVE, _State.PASSIVE}:
            return None
        if self._state is _State.ACTIVE:
            return self._heard + 2 * self._keepalive
        return self._heard + self._keepalive if self._asked is None else self._asked + 2 * self._keepalive

    def advance(self, now: float) -> None:
        """Time has passed: probe a silent client, or give it up."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.idle:
            self._probing = True
            self._call(MESSAGES["AAPMessage"](keepalive={}), now)
        else:
            self._break("silence")

    # Answers and calls of the node

    def configured(self, request: Configure, now: float) -> None:
        """The client has what it asked for."""
        self._state = _State.PASSIVE if request.subscribe else _State.ACTIVE
        self._keepalive, self._heard = float(request.keepalive), now
        self.respond(Status.SUCCESS)

    def refuse(self, status: Status, reason: str) -> None:
        """The client does not get it, and the connection ends."""
        self._reply(status)
        self._break(reason)

    def respond(self, status: Status, headers: Headers | None = None) -> None:
        """Answer a call of the client, and read what it sent after it."""
        self._reply(status, headers)
        self._owing = False
        self._read()

    def _reply(self, status: Status, headers: Headers | None = None) -> None:
        answer = MESSAGES["AAPResponse"](response_status=int(status))
        if headers is not None:
            answer.bundle_headers.src_eid = headers.source
            answer.bundle_headers.dst_eid = headers.destination
            answer.bundle_headers.creation_timestamp_ms = headers.time_ms
            answer.bundle_headers.sequence_number = headers.sequence
            answer.bundle_headers.payload_length = headers.size
            answer.bundle_headers.lifetime_ms = headers.lifetime_ms
        self._put(answer)

    def deliver(self, headers: Headers, flags: tuple[AduFlag, ...], payload: bytes, now: float) -> None:
        """Hand an application data unit to a passive client that is `idle`; `Answered` tells what became of it."""
        message = MESSAGES["AAPMessage"]()
        message.adu.src_eid = headers.source
        message.adu.dst_eid = headers.destination
        message.adu.creation_timestamp_ms = headers.time_ms
        message.adu.sequence_number = headers.sequence
        message.adu.payload_length = len(payload)
        message.adu.adu_flags.extend(int(flag) for flag in flags)
        self._call(message, now)
        self._out += payload

    def tell_link(self, status: LinkStatus, peer: str, address: str, now: float) -> None:
        """Tell a passive client that is `idle` of a link."""
        link = {"status": int(status), "peer_node_id": peer, "peer_cla_addr": address, "flag": 1}
        self._call(MESSAGES["AAPMessage"](link=link), now)

    # Inside

    def _call(self, message: Any, now: float) -> None:
        self._asked = now
        self._put(message)

    def _put(self, message: Any) -> None:
        octets: bytes = message.SerializeToString()
        length = len(octets)
        while length > 0x7F:
            self._out.append(length & 0x7F | 0x80)
            length >>= 7
        self._out.append(length)
        self._out += octets

    def _read(self) -> None:
        while self._state is not _State.BROKEN and not self._owing and self._step():
            pass

    def _owe(self, event: Event) -> None:
        self._owing = True
        self._events.append(event)

    def _step(self) -> bool:
        """Take one message, or one payload, out of the buffer; False when it is not all there."""
        if self._adu is not None:
            return self._payload()
        frame = self._frame()
        if frame is None:
            return False
        name = "AAPResponse" if self._state is _State.PASSIVE else "AAPMessage"
        try:
            message = MESSAGES[name].FromString(frame)
        except DecodeError:
            self._reject(f"no {name}")
            return False
        if self._state is _State.PASSIVE:
            self._answer(message.response_status)
        else:
            self._message(message)
        return True

    def _frame(self) -> bytes | None:
        length = 0
        for position, octet in enumerate(self._buffer[:_VARINT]):
            length |= (octet & 0x7F) << 7 * position
            if octet < 0x80:
                break
        else:
            if len(self._buffer) >= _VARINT:
                self._reject("bad length")
            return None
        if length > LONGEST_MESSAGE:
            self._reject("message too long")
            return None
        end = position + 1 + length
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[position + 1 : end])
        del self._buffer[:end]
        return frame

    def _message(self, message: Any) -> None:
        kind = message.WhichOneof("msg")
        if kind == "keepalive":
            self._reply(Status.ACK)
        elif kind == "config" and self._state is _State.CONNECTED:
            config = message.config
            self._owe(
                Configure(
                    config.is_subscriber,
                    config.auth_type,
                    config.secret,
                    config.endpoint_id,
                    config.keepalive_seconds,
                )
            )
        elif kind == "adu" and self._state is _State.ACTIVE:
            if message.adu.payload_length > self._limit:
                self._reject("payload too large")
            else:
                self._adu = message.adu
        elif kind == "link" and self._state is _State.ACTIVE:
            self._owe(LinkChange())
        else:
            self._reject(f"{kind or 'empty'} message out of place")

    def _payload(self) -> bool:
        adu, size = self._adu, self._adu.payload_length
        if len(self._buffer) < size:
            return False
        payload = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._adu = None
        self._owe(
            Adu(
                adu.src_eid,
                adu.dst_eid,
                adu.report_to_eid,
                adu.creation_timestamp_ms,
                adu.sequence_number,
                frozenset(adu.adu_flags),
                payload,
            )
        )
        return True

    def _answer(self, status: int) -> None:
        if self._asked is None:
            self._reject("an answer to no call")
            return
        self._asked = None
        if self._probing:
            self._probing = False
        else:
            self._events.append(Answered(status))

    def _reject(self, reason: str) -> None:
        if self._state is not _State.PASSIVE:
            self._reply(Status.INVALID_REQUEST)
        self._break(reason)

    def _break(self, reason: str) -> None:
        self._state = _State.BROKEN
        self._buffer.clear()
        self._adu = None
        self._events.append(Broken(reason))


def may_dispatch(auth_type: int) -> bool:
    """Whether an authorised connection of this type may send in the name of others."""
    return auth_type in {AuthType.BUNDLE_DISPATCH, AuthType.FIB_AND_DISPATCH}
