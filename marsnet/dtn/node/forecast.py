"""What the contact plan promises a bundle and its answer: the earliest arrival, contact by contact.

Waiting for contacts, transmission and light time count, at the plan's rates and as if nothing else were on the way; so
no bundle arrives earlier, and one that arrives later was held up by other traffic, by loss or by a fault.
"""

from __future__ import annotations

from typing import NamedTuple

from marsnet.dtn.routing import Margin
from marsnet.dtn.routing.graph import ContactGraph
from marsnet.dtn.routing.search import Bundle, Origin, search
from marsnet.plan.types import ContactPlan

_PRIORITY = 2


class Leap(NamedTuple):
    """A bundle on one contact. Times are mission seconds.

    Attributes:
        source: transmitting node.
        target: receiving node.
        leaves: when its first octet leaves.
        arrives: when its last octet is there.
        waits: seconds before it leaves.
        light_time: seconds.
    """

    source: str
    target: str
    leaves: float
    arrives: float
    waits: float
    light_time: float


class Forecaster:
    """Earliest arrivals over one plan."""

    def __init__(self, plan: ContactPlan) -> None:
        self._graph = ContactGraph(plan, Margin(0.0))

    def way(self, source: str, target: str, size: int, time: float) -> tuple[Leap, ...] | None:
        """The earliest way.

        Args:
            source: node name.
            target: node name.
            size: octets on the wire.
            time: mission seconds at which the bundle is at `source`.

        Returns:
            Its contacts in order, empty when it is there already; None without a way.
        """
        if source == target:
            return ()
        index = self._graph.index
        if source not in index or target not in index:
            return None
        found = search(self._graph, Origin(index[source], time), Bundle(index[target], size, _PRIORITY), loaded=False)
        if found is None:
            return None
        leaps = []
        for slot in found.slots:
            leaves = max(time, slot.start)
            left = leaves + size * slot.pace
            arrives = slot.arrival(left)
            contact = slot.contact
            leaps.append(Leap(contact.source, contact.target, leaves, arrives, leaves - time, arrives - left))
            time = arrives
        return tuple(leaps)
