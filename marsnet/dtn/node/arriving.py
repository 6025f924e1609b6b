"""Bundles that come from neighbours: known ones, new ones, beginnings of them, and octets that are none."""

from __future__ import annotations

from collections import OrderedDict

from marsnet.dtn.bpv7 import Bundle, BundleError, ServiceClass, encode
from marsnet.dtn.bpv7.blocks import REPORT_FLAGS
from marsnet.dtn.bpv7.prefix import leading_fragment, read_primary_block
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.groups import Audience
from marsnet.dtn.node.identity import LOCAL_COPY, delivery_key, key_of, name_of, original
from marsnet.dtn.node.intake import Intake, take_in
from marsnet.dtn.node.keeping import Keeper
from marsnet.dtn.node.ledger import Record, Step
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.reasons import DropReason
from marsnet.dtn.node.reassembly import Offer, whole_id
from marsnet.dtn.node.reports import Subject
from marsnet.dtn.recipe import Rope

_BEGINNINGS = 4096
"""Broken transfers that are remembered."""


class Arrivals:
    """What one node does with what comes (RFC 9171 section 5.6)."""

    def __init__(self, config: NodeConfig, keeper: Keeper, metrics: NodeMetrics) -> None:
        """Work for a node."""
        self._node, self._reactive = config.name, config.fragments.reactive
        self._keeper, self._metrics = keeper, metrics
        self._beginnings: OrderedDict[tuple[str, int], int] = OrderedDict()
        """Up to where a bundle whose transfer broke off is in the store, by its name and where that began."""

    def receive(self, bundle: Bundle, octets: bytes | Rope, peer: str | None, now: float) -> bool:
        """A bundle came from a neighbour. Returns whether this node has it now; otherwise it has ended.

        Raises:
            StorageFullError: there is no room for it; the neighbour is to keep it.
        """
        whom = self._keeper.audience(bundle)
        collects = bundle.is_fragment and not whom.nodes
        if self._known(bundle, whom):
            self._keeper.duplicate(bundle, peer, now)
            return True
        expired = self._keeper.lifetimes.expiry(bundle, now) <= now
        taken = take_in(bundle, self._keeper.security, passes=bool(whom.nodes), expired=expired)
        kept = taken.bundle
        if collects and not taken.drop:
            offer = self._keeper.reassembly.offer(kept)
            if offer is Offer.KNOWN:
                self._keeper.duplicate(bundle, peer, now)
                return True
            if offer is not Offer.NEW:
                taken.delete(DropReason.REASSEMBLY if offer is Offer.TOO_MUCH else DropReason.CONTRADICTION)
        if not taken.drop:
            data = octets if kept is bundle else encode(kept)
            self._keeper.keep(kept, data, peer, Step.RECEIVED, {"peer": peer or ""}, now)
        self._note(taken, peer, now)
        return not taken.drop

    def _known(self, bundle: Bundle, whom: Audience) -> bool:
        """Whether a bundle came before; a fragment for this node, also when its whole bundle did."""
        if whom.nodes:
            return self._keeper.store.seen(key_of(bundle))
        key, whole = key_of(bundle), whole_id(bundle).key
        if whom.group:
            key, whole = delivery_key(bundle), whole + LOCAL_COPY
        return self._keeper.store.seen(key) or (bundle.is_fragment and self._keeper.store.seen(whole))

    def malformed(self, octets: bytes, peer: str | None, now: float) -> None:
        """Octets came that are no bundle. Where their primary block can be trusted, its bundle ends here."""
        self._metrics.malformed += 1
        try:
            primary = read_primary_block(octets)
        except BundleError:
            return
        taken = Intake(primary)
        taken.delete(DropReason.MALFORMED)
        self._note(taken, peer, now)

    def interrupted(self, octets: bytes, peer: str | None, now: float, rest: int | None = None) -> None:
        """A transfer broke off: keep the beginning as a fragment, where that is wanted and allowed.

        Args:
            octets: what came of it.
            peer: who sent it.
            now: mission seconds.
            rest: where the beginning begins that it was to go on with; None when it had none.

        Raises:
            StorageFullError: there is no room for it.
        """
        if not self._reactive:
            return
        try:
            part = leading_fragment(octets)
        except BundleError:
            return
        begin = part.fragment_offset or 0
        if rest is not None and not self.goes_on(part, rest):
            return
        if self.receive(part, encode(part), peer, now):
            self._keeper.fragmenter.made["reactive"] += 1
            place = (str(whole_id(part)), begin if rest is None else rest)
            self._beginnings[place] = begin + len(part.payload)
            self._beginnings.move_to_end(place)
            if len(self._beginnings) > _BEGINNINGS:
                self._beginnings.popitem(last=False)

    def goes_on(self, rest: Bundle, base: int) -> bool:
        """Whether a fragment goes on where a beginning ends that is in the store, or becomes durable with it.

        After a restart none is known; the sender sends all again then.

        Args:
            rest: the fragment.
            base: offset of the beginning in the whole payload.
        """
        return (rest.fragment_offset or 0) <= self._beginnings.get((str(whole_id(rest)), base), -1)

    def forget(self, name: str) -> None:
        """A bundle that came was lost before it was durable: it may have been the beginning of another."""
        whole = original(name)[0]
        for place in [place for place in self._beginnings if place[0] == whole]:
            del self._beginnings[place]

    def _note(self, taken: Intake, peer: str | None, now: float) -> None:
        if taken.failures or taken.removed:
            self._keeper.failures.update(taken.failures)
            self._keeper.removed_blocks.update(taken.removed)
        # How long a fragment is that cannot be read, nobody knows: a report could not say which one it is about.
        known = taken.bundle.blocks or not taken.bundle.is_fragment
        if known and (taken.bundle.flags & REPORT_FLAGS or any(asked for _, _, asked in taken.reports)):
            subject = Subject.of(taken.bundle)
            for assertion, reason, asked in taken.reports:
                self._keeper.reporter.ask(subject, assertion, reason, asked=asked)
        if taken.drop:
            step = Step.EXPIRED if taken.drop == DropReason.LIFETIME else Step.DROPPED
            details: dict[str, object] = {"reason": str(taken.drop), "peer": peer or ""}
            service_class = taken.bundle.service_class if taken.bundle.blocks else ServiceClass.NORMAL
            name = name_of(taken.bundle) if taken.bundle.blocks else str(whole_id(taken.bundle))
            self._keeper.drops[taken.drop, service_class] += 1
            self._keeper.custody.note(Record(now, self._node, step, name, details), service_class)
            self._keeper.custody.touch()
