"""Forwarding tables from contact plans: gating, light time on the way, and how long a table holds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.paths import PathFinder, Port, Windows
from marsnet.plan.types import Contact, ContactPlan, Range


def plan_of(contacts: list[Contact], ranges: list[Range] | None = None) -> ContactPlan:
    nodes = {name: 1 + i for i, name in enumerate(sorted({c.source for c in contacts} | {c.target for c in contacts}))}
    return ContactPlan(
        "2026-10-01T00:00:00Z",
        0.0,
        10_000.0,
        nodes,
        tuple(sorted(contacts, key=lambda c: c.start)),
        tuple(sorted(ranges or [], key=lambda r: r.start)),
    )


def both(link: str, a: str, b: str, start: float, end: float) -> list[Contact]:
    return [Contact(link, a, b, start, end, 1e6), Contact(link, b, a, start, end, 1e6)]


def light(a: str, b: str, owlt: float) -> list[Range]:
    return [Range(a, b, 0.0, 10_000.0, owlt), Range(b, a, 0.0, 10_000.0, owlt)]


LINE = {
    "earth": [Port(2, "x", "orbiter")],
    "orbiter": [Port(2, "x", "earth"), Port(3, "uhf", "rover")],
    "rover": [Port(2, "uhf", "orbiter")],
}


def test_a_neighbour_is_reached_exactly_while_the_contact_is_open() -> None:
    finder = PathFinder(plan_of(both("x", "earth", "orbiter", 100.0, 200.0)), LINE)
    before, during, after = (finder.table("earth", t) for t in (99.9, 100.0, 200.0))
    assert (before.ports, before.until) == ({}, 100.0)
    assert (during.ports, during.until) == ({"orbiter": 2}, 200.0)
    assert (after.ports, after.until) == ({}, math.inf)


def test_a_guard_opens_early_and_closes_late_and_joins_what_it_makes_overlap() -> None:
    contacts = [*both("x", "earth", "orbiter", 100.0, 200.0), *both("x", "earth", "orbiter", 205.0, 300.0)]
    finder = PathFinder(plan_of(contacts), LINE, guard=3.0)
    assert finder.table("earth", 0.0).until == 97.0
    assert finder.table("earth", 97.0).ports == {"orbiter": 2}
    assert finder.table("earth", 97.0).until == 303.0


def test_one_direction_alone_is_open_in_one_direction_alone() -> None:
    finder = PathFinder(plan_of([Contact("x", "earth", "orbiter", 0.0, 50.0, 1e6)]), LINE)
    assert finder.table("earth", 10.0).ports == {"orbiter": 2}
    assert finder.table("orbiter", 10.0).ports == {}


def test_a_second_hop_counts_at_the_time_when_the_packet_gets_there() -> None:
    # Light needs 800 s to the orbiter, whose contact with the rover is open from 1000 to 1100.
    contacts = [*both("x", "earth", "orbiter", 0.0, 5000.0), *both("uhf", "orbiter", "rover", 1000.0, 1100.0)]
    finder = PathFinder(plan_of(contacts, light("earth", "orbiter", 800.0)), LINE)
    early = finder.table("earth", 100.0)
    assert early.ports == {"orbiter": 2}
    assert early.until == 200.0
    open_ = finder.table("earth", 200.0)
    assert open_.ports == {"orbiter": 2, "rover": 2}
    assert open_.until == 300.0
    assert "rover" not in finder.table("earth", 300.0).ports
    assert finder.table("orbiter", 1050.0).ports["rover"] == 3


def test_the_path_of_least_light_time_is_taken() -> None:
    ports = {
        "a": [Port(2, "ab", "b"), Port(3, "ac", "c")],
        "b": [Port(2, "ab", "a"), Port(3, "bd", "d")],
        "c": [Port(2, "ac", "a"), Port(3, "cd", "d")],
        "d": [Port(2, "bd", "b"), Port(3, "cd", "c")],
    }
    contacts = [c for link in ("ab", "ac", "bd", "cd") for c in both(link, link[0], link[1], 0.0, 1000.0)]
    ranges = [*light("a", "b", 5.0), *light("b", "d", 5.0), *light("a", "c", 1.0), *light("c", "d", 8.0)]
    assert PathFinder(plan_of(contacts, ranges), ports).table("a", 0.0).ports["d"] == 3


def test_what_is_for_a_neighbour_takes_no_detour() -> None:
    ports = {
        "a": [Port(2, "ab", "b"), Port(3, "ac", "c")],
        "b": [Port(2, "ab", "a"), Port(3, "bc", "c")],
        "c": [Port(2, "ac", "a"), Port(3, "bc", "b")],
    }
    contacts = [*both("ac", "a", "c", 0.0, 1000.0), *both("bc", "b", "c", 0.0, 1000.0)]
    assert PathFinder(plan_of(contacts), ports).table("a", 10.0).ports == {"c": 3}


intervals = st.lists(
    st.tuples(st.integers(0, 500), st.integers(1, 200)).map(lambda p: (float(p[0]), float(p[0] + p[1]))), max_size=8
)


@given(intervals, st.integers(0, 800))
def test_windows_are_the_union_of_their_intervals(pieces: list[tuple[float, float]], when: int) -> None:
    is_open, change = Windows(pieces).at(float(when))
    covered = [any(start <= t < end for start, end in pieces) for t in range(when, 900)]
    assert is_open == covered[0]
    flips = [when + i for i, value in enumerate(covered) if value != covered[0]]
    assert change == (flips[0] if flips else math.inf)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["x", "uhf"]), intervals), max_size=4), st.integers(0, 300))
def test_a_table_holds_until_it_says(drawn: list[tuple[str, list[tuple[float, float]]]], owlt: int) -> None:
    ends = {"x": ("earth", "orbiter"), "uhf": ("orbiter", "rover")}
    contacts = [c for link, pieces in drawn for start, end in pieces for c in both(link, *ends[link], start, end)]
    finder = PathFinder(plan_of(contacts, light("earth", "orbiter", float(owlt))), LINE)
    for node in LINE:
        table = finder.table(node, 0.0)
        while table.since < 800.0:
            last = min(table.until, 900.0)
            for share in (0.25, 0.5, 0.999):
                assert finder.table(node, table.since + (last - table.since) * share).ports == table.ports
            if math.isinf(table.until):
                break
            assert table.until > table.since
            table = finder.table(node, table.until)


@pytest.mark.parametrize("node", sorted(LINE))
def test_a_plan_without_contacts_leads_nowhere_and_never_changes(node: str) -> None:
    table = PathFinder(plan_of([]), LINE).table(node, 0.0)
    assert (table.ports, table.until) == ({}, math.inf)
