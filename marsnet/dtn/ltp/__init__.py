"""LTP, the Licklider Transmission Protocol (RFC 5326, CCSDS 734.1-B-1), as an engine without input and output."""

from marsnet.dtn.ltp.aggregate import split_block
from marsnet.dtn.ltp.config import SERVICE_AGGREGATED, SERVICE_BUNDLES, LtpConfig, PeerModel
from marsnet.dtn.ltp.counters import LtpCounters
from marsnet.dtn.ltp.engine import LtpEngine
from marsnet.dtn.ltp.events import (
    BlockSent,
    ExportCancelled,
    ExportCompleted,
    GreenSegmentReceived,
    ImportCancelled,
    LtpEvent,
    RedPartReceived,
)
from marsnet.dtn.ltp.exporter import SessionLimitError
from marsnet.dtn.ltp.peers import ConstantPeer, PlanPeer, WindowedPeer
from marsnet.dtn.ltp.sdnv import SegmentError
from marsnet.dtn.ltp.segments import CancelReason, SessionId
from marsnet.dtn.ltp.trains import Train

__all__ = [
    "SERVICE_AGGREGATED",
    "SERVICE_BUNDLES",
    "BlockSent",
    "CancelReason",
    "ConstantPeer",
    "ExportCancelled",
    "ExportCompleted",
    "GreenSegmentReceived",
    "ImportCancelled",
    "LtpConfig",
    "LtpCounters",
    "LtpEngine",
    "LtpEvent",
    "PeerModel",
    "PlanPeer",
    "RedPartReceived",
    "SegmentError",
    "SessionId",
    "SessionLimitError",
    "Train",
    "WindowedPeer",
    "split_block",
]
