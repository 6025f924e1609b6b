"""What a TCPCL session tells its node."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StartTls:
    """Both ends can: secure the connection now, then call `tls_established`."""


@dataclass(frozen=True, slots=True)
class SessionEstablished:
    """Transfers may flow.

    Attributes:
        node_id: the peer's.
        keepalive: seconds, 0 for none.
        segment_mru: octets of the peer's largest segment.
        transfer_mru: octets of the largest bundle that the peer takes.
        secure: whether TLS is in use.
    """

    node_id: str
    keepalive: int
    segment_mru: int
    transfer_mru: int
    secure: bool


@dataclass(frozen=True, slots=True)
class TransferReceived:
    """A bundle has arrived. Unless the engine confirms by itself, answer with `confirm` or `refuse`.

    Attributes:
        transfer: as `confirm` and `refuse` take it.
        data: the bundle.
        rest: offset in the whole payload from which on an earlier session brought what goes before this fragment;
            refuse it with `RETRANSMIT` where that is not kept. None for a bundle that stands alone.
    """

    transfer: int
    data: bytes
    rest: int | None = None


@dataclass(frozen=True, slots=True)
class TransferInterrupted:
    """The session ended inside a transfer; reactive fragmentation may use what came.

    Attributes:
        data: the beginning of the bundle.
        total: octets of the whole, None when not announced.
        rest: as in `TransferReceived`.
    """

    data: bytes
    total: int | None
    rest: int | None = None


@dataclass(frozen=True, slots=True)
class TransferAcknowledged:
    """The peer has the bundle.

    Attributes:
        handle: what `send` returned.
        tag: what `send` was given.
    """

    handle: int
    tag: object


@dataclass(frozen=True, slots=True)
class TransferRefused:
    """The peer does not want the bundle.

    Attributes:
        handle: what `send` returned.
        tag: what `send` was given.
        reason: a `RefuseReason`, or a number that a peer invented.
        acknowledged: octets that it had acknowledged.
        rest: as given to `send`.
    """

    handle: int
    tag: object
    reason: int
    acknowledged: int
    rest: int | None = None


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """The bundle was not delivered by this session.

    Attributes:
        handle: what `send` returned.
        tag: what `send` was given.
        acknowledged: octets that the peer had acknowledged.
        too_large: whether the bundle exceeds the peer's Transfer MRU; else the session ended.
    """

    handle: int
    tag: object
    acknowledged: int
    too_large: bool


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The last event of a session.

    Attributes:
        reason: a `TermReason`, or a number that a peer invented; None when the connection was lost.
        by_peer: whether the peer ended it.
        detail: what went wrong, empty on an ordinary end.
    """

    reason: int | None
    by_peer: bool
    detail: str = ""


TcpclEvent = (
    StartTls
    | SessionEstablished
    | TransferReceived
    | TransferInterrupted
    | TransferAcknowledged
    | TransferRefused
    | TransferFailed
    | SessionEnded
)
