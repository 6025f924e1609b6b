"""What a node counts for Prometheus. `exposition` makes metric families of it when somebody asks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from marsnet.dtn.apps.figures import Traffic
from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.distribution import Buckets, Quantiles
from marsnet.dtn.node.ledger import Step

if TYPE_CHECKING:
    from marsnet.dtn.node.agent import BundleAgent
    from marsnet.dtn.node.udp import UdpTransport

LATENCY_BUCKETS = (1, 10, 60, 300, 600, 800, 900, 1000, 1200, 1500, 2000, 3600, 7200, 14400, 43200, 86400)
"""Upper bounds of the histogram of latency, mission seconds."""
_LATENESS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class NodeMetrics:
    """The counts of one node.

    Attributes:
        node: its name.
        lateness: host seconds that the node was late for its deadlines.
        late_by: the same in Prometheus' buckets.
        latencies: mission seconds from creation to delivery, by class.
        steps: steps in the lives of bundles, by step and class.
        malformed: octets from a neighbour that are no bundle.
        agent: whose state is exposed; None before there is one.
        applications: who else has figures.
        sockets: of layers that leave them to the process, by layer.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self.lateness, self.late_by = Quantiles(), Buckets(_LATENESS)
        self.latencies: dict[ServiceClass, Buckets] = {}
        self.steps: Counter[tuple[Step, ServiceClass]] = Counter()
        self.malformed = 0
        self.agent: BundleAgent | None = None
        self.applications: list[Traffic] = []
        self.sockets: dict[str, UdpTransport] = {}

    def latency(self, service_class: ServiceClass, seconds: float) -> None:
        """A bundle was delivered so many mission seconds after its creation."""
        buckets = self.latencies.get(service_class)
        if buckets is None:
            buckets = self.latencies[service_class] = Buckets(LATENCY_BUCKETS)
        buckets.observe(seconds)

    def late(self, seconds: float) -> None:
        """The node was late for a deadline by so many host seconds."""
        self.late_by.observe(seconds)
        self.lateness.observe(seconds)

    def watch(self, agent: BundleAgent) -> None:
        """Expose the state of a node from now on."""
        self.agent = agent
        self.applications.append(agent.local)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        # A node that nobody asks does without Prometheus' client, whose import takes a tenth of its start.
        from marsnet.dtn.node.exposition import exposition  # noqa: PLC0415

        return exposition(self)
