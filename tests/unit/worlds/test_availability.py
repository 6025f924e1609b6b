"""Online: a chain of contacts that were really up, without long waits."""

from __future__ import annotations

import pytest

from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.worlds.availability import online_intervals, real_contacts, union
from marsnet.worlds.spec import Fade, Incident

LIGHT = {("rover", "orbiter"): 1.0, ("orbiter", "earth"): 800.0}


def plan_of(*contacts: tuple[str, str, float, float]) -> ContactPlan:
    return ContactPlan(
        "2026-10-01T00:00:00.000Z",
        0.0,
        10_000.0,
        {"rover": 1, "orbiter": 2, "earth": 3},
        tuple(Contact(f"{s}--{t}", s, t, start, end, 1e6) for s, t, start, end in contacts),
        tuple(Range(s, t, 0.0, 10_000.0, light) for (s, t), light in LIGHT.items()),
    )


def online(plan: ContactPlan, patience: float, *incidents: Incident) -> list[tuple[float, float]]:
    return online_intervals(plan, real_contacts(plan, incidents), "rover", "earth", patience)


def test_both_hops_must_be_open_when_the_data_comes_by() -> None:
    plan = plan_of(("rover", "orbiter", 100.0, 500.0), ("orbiter", "earth", 201.0, 401.0))
    assert online(plan, 0.0) == [(200.0, 400.0)]


def test_patience_bridges_a_short_wait_at_the_relay_and_none_at_the_site() -> None:
    plan = plan_of(("rover", "orbiter", 100.0, 500.0), ("orbiter", "earth", 201.0, 401.0))
    assert online(plan, 50.0) == [(150.0, 400.0)]
    assert online(plan, 500.0) == [(100.0, 400.0)]


def test_what_bounces_between_two_nodes_does_not_wait_for_a_contact() -> None:
    plan = plan_of(
        ("rover", "orbiter", 0.0, 5000.0),
        ("orbiter", "rover", 0.0, 5000.0),
        ("orbiter", "earth", 0.0, 1000.0),
        ("orbiter", "earth", 2000.0, 3000.0),
    )
    assert online(plan, 60.0) == [(0.0, 999.0), (1939.0, 2999.0)]


def test_a_detour_counts_where_the_straight_way_is_closed() -> None:
    light = {("rover", "orbiter"): 1.0, ("rover", "high"): 2.0, ("orbiter", "earth"): 800.0, ("high", "earth"): 800.0}
    light |= {("high", "orbiter"): 3.0, ("orbiter", "high"): 3.0}
    spans = {
        ("rover", "orbiter"): (0.0, 100.0), ("rover", "high"): (50.0, 400.0), ("orbiter", "earth"): (0.0, 300.0),
        ("high", "orbiter"): (0.0, 5000.0), ("orbiter", "high"): (0.0, 5000.0), ("high", "earth"): (350.0, 360.0),
    }  # fmt: skip
    plan = ContactPlan(
        "2026-10-01T00:00:00.000Z", 0.0, 10_000.0, {"rover": 1, "orbiter": 2, "earth": 3, "high": 4},
        tuple(Contact(f"{s}--{t}", s, t, *span, 1e6) for (s, t), span in spans.items()),
        tuple(Range(s, t, 0.0, 10_000.0, seconds) for (s, t), seconds in light.items()),
    )  # fmt: skip
    # By the orbiter until what comes by the high one finds its own contact to Earth closed; then by that one's.
    assert online(plan, 0.0) == [(0.0, 295.0), (348.0, 358.0)]


def test_a_silent_relay_takes_the_site_offline() -> None:
    plan = plan_of(("rover", "orbiter", 0.0, 1000.0), ("orbiter", "earth", 0.0, 2000.0))
    incident = Incident("node_silent", "orbiter", 300.0, 400.0, ("rover--orbiter", "orbiter--earth"))
    assert online(plan, 0.0, incident) == [(0.0, 299.0), (399.0, 1000.0)]


def test_a_crash_takes_all_contacts_of_a_node() -> None:
    plan = plan_of(("rover", "orbiter", 0.0, 1000.0), ("orbiter", "earth", 0.0, 2000.0))
    assert online(plan, 0.0, Incident("node_crash", "earth", 0.0, 5000.0, down="earth")) == []


def test_incidents_cut_contacts_and_leave_the_rest() -> None:
    plan = plan_of(("rover", "orbiter", 0.0, 1000.0), ("orbiter", "earth", 0.0, 2000.0))
    left = real_contacts(plan, [Incident("link_outage", "rover--orbiter", 900.0, 1500.0, ("rover--orbiter",))])
    assert [(c.source, c.start, c.end) for c in left] == [("rover", 0.0, 899.0), ("orbiter", 0.0, 2000.0)]


def test_what_is_down_does_not_hear_what_left_a_light_time_before() -> None:
    plan = plan_of(("orbiter", "earth", 0.0, 5000.0))
    cycles = [Incident("power_cycle", "earth", t, t + 100.0, down="earth") for t in (1000.0, 2000.0)]
    left = real_contacts(plan, cycles)
    assert [(c.start, c.end) for c in left] == [(0.0, 200.0), (300.0, 1200.0), (1300.0, 5000.0)]
    outage = real_contacts(plan, [Incident("link_outage", "down", 1000.0, 1100.0, ("orbiter--earth",))])
    assert [(c.start, c.end) for c in outage] == [(0.0, 200.0), (300.0, 1000.0), (1100.0, 5000.0)]


def test_a_direction_that_loses_all_frames_is_no_contact() -> None:
    plan = plan_of(("rover", "orbiter", 0.0, 1000.0), ("orbiter", "earth", 0.0, 2000.0))
    fades = (Fade("rover--orbiter", 100.0, 200.0, "rover", loss=1.0), Fade("rover--orbiter", 300.0, 400.0, loss=0.9))
    assert online(plan, 0.0, Incident("dust_storm", "rover", 100.0, 400.0, fades=fades)) == [
        (0.0, 100.0),
        (200.0, 1000.0),
    ]


@pytest.mark.parametrize(
    ("intervals", "result"),
    [
        ([], []),
        ([(2, 3), (0, 1)], [(0, 1), (2, 3)]),
        ([(0, 2), (1, 4), (4, 5)], [(0, 5)]),
        ([(0, 9), (1, 2)], [(0, 9)]),
    ],
)
def test_union(intervals: list[tuple[float, float]], result: list[tuple[float, float]]) -> None:
    assert union(intervals) == result
