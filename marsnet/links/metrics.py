"""Prometheus metrics of a delay line, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from marsnet.links.line import DelayLine
from marsnet.links.native import late_bound

_FLOWS = {
    "in": ("entered", "offered to the link"),
    "delivered": ("delivered", "delivered"),
    "dropped": ("dropped", "dropped"),
}
_HISTOGRAM_BOUNDS = (10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 0.1, 1.0)


class LinkCollector:
    """Reads the line's statistics when it is scraped."""

    def __init__(self, line: DelayLine) -> None:
        self._line = line

    def collect(self) -> Iterator[Metric]:
        """Every metric, labelled by link, direction and, where it applies, class or reason."""
        stats = self._line.stats()
        rows = [
            ([name, direction], figures)
            for name, link in stats["links"].items()
            for direction, figures in link["directions"].items()
        ]
        yield from _flows(rows)
        yield from _levels(rows)
        yield from _fidelity(rows)
        store = stats["store"]
        yield GaugeMetricFamily("marsnet_link_store_ram_bytes", "RAM that holds frames", store["ram_bytes"])
        yield GaugeMetricFamily("marsnet_link_store_disk_bytes", "Disk that holds frames", store["disk_bytes"])
        yield GaugeMetricFamily("marsnet_link_store_failed", "1 while the disk takes no frames", store["state"] != "ok")
        yield GaugeMetricFamily("marsnet_link_realtime", "1 when the worker runs SCHED_FIFO", stats["realtime"])
        if stats["steal"] is not None:
            yield GaugeMetricFamily("marsnet_link_steal_ratio", "Processor time taken by others", stats["steal"])


Rows = list[tuple[list[str], dict[str, Any]]]
_LABELS = ("link", "direction")


def _flows(rows: Rows) -> Iterator[Metric]:
    for unit in ("frames", "bytes"):
        for flow, (key, words) in _FLOWS.items():
            metric = CounterMetricFamily(
                f"marsnet_link_{flow}_{unit}", f"{unit.capitalize()} {words}, by class", labels=(*_LABELS, "class")
            )
            for labels, figures in rows:
                for cls, counts in figures["classes"].items():
                    metric.add_metric([*labels, cls], counts[key][unit])
            yield metric
        metric = CounterMetricFamily(
            f"marsnet_link_drops_{unit}", f"{unit.capitalize()} dropped, by reason", labels=(*_LABELS, "reason")
        )
        for labels, figures in rows:
            for reason, count in figures["dropped"].items():
                metric.add_metric([*labels, reason], count[unit])
        yield metric


def _levels(rows: Rows) -> Iterator[Metric]:
    for unit in ("frames", "bytes"):
        queued = GaugeMetricFamily(f"marsnet_link_queued_{unit}", "Waiting, by class", labels=(*_LABELS, "class"))
        flying = GaugeMetricFamily(f"marsnet_link_in_flight_{unit}", "In flight", labels=_LABELS)
        for labels, figures in rows:
            for cls, counts in figures["classes"].items():
                queued.add_metric([*labels, cls], counts["queued"][unit])
            flying.add_metric(labels, figures["in_flight"][unit])
        yield queued
        yield flying


def _fidelity(rows: Rows) -> Iterator[Metric]:
    late = HistogramMetricFamily("marsnet_link_lateness_seconds", "Delivery after the deadline", labels=_LABELS)
    balanced = GaugeMetricFamily("marsnet_link_balanced", "1 while every frame is accounted for", labels=_LABELS)
    valid = GaugeMetricFamily("marsnet_link_valid", "1 while fidelity is within the budget", labels=_LABELS)
    counters = {
        name: CounterMetricFamily(f"marsnet_link_{name}", words, labels=_LABELS)
        for name, words in (
            ("ring_drops", "Frames that the kernel could not hand over"),
            ("clock_steps", "Steps of the wall clock"),
            ("stalls", "Times the timeline was not loaded in time"),
            ("broken", "Times the balance did not hold"),
            ("corrupted", "Frames with bit errors let through"),
        )
    }
    for labels, figures in rows:
        buckets, passed, index = [], 0, 0
        for bound in _HISTOGRAM_BOUNDS:
            while index < len(figures["lateness_histogram"]) and late_bound(index) <= bound * 1e9:
                passed += figures["lateness_histogram"][index]
                index += 1
            buckets.append((str(bound), passed))
        buckets.append(("+Inf", figures["lateness_frames"]))
        late.add_metric(labels, buckets, figures["lateness_sum_ns"] * 1e-9)
        balanced.add_metric(labels, figures["balanced"] and not figures["broken"])
        valid.add_metric(labels, figures["valid"])
        for name, metric in counters.items():
            metric.add_metric(labels, figures[name])
    yield from (late, balanced, valid, *counters.values())


async def serve_metrics(line: DelayLine, host: str, port: int) -> web.AppRunner:
    """Serve `/metrics`; the returned runner is cleaned up by the caller."""
    registry = CollectorRegistry()
    registry.register(LinkCollector(line))

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", scrape)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
