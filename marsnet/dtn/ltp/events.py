"""What an LTP engine tells its node (the notices of RFC 5326 section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marsnet.dtn.ltp.segments import SessionId

if TYPE_CHECKING:
    from marsnet.dtn.recipe import Rope


@dataclass(frozen=True, slots=True)
class RedPartReceived:
    """A whole red part has arrived. Unless the engine confirms by itself, answer with `confirm` or `refuse`.

    Attributes:
        peer: engine that sent it.
        session: the session, as `confirm` and `refuse` take it.
        service: client service id (1 bundle protocol, 2 aggregated service data, CCSDS 734.1-B).
        data: the red part.
        end_of_block: whether the block has no green part.
    """

    peer: int
    session: SessionId
    service: int
    data: bytes | Rope
    end_of_block: bool


@dataclass(frozen=True, slots=True)
class GreenSegmentReceived:
    """Green data has arrived; nothing is known of its neighbours.

    Attributes:
        peer: engine that sent it.
        session: the session.
        service: client service id.
        offset: of the data in the block, octets.
        data: the octets.
        end_of_block: whether the block ends with them.
    """

    peer: int
    session: SessionId
    service: int
    offset: int
    data: bytes
    end_of_block: bool


@dataclass(frozen=True, slots=True)
class BlockSent:
    """Every octet of the block has left once (initial-transmission completion).

    Attributes:
        peer: engine it goes to.
        number: what `send` returned.
        tags: of the service data in the block, in order.
    """

    peer: int
    number: int
    tags: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ExportCompleted:
    """The whole red part is acknowledged, and the green part, if any, has left.

    Attributes:
        peer: engine that has it.
        number: what `send` returned.
        tags: of the service data in the block, in order.
        rounds: retransmission rounds that were needed after the first transmission.
    """

    peer: int
    number: int
    tags: tuple[object, ...]
    rounds: int


@dataclass(frozen=True, slots=True)
class ExportCancelled:
    """The block will not be delivered by this session.

    Attributes:
        peer: engine it was for.
        number: what `send` returned.
        tags: of the service data in the block, in order.
        reason: a `CancelReason`, or the number a peer invented.
        by_peer: whether the peer cancelled.
    """

    peer: int
    number: int
    tags: tuple[object, ...]
    reason: int
    by_peer: bool


@dataclass(frozen=True, slots=True)
class ImportCancelled:
    """A block that had begun to arrive will not be completed. Nothing of its red part was delivered.

    Attributes:
        peer: engine it came from.
        session: the session.
        reason: a `CancelReason`, or the number a peer invented.
        by_peer: whether the peer cancelled.
    """

    peer: int
    session: SessionId
    reason: int
    by_peer: bool


LtpEvent = RedPartReceived | GreenSegmentReceived | BlockSent | ExportCompleted | ExportCancelled | ImportCancelled
