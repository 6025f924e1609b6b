"""What a node does with what its convergence layers say."""

from __future__ import annotations

from collections.abc import Iterable

from marsnet.dtn.bpv7 import BundleError, ReasonCode, StatusAssertion, decode_from
from marsnet.dtn.node.arriving import Arrivals
from marsnet.dtn.node.conditions import Tamperer
from marsnet.dtn.node.keeping import Keeper
from marsnet.dtn.node.layer import Interrupted, LayerEvent, PeerDown, PeerUp, Received, Returned, Sent, Taken
from marsnet.dtn.node.ledger import Record, Step
from marsnet.dtn.node.queues import Held, Leg
from marsnet.dtn.store import StorageFullError


class Handler:
    """Takes the events of all layers of one node."""

    def __init__(self, node: str, keeper: Keeper, arrivals: Arrivals, tamperer: Tamperer) -> None:
        """Work for a node.

        Args:
            node: its name.
            keeper: of its bundles.
            arrivals: what it does with bundles that come.
            tamperer: what a fault does to them on the way.
        """
        self._node, self._keeper, self._arrivals, self._tamperer = node, keeper, arrivals, tamperer
        self._forwarder = keeper.forwarder

    def handle(self, event: LayerEvent, now: float) -> None:
        """Do what an event asks for.

        Raises:
            StorageFullError: the disk is full, and what came since the last commit is lost.
        """
        forwarder = self._forwarder
        match event:
            case Received():
                self._received(event, now)
            case Sent(tags=tags):
                for leg in _legs(tags):
                    forwarder.on_sent(leg)
            case Taken(tags=tags):
                for leg in _legs(tags):
                    self._taken(leg, now)
            case Interrupted(peer=peer, octets=octets, rest=rest):
                self._arrivals.interrupted(octets, peer, now, rest)
            case Returned(tags=tags, reason=reason, refused=refused, kept=kept):
                for leg in _legs(tags):
                    forwarder.on_returned(leg, now, reason, refused=refused)
                    self._keeper.fragmenter.broke_off(leg, kept)
                    self._goes_on(leg, now)
            case PeerUp(peer=peer, layer=layer):
                if forwarder.contacts.planned_rate(peer, now):
                    forwarder.heard(peer, now)
                else:
                    forwarder.meet(peer, layer, now)
            case PeerDown(peer=peer, retries=retries):
                forwarder.part(peer, now)
                if forwarder.contacts.planned_rate(peer, now):
                    forwarder.failed(peer, now, retries=retries)

    def _received(self, event: Received, now: float) -> None:
        # What the layer could not take apart has no parts.
        malformed = not event.parts
        carriages = self._forwarder.carriage
        carriage = carriages.get(event.peer or "") or carriages[""]
        for part in event.parts:
            came = bytes(part)
            for data in self._tamperer.pass_on(event.peer or "", came):
                position = start = 0
                try:
                    while position < len(data):
                        start = position
                        bundle, position = decode_from(data, position)
                        carriage.receive(position - start)
                        if event.rest is not None and not self._arrivals.goes_on(bundle, event.rest):
                            event.layer.demand_whole(event.receipt, now)
                            return
                        alone = data is came and position - start == len(came)
                        octets = part if alone else bytes(data[start:position])
                        self._arrivals.receive(bundle, octets, event.peer, now)
                except BundleError:
                    self._arrivals.malformed(bytes(data[start:]), event.peer, now)
                    malformed = True
                except StorageFullError:
                    if event.receipt is not None:
                        event.layer.refuse(event.receipt, now)
                    return
        if event.receipt is not None:
            if malformed:
                # The sender keeps it, and sends it again: what was whole before the fault comes as a duplicate.
                event.layer.refuse(event.receipt, now, unfit=True)
            else:
                self._keeper.custody.owe(event.layer, event.receipt)

    def _taken(self, leg: Leg, now: float) -> None:
        self._forwarder.on_taken(leg, now)
        if leg.returned:
            # The neighbour took it, and it is here once more already: the one copy that counts is this one.
            self._goes_on(leg, now)
            return
        held, peer = leg.held, {"peer": leg.neighbour}
        if held.legs or held.members or self._forwarder.keeps_copies:
            self._keeper.custody.begin(Record(now, self._node, Step.COPIED, held.bundle, peer), held, fresh=False)
            self._goes_on(leg, now)
            return
        self._leaves(held, leg.neighbour, now)

    def _leaves(self, held: Held, peer: str, now: float) -> None:
        """A neighbour is responsible for the bundle now, and this node no longer."""
        self._forwarder.release(held)
        # It may come back when the way it took proves closed, so its ID is forgotten; its destination remembers it.
        self._keeper.store.delete(held.key, forget=True)
        record = Record(now, self._node, Step.FORWARDED, held.bundle, {"peer": peer})
        self._keeper.custody.begin(record, held, fresh=False)
        confirmed = self._forwarder.layers[peer].confirms(held.priority)
        reason = ReasonCode.NO_INFORMATION if confirmed else ReasonCode.UNIDIRECTIONAL_LINK
        self._keeper.reporter.ask(held.subject, StatusAssertion.FORWARDED, reason)

    def _goes_on(self, leg: Leg, now: float) -> None:
        """A leg is over and the bundle still here: find another way, unless others carry it."""
        held = leg.held
        if held.taken and not held.members and not self._forwarder.keeps_copies:
            if not held.legs:
                self._leaves(held, min(held.taken), now)
            return
        if not held.legs:
            self._keeper.store.take_back(held.key)
        self._forwarder.route(held, now)


def _legs(tags: Iterable[object]) -> list[Leg]:
    """The legs that a layer's tags name, as far as they still matter."""
    return [tag for tag in tags if isinstance(tag, Leg) and not tag.done]
