"""The documents of a node's HTTP interface, made from what the node holds."""

from __future__ import annotations

import base64
from typing import get_args

from marsnet.dtn.apps import documents as d
from marsnet.dtn.apps.registry import Delivery
from marsnet.dtn.bpv7 import Bundle, BundleError, Eid, ReasonCode, StatusAssertion, decode_from
from marsnet.dtn.node.forecast import Leap
from marsnet.dtn.node.gateway import Gateway
from marsnet.dtn.node.reports import ReceivedReport
from marsnet.dtn.store import BundleRecord, StoreError
from marsnet.errors import InputError

_ON_THE_WIRE = 120
"""Octets that blocks and segment headers add to a small payload, about."""


def _class(service_class: int) -> d.ClassName:
    return get_args(d.ClassName)[service_class]  # type: ignore[no-any-return]


def accepted(node: Gateway, bundle: Bundle) -> d.Accepted:
    """A bundle that was made."""
    clock = node.agent.clock
    created = clock.from_dtn_time(bundle.timestamp.time_ms) if bundle.timestamp.time_ms else node.now
    return d.Accepted(
        bundle=str(bundle.id),
        source=str(bundle.source),
        destination=str(bundle.destination),
        created=created,
        expires=created + bundle.lifetime_ms / 1000,
        size=len(bundle.payload),
    )


def received(node: Gateway, delivery: Delivery) -> d.Received:
    """A bundle that is handed over."""
    bundle, parcel = delivery.content, delivery.parcel
    clock = node.agent.clock
    expires = clock.from_dtn_time(bundle.expiry_ms(clock.dtn_time(parcel.since)))
    return d.Received(
        bundle=parcel.bundle,
        source=str(bundle.source),
        destination=str(bundle.destination),
        report_to=str(bundle.report_to),
        service_class=_class(parcel.priority),
        created=clock.from_dtn_time(bundle.timestamp.time_ms) if bundle.timestamp.time_ms else None,
        received=parcel.since,
        expires=expires,
        repeated=delivery.repeated,
        admin_record=bundle.is_admin_record,
        size=len(bundle.payload),
        payload=base64.b64encode(bundle.payload).decode(),
    )


def status(node: Gateway) -> d.NodeStatus:
    """Who the node is and how it is."""
    agent, now = node.agent, node.now
    applications, usage = agent.local.applications, agent.store.usage
    return d.NodeStatus(
        name=agent.config.name,
        number=agent.config.number,
        node_id=str(node.node_id),
        nodes=node.numbers,
        clock=d.ClockDocument(epoch=agent.clock.epoch, rate=agent.clock.rate, now=now, utc=agent.clock.utc(now)),
        store=d.StoreSummary(bundles=usage.bundles, bytes=usage.size, quota=agent.config.quota),
        unroutable=agent.forwarder.unroutable,
        waiting=applications.waiting,
        in_hands=applications.in_hands,
        echo_service=agent.local.echo,
        allowance=max(2.0, 4 * agent.config.hiccup * agent.clock.rate),
    )


def stored(node: Gateway, record: BundleRecord) -> d.StoredBundle:
    """A bundle of the store."""
    try:
        name = str(decode_from(bytes(node.agent.store.load(record.key)), 0)[0].id)
    except (StoreError, BundleError):
        name = "unreadable"
    return d.StoredBundle(
        key=record.key,
        bundle=name,
        source=record.source,
        destination=record.destination,
        service_class=_class(record.service_class),
        size=record.size,
        state=record.state.name.lower(),  # type: ignore[arg-type]
        added=record.added,
        expires=record.expiry,
        received_from=record.received_from,
        handler=record.handler,
    )


def neighbours(node: Gateway) -> tuple[d.Neighbour, ...]:
    """Who can be reached in one hop."""
    forwarder, now, numbers = node.agent.forwarder, node.now, node.numbers
    found = []
    for name, layer, queue, _, _ in forwarder.queues():
        model = forwarder.contacts.models.get(name)
        found.append(
            d.Neighbour(
                name=name,
                node_id=str(Eid.ipn(numbers[name], 0)) if name in numbers else name,
                convergence=layer.name,
                contact=forwarder.contacts.is_open(name, now),
                until=None if model is None else model.next_change(now),
                waiting=len(queue),
            )
        )
    return tuple(found)


def forecast(node: Gateway, text: str, size: int) -> d.Forecast:
    """What the plan promises a bundle that leaves now, and its answer.

    Args:
        node: that it leaves.
        text: endpoint, `node.service` or name of a node.
        size: octets of the payload.

    Raises:
        InputError: no node is known by that.
        BundleError: it is no endpoint.
    """
    here = node.agent.config.name
    target = text if text in node.numbers else node.name_of(node.destination(text))
    if target is None:
        raise InputError(f"no node is known at {text!r}", remedy=f"known are {', '.join(node.numbers)}")
    now, wire = node.now, size + _ON_THE_WIRE
    out = node.forecaster.way(here, target, wire, now)
    there = None if out is None else (out[-1].arrives if out else now)
    back = None if there is None else node.forecaster.way(target, here, wire, there)
    home = None if back is None else (back[-1].arrives if back else there)
    return d.Forecast(
        destination=target,
        size=size,
        departs=now,
        out=_way(out, now),
        back=None if there is None else _way(back, there),
        round_trip=None if home is None else home - now,
    )


def _way(leaps: tuple[Leap, ...] | None, start: float) -> d.Way | None:
    if leaps is None:
        return None
    return d.Way(hops=tuple(d.Hop(**leap._asdict()) for leap in leaps), arrives=leaps[-1].arrives if leaps else start)


def report(node: Gateway, found: ReceivedReport) -> d.Report:
    """A status report."""
    content, clock = found.report, node.agent.clock
    assertion = next((a for a in reversed(StatusAssertion) if content.items[a].asserted), StatusAssertion.RECEIVED)
    time = content.items[assertion].time_ms
    try:
        reason = ReasonCode(content.reason).name.lower()
    except ValueError:
        reason = f"code {int(content.reason)}"
    return d.Report(
        number=found.number,
        bundle=str(content.subject),
        reporter=str(found.reporter),
        node=node.name_of(found.reporter),
        assertion=assertion.name.lower(),  # type: ignore[arg-type]
        time=None if time is None else clock.from_dtn_time(time),
        reason=int(content.reason),
        reason_name=reason,
        received=found.time,
    )
