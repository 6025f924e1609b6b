"""What a TCPCL session is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from marsnet.errors import InputError


class TlsPolicy(Enum):
    """Whether a session is secured."""

    NEVER = "never"
    """CAN_TLS is not set."""
    OFFER = "offer"
    """Where the peer can too."""
    REQUIRE = "require"
    """Or there is no session."""


@dataclass(frozen=True, slots=True)
class TcpclConfig:
    """Parameters of our end of a session. Times are mission seconds, sizes octets.

    Attributes:
        node_id: our node id, an EID (`ipn:2.0`, `dtn://mars/`).
        keepalive: interval that we ask for; the lower of both counts, 0 for none.
        segment_mru: of the largest segment that we take.
        transfer_mru: of the largest bundle that we take. It stays far from 2**64, which not every peer survives.
        segment_size: of the segments that we send, unless the peer's MRU is smaller.
        max_unconfirmed: of bundles delivered and not yet confirmed; beyond, `congested` asks for a pause in reading.
        idle_timeout: the session ends after so long without a transfer; 0 for never.
        contact_timeout: the session is given up when it is not established, or not ended, after so long.
        ack_timeout: the session is given up when the peer acknowledges nothing for so long while something waits for
            it; 0 for never.
        require_confirm: whether the last acknowledgement of a transfer waits for `confirm`.
        tls: whether the session is secured.
        require_peer_id: whether the peer's certificate must carry the node id that it gives.
        expected_peer: node id that the peer must give; None for any.
        resume: whether beginnings of broken transfers are kept, and the rest alone is sent to a peer that says so too.
    """

    node_id: str
    keepalive: int = 30
    segment_mru: int = 1 << 20
    transfer_mru: int = 1 << 28
    segment_size: int = 1 << 17
    max_unconfirmed: int = 1 << 26
    idle_timeout: float = 0.0
    contact_timeout: float = 60.0
    ack_timeout: float = 300.0
    require_confirm: bool = True
    tls: TlsPolicy = TlsPolicy.NEVER
    require_peer_id: bool = False
    expected_peer: str | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.keepalive < 1 << 16:
            raise InputError(f"TCPCL keepalive of {self.keepalive} s", remedy="write 0 s to 65535 s")
        for name in ("segment_mru", "transfer_mru", "segment_size"):
            if not 0 < getattr(self, name) < 1 << 63:
                raise InputError(f"TCPCL {name} of {getattr(self, name)} octets", remedy="write 1 to 2**63 - 1")
        if not 0 < len(self.node_id.encode()) < 1 << 16:
            raise InputError(f"TCPCL node id {self.node_id!r}", remedy="write an EID, like ipn:2.0")
        if self.require_peer_id and self.tls is not TlsPolicy.REQUIRE:
            raise InputError("TCPCL require_peer_id without TLS", remedy="set tls to require")
