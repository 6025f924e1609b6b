"""Bundles that come from neighbours: known ones, new ones, beginnings of them, and octets that are none."""

from __future__ import annotations

from marsnet.dtn.bpv7 import Bundle, BundleError, ServiceClass, encode
from marsnet.dtn.bpv7.prefix import leading_fragment, read_primary_block
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.groups import Audience
from marsnet.dtn.node.identity import LOCAL_COPY, delivery_key, key_of, name_of
from marsnet.dtn.node.intake import Intake, take_in
from marsnet.dtn.node.keeping import Keeper
from marsnet.dtn.node.ledger import Record, Step
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.reasons import DropReason
from marsnet.dtn.node.reassembly import Offer, whole_id
from marsnet.dtn.node.reports import Subject


class Arrivals:
    """What one node does with what comes (RFC 9171 section 5.6)."""

    def __init__(self, config: NodeConfig, keeper: Keeper, metrics: NodeMetrics) -> None:
        """Work for a node."""
        self._node, self._reactive = config.name, config.fragments.reactive
        self._keeper, self._metrics = keeper, metrics

    def receive(self, bundle: Bundle, octets: bytes, peer: str | None, now: float) -> None:
        """A bundle came from a neighbour.

        Raises:
            StorageFullError: there is no room for it; the neighbour is to keep it.
        """
        whom = self._keeper.audience(bundle)
        collects = bundle.is_fragment and not whom.nodes
        if self._known(bundle, whom):
            self._keeper.duplicate(bundle, peer, now)
            return
        expired = self._keeper.lifetimes.expiry(bundle, now) <= now
        taken = take_in(bundle, self._keeper.security, passes=bool(whom.nodes), expired=expired)
        kept = taken.bundle
        if collects and not taken.drop:
            offer = self._keeper.reassembly.offer(kept)
            if offer is Offer.KNOWN:
                self._keeper.duplicate(bundle, peer, now)
                return
            if offer is not Offer.NEW:
                taken.delete(DropReason.REASSEMBLY if offer is Offer.TOO_MUCH else DropReason.CONTRADICTION)
        if not taken.drop:
            data = octets if kept is bundle else encode(kept)
            self._keeper.keep(kept, data, peer, Step.RECEIVED, {"peer": peer or ""}, now)
        self._note(taken, peer, now)

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

    def interrupted(self, octets: bytes, peer: str | None, now: float) -> bool:
        """A transfer broke off: keep the beginning as a fragment, where that is wanted and allowed.

        Raises:
            StorageFullError: there is no room for it.
        """
        if not self._reactive:
            return False
        try:
            part = leading_fragment(octets)
        except BundleError:
            return False
        self._keeper.fragmenter.made["reactive"] += 1
        self.receive(part, encode(part), peer, now)
        return True

    def _note(self, taken: Intake, peer: str | None, now: float) -> None:
        self._keeper.failures.update(taken.failures)
        self._keeper.removed_blocks.update(taken.removed)
        subject = Subject.of(taken.bundle) if taken.reports else None
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
