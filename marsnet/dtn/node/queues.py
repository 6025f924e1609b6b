"""Bundles that a node holds, and the queues that they wait in for a neighbour."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.routing import Booking

STARVATION_BOUND = 32
"""So many bundles of more urgent classes may leave while a less urgent one waits; then one of that class leaves."""


@dataclass(slots=True, eq=False)
class Held:
    """A bundle in this node's store that is to be forwarded.

    Attributes:
        key: in the store.
        bundle: its id as text.
        destination: node name, or the endpoint where the plan does not know the node.
        size: octets.
        priority: class of service.
        expires: mission seconds.
        since: mission seconds at which it came in.
        previous_hop: node that it came from.
        neighbour: next hop, once it is routed.
        booking: its volume on the route.
        session: LTP session that carries it.
        sent: whether all of it has left.
        returned: whether it has come again since it was handed to that session.
    """

    key: int
    bundle: str
    destination: str
    size: int
    priority: ServiceClass
    expires: float
    since: float
    previous_hop: str | None = None
    neighbour: str | None = None
    booking: Booking | None = None
    session: int | None = None
    sent: bool = False
    returned: bool = False


class ClassQueue:
    """Waiting bundles by class: strict priority with a starvation bound, first in first out within a class."""

    def __init__(self, bound: int = STARVATION_BOUND) -> None:
        self._queues: dict[ServiceClass, deque[Held]] = {c: deque() for c in ServiceClass}
        self._passed: dict[ServiceClass, int] = dict.fromkeys(ServiceClass, 0)
        self._bound = bound
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def count(self, service_class: ServiceClass) -> int:
        """Bundles of a class that wait."""
        return len(self._queues[service_class])

    def push(self, held: Held) -> None:
        """Add one behind the others of its class."""
        self._queues[held.priority].append(held)
        self._count += 1

    def remove(self, held: Held) -> None:
        """Take one out, wherever it stands. Without effect when it is not here."""
        try:
            self._queues[held.priority].remove(held)
        except ValueError:
            return
        self._count -= 1

    def urgent(self) -> ServiceClass | None:
        """The class that leaves next; None when nothing waits."""
        for service_class in reversed(ServiceClass):
            if self._queues[service_class] and self._passed[service_class] >= self._bound:
                return service_class
        return next((c for c in ServiceClass if self._queues[c]), None)

    def pop(self) -> Held:
        """Take the bundle that leaves next.

        Raises:
            IndexError: when nothing waits.
        """
        chosen = self.urgent()
        if chosen is None:
            raise IndexError("no bundle waits")
        self._passed[chosen] = 0
        for lower in ServiceClass:
            if lower > chosen and self._queues[lower]:
                self._passed[lower] += 1
        held = self._queues[chosen].popleft()
        self._count -= 1
        return held
