"""What a node takes up from its store when it starts: some at once, and many bit by bit while it works already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from marsnet.dtn.bpv7 import Bundle, BundleError, Eid, decode
from marsnet.dtn.node.identity import LOCAL_COPY, name_of
from marsnet.dtn.node.keeping import Keeper
from marsnet.dtn.node.queues import Held
from marsnet.dtn.node.reasons import DropReason
from marsnet.dtn.node.reassembly import Offer, whole_id
from marsnet.dtn.store import BundleRecord, BundleState, StorageFullError, StoreError, UnknownBundleError

AT_ONCE, THEN = 2000, 500
"""Bundles that are taken up before the node begins to work, and between two looks at what came in."""
_IN_ORDER = (
    BundleState.DELIVERING,
    BundleState.FORWARDING,
    BundleState.QUEUED,
    BundleState.REASSEMBLY,
    BundleState.AWAITING_DELIVERY,
)


class Found(NamedTuple):
    """A bundle that goes on.

    Attributes:
        held: its entry.
        state: where it stood.
        source: its source.
    """

    held: Held
    state: BundleState
    source: Eid


def recover(
    keeper: Keeper, now: Callable[[], float], delivered: Collection[str], again: Callable[[Bundle], None]
) -> Iterator[Found | None]:
    """Take up what the store held when the node ended, in the order in which it came.

    Yields for each bundle what goes on, or None. The node may work meanwhile.

    Args:
        keeper: of the node.
        now: mission seconds.
        delivered: names of bundles that the ledger already says were delivered here.
        again: called with each of these before it leaves the store.
    """
    store = keeper.store
    newest = store.newest
    for record in store.iterate(*_IN_ORDER):
        if record.key > newest or record.key in keeper.forwarder.held:
            # It came since, or was put together from fragments; or it has been taken up, and gone on from there.
            continue
        try:
            yield _take_up(keeper, record, now(), delivered, again)
        except StorageFullError as error:
            keeper.custody.lose(error, now())
            yield None


def _take_up(
    keeper: Keeper, record: BundleRecord, now: float, delivered: Collection[str], again: Callable[[Bundle], None]
) -> Found | None:
    store = keeper.store
    try:
        bundle = decode(bytes(store.load(record.key)))
    except UnknownBundleError:
        # It has made room for another meanwhile.
        return None
    except (StoreError, BundleError):
        keeper.lose(record, DropReason.CORRUPTED, now)
        store.delete(record.key)
        return None
    for_group = record.id.endswith(LOCAL_COPY)
    if name_of(bundle) in delivered and (for_group or not keeper.audience(bundle).nodes):
        again(bundle)
        store.confirm_delivery(record.key)
        keeper.custody.touch()
        return None
    waits = record.state is BundleState.REASSEMBLY
    if waits:
        whole = whole_id(bundle).key + (LOCAL_COPY if for_group else b"")
        if store.seen(whole) or keeper.reassembly.offer(bundle) is not Offer.NEW:
            store.delete(record.key)
            keeper.custody.touch()
            return None
    held = keeper.hold(record.key, bundle, record.size, record.added, record.received_from or None, local=for_group)
    if waits:
        keeper.fragmenter.collect(record.key, bundle, held.previous_hop, now)
        return None
    return Found(held, record.state, bundle.source)
