"""A graph that was updated is the same as one made anew, and an update costs what has changed."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from test_routing_kernel import NODES, draw_plan

from marsnet.dtn.routing import SABR_MARGIN, Margin
from marsnet.dtn.routing import graph as module
from marsnet.dtn.routing.graph import ContactGraph
from marsnet.errors import InputError
from marsnet.plan.types import Contact, ContactPlan, Range


def essence(graph: ContactGraph) -> object:
    """All that a search sees, whatever the order of nodes without a number."""
    lanes = {
        name: [
            (graph.names[lane.target], lane.ends, [(slot.contact, slot.light) for slot in lane.slots]) for lane in some
        ]
        for name, some in zip(graph.names, graph.lanes, strict=True)
        if some
    }
    return lanes, {contact: (slot.light, slot.free) for contact, slot in graph.slots.items()}


def changed(random: Random, plan: ContactPlan) -> ContactPlan:
    """Some contacts or ranges of a plan go, come or are altered; equal ones are sometimes other objects."""
    other = draw_plan(random)
    contacts, ranges = list(plan.contacts), list(plan.ranges)
    if random.random() < 0.5:
        contacts = [contact for contact in contacts if random.random() < 0.9]
    if random.random() < 0.5:
        pairs = {(segment.source, segment.target) for segment in ranges}
        contacts += [c for c in random.sample(other.contacts, 5) if (c.source, c.target) in pairs]
    if random.random() < 0.3:
        pair = random.choice([(segment.source, segment.target) for segment in ranges])
        ranges = [
            replace(segment, owlt=segment.owlt + 1.0) if (segment.source, segment.target) == pair else segment
            for segment in ranges
        ]
    if random.random() < 0.5:
        contacts = [replace(contact) for contact in contacts]
    contacts.sort(key=lambda contact: contact.start)
    return replace(plan, contacts=tuple(contacts), ranges=tuple(ranges))


@pytest.mark.parametrize("seed", range(10))
def test_an_updated_graph_is_as_one_made_anew(seed: int) -> None:
    random = Random(seed)
    plan = draw_plan(random)
    graph = ContactGraph(plan, SABR_MARGIN)
    found: dict[Contact, Range] = {}
    for now in range(0, 100, 4):
        before = {contact: (slot, slot.light) for contact, slot in graph.slots.items()}
        action = random.choice(["update", "update", "discover", "forget"])
        if action == "update":
            plan = changed(random, plan)
            change = graph.load(plan, now)
        elif action == "discover":
            source, target = random.sample([*NODES, "stranger"], 2)
            contact = Contact("seen", source, target, now, now + random.randint(1, 30), 8000.0)
            found[contact] = Range(source, target, now, now + 100.0, 0.5)
            change = graph.discover(contact, found[contact], now)
        elif found:
            contact = random.choice(list(found))
            del found[contact]
            change = graph.forget(contact, now)
        else:
            continue
        found = {contact: light for contact, light in found.items() if contact.end > now}
        fresh = ContactGraph(plan, SABR_MARGIN)
        for contact, light in found.items():
            fresh.discover(contact, light, now)
        assert essence(graph) == essence(fresh)
        after = {contact: (slot, slot.light) for contact, slot in graph.slots.items()}
        assert {slot.contact for slot in change.gone} == before.keys() - after.keys()
        assert all(after[contact][0] is slot for contact, (slot, _) in before.items() if contact in after)
        news = [contact.start for contact, (slot, light) in after.items() if before.get(contact) != (slot, light)]
        assert change.opened == min(news, default=float("inf"))


def test_an_update_indexes_only_directions_with_news(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = draw_plan(Random(3))
    graph = ContactGraph(plan, Margin(0.0))
    indexed: list[object] = []
    lanes = module._lanes
    monkeypatch.setattr(module, "_lanes", lambda slots: indexed.append(slots) or lanes(slots))
    graph.load(replace(plan, contacts=tuple(replace(contact) for contact in plan.contacts)))
    assert indexed == []
    gone = plan.contacts[0]
    assert [slot.contact for slot in graph.load(replace(plan, contacts=plan.contacts[1:])).gone] == [gone]
    assert len(indexed) == 1
    contact = Contact("seen", "a", "stranger", 0.0, 5.0, 8000.0)
    graph.discover(contact, Range("a", "stranger", 0.0, 5.0, 0.0), 0.0)
    assert len(indexed) == 2


def test_a_plan_that_is_refused_changes_nothing() -> None:
    plan = draw_plan(Random(4))
    graph = ContactGraph(plan, Margin(0.0))
    before = essence(graph)
    pair = plan.contacts[0].source, plan.contacts[0].target
    without = tuple(segment for segment in plan.ranges if (segment.source, segment.target) != pair)
    with pytest.raises(InputError, match="has no range"):
        graph.load(replace(plan, ranges=without))
    with pytest.raises(InputError, match="shrinks by"):
        graph.load(replace(plan, ranges=tuple(replace(segment, slope=-2.0) for segment in plan.ranges)))
    assert essence(graph) == before
