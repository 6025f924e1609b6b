"""What applications at a node tell Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Traffic(Protocol):
    """Who knows the figures."""

    def figures(self) -> Iterable[tuple[str, str, bool, float]]:
        """Name, text, whether it only grows, value."""

    def reasons(self) -> Mapping[str, int]:
        """Connections that ended for a reason of the node's."""


class ApplicationFigures(Collector):
    """Metric families of applications, made when somebody asks."""

    def __init__(self, node: str, traffic: Traffic) -> None:
        self._node, self._traffic = node, traffic

    def collect(self) -> Iterator[Metric]:
        """The families."""
        for name, text, grows, value in self._traffic.figures():
            family = (CounterMetricFamily if grows else GaugeMetricFamily)(f"marsnet_{name}", text, labels=["node"])
            family.add_metric([self._node], value)
            yield family
        reasons = self._traffic.reasons()
        if reasons:
            broken = CounterMetricFamily(
                "marsnet_aap2_broken", "Connections of AAP 2.0 that the node ended.", labels=["node", "reason"]
            )
            for reason, count in reasons.items():
                broken.add_metric([self._node, reason], count)
            yield broken
