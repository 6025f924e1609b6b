"""The text that Prometheus scrapes: a node's counts and state as metric families, made when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from marsnet.dtn.apps.figures import Traffic
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.bundle_metrics import bundle_metrics
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.neighbour_metrics import histogram, neighbour_metrics


def exposition(metrics: NodeMetrics) -> bytes:
    """The text of a node's metrics."""
    return generate_latest(_Everything(metrics))


class _Everything(Collector):
    """All families of a node."""

    def __init__(self, metrics: NodeMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield histogram(
            metrics.node,
            "marsnet_bundle_latency_seconds",
            "Mission seconds from creation to delivery.",
            ["class"],
            [((service_class.name.lower(),), buckets) for service_class, buckets in metrics.latencies.items()],
        )
        yield histogram(
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
        yield from neighbour_metrics(self._agent)
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

    def _layers(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        told = [(layer.name, layer.figures()) for layer in self._agent.layers]
        told += [(name, socket.figures()) for name, socket in self._metrics.sockets.items()]
        for layer, figures in told:
            for neighbour, figure in figures:
                family = families.get(figure.name)
                if family is None:
                    family = families[figure.name] = Metric(f"marsnet_{figure.name}", figure.text, figure.kind)
                suffix = "_total" if figure.kind == "counter" else ""
                labels = {"node": self._node, "layer": layer, "neighbour": neighbour, **figure.labels}
                family.add_sample(f"marsnet_{figure.name}{suffix}", labels, figure.value)
        yield from families.values()
