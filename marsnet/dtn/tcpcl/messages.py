"""TCPCLv4 messages and their encoding (RFC 9174 sections 4 to 6), read from a stream in any cut."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

from marsnet.errors import MarsnetError

TCPCL_PORT = 4556
MAGIC = b"dtn!"
VERSION = 4
MAX_EXTENSIONS = 1 << 16
"""Octets of the longest list of extension items that is read."""
TRANSFER_LENGTH = 1
"""Type of the transfer extension item that tells the total length (section 5.2.5.1)."""

RESUMES = 0x8001
"""Type of the session extension item that says that beginnings of broken transfers are kept (section 8.3: private)."""
REST = 0x8001
"""Type of the transfer extension item of a fragment whose beginning is kept (section 8.4: private). It is critical; its
value of 8 octets is the offset at which that beginning begins in the whole payload."""


class MessageError(MarsnetError):
    """The stream cannot be continued: what follows is no message, or one that is too large."""


class Kind(IntEnum):
    """Message types."""

    XFER_SEGMENT = 1
    XFER_ACK = 2
    XFER_REFUSE = 3
    KEEPALIVE = 4
    SESS_TERM = 5
    MSG_REJECT = 6
    SESS_INIT = 7


class TermReason(IntEnum):
    """Why a session ends (section 6.1)."""

    UNKNOWN = 0
    IDLE_TIMEOUT = 1
    VERSION_MISMATCH = 2
    BUSY = 3
    CONTACT_FAILURE = 4
    RESOURCE_EXHAUSTION = 5


class RefuseReason(IntEnum):
    """Why a transfer is refused (section 5.2.4)."""

    UNKNOWN = 0
    COMPLETED = 1
    NO_RESOURCES = 2
    RETRANSMIT = 3
    NOT_ACCEPTABLE = 4
    EXTENSION_FAILURE = 5
    SESSION_TERMINATING = 6


class RejectReason(IntEnum):
    """Why a message is rejected (section 5.1.2)."""

    TYPE_UNKNOWN = 1
    UNSUPPORTED = 2
    UNEXPECTED = 3


class SegmentFlags(IntFlag):
    """Flags of XFER_SEGMENT and XFER_ACK."""

    NONE = 0
    END = 1
    START = 2


CAN_TLS = 1
REPLY = 1
CRITICAL = 1


class Extension(NamedTuple):
    """A session or transfer extension item."""

    flags: int
    type: int
    value: bytes


class ContactHeader(NamedTuple):
    """The first octets of a connection. `flags` has `CAN_TLS` or not."""

    version: int
    flags: int


class SessInit(NamedTuple):
    """Parameters of the sender: seconds, octets, octets, and its node id."""

    keepalive: int
    segment_mru: int
    transfer_mru: int
    node_id: str
    extensions: tuple[Extension, ...] = ()


class SegmentHead(NamedTuple):
    """The beginning of an XFER_SEGMENT; `length` octets of data follow as `SegmentData`."""

    flags: int
    transfer: int
    extensions: tuple[Extension, ...]
    length: int


class SegmentData(NamedTuple):
    """Some of a segment's data; `last` when it is the rest."""

    data: memoryview
    last: bool


class XferAck(NamedTuple):
    """`length` octets of the transfer are acknowledged."""

    flags: int
    transfer: int
    length: int


class XferRefuse(NamedTuple):
    """The receiver does not want the transfer."""

    reason: int
    transfer: int


class Keepalive(NamedTuple):
    """Nothing but a sign of life."""


class SessTerm(NamedTuple):
    """The session ends. `flags` has `REPLY` or not."""

    flags: int
    reason: int


class MsgReject(NamedTuple):
    """The peer could not make use of a message whose first octet was `header`."""

    reason: int
    header: int


class UnknownMessage(NamedTuple):
    """A message of no known type. Its length is unknown, so nothing can be read after it."""

    header: int


Message = (
    ContactHeader
    | SessInit
    | SegmentHead
    | SegmentData
    | XferAck
    | XferRefuse
    | Keepalive
    | SessTerm
    | MsgReject
    | UnknownMessage
)

_ACK = struct.Struct("!BBQQ")
_REFUSE = struct.Struct("!BBQ")
_START = struct.Struct("!BBQ")
_INIT = struct.Struct("!BHQQH")
_ITEM = struct.Struct("!BHH")
KEEPALIVE = bytes((Kind.KEEPALIVE,))


def _items(extensions: tuple[Extension, ...]) -> bytes:
    body = b"".join(_ITEM.pack(item.flags, item.type, len(item.value)) + item.value for item in extensions)
    return len(body).to_bytes(4, "big") + body


def encode_contact_header(flags: int) -> bytes:
    """The contact header of version 4."""
    return MAGIC + bytes((VERSION, flags))


def encode_sess_init(message: SessInit) -> bytes:
    """A SESS_INIT message."""
    node = message.node_id.encode()
    head = _INIT.pack(Kind.SESS_INIT, message.keepalive, message.segment_mru, message.transfer_mru, len(node))
    return head + node + _items(message.extensions)


def encode_segment_head(flags: int, transfer: int, length: int, extensions: tuple[Extension, ...] = ()) -> bytes:
    """All of an XFER_SEGMENT but its data. Only the first segment of a transfer has room for extension items."""
    items = _items(extensions) if flags & SegmentFlags.START else b""
    return _START.pack(Kind.XFER_SEGMENT, flags, transfer) + items + length.to_bytes(8, "big")


def transfer_length(total: int) -> Extension:
    """The extension item that announces the octets of a transfer of several segments."""
    return Extension(0, TRANSFER_LENGTH, total.to_bytes(8, "big"))


def encode_ack(flags: int, transfer: int, length: int) -> bytes:
    """An XFER_ACK message."""
    return _ACK.pack(Kind.XFER_ACK, flags, transfer, length)


def encode_refuse(reason: int, transfer: int) -> bytes:
    """An XFER_REFUSE message."""
    return _REFUSE.pack(Kind.XFER_REFUSE, reason, transfer)


def encode_term(flags: int, reason: int) -> bytes:
    """A SESS_TERM message."""
    return bytes((Kind.SESS_TERM, flags, reason))


def encode_reject(reason: int, header: int) -> bytes:
    """A MSG_REJECT message."""
    return bytes((Kind.MSG_REJECT, reason, header))


class MessageReader:
    """Takes octets in and gives messages out. Keeps no more than one unfinished message head, and no segment data."""

    def __init__(self) -> None:
        self._octets = b""
        self._position = 0
        self._body: int | None = None
        self._contact = True

    @property
    def pending(self) -> int:
        """Octets that were received and not yet read."""
        return len(self._octets) - self._position

    @property
    def greeted(self) -> bool:
        """Whether the contact header was read."""
        return not self._contact

    def feed(self, octets: bytes) -> None:
        """Append what was received."""
        rest = self._octets[self._position :]
        self._octets = rest + octets if rest else octets
        self._position = 0

    def next(self) -> Message | None:
        """The next message, None until more octets are there.

        Raises:
            MessageError: when the octets are no contact header, or a list of extension items is broken or too long.
        """
        if self._body is not None:
            return self._data(self._body)
        if not self.pending:
            return None
        try:
            return self._contact_header() if self._contact else self._message()
        except (IndexError, struct.error):
            return None

    def _data(self, missing: int) -> SegmentData | None:
        if missing and not self.pending:
            return None
        part = memoryview(self._octets)[self._position : self._position + missing]
        self._position += len(part)
        last = len(part) == missing
        self._body = None if last else missing - len(part)
        return SegmentData(part, last)

    def _contact_header(self) -> ContactHeader | None:
        head = self._octets[self._position : self._position + 6]
        if head[:4] != MAGIC[: len(head)]:
            raise MessageError(f"a connection that begins with {head.hex()} speaks no TCPCL")
        if len(head) < 6:
            return None
        self._position += 6
        self._contact = False
        return ContactHeader(head[4], head[5])

    def _message(self) -> Message | None:
        octets, start = self._octets, self._position
        kind = octets[start]
        message: Message
        extensions: tuple[Extension, ...] = ()
        if kind == Kind.XFER_SEGMENT:
            _, flags, transfer = _START.unpack_from(octets, start)
            end = start + _START.size
            if flags & SegmentFlags.START:
                end, extensions = self._extensions(end)
            (length,) = struct.unpack_from("!Q", octets, end)
            end += 8
            message, self._body = SegmentHead(flags, transfer, extensions, length), length
        elif kind == Kind.XFER_ACK:
            _, flags, transfer, length = _ACK.unpack_from(octets, start)
            message, end = XferAck(flags, transfer, length), start + _ACK.size
        elif kind == Kind.XFER_REFUSE:
            _, reason, transfer = _REFUSE.unpack_from(octets, start)
            message, end = XferRefuse(reason, transfer), start + _REFUSE.size
        elif kind == Kind.KEEPALIVE:
            message, end = Keepalive(), start + 1
        elif kind == Kind.SESS_TERM:
            message, end = SessTerm(octets[start + 1], octets[start + 2]), start + 3
        elif kind == Kind.MSG_REJECT:
            message, end = MsgReject(octets[start + 1], octets[start + 2]), start + 3
        elif kind == Kind.SESS_INIT:
            _, keepalive, segment_mru, transfer_mru, size = _INIT.unpack_from(octets, start)
            end = start + _INIT.size + size
            node = octets[end - size : end]
            if len(node) < size:
                return None
            end, extensions = self._extensions(end)
            try:
                message = SessInit(keepalive, segment_mru, transfer_mru, node.decode(), extensions)
            except UnicodeDecodeError as error:
                raise MessageError(f"the node id {node[:40]!r} is not UTF-8") from error
        else:
            message, end = UnknownMessage(kind), len(octets)
        self._position = end
        return message

    def _extensions(self, start: int) -> tuple[int, tuple[Extension, ...]]:
        (size,) = struct.unpack_from("!I", self._octets, start)
        if size > MAX_EXTENSIONS:
            raise MessageError(f"extension items of {size} octets are more than {MAX_EXTENSIONS}")
        start += 4
        end = start + size
        if end > len(self._octets):
            raise IndexError
        items = []
        while start < end:
            if end - start < _ITEM.size:
                raise MessageError("the extension items end inside an item")
            flags, kind, length = _ITEM.unpack_from(self._octets, start)
            start += _ITEM.size
            if length > end - start:
                raise MessageError(f"an extension item of {length} octets exceeds its list")
            items.append(Extension(flags, kind, self._octets[start : start + length]))
            start += length
        return end, tuple(items)
