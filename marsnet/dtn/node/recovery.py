"""What a node takes up from its store when it starts."""

from __future__ import annotations

from collections.abc import Callable, Collection

from marsnet.dtn.bpv7 import Bundle, BundleError, Eid, ServiceClass, decode
from marsnet.dtn.node.identity import LOCAL_COPY, name_from_key, name_of
from marsnet.dtn.node.keeping import Keeper
from marsnet.dtn.node.ledger import Record, Step
from marsnet.dtn.node.queues import Held
from marsnet.dtn.node.reasons import DropReason
from marsnet.dtn.node.reassembly import Offer, whole_id
from marsnet.dtn.store import BundleRecord, BundleState, StoreError

_IN_ORDER = (
    BundleState.FORWARDING,
    BundleState.QUEUED,
    BundleState.REASSEMBLY,
    BundleState.DELIVERING,
    BundleState.AWAITING_DELIVERY,
)


def recover(
    keeper: Keeper, node: str, now: float, delivered: Collection[str], again: Callable[[Bundle], None]
) -> list[tuple[Held, BundleState, Eid]]:
    """Take up what the store held when the node ended, in the order in which it came.

    Returns what goes on, where it stood, and its source.

    Args:
        keeper: of the node.
        node: its name.
        now: mission seconds.
        delivered: names of bundles that the ledger already says were delivered here.
        again: called with each of these before it leaves the store.
    """
    found: list[tuple[Held, BundleState, Eid]] = []
    store = keeper.store
    newest = store.newest
    for record in store.iterate(*_IN_ORDER):
        if record.key > newest:
            # Put together from fragments a moment ago, and taken up by that.
            continue
        try:
            bundle = decode(bytes(store.load(record.key)))
        except (StoreError, BundleError):
            _unreadable(keeper, node, record, now)
            continue
        for_group = record.id.endswith(LOCAL_COPY)
        if name_of(bundle) in delivered and (for_group or not keeper.audience(bundle).nodes):
            again(bundle)
            store.confirm_delivery(record.key)
            continue
        waits = record.state is BundleState.REASSEMBLY
        if waits:
            whole = whole_id(bundle).key + (LOCAL_COPY if for_group else b"")
            if store.seen(whole) or keeper.reassembly.offer(bundle) is not Offer.NEW:
                store.delete(record.key)
                continue
        held = keeper.hold(record.key, bundle, record.size, record.added, record.received_from or None, local=for_group)
        if waits:
            keeper.fragmenter.collect(record.key, bundle, held.previous_hop, now)
        else:
            found.append((held, record.state, bundle.source))
    return found


def _unreadable(keeper: Keeper, node: str, record: BundleRecord, now: float) -> None:
    """A bundle cannot be read any more: its life ends, and everybody can know."""
    try:
        name = name_from_key(record.id)
    except BundleError:
        name = f"{record.source}/{record.id.hex()}"
    service_class = ServiceClass(record.service_class)
    keeper.drops[DropReason.CORRUPTED, service_class] += 1
    details: dict[str, object] = {"reason": str(DropReason.CORRUPTED)}
    keeper.custody.note(Record(now, node, Step.DROPPED, name, details), service_class)
    keeper.store.delete(record.key)
    keeper.custody.touch()
