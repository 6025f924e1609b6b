"""The compiled search and bookkeeping against the same in plain Python: equal to the last bit, ties included."""

from __future__ import annotations

import gc
import heapq
import sys
from bisect import bisect_right
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NamedTuple

import pytest

from marsnet.dtn.routing import Booking, Margin, native
from marsnet.dtn.routing.graph import ContactGraph, Slot
from marsnet.dtn.routing.native import Cell, Net, depart, give, project, take
from marsnet.dtn.routing.search import Bundle, Origin, search
from marsnet.errors import EnvironmentLacksError
from marsnet.plan.types import Contact, ContactPlan, Range

NODES = "abcdefg"
NEVER = float("inf")
LIGHT = ((0.0, 0.0, 1.0),)


def draw_plan(random: Random) -> ContactPlan:
    """Contacts that overlap, last a millisecond or carry nothing; light times that grow and shrink in steps."""
    contacts, ranges = [], []
    for source in NODES:
        for target in NODES:
            if source == target or random.random() < 0.4:
                continue
            for _ in range(random.randint(1, 8)):
                start = random.choice([random.uniform(0.0, 100.0), float(random.randint(0, 100))])
                length = random.choice([random.uniform(0.0, 0.01), random.uniform(0.1, 0.9), random.uniform(1.0, 30.0)])
                rate = random.choice([0.0, 1.0, 800.0, 8000.0])
                contacts.append(Contact(random.choice("xy"), source, target, start, start + length, rate))
            edges = [0.0, *sorted(random.uniform(0.0, 100.0) for _ in range(random.randint(0, 3)))]
            for start in edges:
                owlt = random.choice([0.0, 1.0, random.uniform(0.0, 10.0)])
                ranges.append(Range(source, target, start, 200.0, owlt, random.choice([0.0, 0.0, 0.01, -0.01])))
    numbers = {name: index + 1 for index, name in enumerate(NODES)}
    contacts.sort(key=lambda contact: contact.start)
    ranges.sort(key=lambda segment: segment.start)
    return ContactPlan("2026-10-01T00:00:00Z", 0.0, 200.0, numbers, tuple(contacts), tuple(ranges))


def plain_arrival(slot: Slot, time: float) -> float:
    _, base, slope = slot.light[max(bisect_right([line[0] for line in slot.light], time) - 1, 0)]
    return base + slope * time


class Label(NamedTuple):
    arrival: float
    hops: int
    serial: int
    node: int
    slots: tuple[Slot, ...]


def plain_search(
    graph: ContactGraph, origin: Origin, bundle: Bundle, *, loaded: bool, passed: set[Slot], goal: float
) -> tuple[float, int, tuple[Slot, ...]] | None:
    """Dijkstra over nodes, with labels that arrive later kept where they took fewer hops."""
    settled: dict[int, int] = dict.fromkeys(origin.closed, -1)
    best: dict[int, tuple[float, int]] = {}
    heap: list[Label] = []
    serial = 0
    label = Label(origin.time, 0, 0, origin.node, ())
    while True:
        settled[label.node] = label.hops
        for lane in graph.lanes[label.node]:
            if settled.get(lane.target, 999) <= label.hops + 1 or (label.node, lane.target) in bundle.shut:
                continue
            for slot in lane.slots:
                if slot.contact.end <= label.arrival:
                    continue
                if slot.start > goal:
                    break
                time = max(label.arrival, slot.start)
                if not label.hops and slot in origin.without:
                    continue
                if not label.hops and loaded:
                    time += slot.pending[bundle.priority] * slot.pace
                time += bundle.size * slot.pace
                if time > slot.stop:
                    continue
                if slot.down or slot.free[bundle.priority] < bundle.size:
                    passed.add(slot)
                    continue
                arrival, hops = plain_arrival(slot, time), label.hops + 1
                rank = (arrival, hops)
                known = best.get(lane.target, (NEVER, 999))
                if arrival <= goal and (rank < known or hops < known[1]):
                    best[lane.target] = min(rank, known)
                    if lane.target == bundle.target:
                        goal = arrival
                    serial += 1
                    heapq.heappush(heap, Label(*rank, serial, lane.target, (*label.slots, slot)))
                break
        while heap:
            label = heapq.heappop(heap)
            if settled.get(label.node, 999) > label.hops:
                break
        else:
            return None
        if label.node == bundle.target:
            return label.arrival, label.hops, label.slots


def plain_project(slots: tuple[Slot, ...], time: float, size: float, priority: int) -> float | None:
    for slot in slots:
        time = max(time, slot.start) + size * slot.pace
        if time > slot.stop or slot.free[priority] < size:
            return None
        time = plain_arrival(slot, time)
    return time


@pytest.mark.parametrize("seed", range(40))
def test_search_and_bookings_equal_plain_python(seed: int) -> None:
    random = Random(seed)
    graph = ContactGraph(draw_plan(random), Margin(random.choice([0.0, 0.01]), random.choice([0.0, 0.5])))
    slots = list(graph.slots.values())
    booked: list[Booking] = []
    expected_free = {slot: list(slot.free) for slot in slots}
    routes = 0
    for _ in range(60):
        random.choice(slots).down = random.random() < 0.5
        bundle = Bundle(
            random.randrange(len(NODES)),
            random.choice([0, 1, 10, 1000, random.randint(0, 5000)]),
            random.randrange(4),
            frozenset((0, node) for node in range(1, 7) if random.random() < 0.1),
        )
        origin = Origin(
            random.choice([0, 0, 3]),
            random.uniform(-5.0, 110.0),
            tuple(node for node in range(4, 7) if random.random() < 0.1),
            frozenset(slot for slot in slots if random.random() < 0.05),
        )
        if bundle.target == origin.node or bundle.target in origin.closed:
            continue
        goal = random.choice([NEVER, random.uniform(0.0, 150.0)])
        loaded = random.random() < 0.5
        passed: set[Slot] = set()
        plain_passed: set[Slot] = set()
        found = search(graph, origin, bundle, loaded=loaded, passed=passed, goal=goal)
        plain = plain_search(graph, origin, bundle, loaded=loaded, passed=plain_passed, goal=goal)
        assert found == plain
        assert passed == plain_passed
        if found is None:
            continue
        routes += 1
        size, priority = bundle.size, bundle.priority
        for start in (origin.time, random.uniform(0.0, 100.0)):
            assert project(found.slots, start, size, priority) == plain_project(found.slots, start, size, priority)
        booking = Booking(None, size, priority, (), found.slots)
        take(found.slots, origin.time, size, priority, booking)
        booked.append(booking)
        if random.random() < 0.3:
            done = booked.pop(random.randrange(len(booked)))
            give(done.slots, False, done.size, done.priority, done)
    for booking in booked:
        for slot in booking.slots:
            for level in range(booking.priority, 4):
                expected_free[slot][level] -= booking.size
    for slot in slots:
        assert slot.free == pytest.approx(tuple(expected_free[slot]), abs=1e-6)
        assert list(slot.bookings) == [booking for booking in booked if slot in booking.slots]
    assert routes > 2


def test_a_booking_counts_as_waiting_on_its_first_contact_only() -> None:
    contacts = (Contact("x", "a", "b", 0.0, 10.0, 8000.0), Contact("x", "b", "c", 0.0, 10.0, 8000.0))
    ranges = (Range("a", "b", 0.0, 10.0, 0.0), Range("b", "c", 0.0, 10.0, 0.0))
    graph = ContactGraph(ContactPlan("2026-10-01T00:00:00Z", 0.0, 10.0, {}, contacts, ranges), Margin(0.0))
    route = first, second = tuple(graph.slots.values())
    one, two = Booking(1, 6000, 2, contacts, route), Booking(2, 6000, 1, contacts, route)
    assert not take(route, 0.0, 6000, 2, one)
    assert first.pending == (0.0, 0.0, 6000.0, 6000.0)
    assert second.pending == (0.0,) * 4
    assert [slot.residual(1) for slot in route] == [10_000.0] * 2
    assert [slot.residual(2) for slot in route] == [4_000.0] * 2
    assert depart(route, 1.0, 1000, 1) == (1.0, 3.0)
    assert depart(route, 1.0, 1000, 2) == (7.0, 9.0)
    assert depart(route, 1.0, 2000, 2) == (7.0, NEVER)
    assert take(route, 0.0, 6000, 1, two)  # More than the contacts carry: the caller displaces the first booking.
    assert [list(slot.bookings) for slot in route] == [[one, two]] * 2
    give(route, True, 6000, 2, one)
    assert first.spent == (0.0, 0.0, 6000.0, 6000.0)
    assert first.pending == (0.0, 6000.0, 6000.0, 6000.0)
    with pytest.raises(KeyError):
        give(route, True, 0, 2, one)
    give(route, False, 6000, 1, two)
    assert [slot.residual(1) for slot in route] == [10_000.0] * 2
    # Time passes by what would have fitted earlier.
    three = Booking(3, 3000, 3, contacts, route)
    assert not take(route, 3.0, 3000, 3, three)
    give(route, False, 3000, 3, three)
    assert take(route, 8.0, 3000, 3, three)


def test_wrong_arguments_are_errors_and_not_crashes() -> None:
    contact = Contact("x", "a", "b", 0.0, 10.0, 8000.0)
    slot = Slot(contact, 0, 1, LIGHT)
    net = Net([[(1, [10.0], [slot])], []])
    good = (0, 0.0, 1, 1.0, 2, False, NEVER, (), frozenset(), frozenset(), None)
    assert net.search(*good) == (1e-3, (slot,), (contact,))  # type: ignore[arg-type]
    wrong = {0: [2, -1, "a"], 1: ["a"], 3: [None], 4: [4, -1], 7: [[], (5,), ("a",)], 8: [None], 9: [()], 10: [[]]}
    for place, values in wrong.items():
        for value in values:
            arguments = list(good)
            arguments[place] = value  # type: ignore[call-overload]
            with pytest.raises((TypeError, ValueError)):
                net.search(*arguments)
    with pytest.raises(TypeError):
        net.search(0)  # type: ignore[call-arg]
    for lanes in (
        [[(2, [10.0], [slot])]],
        [[(0, [], [])]],
        [[(0, [1.0], [slot, slot])]],
        [[(0, [1.0], [None])]],
        [[7]],
    ):
        with pytest.raises((TypeError, ValueError)):
            Net(lanes)
    for route in ((), [slot], (None,)):
        with pytest.raises(TypeError):
            project(route, 0.0, 1.0, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="priority"):
        project((slot,), 0.0, 1.0, 4)
    with pytest.raises(TypeError):
        take((slot,), 0.0, 1.0, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        project((Cell(),), 0.0, 1.0, 2)  # type: ignore[arg-type]
    for light in ((), [], ((1.0, 2.0),), None):
        with pytest.raises(TypeError):
            slot.light = light  # type: ignore[assignment]
    with pytest.raises(TypeError):
        slot.free = (1.0,)
    assert slot.light == ((0.0, 0.0, 1.0),)


def test_slots_and_their_bookings_are_collected_as_garbage() -> None:
    def slots() -> int:
        gc.collect()
        return sum(isinstance(thing, Slot) and thing.contact.link == "kept by a booking" for thing in gc.get_objects())

    slot = Slot(Contact("kept by a booking", "a", "b", 0.0, 10.0, 8000.0), 0, 1, LIGHT)
    booking = Booking(1, 1, 2, (slot.contact,), (slot,))
    take((slot,), 0.0, 1, 2, booking)
    assert slots() == 1
    del slot, booking
    assert slots() == 0


def test_slots_live_as_long_as_the_net_that_holds_them() -> None:
    slot = Slot(Contact("x", "a", "b", 0.0, 10.0, 8000.0), 0, 1, LIGHT)
    before = sys.getrefcount(slot)
    net = Net([[(1, [10.0], [slot])], []])
    assert sys.getrefcount(slot) == before + 1
    for _ in range(100):
        net.search(0, 0.0, 1, 1.0, 2, False, NEVER, (), frozenset(), frozenset(), None)
    assert sys.getrefcount(slot) == before + 1
    del net
    assert sys.getrefcount(slot) == before
    assert isinstance(slot, Cell)


def test_a_kernel_that_is_missing_or_old_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "marsnet.dtn.routing._kernel"
    source = Path(native.__file__).read_text()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvironmentLacksError, match=r"missing.*build_ext"):
        exec(compile(source, native.__file__, "exec"), {})  # noqa: S102
    monkeypatch.setitem(sys.modules, name, kernel := ModuleType(name))
    vars(kernel).update(dict.fromkeys(["Cell", "Net", "depart", "give", "project", "take"]), VERSION=1)
    with pytest.raises(EnvironmentLacksError, match=r"of version 1.*build_ext"):
        exec(compile(source, native.__file__, "exec"), {})  # noqa: S102
