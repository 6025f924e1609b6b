"""Red segments of one block, one after another, as one object.

An engine whose configuration says `trains` hands red data out like this. Where octets need not travel, another takes
it in by `LtpEngine.receive_trains`: the octets of a segment are made only when they are asked for, and a block is in
memory once however many segments of it are on their way. Sockets send its `datagrams`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marsnet.dtn.ltp.sdnv import encode_sdnv
from marsnet.dtn.ltp.segments import RED, SessionId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marsnet.dtn.recipe import Rope


@dataclass(slots=True, eq=False)
class Train:
    """Segments of a block. Nothing changes it; to let Python see to that would take as long as all else it is made by.

    Attributes:
        session: of the block.
        service: client service id.
        block: the whole block.
        start: offset of the first segment's data in it, octets.
        length: octets of data in each segment.
        count: how many segments; a checkpoint goes alone.
        size: octets of each segment as a datagram.
        kind: segment type.
        checkpoint: serial number, 0 on what is no checkpoint.
        report: serial number of the report that the checkpoint answers.
    """

    session: SessionId
    service: int
    block: bytes | memoryview | Rope
    start: int
    length: int
    count: int
    size: int
    kind: int = RED
    checkpoint: int = 0
    report: int = 0

    def __len__(self) -> int:
        """Octets of each segment as a datagram."""
        return self.size

    def datagrams(self) -> list[bytes]:
        """The segments as they travel elsewhere."""
        head = bytes((self.kind,)) + encode_sdnv(self.session.origin) + encode_sdnv(self.session.number)
        head += b"\0" + encode_sdnv(self.service)
        tail = encode_sdnv(self.length)
        if self.kind != RED:
            tail += encode_sdnv(self.checkpoint) + encode_sdnv(self.report)
        block, length = self.block, self.length
        view = memoryview(block) if isinstance(block, bytes) else block
        starts = range(self.start, self.start + self.count * length, length)
        if isinstance(view, memoryview):
            return [b"".join((head, encode_sdnv(at), tail, view[at : at + length])) for at in starts]
        return [b"".join((head, encode_sdnv(at), tail, bytes(view[at : at + length]))) for at in starts]


class Extent:
    """A part of a block that is not copied.

    Attributes:
        block: the whole.
        begin: first octet.
        end: one past the last.
    """

    __slots__ = ("begin", "block", "end")

    def __init__(self, block: bytes | memoryview | Rope, begin: int, end: int) -> None:
        self.block, self.begin, self.end = block, begin, end

    def __len__(self) -> int:
        return self.end - self.begin

    def __getitem__(self, part: slice) -> Extent:
        begin, end, _ = part.indices(len(self))
        return Extent(self.block, self.begin + begin, self.begin + end)

    def __bytes__(self) -> bytes:
        return bytes(self.block[self.begin : self.end])


def joined(pieces: Sequence[tuple[int, bytes | memoryview | Extent]]) -> bytes | Rope:
    """Pieces of a block by their offsets, in order and without gaps, as the block; itself where they are all of it."""
    whole = pieces[0][1] if pieces else b""
    if isinstance(whole, Extent) and not isinstance(block := whole.block, memoryview):
        octets = 0
        for at, piece in pieces:
            if not isinstance(piece, Extent) or piece.block is not block or piece.begin != at:
                break
            octets += piece.end - at
        else:
            if octets == len(block):
                return block
    return b"".join([data if isinstance(data, bytes) else bytes(data) for _, data in pieces])
