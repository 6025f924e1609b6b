"""The contact plan as one node uses it: its own epoch, its neighbours only, and contacts that are always open."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from marsnet.clock import DTN_EPOCH, format_utc, parse_utc
from marsnet.dtn.node.config import NodeConfig
from marsnet.plan.types import Contact, ContactPlan, Range

EPOCH = format_utc(DTN_EPOCH)
"""Mission time 0 of a node on real time. Stored bundles expire by it, so it must never change."""
_BEGIN, _END = 0.0, 5e9
"""Seconds after the epoch between which a contact is open that always is: 158 years."""
_ALWAYS = "always"
"""Link of such contacts."""


def on_epoch(plan: ContactPlan, epoch: str) -> ContactPlan:
    """The same plan with its times counted from another instant."""
    shift = (parse_utc(plan.epoch) - parse_utc(epoch)) / timedelta(seconds=1)
    if not shift:
        return plan
    return replace(
        plan,
        epoch=epoch,
        start=plan.start + shift,
        end=plan.end + shift,
        contacts=tuple(replace(c, start=c.start + shift, end=c.end + shift) for c in plan.contacts),
        ranges=tuple(replace(r, start=r.start + shift, end=r.end + shift) for r in plan.ranges),
        _ranges={},
    )


def network_of(config: NodeConfig, plan: ContactPlan | None) -> ContactPlan:
    """The network that a node routes in.

    Args:
        config: of the node.
        plan: what its plan file says; None when it has none.

    Returns:
        The plan without contacts from this node to others than its neighbours, and with those that are always open:
        where the configuration says so, or says nothing and neither it nor the plan has any for the pair.
    """
    if plan is None:
        plan = ContactPlan(EPOCH, _BEGIN, _END, {}, (), ())
    here = config.name
    stated = [c for c in plan.contacts if c.link != _ALWAYS and (c.source != here or c.target in config.neighbours)]
    planned = {frozenset((c.source, c.target)) for c in stated}
    always = {
        frozenset((here, name)): neighbour
        for name, neighbour in config.neighbours.items()
        if neighbour.contact == "always"
        or (neighbour.contact is None and config.plan is None and frozenset((here, name)) not in planned)
    }
    contacts = [c for c in stated if frozenset((c.source, c.target)) not in always]
    ranges = [r for r in plan.ranges if frozenset((r.source, r.target)) not in always]
    begin = min(_BEGIN, plan.start)
    for pair, neighbour in always.items():
        (name,) = pair - {here}
        for source, target in ((here, name), (name, here)):
            contacts.append(Contact(_ALWAYS, source, target, begin, _END, neighbour.rate))
            ranges.append(Range(source, target, begin, _END, neighbour.light_time))
    return replace(
        plan,
        nodes={**plan.nodes, **config.known_numbers()},
        contacts=tuple(sorted(contacts, key=lambda c: c.start)),
        ranges=tuple(sorted(ranges, key=lambda r: r.start)),
        _ranges={},
    )
