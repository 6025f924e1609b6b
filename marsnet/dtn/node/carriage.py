"""What has passed between a node and one neighbour, in plain counts."""

from __future__ import annotations

from collections import Counter

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.distribution import Buckets

_STAY = (0.01, 0.1, 1, 10, 60, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 604800)
"""Upper bounds of the histogram of stays, mission seconds."""


class Carriage:
    """Counts for one neighbour; for none of them in particular, those of whom the layer does not know.

    Attributes:
        handed: bundles given to the convergence layer, by class.
        repeated: of these, bundles that had been given to one before.
        left: bundles and octets that have left.
        left_in_contact: the same since the current contact opened; after its end, of the last one.
        taken: bundles and octets that the neighbour has.
        returned: bundles that did not reach it, by reason.
        received: bundles and octets that came from it, duplicates included.
        stays: mission seconds from a bundle's arrival here until the neighbour had it, by class.
    """

    def __init__(self) -> None:
        self.handed: Counter[ServiceClass] = Counter()
        self.repeated = 0
        self.left, self.left_in_contact, self.taken, self.received = [0, 0], [0, 0], [0, 0], [0, 0]
        self.returned: Counter[str] = Counter()
        self.stays: dict[ServiceClass, Buckets] = {}

    def contact_opened(self) -> None:
        """A contact begins."""
        self.left_in_contact = [0, 0]

    def hand_over(self, service_class: ServiceClass, *, again: bool) -> None:
        """A bundle is given to the layer."""
        self.handed[service_class] += 1
        self.repeated += again

    def leave(self, size: int) -> None:
        """All of a bundle has left."""
        for account in (self.left, self.left_in_contact):
            account[0] += 1
            account[1] += size

    def take(self, service_class: ServiceClass, size: int, stay: float) -> None:
        """The neighbour has a bundle that was here for so many mission seconds."""
        self.taken[0] += 1
        self.taken[1] += size
        buckets = self.stays.get(service_class)
        if buckets is None:
            buckets = self.stays[service_class] = Buckets(_STAY)
        buckets.observe(stay)

    def receive(self, size: int) -> None:
        """A bundle came."""
        self.received[0] += 1
        self.received[1] += size
