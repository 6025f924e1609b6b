"""Bundles that a node holds, the ways they take, and the queues that they wait in for a neighbour."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.reports import Subject
from marsnet.dtn.routing import Booking

_MOST_URGENT_FIRST = tuple(ServiceClass)
_LEAST_URGENT_FIRST = _MOST_URGENT_FIRST[::-1]
STARVATION_BOUND = 32
"""So many bundles of more urgent classes may leave while a less urgent one waits; then one of that class leaves."""


class Kept(NamedTuple):
    """What a neighbour keeps of a bundle since a transfer broke off.

    Attributes:
        neighbour: its name.
        octets: of the payload, from its beginning.
    """

    neighbour: str
    octets: int


@dataclass(slots=True, eq=False)
class Held:
    """A bundle in this node's store that is to be forwarded. A node may have a million of these, so they are small.

    Attributes:
        key: in the store.
        bundle: its id as text.
        destination: node name, or the endpoint where the plan does not know the node.
        size: octets.
        priority: class of service.
        expires: mission seconds.
        since: mission seconds at which it came in.
        previous_hop: node that it came from.
        copies: disjoint ways that it may still take at once; each leg takes some of them along.
        members: for a group's bundle, the nodes of the group that no neighbour is responsible for yet.
        whole: whether it cannot be cut.
        too_large: whether a neighbour takes no bundles of this size, and it cannot be cut.
        subject: what reports about it need, where it asks for any.
        replaces: bundles in the store that it was made of: they leave when it is durable.
        parent: the bundle that it was cut from, until then.
        handed: whether it was given to a convergence layer before.
        legs: its ways to neighbours; several when it is copied.
        taken: neighbours that have a copy, while this node keeps its own.
        refused: neighbours that declined it lately.
        kept: what a neighbour has of it already.
    """

    key: int
    bundle: str
    destination: str
    size: int
    priority: ServiceClass
    expires: float
    since: float
    previous_hop: str | None = None
    handed: bool = False
    copies: int = 1
    members: frozenset[str] = frozenset()
    whole: bool = False
    too_large: bool = False
    subject: Subject | None = None
    replaces: tuple[int, ...] = ()
    parent: Held | None = None
    legs: tuple[Leg, ...] = ()
    taken: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    kept: Kept | None = None


@dataclass(slots=True, eq=False)
class Leg:
    """A bundle, or one of its copies, on its way to one neighbour.

    Attributes:
        held: the bundle.
        neighbour: next hop.
        booking: its volume on the route, until it has left.
        relay: by way of which it goes on, empty where the neighbour is the destination.
        copies: how many of the bundle's copies it stands for; the neighbour may make as many of its own.
        serves: for a group's bundle, the nodes that the neighbour is to reach.
        payload_at: position of the payload's first octet in what was handed to the layer.
        begins: octets of the payload that were left out before, because the neighbour keeps them.
        base: offset of the bundle's payload in that of the whole, which it may be a fragment of.
        queued: whether it waits in the neighbour's queue.
        handle: of the convergence layer that carries it; None before.
        sent: whether all of it has left.
        doubted: mission seconds when light could have brought an answer, once the contact that it left in is over.
        answered: likewise, when the neighbour must have answered, that may have to wait for a contact.
        returned: whether the bundle has come again since it was handed to the layer.
        done: nothing that the layer still says of it matters.
    """

    held: Held
    neighbour: str
    booking: Booking | None = None
    relay: str = ""
    copies: int = 1
    serves: frozenset[str] = frozenset()
    payload_at: int = 0
    begins: int = 0
    base: int = 0
    queued: bool = False
    handle: Hashable = None
    sent: bool = False
    doubted: float = math.inf
    answered: float = math.inf
    returned: bool = False
    done: bool = False


class ClassQueue:
    """Waiting legs by class: strict priority with a starvation bound, first in first out within a class."""

    def __init__(self, bound: int = STARVATION_BOUND) -> None:
        self._queues: dict[ServiceClass, deque[Leg]] = {c: deque() for c in ServiceClass}
        self._counts: dict[ServiceClass, int] = dict.fromkeys(ServiceClass, 0)
        self._passed: dict[ServiceClass, int] = dict.fromkeys(ServiceClass, 0)
        self._bound = bound
        self._count = self._octets = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Leg]:
        return (leg for waiting in self._queues.values() for leg in waiting if leg.queued)

    def count(self, service_class: ServiceClass) -> int:
        """Bundles of a class that wait."""
        return self._counts[service_class]

    @property
    def octets(self) -> int:
        """Octets of all that wait."""
        return self._octets

    def push(self, leg: Leg) -> None:
        """Add one behind the others of its class."""
        leg.queued = True
        self._queues[leg.held.priority].append(leg)
        self._account(leg, 1)

    def remove(self, leg: Leg) -> None:
        """Take one out, wherever it stands. Without effect when it does not wait."""
        if leg.queued:
            leg.queued = False
            self._account(leg, -1)
            waiting = self._queues[leg.held.priority]
            if len(waiting) > 2 * self._counts[leg.held.priority] + 64:
                self._queues[leg.held.priority] = deque(other for other in waiting if other.queued)

    def urgent(self) -> ServiceClass | None:
        """The class that leaves next; None when nothing waits."""
        for service_class in _LEAST_URGENT_FIRST:
            if self._counts[service_class] and self._passed[service_class] >= self._bound:
                return service_class
        for service_class in _MOST_URGENT_FIRST:
            if self._counts[service_class]:
                return service_class
        return None

    def pop(self) -> Leg:
        """Take the one that leaves next.

        Raises:
            IndexError: when nothing waits.
        """
        chosen = self.urgent()
        if chosen is None:
            raise IndexError("no bundle waits")
        self._passed[chosen] = 0
        if self._count > self._counts[chosen]:
            for lower in _MOST_URGENT_FIRST[chosen + 1 :]:
                if self._counts[lower]:
                    self._passed[lower] += 1
        waiting = self._queues[chosen]
        leg = waiting.popleft()
        while not leg.queued:
            leg = waiting.popleft()
        leg.queued = False
        self._account(leg, -1)
        return leg

    def _account(self, leg: Leg, sign: int) -> None:
        self._counts[leg.held.priority] += sign
        self._count += sign
        self._octets += sign * leg.held.size
