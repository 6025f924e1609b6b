"""What the stores hold, as the ledger tells it: bundles, and the fragments that others were cut into."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from marsnet.dtn.node.identity import original
from marsnet.dtn.node.ledger import Record, Step

_BEGINS = {Step.ACCEPTED, Step.RECEIVED, Step.FRAGMENTED, Step.REASSEMBLED}
_ENDS = {Step.FORWARDED, Step.DELIVERED, Step.EXPIRED, Step.DROPPED}


class Move(NamedTuple):
    """What a record changes in its node's store.

    Attributes:
        record: of the ledger.
        gone: ids of what ended there: bundles, or fragments.
        come: whether what it names began to be there.
        peer: the neighbour that took what went; empty where it ended there.
    """

    record: Record
    gone: tuple[str, ...]
    come: bool
    peer: str


class Contents:
    """What each node's store holds after the records that it was told, in order of time.

    A bundle that is cut ends where its fragments begin, and fragments end where their bundle is whole again.

    Attributes:
        payload: bytes of payload in each node's store.
    """

    def __init__(self) -> None:
        self.payload: dict[str, int] = defaultdict(int)
        self._sizes: dict[str, int] = {}
        self._held: set[tuple[str, str]] = set()
        self._fragments: dict[tuple[str, str], set[str]] = defaultdict(set)

    def note(self, record: Record) -> Move | None:
        """What a record changes; None where it changes nothing."""
        place = record.node, record.bundle
        if record.step in _BEGINS:
            move = self._begin(record)
        elif record.step in _ENDS and place in self._held:
            self._held.remove(place)
            move = Move(record, (record.bundle,), come=False, peer=str(record.details.get("peer", "")))
        else:
            return None
        if move is not None:
            came = self._size(record.bundle) if move.come else 0
            self.payload[record.node] += came - sum(map(self._size, move.gone))
        return move

    def _begin(self, record: Record) -> Move | None:
        place = record.node, record.bundle
        if record.step == Step.ACCEPTED:
            self._sizes[record.bundle] = record.details.get("size", 0)
        over = {str(record.details.get("of", ""))}
        if record.step == Step.REASSEMBLED:
            over = self._fragments.pop(place, set())
        gone = tuple(name for name in sorted(over) if (record.node, name) in self._held)
        self._held.difference_update((record.node, name) for name in gone)
        come = place not in self._held
        self._held.add(place)
        whole = original(record.bundle)[0]
        if whole != record.bundle:
            self._fragments[record.node, whole].add(record.bundle)
        return Move(record, gone, come, "") if gone or come else None

    def _size(self, name: str) -> int:
        whole, first, last = original(name)
        return self._sizes.get(whole, 0) if last is None else last - first
