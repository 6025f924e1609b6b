"""Bundles that go on to a neighbour, as they leave a node (RFC 9171 section 5.4)."""

from __future__ import annotations

from collections.abc import Mapping

from marsnet.dtn.bpv7 import BlockFlags, BlockType, BundleError, cbor, fragment_at
from marsnet.dtn.bpv7.codec import encode_rope
from marsnet.dtn.node.groups import addressed
from marsnet.dtn.node.keeping import Keeper, payload_place
from marsnet.dtn.node.queues import Leg
from marsnet.dtn.node.reasons import DropReason
from marsnet.dtn.recipe import Rope


class Departures:
    """Makes of a stored bundle what the next node gets."""

    def __init__(self, keeper: Keeper, numbers: Mapping[str, int]) -> None:
        """Work for a node that knows these ipn node numbers by name."""
        self._keeper, self._numbers = keeper, numbers

    def octets(self, leg: Leg, now: float) -> bytes | Rope | None:
        """A bundle as it leaves: age told, hop counted, this node named. None when it must not leave; it ends here."""
        held = leg.held
        bundle = self._keeper.load(held, now)
        if bundle is None:
            return None
        try:
            hops = bundle.hop_count
        except BundleError:
            hops = None
        if hops is not None and hops.hops >= hops.limit:
            self._keeper.discard(held.key, DropReason.HOP_LIMIT, now)
            return None
        if held.kept is not None and not bundle.must_not_fragment:
            leg.base = bundle.fragment_offset or 0
            leg.begins = min(held.kept.octets, len(bundle.payload) - 1)
            bundle = fragment_at(bundle, leg.begins, len(bundle.payload) - leg.begins)
        age = self._keeper.lifetimes.age(bundle, held.since, now)
        onward = bundle.forwarded(self._keeper.endpoints.admin, age)
        copies = onward.block(BlockType.COPIES)
        if leg.serves:
            onward = addressed(onward, (self._numbers[node] for node in leg.serves))
        if leg.copies > 1:
            onward = onward.with_extension(BlockType.COPIES.value, cbor.uint(leg.copies), BlockFlags.REPLICATE.value)
        elif copies is not None:
            onward = onward.without_block(copies.number)
        self._keeper.store.hand_out(held.key)
        octets = encode_rope(onward)
        leg.payload_at = payload_place(onward, octets)[0]
        return self._keeper.thin(onward, octets)
