"""When a site was online: whether what it sends then reaches its destination without waiting long on the way."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
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

    Works backwards from the destination along every way that visits no node twice: else what bounces between two
    planets would wait for an hour and never in a store. Good departures over a contact are those whose arrival the next
    node can send on, at most `patience` later.

    Args:
        plan: for light times.
        contacts: what was really up.
        site: where from.
        destination: where to.
        patience: seconds that data may wait in each store on the way.

    Returns:
        Disjoint intervals of mission seconds, in order.
    """
    into: dict[str, dict[str, list[Contact]]] = {}
    for contact in sorted(contacts, key=lambda c: c.start):
        into.setdefault(contact.target, {}).setdefault(contact.source, []).append(contact)
    found: list[tuple[float, float]] = []
    # A node's good times of arrival by the nodes that lie behind it, the fewest first: more add nothing where fewer do.
    known: dict[str, list[tuple[frozenset[str], list[tuple[float, float]]]]] = {}
    waiting = deque([(destination, frozenset({destination}), [(plan.start, plan.end + _HORIZON)])])
    while waiting:
        node, behind, good = waiting.popleft()
        for source, over in into.get(node, {}).items():
            if source in behind:
                continue
            if source == site:
                found += _departures(plan, over, good, 0.0)
                continue
            ways = behind | {source}
            fresh = union(_departures(plan, over, good, patience))
            for others, times in known.get(source, []):
                if others <= ways:
                    fresh = _minus(fresh, times)
            if fresh:
                known.setdefault(source, []).append((ways, fresh))
                waiting.append((source, ways, fresh))
    return [(max(s, plan.start), min(e, plan.end)) for s, e in union(found) if s < plan.end and e > plan.start]


def _departures(
    plan: ContactPlan, contacts: Iterable[Contact], good: list[tuple[float, float]], patience: float
) -> Iterator[tuple[float, float]]:
    """When to be at a node so that its contacts lead to arrivals in good times; these are disjoint and in order."""
    starts = [start for start, _ in good]
    for contact in contacts:
        arrives = [t + plan.owlt(contact.source, contact.target, t) for t in (contact.start, contact.end)]
        for start, end in good[max(0, bisect_right(starts, arrives[0]) - 1) : bisect_left(starts, arrives[1])]:
            first = max(contact.start, _departure(plan, contact, start))
            last = min(contact.end, _departure(plan, contact, end))
            if first < last:
                yield first - patience, last


def _minus(intervals: list[tuple[float, float]], others: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Disjoint intervals in order without the times of others, which are likewise."""
    left = []
    ends = [end for _, end in others]
    for start, end in intervals:
        at = start
        for index in range(bisect_right(ends, start), len(others)):
            begin, until = others[index]
            if begin >= end:
                break
            if at < begin:
                left.append((at, begin))
            at = until
        if at < end:
            left.append((at, end))
    return left


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
