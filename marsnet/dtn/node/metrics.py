"""What a node tells Prometheus: bundles by step and class, latency, queues, storage, contacts and LTP.

Counts are kept as plain numbers where things happen; Prometheus' families are made when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.ltp.segments import KIND_NAMES
from marsnet.dtn.node.ledger import Step

if TYPE_CHECKING:
    from marsnet.dtn.node.agent import BundleAgent

_LATENCY = (1, 10, 60, 300, 600, 800, 900, 1000, 1200, 1500, 2000, 3600, 7200, 14400, 43200, 86400)
_LATENESS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class NodeMetrics:
    """The metrics of one node, in a registry of their own.

    Attributes:
        registry: what an HTTP endpoint exposes.
        lateness: host seconds that the node was late for its deadlines, in order.
        steps: steps in the lives of bundles, by step and class.
        cancelled: LTP blocks given up, by reason code and whether the peer did.
        ignored: events of LTP that no bundle depends on, by kind.
        malformed: octets from a neighbour that are no bundle.
    """

    def __init__(self, node: str) -> None:
        self.registry = CollectorRegistry()
        self.lateness: list[float] = []
        self.steps: Counter[tuple[Step, ServiceClass]] = Counter()
        self.cancelled: Counter[tuple[int, bool]] = Counter()
        self.ignored: Counter[str] = Counter()
        self.malformed = 0
        self._node = node
        self._latency = Histogram(
            "marsnet_bundle_latency_seconds",
            "Mission seconds from creation to delivery.",
            ["node", "class"],
            registry=self.registry,
            buckets=_LATENCY,
        )
        self._late = Histogram(
            "marsnet_node_lateness_seconds",
            "Host seconds that the node was late for a deadline.",
            ["node"],
            registry=self.registry,
            buckets=_LATENESS,
        ).labels(node)

    def latency(self, service_class: ServiceClass, seconds: float) -> None:
        """A bundle was delivered so many mission seconds after its creation."""
        self._latency.labels(self._node, service_class.name.lower()).observe(seconds)

    def late(self, seconds: float) -> None:
        """The node was late for a deadline by so many host seconds."""
        self._late.observe(seconds)
        self.lateness.append(seconds)

    def watch(self, agent: BundleAgent) -> None:
        """Expose the state of a node whenever the registry is read."""
        self.registry.register(_AgentCollector(self, agent))

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class _AgentCollector(Collector):
    """Makes metric families of an agent's state."""

    def __init__(self, metrics: NodeMetrics, agent: BundleAgent) -> None:
        self._metrics, self._agent, self._node = metrics, agent, agent.config.name

    def collect(self) -> Iterator[Metric]:
        yield from self._bundles()
        yield from self._links()
        yield from self._ltp()

    def _bundles(self) -> Iterator[Metric]:
        steps = CounterMetricFamily(
            "marsnet_bundles", "Steps in the lives of bundles.", labels=["node", "event", "class"]
        )
        for (step, service_class), count in self._metrics.steps.items():
            steps.add_metric([self._node, str(step), service_class.name.lower()], count)
        yield steps
        malformed = CounterMetricFamily(
            "marsnet_malformed_bundles", "Octets from a neighbour that are no bundle.", labels=["node"]
        )
        malformed.add_metric([self._node], self._metrics.malformed)
        yield malformed
        usage = self._agent.store.usage
        for name, text, value in (
            ("marsnet_store_bundles", "Bundles in the store.", usage.bundles),
            ("marsnet_store_bytes", "Bytes of bundles in the store.", usage.size),
            ("marsnet_unroutable_bundles", "Bundles in the store without a route.", self._agent.forwarder.unroutable),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["node"])
            gauge.add_metric([self._node], value)
            yield gauge

    def _links(self) -> Iterator[Metric]:
        queue = GaugeMetricFamily(
            "marsnet_queue_bundles", "Bundles that wait for a neighbour.", labels=["node", "neighbour", "class"]
        )
        contact = GaugeMetricFamily(
            "marsnet_contact_open", "1 while the plan has a contact.", labels=["node", "neighbour"]
        )
        for neighbour, waiting, is_open in self._agent.forwarder.neighbours():
            contact.add_metric([self._node, neighbour], is_open)
            for service_class in ServiceClass:
                queue.add_metric([self._node, neighbour, service_class.name.lower()], waiting.count(service_class))
        yield queue
        yield contact

    def _ltp(self) -> Iterator[Metric]:
        segments = CounterMetricFamily(
            "marsnet_ltp_segments", "LTP segments by type.", labels=["node", "neighbour", "direction", "type"]
        )
        again = CounterMetricFamily(
            "marsnet_ltp_retransmitted_segments", "Segments sent again.", labels=["node", "neighbour", "type"]
        )
        octets = CounterMetricFamily(
            "marsnet_ltp_bytes", "Octets of LTP segments.", labels=["node", "neighbour", "direction"]
        )
        resent = CounterMetricFamily(
            "marsnet_ltp_retransmitted_bytes", "Octets of block data sent again.", labels=["node", "neighbour"]
        )
        for neighbour, counters in self._agent.forwarder.ltp_counters():
            at = [self._node, neighbour]
            for kind, name in KIND_NAMES.items():
                segments.add_metric([*at, "sent", name], counters.sent_segments[kind])
                segments.add_metric([*at, "received", name], counters.received_segments[kind])
            again.add_metric([*at, "checkpoint"], counters.retransmitted_checkpoints)
            again.add_metric([*at, "report"], counters.retransmitted_reports)
            again.add_metric([*at, "cancel"], counters.retransmitted_cancels)
            octets.add_metric([*at, "sent"], counters.sent_bytes)
            octets.add_metric([*at, "received"], counters.received_bytes)
            resent.add_metric(at, counters.retransmitted_bytes)
        yield from (segments, again, octets, resent)
        sessions = GaugeMetricFamily("marsnet_ltp_sessions", "Open LTP sessions.", labels=["node", "direction"])
        exports, imports = self._agent.ltp.open_sessions()
        sessions.add_metric([self._node, "export"], exports)
        sessions.add_metric([self._node, "import"], imports)
        yield sessions
        cancelled = CounterMetricFamily(
            "marsnet_ltp_cancelled_sessions", "LTP blocks given up.", labels=["node", "reason", "by"]
        )
        for (reason, by_peer), count in self._metrics.cancelled.items():
            cancelled.add_metric([self._node, str(reason), "peer" if by_peer else "self"], count)
        yield cancelled
        ignored = CounterMetricFamily(
            "marsnet_ltp_ignored_events", "Events of LTP that no bundle depends on.", labels=["node", "kind"]
        )
        for event, count in self._metrics.ignored.items():
            ignored.add_metric([self._node, event], count)
        yield ignored
