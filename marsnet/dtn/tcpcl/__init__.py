"""TCPCLv4 (RFC 9174) as an engine without input and output, and a session that runs it on asyncio."""

from marsnet.dtn.tcpcl.config import TcpclConfig, TlsPolicy
from marsnet.dtn.tcpcl.engine import State, TcpclEngine
from marsnet.dtn.tcpcl.events import (
    SessionEnded,
    SessionEstablished,
    StartTls,
    TcpclEvent,
    TransferAcknowledged,
    TransferFailed,
    TransferInterrupted,
    TransferReceived,
    TransferRefused,
)
from marsnet.dtn.tcpcl.messages import TCPCL_PORT, RefuseReason, TermReason

__all__ = [
    "TCPCL_PORT",
    "RefuseReason",
    "SessionEnded",
    "SessionEstablished",
    "StartTls",
    "State",
    "TcpclConfig",
    "TcpclEngine",
    "TcpclEvent",
    "TermReason",
    "TlsPolicy",
    "TransferAcknowledged",
    "TransferFailed",
    "TransferInterrupted",
    "TransferReceived",
    "TransferRefused",
]
