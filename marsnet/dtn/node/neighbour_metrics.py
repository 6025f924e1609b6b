"""What a node tells Prometheus of its neighbours and contacts: queues, what passed, volume, what is next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.distribution import Buckets
from marsnet.dtn.node.forwarding import Forwarder

_AT = ["node", "neighbour", "layer"]


def histogram(
    node: str, name: str, text: str, labels: list[str], filled: Iterable[tuple[tuple[str, ...], Buckets]]
) -> HistogramMetricFamily:
    """A family of histograms, each with the values of its labels besides the node's."""
    family = HistogramMetricFamily(name, text, labels=["node", *labels])
    for values, buckets in filled:
        bounds = [
            ("+Inf" if bound == math.inf else str(float(bound)), float(count)) for bound, count in buckets.cumulative()
        ]
        family.add_metric([node, *values], bounds, buckets.total)
    return family


def neighbour_metrics(agent: BundleAgent) -> Iterator[Metric]:
    """The metric families of an agent's neighbours and contacts."""
    yield from _queues(agent.config.name, agent.forwarder)
    yield from _passed(agent.config.name, agent.forwarder)
    yield from _contacts(agent.config.name, agent.forwarder)


def _queues(node: str, forwarder: Forwarder) -> Iterator[Metric]:
    queue = GaugeMetricFamily("marsnet_queue_bundles", "Bundles that wait for a neighbour.", labels=[*_AT, "class"])
    octets = GaugeMetricFamily("marsnet_queue_bytes", "Bytes of bundles that wait for a neighbour.", labels=_AT)
    flying = GaugeMetricFamily(
        "marsnet_flying_bundles", "Bundles handed to a convergence layer and not acknowledged.", labels=_AT
    )
    unsent = GaugeMetricFamily(
        "marsnet_unsent_bytes", "Bytes of bundles in a convergence layer's hands that have not left.", labels=_AT
    )
    for neighbour, layer, waiting, count, size in forwarder.queues():
        labels = [node, neighbour, layer.name]
        octets.add_metric(labels, waiting.octets)
        flying.add_metric(labels, count)
        unsent.add_metric(labels, size)
        for service_class in ServiceClass:
            queue.add_metric([*labels, service_class.name.lower()], waiting.count(service_class))
    yield from (queue, octets, flying, unsent)


def _passed(node: str, forwarder: Forwarder) -> Iterator[Metric]:
    """Counters of what went to each neighbour, and came from it."""
    handed = CounterMetricFamily(
        "marsnet_handed_bundles", "Bundles given to a convergence layer for a neighbour.", labels=[*_AT, "class"]
    )
    repeated = CounterMetricFamily(
        "marsnet_repeated_bundles", "Of these, bundles that had been given to a layer before.", labels=_AT
    )
    returned = CounterMetricFamily(
        "marsnet_returned_bundles", "Bundles that did not reach a neighbour.", labels=[*_AT, "reason"]
    )
    named = ["node", "neighbour"]
    known = [(name, layer.name, forwarder.carriage[name]) for name, layer in forwarder.layers.items()]
    for name, layer, carriage in known:
        for service_class, count in carriage.handed.items():
            handed.add_metric([node, name, layer, service_class.name.lower()], count)
        repeated.add_metric([node, name, layer], carriage.repeated)
        for reason, count in carriage.returned.items():
            returned.add_metric([node, name, layer, reason], count)
    yield from (handed, repeated, returned)
    everybody = forwarder.carriage.items()
    for what, text, accounts in (
        ("left", "of which every octet has left for a neighbour", [(name, c.left) for name, _, c in known]),
        ("taken", "that a neighbour has taken", [(name, c.taken) for name, _, c in known]),
        ("received", "that came from a neighbour, duplicates included", [(name, c.received) for name, c in everybody]),
    ):
        bundles = CounterMetricFamily(f"marsnet_{what}_bundles", f"Bundles {text}.", labels=named)
        size = CounterMetricFamily(f"marsnet_{what}_bytes", f"Bytes of bundles {text}.", labels=named)
        for name, (count, octets) in accounts:
            bundles.add_metric([node, name], count)
            size.add_metric([node, name], octets)
        yield from (bundles, size)
    yield histogram(
        node,
        "marsnet_stay_seconds",
        "Mission seconds from a bundle's arrival at this node until a neighbour had it.",
        ["neighbour", "class"],
        [
            ((name, service_class.name.lower()), buckets)
            for name, _, carriage in known
            for service_class, buckets in carriage.stays.items()
        ],
    )


def _contacts(node: str, forwarder: Forwarder) -> Iterator[Metric]:
    """The contact with each neighbour that is open, or was last, and the one after it."""
    named = ["node", "neighbour"]
    is_open = GaugeMetricFamily(
        "marsnet_contact_open", "1 while there is a contact, by plan or by chance.", labels=named
    )
    carried = GaugeMetricFamily(
        "marsnet_contact_left_bundles", "Bundles that have left over the current contact, or the last.", labels=named
    )
    octets = GaugeMetricFamily(
        "marsnet_contact_left_bytes",
        "Bytes of bundles that have left over the current contact, or the last.",
        labels=named,
    )
    rate = GaugeMetricFamily("marsnet_contact_rate_bits", "bit/s of the current contact.", labels=named)
    end = GaugeMetricFamily("marsnet_contact_end_seconds", "Mission time when the current contact ends.", labels=named)
    volume = GaugeMetricFamily("marsnet_contact_volume_bytes", "Bytes that the current contact carries.", labels=named)
    booked = GaugeMetricFamily(
        "marsnet_contact_booked_bytes",
        "Bytes of bundles that have volume of the current contact and have not left.",
        labels=[*named, "class"],
    )
    left = GaugeMetricFamily(
        "marsnet_contact_free_bytes",
        "Bytes that a bundle of a class can still book of the current contact.",
        labels=[*named, "class"],
    )
    next_start = GaugeMetricFamily(
        "marsnet_next_contact_start_seconds", "Mission time when the next contact begins.", labels=named
    )
    next_volume = GaugeMetricFamily(
        "marsnet_next_contact_volume_bytes", "Bytes that the next contact carries.", labels=named
    )
    for neighbour, state in forwarder.contacts.states():
        is_open.add_metric([node, neighbour], state)
        carriage = forwarder.carriage[neighbour]
        carried.add_metric([node, neighbour], carriage.left_in_contact[0])
        octets.add_metric([node, neighbour], carriage.left_in_contact[1])
        outlook = forwarder.router.outlook(neighbour, forwarder.contacts.time)
        if outlook.contact is not None:
            rate.add_metric([node, neighbour], outlook.contact.rate)
            end.add_metric([node, neighbour], outlook.contact.end)
            volume.add_metric([node, neighbour], outlook.contact.volume)
            for service_class in ServiceClass:
                name = service_class.name.lower()
                booked.add_metric([node, neighbour, name], outlook.booked[service_class])
                left.add_metric([node, neighbour, name], outlook.free[service_class])
        if outlook.next is not None:
            next_start.add_metric([node, neighbour], outlook.next.start)
            next_volume.add_metric([node, neighbour], outlook.next.volume)
    yield from (is_open, carried, octets, rate, end, volume, booked, left, next_start, next_volume)
