"""What a node tells Prometheus of its bundles beyond their steps: drops, security, reports, fragments, storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from marsnet.dtn.store import Usage

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
        yield _gauge(node, name, text, (), {(): value})
    yield _counter(node, "clock_steps_back", "Times that the mission clock went back.", (), {(): agent.clock_steps})
    yield from _store(agent)
    yield from _timers(agent)


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
    node = agent.config.name
    yield _counter(node, "store_commit_seconds", "Host seconds that commits took.", (), {(): counters.commit_seconds})
    yield _gauge(node, "store_quota_bytes", "Bytes that the store may hold.", (), {(): agent.store.quota})
    stored = {c.name.lower(): account for c, account in agent.forwarder.stored.items()}
    for at, unit in enumerate(("bundles", "bytes")):
        text = f"{unit.capitalize()} in the store by class."
        yield _gauge(node, f"stored_{unit}", text, ("class",), {(c,): account[at] for c, account in stored.items()})
    tenants = agent.config.tenants
    usage: dict[tuple[str, ...], Usage] = {(tenant,): agent.store.tenant_usage(tenant) for tenant in tenants}
    quotas: dict[tuple[str, ...], int] = {(tenant,): t.quota for tenant, t in tenants.items() if t.quota is not None}
    text = "What a tenant has in the store, and may have there."
    yield _gauge(node, "tenant_bundles", text, ("tenant",), {tenant: used.bundles for tenant, used in usage.items()})
    yield _gauge(node, "tenant_bytes", text, ("tenant",), {tenant: used.size for tenant, used in usage.items()})
    yield _gauge(node, "tenant_quota_bytes", text, ("tenant",), quotas)
    evicted: dict[tuple[str, ...], int] = {
        (tenant, str(reason)): count for (tenant, reason), count in agent.keeper.evicted.items()
    }
    text = "Bundles of a tenant that made room for others."
    yield _counter(node, "evicted_bundles", text, ("tenant", "reason"), evicted)


def _timers(agent: BundleAgent) -> Iterator[Metric]:
    """Deadlines of the node itself; layers tell of their own."""
    node, forwarder = agent.config.name, agent.forwarder
    running = {
        "lifetime": agent.keeper.lifetimes_running,
        "flow": sum(flow.next_time is not None for flow in agent.flows.sources),
        **forwarder.timers(),
    }
    text = "Deadlines of the node that are to come."
    yield _gauge(node, "timers", text, ("timer",), {(name,): count for name, count in running.items()})
    now = forwarder.contacts.time
    deadline = agent.next_deadline(now)
    text = "Mission time of the next thing that the node does by itself."
    yield _gauge(node, "next_deadline_seconds", text, (), {} if deadline is None else {(): deadline})
    text = "Mission time when the node last acted."
    yield _gauge(node, "acted_seconds", text, (), {(): now})


def _counter(
    node: str, name: str, text: str, labels: Iterable[str], counts: Mapping[tuple[str, ...], float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"marsnet_{name}", text, labels=["node", *labels])
    for values, count in counts.items():
        family.add_metric([node, *values], count)
    return family


def _gauge(
    node: str, name: str, text: str, labels: Iterable[str], values: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"marsnet_{name}", text, labels=["node", *labels])
    for names, value in values.items():
        family.add_metric([node, *names], value)
    return family
