"""What a controller tells Prometheus. Frames are counted by the switches and read from them when somebody asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from controllers.flows import Entry, Purpose
from controllers.settings import Settings

_LATENESS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_REASON = {Purpose.NO_CONTACT: "no contact", Purpose.MISS: "unknown destination"}
Survey = Mapping[str, Mapping[Entry, int] | None]
"""Entries and their packet counts by node; None for a switch that cannot be asked."""


class Telemetry:
    """The metrics of one controller, in a registry of its own.

    Args:
        settings: the controller's settings, for the names of nodes and links.

    Attributes:
        lateness: host seconds between a deadline of the plan and the switches' confirmation.
        changes: entries added or removed.
        packet_ins: packets that switches sent to the controller.
        errors: refusals and missing answers of switches.
    """

    def __init__(self, settings: Settings) -> None:
        self._registry = CollectorRegistry()
        self._segment = segment = settings.segment
        self._names = {switch.number: switch.node for switch in settings.switches}
        self._links = {(switch.node, port.number): port.link for switch in settings.switches for port in switch.ports}
        self._retired: defaultdict[tuple[str, Entry], int] = defaultdict(int)
        self._survey: Survey = {}
        self.lateness = Histogram(
            "marsnet_sdn_schedule_lateness_seconds",
            "Host seconds from a deadline of the plan to the last switch's confirmation.",
            ["segment"],
            buckets=_LATENESS,
            registry=self._registry,
        ).labels(segment)
        self.changes = self._counter("marsnet_sdn_flow_changes", "Flow entries added or removed.")
        self.packet_ins = self._counter("marsnet_sdn_packet_ins", "Packets that switches sent to the controller.")
        self.errors = self._counter("marsnet_sdn_errors", "Refusals and missing answers of switches.")
        self._registry.register(self)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, ["segment"], registry=self._registry).labels(self._segment)

    def retire(self, node: str, entry: Entry, packets: int) -> None:
        """Keep the count of an entry that its switch has removed."""
        self._retired[node, entry] += packets

    def expose(self, survey: Survey) -> bytes:
        """All metrics in Prometheus' text format, with the switches' counts of this moment."""
        self._survey = survey
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The metrics that come from the switches. The registry calls this."""
        segment = self._segment
        connected = GaugeMetricFamily(
            "marsnet_sdn_switch_connected", "1 while the switch is under control.", labels=["segment", "node"]
        )
        installed = GaugeMetricFamily(
            "marsnet_sdn_flows_installed", "Entries in the switch's table.", labels=["segment", "node"]
        )
        forwarded = CounterMetricFamily(
            "marsnet_sdn_forwarded_frames",
            "Frames that the switch sent into a link.",
            labels=["segment", "node", "link", "destination"],
        )
        delivered = CounterMetricFamily(
            "marsnet_sdn_delivered_frames", "Frames handed to the node's container.", labels=["segment", "node"]
        )
        dropped = CounterMetricFamily(
            "marsnet_sdn_dropped_frames",
            "Frames that the switch dropped.",
            labels=["segment", "node", "reason", "destination"],
        )
        totals: defaultdict[tuple[str, Entry], int] = defaultdict(int, self._retired)
        for node, entries in self._survey.items():
            connected.add_metric([segment, node], 0 if entries is None else 1)
            if entries is not None:
                installed.add_metric([segment, node], len(entries))
                for entry, packets in entries.items():
                    totals[node, entry] += packets
        for (node, entry), packets in sorted(totals.items(), key=lambda item: (item[0][0], item[0][1].cookie)):
            if entry.purpose is Purpose.LOCAL:
                delivered.add_metric([segment, node], packets)
            elif entry.purpose is Purpose.FORWARD:
                link = self._links[node, entry.port]
                forwarded.add_metric([segment, node, link, self._names[entry.destination]], packets)
            else:
                destination = self._names.get(entry.destination, "")
                dropped.add_metric([segment, node, _REASON[entry.purpose], destination], packets)
        yield from (connected, installed, forwarded, delivered, dropped)
