"""Bundles that are cut for contacts and transfers that do not take them whole, and fragments that become whole again.

Nothing is deleted for what takes its place before that is durable: the fragments that made a bundle, and the bundle
that was cut, leave the store with the commit after the one that made their successors durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from marsnet.dtn.bpv7 import Bundle, BundleError, decode, encode, fragment_at
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.ledger import Record, Step
from marsnet.dtn.node.queues import Held, Kept, Leg
from marsnet.dtn.node.reasons import DropReason
from marsnet.dtn.node.reassembly import Offer
from marsnet.dtn.node.ways import LEAVING
from marsnet.dtn.store import BundleState, StorageFullError, StoreError

if TYPE_CHECKING:
    from marsnet.dtn.node.keeping import Keeper

_FRAGMENT_HEAD = 24
"""Octets by which the primary block of a fragment is longer than that of the whole."""
_SLACK = 256
"""Octets by which a fragment stays below the size that would fit."""
_MOST_FRAGMENTS = 1024
"""A bundle is not cut into pieces smaller than this share of it."""


class Fragmenter:
    """Cuts and joins the bundles of one node (RFC 9171 sections 5.8 and 5.9).

    Attributes:
        made: fragments made, by `proactive` and `reactive`.
        joined: bundles put together.
    """

    def __init__(self, config: NodeConfig, keeper: Keeper) -> None:
        """Work for a node."""
        self.made: Counter[str] = Counter()
        self.joined = 0
        self._config, self._keeper = config, keeper
        self._unjoined: dict[tuple[int, ...], str | None] = {}
        """Fragments that make a whole bundle for which there was no room, and who sent the last."""
        self._unjoined_at = 0

    def collect(self, key: int, fragment: Bundle, peer: str | None, now: float) -> None:
        """A fragment for this node is in the store; with the last of them its bundle is put together.

        Raises:
            StorageFullError: the disk is full, and what came since the last commit is lost.
        """
        if self._keeper.reassembly.offer(fragment) is not Offer.NEW:
            self._keeper.discard(key, DropReason.REASSEMBLY, now)
            return
        parts = self._keeper.reassembly.add(key, fragment)
        if parts is not None:
            self._join(parts, peer, now)

    def _join(self, parts: tuple[int, ...], peer: str | None, now: float) -> None:
        """All parts of a bundle are here: put it together. They stay until it is durable.

        Raises:
            StorageFullError: the disk is full, and what came since the last commit is lost.
        """
        try:
            bundle = self._keeper.reassembly.join(parts, lambda key: decode(bytes(self._keeper.store.load(key))))
            octets = encode(bundle)
        except StoreError:
            self._drop_corrupted(parts, now)
            return
        except BundleError:
            for key in parts:
                self._keeper.discard(key, DropReason.CONTRADICTION, now)
            return
        try:
            helds = self._keeper.insert(bundle, octets, peer, now)
        except StorageFullError as error:
            if error.lost:
                raise
            self._unjoined[parts] = peer
            self._unjoined_at = self._keeper.store.usage.size
            return
        self.joined += bool(helds)
        for held in helds:
            held.replaces = parts
            record = Record(now, self._config.name, Step.REASSEMBLED, held.bundle, {"parts": len(parts)})
            self._keeper.custody.begin(record, held, fresh=True)

    @property
    def waits(self) -> bool:
        """Whether `retry` has something to look at."""
        return bool(self._unjoined)

    def retry(self, now: float) -> None:
        """Put together what there was no room for, once there is more of it."""
        if self._unjoined and self._keeper.store.usage.size < self._unjoined_at:
            waiting, self._unjoined = self._unjoined, {}
            for parts, peer in waiting.items():
                if all(key in self._keeper.forwarder.held for key in parts):
                    self._join(parts, peer, now)

    def _drop_corrupted(self, keys: Iterable[int], now: float) -> None:
        for key in keys:
            try:
                self._keeper.store.load(key)
            except StoreError:
                self._keeper.discard(key, DropReason.CORRUPTED, now)

    def cut(self, held: Held, size: int, now: float) -> bool:
        """Cut a bundle so that its first fragment has at most `size` octets on its way; False when it stays whole."""
        settings = self._config.fragments
        if held.whole or size < settings.smallest + _FRAGMENT_HEAD:
            return False
        bundle = self._keeper.load(held, now)
        if bundle is None:
            return True
        whole = len(bundle.payload)
        first = size - _SLACK - (held.size - whole) - _FRAGMENT_HEAD - LEAVING
        if not max(settings.smallest, whole // _MOST_FRAGMENTS) <= first < whole:
            return False
        self.made["proactive"] += 2
        return self._replace(held, [fragment_at(bundle, 0, first), fragment_at(bundle, first, whole - first)], now)

    def broke_off(self, leg: Leg, acknowledged: int | None) -> None:
        """A transfer ended early; note what the neighbour keeps, so that only the rest goes there.

        The bundle stays whole here until the neighbour has all of it: it can go another way, or whole after a restart.

        Args:
            leg: that came back.
            acknowledged: octets of what was sent, headers included; None when the neighbour has kept nothing at all.
        """
        held = leg.held
        if acknowledged is None:
            held.kept = None
            return
        done = acknowledged - leg.payload_at
        if self._config.fragments.reactive and done > 0 and not (held.members or held.legs or held.taken):
            self.made["reactive"] += 1
            held.kept = Kept(leg.neighbour, leg.begins + done)

    def _replace(self, held: Held, parts: list[Bundle], now: float) -> bool:
        """Put fragments in a bundle's place."""
        keys: list[int] = []
        made: list[tuple[int, Bundle, int]] = []
        for part in parts:
            octets = encode(part)
            try:
                added = self._keeper.add(part, octets, held.previous_hop, now, BundleState.QUEUED)
            except StorageFullError as error:
                if error.lost:
                    self._keeper.custody.lose(error, now)
                for key in keys:
                    self._keeper.store.delete(key, forget=True)
                return False
            if added.key is not None:
                keys.append(added.key)
                made.append((added.key, part, len(octets)))
        self._keeper.forwarder.remove(held, now)
        for key, part, size in made:
            piece = self._keeper.hold(key, part, size, now, held.previous_hop)
            piece.copies, piece.members, piece.since = held.copies, held.members, held.since
            piece.replaces, piece.parent = (held.key,), held
            record = Record(now, self._config.name, Step.FRAGMENTED, piece.bundle, {"of": held.bundle})
            self._keeper.custody.begin(record, piece, fresh=True)
        if not made:
            self._keeper.store.delete(held.key, forget=True)
            self._keeper.custody.touch()
        return True
