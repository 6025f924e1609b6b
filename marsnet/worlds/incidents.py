"""From the faults of a scenario to incidents with times: by the clock, by chance from the seed, or by the plan."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

from marsnet.clock import parse_utc
from marsnet.errors import InputError
from marsnet.model.faults import (
    MOST_INCIDENTS,
    BitErrors,
    ClockDrift,
    ControllerLoss,
    CorruptedBundles,
    DustStorm,
    Fault,
    LinkOutage,
    NodeCrash,
    NodeSilent,
    PartialRate,
    Planned,
    PowerCycle,
    ReplayedBundles,
    StalePlan,
    StorageFull,
    WrongPlan,
)
from marsnet.model.scenario import Scenario
from marsnet.model.topology import Link, Topology
from marsnet.plan.types import ContactPlan
from marsnet.worlds.availability import real_contacts
from marsnet.worlds.dust import fades_of
from marsnet.worlds.spec import Fade, Incident, Strain, mission_time


def incidents(
    scenario: Scenario, topology: Topology, plan: ContactPlan | None = None, seed: int | None = None
) -> tuple[Incident, ...]:
    """The scenario's faults whose times follow from the files and the seed, in order.

    Faults that wait for deliveries or for storage, or for a fault that does, are not among them.

    Args:
        scenario: with the faults.
        topology: the network.
        plan: its contacts; without it, faults that wait for a contact are left out.
        seed: in place of the scenario's.

    Raises:
        InputError: a fault outside of the run, or a crash of a node that is down already.
    """
    seed = scenario.seed if seed is None else seed
    by_fault: dict[int, list[Incident]] = {}
    waiting = list(enumerate(scenario.faults))
    while waiting:
        left = []
        for index, fault in waiting:
            starts = _starts(index, fault, scenario, topology, plan, seed, by_fault)
            if starts is None:
                left.append((index, fault))
                continue
            by_fault[index] = [i for start in starts for i in made(fault, index, start, scenario, topology)]
        if len(left) == len(waiting):
            break
        waiting = left
    found = sorted((i for own in by_fault.values() for i in own), key=lambda i: (i.start, i.subject))
    _check_crashes(scenario, topology)
    return tuple(found)


def made(fault: Fault, index: int, start: float, scenario: Scenario, topology: Topology) -> Iterator[Incident]:
    """The incidents of a fault that begins at `start`; none after the end of the run."""
    if start >= scenario.duration:
        return
    base = Incident(
        fault.kind,
        "",
        start,
        start + fault.duration,
        name=fault.name or "",
        planned=isinstance(fault, Planned) and fault.planned,
    )
    match fault:
        case NodeSilent():
            yield replace(base, subject=fault.node, links=links_of(fault.node, topology))
        case NodeCrash():
            yield replace(base, subject=fault.node, down=fault.node)
        case PowerCycle():
            at = start
            while at < base.end:
                end = min(at + fault.off, base.end)
                yield replace(base, subject=fault.node, down=fault.node, start=at, end=end)
                at += fault.off + fault.on
        case LinkOutage():
            yield replace(base, subject=fault.link, links=(fault.link,))
        case PartialRate():
            links = (fault.link,) if fault.link is not None else links_of(fault.node or "", topology)
            fades = tuple(Fade(link, start, base.end, rate=fault.rate) for link in links)
            yield replace(base, subject=fault.link or fault.node or "", fades=fades)
        case BitErrors():
            yield replace(
                base, subject=fault.link, fades=(Fade(fault.link, start, base.end, ber=fault.ber, loss=fault.loss),)
            )
        case DustStorm():
            yield replace(base, subject=", ".join(fault.sites), fades=fades_of(fault, start, topology))
        case ClockDrift():
            yield replace(base, subject=fault.node, strains=(Strain(fault.node, drift=fault.drift),))
        case StorageFull():
            yield replace(base, subject=fault.node, strains=(Strain(fault.node, quota=fault.left),))
        case StalePlan() | WrongPlan():
            strains = tuple(Strain(node, plan=plan_name(index)) for node in fault.nodes)
            yield replace(base, subject=", ".join(fault.nodes), strains=strains)
        case ControllerLoss():
            yield replace(base, subject=f"{fault.segment} controller", segment=fault.segment)
        case CorruptedBundles() | ReplayedBundles():
            ends = link_named(fault.link, topology).between
            corrupt, replay = (fault.share, 0.0) if isinstance(fault, CorruptedBundles) else (0.0, fault.share)
            strains = tuple(Strain(a, peer=b, corrupt=corrupt, replay=replay) for a, b in (ends, ends[::-1]))
            yield replace(base, subject=fault.link, strains=strains)


def plan_name(index: int) -> str:
    """The name of the contact plan that belongs to a fault."""
    return f"fault-{index}"


def link_named(title: str, topology: Topology) -> Link:
    """The link of that title."""
    return next(link for link in topology.links if link.title == title)


def links_of(node: str, topology: Topology) -> tuple[str, ...]:
    """Titles of a node's links."""
    return tuple(link.title for link in topology.links if node in link.between)


def _starts(
    index: int,
    fault: Fault,
    scenario: Scenario,
    topology: Topology,
    plan: ContactPlan | None,
    seed: int,
    known: dict[int, list[Incident]],
) -> list[float] | None:
    """When a fault begins; None where that cannot be said (yet)."""
    draw = random.Random(f"{seed}/fault/{index}/{fault.kind}")
    if fault.at is not None:
        start = mission_time(fault.at, scenario, topology)
        if not 0 <= start < scenario.duration:
            raise InputError(f"a fault at {fault.at.text!r} is outside of the run", remedy="move it into the duration")
        return [start] if fault.probability is None or draw.random() < fault.probability else []
    if fault.every is not None:
        starts: list[float] = []
        time = draw.expovariate(1 / fault.every)
        while time < scenario.duration:
            if len(starts) == MOST_INCIDENTS:
                raise InputError(f"a fault happens more than {MOST_INCIDENTS} times", remedy="lengthen 'every'")
            starts.append(time)
            time += fault.duration + draw.expovariate(1 / fault.every)
        return starts
    if fault.when is None:
        happens = draw.random() < (fault.probability or 0.0)
        return [draw.uniform(0.0, scenario.duration)] if happens else []
    condition = fault.when
    if condition.contact_opens is not None:
        after = condition.contact_opens.after
        least = 0.0 if after is None else mission_time(after, scenario, topology)
        if after is not None and not 0 <= least < scenario.duration:
            raise InputError(
                f"a fault waits for a contact after {after.text!r}, which is outside of the run",
                remedy="give an instant within the duration",
            )
        if plan is None:
            return None
        opens = (c.start for c in plan.contacts if c.link == condition.contact_opens.link and c.start >= least)
        return [at + condition.delay for at in sorted(opens)[:1]]
    other = condition.begins or condition.ends
    for position, cause in enumerate(scenario.faults):
        if other is not None and cause.name == other and position in known:
            edges = [i.start if condition.begins else i.end for i in known[position]]
            return [min(edges) + condition.delay] if edges else []
    return None


def _check_crashes(scenario: Scenario, topology: Topology) -> None:
    """Crashes at stated times must not meet a node that is down; those by chance just fall together."""
    stated = [
        incident
        for index, fault in enumerate(scenario.faults)
        if isinstance(fault, NodeCrash | PowerCycle) and fault.at is not None and fault.probability is None
        for incident in made(fault, index, mission_time(fault.at, scenario, topology), scenario, topology)
    ]
    up_again: dict[str, float] = {}
    for incident in sorted(stated, key=lambda i: i.start):
        node, end = incident.down, up_again.get(incident.down, 0.0)
        if incident.kind == "node_crash" and incident.start < end:
            raise InputError(
                f"node {node!r} crashes at {incident.start:g} s while it is down already",
                remedy=f"move the second crash to {end:g} s or later",
            )
        up_again[node] = max(end, incident.end)


def without(plan: ContactPlan, announced: Iterable[Incident]) -> ContactPlan:
    """The plan less the contacts that announced incidents make impossible."""
    contacts = tuple(real_contacts(plan, announced))
    return plan if contacts == plan.contacts else replace(plan, contacts=contacts, _ranges={})


def wrong(fault: WrongPlan, plan: ContactPlan, read: ContactPlan | None) -> ContactPlan:
    """The plan that a fault gives to nodes.

    Args:
        fault: what is wrong.
        plan: the true one.
        read: the content of the fault's file, if it names one.
    """
    if read is not None:
        return _shifted(read, (parse_utc(read.epoch) - parse_utc(plan.epoch)).total_seconds())
    if fault.shift is not None:
        return _shifted(plan, fault.shift)
    gone = fault.without or ()
    return replace(plan, contacts=tuple(c for c in plan.contacts if c.link not in gone), _ranges={})


def _shifted(plan: ContactPlan, by: float) -> ContactPlan:
    if not by:
        return plan
    return replace(
        plan,
        contacts=tuple(replace(c, start=c.start + by, end=c.end + by) for c in plan.contacts),
        ranges=tuple(replace(r, start=r.start + by, end=r.end + by) for r in plan.ranges),
        _ranges={},
    )
