"""What a node tells Prometheus: bundles by step and class, latency, queues, storage, contacts, convergence layers.

Counts are kept as plain numbers where things happen; Prometheus' families are made when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from marsnet.dtn.apps.figures import ApplicationFigures
from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.bundle_metrics import bundle_metrics
from marsnet.dtn.node.ledger import Step

if TYPE_CHECKING:
    from marsnet.dtn.node.agent import BundleAgent

LATENCY_BUCKETS = (1, 10, 60, 300, 600, 800, 900, 1000, 1200, 1500, 2000, 3600, 7200, 14400, 43200, 86400)
"""Upper bounds of the histogram of latency, mission seconds."""
_LATENESS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class NodeMetrics:
    """The metrics of one node, in a registry of their own.

    Attributes:
        registry: what an HTTP endpoint exposes.
        lateness: host seconds that the node was late for its deadlines, in order.
        steps: steps in the lives of bundles, by step and class.
        returned: bundles that a convergence layer did not bring to the neighbour, by reason.
        malformed: octets from a neighbour that are no bundle.
    """

    def __init__(self, node: str) -> None:
        self.registry = CollectorRegistry()
        self.lateness: list[float] = []
        self.steps: Counter[tuple[Step, ServiceClass]] = Counter()
        self.returned: Counter[str] = Counter()
        self.malformed = 0
        self._node = node
        self._latency = Histogram(
            "marsnet_bundle_latency_seconds",
            "Mission seconds from creation to delivery.",
            ["node", "class"],
            registry=self.registry,
            buckets=LATENCY_BUCKETS,
        )
        self._by_class: dict[ServiceClass, Histogram] = {}
        self._late = Histogram(
            "marsnet_node_lateness_seconds",
            "Host seconds that the node was late for a deadline.",
            ["node"],
            registry=self.registry,
            buckets=_LATENESS,
        ).labels(node)

    def latency(self, service_class: ServiceClass, seconds: float) -> None:
        """A bundle was delivered so many mission seconds after its creation."""
        child = self._by_class.get(service_class)
        if child is None:
            child = self._by_class[service_class] = self._latency.labels(self._node, service_class.name.lower())
        child.observe(seconds)

    def late(self, seconds: float) -> None:
        """The node was late for a deadline by so many host seconds."""
        self._late.observe(seconds)
        self.lateness.append(seconds)

    def watch(self, agent: BundleAgent) -> None:
        """Expose the state of a node whenever the registry is read."""
        self.registry.register(_AgentCollector(self, agent))
        self.registry.register(ApplicationFigures(self._node, agent.local))

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class _AgentCollector(Collector):
    """Makes metric families of an agent's state."""

    def __init__(self, metrics: NodeMetrics, agent: BundleAgent) -> None:
        self._metrics, self._agent, self._node = metrics, agent, agent.config.name

    def collect(self) -> Iterator[Metric]:
        yield from self._bundles()
        yield from bundle_metrics(self._agent)
        yield from self._links()
        yield from self._layers()

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
        unwritten = self._agent.ledger.waiting_bytes
        for name, text, value in (
            ("marsnet_ledger_waiting_bytes", "Octets of the ledger that wait for room on the disk.", unwritten),
            ("marsnet_store_bundles", "Bundles in the store.", usage.bundles),
            ("marsnet_store_bytes", "Bytes of bundles in the store.", usage.size),
            ("marsnet_unroutable_bundles", "Bundles in the store without a route.", self._agent.forwarder.unroutable),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["node"])
            gauge.add_metric([self._node], value)
            yield gauge

    def _links(self) -> Iterator[Metric]:
        forwarder, at = self._agent.forwarder, ["node", "neighbour", "layer"]
        queue = GaugeMetricFamily("marsnet_queue_bundles", "Bundles that wait for a neighbour.", labels=[*at, "class"])
        octets = GaugeMetricFamily("marsnet_queue_bytes", "Bytes of bundles that wait for a neighbour.", labels=at)
        flying = GaugeMetricFamily(
            "marsnet_flying_bundles", "Bundles handed to a convergence layer and not acknowledged.", labels=at
        )
        unsent = GaugeMetricFamily(
            "marsnet_unsent_bytes", "Bytes of bundles in a convergence layer's hands that have not left.", labels=at
        )
        for neighbour, layer, waiting, count, size in forwarder.queues():
            labels = [self._node, neighbour, layer.name]
            octets.add_metric(labels, waiting.octets)
            flying.add_metric(labels, count)
            unsent.add_metric(labels, size)
            for service_class in ServiceClass:
                queue.add_metric([*labels, service_class.name.lower()], waiting.count(service_class))
        yield from (queue, octets, flying, unsent)
        contact = GaugeMetricFamily(
            "marsnet_contact_open", "1 while there is a contact, by plan or by chance.", labels=["node", "neighbour"]
        )
        for neighbour, is_open in forwarder.contacts.states():
            contact.add_metric([self._node, neighbour], is_open)
        yield contact
        returned = CounterMetricFamily(
            "marsnet_returned_bundles", "Bundles that did not reach a neighbour.", labels=["node", "reason"]
        )
        for reason, number in self._metrics.returned.items():
            returned.add_metric([self._node, reason], number)
        yield returned

    def _layers(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for layer in self._agent.layers:
            for neighbour, figure in layer.figures():
                family = families.get(figure.name)
                if family is None:
                    family = families[figure.name] = Metric(f"marsnet_{figure.name}", figure.text, figure.kind)
                suffix = "_total" if figure.kind == "counter" else ""
                labels = {"node": self._node, "layer": layer.name, "neighbour": neighbour, **figure.labels}
                family.add_sample(f"marsnet_{figure.name}{suffix}", labels, figure.value)
        yield from families.values()
