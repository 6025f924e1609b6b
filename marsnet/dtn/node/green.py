"""Blocks that are sent once (LTP green parts), put together from the segments that come."""

from __future__ import annotations

from marsnet.dtn.ltp import GreenSegmentReceived, SessionId

MAX_BLOCKS = 256
MAX_OCTETS = 1 << 24
"""Bounds of what is unfinished; the oldest block goes first. Nobody tells of one that will not be whole."""


class _Block:
    __slots__ = ("held", "length", "parts")

    def __init__(self) -> None:
        self.parts: dict[int, bytes] = {}
        self.length: int | None = None
        self.held = 0


class GreenBlocks:
    """Unfinished all-green blocks.

    Attributes:
        lost: blocks that were given up unfinished.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._blocks: dict[SessionId, _Block] = {}
        self._held = 0

    def add(self, event: GreenSegmentReceived) -> bytes | None:
        """Take a segment; returns the block that it completes, if it does."""
        if event.offset == 0 and event.end_of_block:
            return event.data
        block = self._blocks.setdefault(event.session, _Block())
        if event.offset not in block.parts:
            block.parts[event.offset] = event.data
            block.held += len(event.data)
            self._held += len(event.data)
        if event.end_of_block:
            block.length = event.offset + len(event.data)
        if block.length == block.held:
            self._forget(event.session)
            whole = b"".join(block.parts[offset] for offset in sorted(block.parts))
            return whole if _joined(block.parts) else None
        while len(self._blocks) > MAX_BLOCKS or self._held > MAX_OCTETS:
            self._forget(next(iter(self._blocks)))
            self.lost += 1
        return None

    def _forget(self, session: SessionId) -> None:
        self._held -= self._blocks.pop(session).held


def _joined(parts: dict[int, bytes]) -> bool:
    """Whether each part begins where the one before it ends."""
    position = 0
    for offset in sorted(parts):
        if offset != position:
            return False
        position += len(parts[offset])
    return True
