"""When a site was online: whether what it sends then reaches its destination without waiting long on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from marsnet.plan.types import Contact, ContactPlan
from marsnet.worlds.spec import Incident

_HORIZON = 86400.0
"""Seconds after the plan in which what left within it may still arrive."""


def real_contacts(plan: ContactPlan, incidents: Iterable[Incident]) -> list[Contact]:
    """The plan's contacts less the times of transmission that an incident spoils.

    What is down does not transmit, and does not hear what arrives: at a receiver, an incident takes what left a light
    time before it. Where all frames of a direction are lost, its contact is none.
    """
    contacts = list(plan.contacts)
    for incident in incidents:
        cut: list[Contact] = []
        for contact in contacts:
            gaps = _gaps(plan, contact, incident)
            cut += _less(contact, gaps) if gaps else [contact]
        contacts = cut
    return sorted(contacts, key=lambda c: c.start)


def _gaps(plan: ContactPlan, contact: Contact, incident: Incident) -> list[tuple[float, float]]:
    """Times of transmission of a contact's direction at which an incident lets nothing arrive."""
    gaps = [
        (fade.start, fade.end)
        for fade in incident.fades
        if fade.loss >= 1 and fade.link == contact.link and fade.source in ("", contact.source)
    ]
    linked = contact.link in incident.links
    if incident.down == contact.source or (linked and is_at(incident, contact.source)):
        gaps.append((incident.start, incident.end))
    if incident.down == contact.target or (linked and is_at(incident, contact.target)):
        gaps.append((_departure(plan, contact, incident.start), _departure(plan, contact, incident.end)))
    return gaps


def is_at(incident: Incident, node: str) -> bool:
    """Whether an incident of a link is at that end of it: a silent node's own, an outage at both."""
    return incident.kind != "node_silent" or incident.subject == node


def _less(contact: Contact, gaps: Iterable[tuple[float, float]]) -> list[Contact]:
    """A contact without some times."""
    left, at = [], contact.start
    for start, end in [*union(gaps), (contact.end, contact.end)]:
        if at < min(start, contact.end):
            left.append(replace(contact, start=at, end=min(start, contact.end)))
        at = max(at, end)
    return left


def online_intervals(
    plan: ContactPlan, contacts: Iterable[Contact], site: str, destination: str, patience: float
) -> list[tuple[float, float]]:
    """The intervals of departure times at `site` from which `destination` is reached.

    Works backwards from the destination: good departures over a contact are those whose arrival the next node can
    send on, at most `patience` later.

    Args:
        plan: for light times.
        contacts: what was really up.
        site: where from.
        destination: where to.
        patience: seconds that data may wait in each store on the way.

    Returns:
        Disjoint intervals of mission seconds, in order.
    """
    by_target: dict[str, list[Contact]] = {}
    for contact in contacts:
        by_target.setdefault(contact.target, []).append(contact)
    good: dict[str, list[tuple[float, float]]] = {destination: [(plan.start, plan.end + _HORIZON)]}
    waiting = [destination]
    while waiting:
        node = waiting.pop()
        for contact in by_target.get(node, []):
            found = []
            for start, end in good[node]:
                first = max(contact.start, _departure(plan, contact, start))
                last = min(contact.end, _departure(plan, contact, end))
                if first < last:
                    found.append((first if contact.source == site else first - patience, last))
            before = good.get(contact.source, [])
            merged = union(before + found)
            if merged != before:
                good[contact.source] = merged
                if contact.source not in waiting:
                    waiting.append(contact.source)
    return [(max(s, plan.start), min(e, plan.end)) for s, e in good.get(site, []) if s < plan.end and e > plan.start]


def _departure(plan: ContactPlan, contact: Contact, arrival: float) -> float:
    """When what arrives at a time left. Two rounds are exact to the drift of the light time, 6e-5, squared."""
    guess = arrival - plan.owlt(contact.source, contact.target, arrival)
    return arrival - plan.owlt(contact.source, contact.target, guess)


def union(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same times as disjoint intervals, in order."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
