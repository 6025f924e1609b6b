"""The text that Prometheus scrapes: a node's counts and state as metric families, made when somebody asks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from marsnet.dtn.apps.figures import Traffic
from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.bundle_metrics import bundle_metrics
from marsnet.dtn.node.distribution import Buckets
from marsnet.dtn.node.metrics import NodeMetrics


def exposition(metrics: NodeMetrics) -> bytes:
    """The text of a node's metrics."""
    return generate_latest(_Everything(metrics))


class _Everything(Collector):
    """All families of a node."""

    def __init__(self, metrics: NodeMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield _histogram(
            metrics.node,
            "marsnet_bundle_latency_seconds",
            "Mission seconds from creation to delivery.",
            ["class"],
            [((service_class.name.lower(),), buckets) for service_class, buckets in metrics.latencies.items()],
        )
        yield _histogram(
            metrics.node,
            "marsnet_node_lateness_seconds",
            "Host seconds that the node was late for a deadline.",
            [],
            [((), metrics.late_by)],
        )
        if metrics.agent is not None:
            yield from _AgentCollector(metrics, metrics.agent).collect()
        for traffic in metrics.applications:
            yield from _application_figures(metrics.node, traffic)


def _histogram(
    node: str, name: str, text: str, labels: list[str], filled: Iterable[tuple[tuple[str, ...], Buckets]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=["node", *labels])
    for values, buckets in filled:
        bounds = [
            ("+Inf" if bound == math.inf else str(float(bound)), float(count)) for bound, count in buckets.cumulative()
        ]
        family.add_metric([node, *values], bounds, buckets.total)
    return family


def _application_figures(node: str, traffic: Traffic) -> Iterator[Metric]:
    """Metric families of applications."""
    for name, text, grows, value in traffic.figures():
        family = (CounterMetricFamily if grows else GaugeMetricFamily)(f"marsnet_{name}", text, labels=["node"])
        family.add_metric([node], value)
        yield family
    reasons = traffic.reasons()
    if reasons:
        broken = CounterMetricFamily(
            "marsnet_aap2_broken", "Connections of AAP 2.0 that the node ended.", labels=["node", "reason"]
        )
        for reason, count in reasons.items():
            broken.add_metric([node, reason], count)
        yield broken


class _AgentCollector:
    """Makes metric families of an agent's state."""

    def __init__(self, metrics: NodeMetrics, agent: BundleAgent) -> None:
        self._metrics, self._agent, self._node = metrics, agent, agent.config.name

    def collect(self) -> Iterator[Metric]:
        """The families."""
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
