"""What a node tells Prometheus of its bundles beyond their steps: drops, security, reports, fragments, storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from marsnet.dtn.node.agent import BundleAgent


def bundle_metrics(agent: BundleAgent) -> Iterator[Metric]:
    """The metric families of an agent."""
    node, keeper = agent.config.name, agent.keeper
    yield _counter(
        node,
        "dropped_bundles",
        "Bundles whose lives ended here undelivered.",
        ("reason", "class"),
        {(str(reason), c.name.lower()): count for (reason, c), count in keeper.drops.items()},
    )
    yield _counter(
        node,
        "security_failures",
        "Operations of BPSec that failed.",
        ("reason",),
        {(reason.removeprefix("security: "),): count for reason, count in keeper.failures.items()},
    )
    yield _counter(
        node,
        "removed_blocks",
        "Blocks that were removed because this node does not know them.",
        ("type",),
        {(str(kind),): count for kind, count in keeper.removed_blocks.items()},
    )
    yield from _reports(agent)
    yield _counter(
        node,
        "fragments_made",
        "Fragments that this node made.",
        ("why",),
        {(why,): count for why, count in keeper.fragmenter.made.items()},
    )
    yield _counter(node, "reassembled_bundles", "Bundles put together.", (), {(): keeper.fragmenter.joined})
    for name, text, value in (
        ("reassembly_fragments", "Fragments that wait here for others.", keeper.reassembly.fragments),
        ("reassembly_bundles", "Bundles of which some fragments are here.", len(keeper.reassembly)),
        ("reassembly_bytes", "Payload bytes of fragments that wait here.", keeper.reassembly.held_bytes),
    ):
        gauge = GaugeMetricFamily(f"marsnet_{name}", text, labels=["node"])
        gauge.add_metric([node], value)
        yield gauge
    yield _counter(node, "clock_steps_back", "Times that the mission clock went back.", (), {(): agent.clock_steps})
    yield from _store(agent)


def _reports(agent: BundleAgent) -> Iterator[Metric]:
    node, keeper = agent.config.name, agent.keeper
    labels = ("status", "code")
    yield _counter(
        node,
        "status_reports_sent",
        "Status reports made here.",
        labels,
        {(status.name.lower(), str(int(code))): count for (status, code), count in keeper.reporter.sent.items()},
    )
    yield _counter(
        node,
        "status_reports_received",
        "Status reports that came to this node.",
        labels,
        {(status.name.lower(), str(code)): count for (status, code), count in keeper.reports.received.items()},
    )
    yield _counter(
        node,
        "status_reports_suppressed",
        "Status reports that bundles asked for and that were not made.",
        ("why",),
        {(why,): count for why, count in keeper.reporter.suppressed.items()},
    )


def _store(agent: BundleAgent) -> Iterator[Metric]:
    counters = agent.store.counters
    yield _counter(
        agent.config.name,
        "store_events",
        "What happened to the bundle store.",
        ("event",),
        {
            (name,): getattr(counters, name)
            for name in (
                "added",
                "duplicates",
                "refused",
                "evicted",
                "commits",
                "failed_commits",
                "corrupt_bundles",
                "orphans",
                "set_aside",
            )
        },
    )
    usage = GaugeMetricFamily(
        "marsnet_tenant_bytes", "Bytes of a tenant's bundles in the store.", labels=["node", "tenant"]
    )
    for tenant in agent.config.tenants:
        usage.add_metric([agent.config.name, tenant], agent.store.tenant_usage(tenant).size)
    yield usage


def _counter(
    node: str, name: str, text: str, labels: Iterable[str], counts: Mapping[tuple[str, ...], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"marsnet_{name}", text, labels=["node", *labels])
    for values, count in counts.items():
        family.add_metric([node, *values], count)
    return family
