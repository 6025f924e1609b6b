"""SABR on a plan of some thousand contacts, through plan updates."""

from __future__ import annotations

from random import Random

import pytest

from marsnet.dtn.routing import Booking, BookingState, Forward, NoRoute, RouteRequest, SabrRouter
from marsnet.plan.types import Contact, ContactPlan, Range

SITES = [f"site{n}" for n in range(8)]
ORBITERS = [f"orbiter{n}" for n in range(5)]
STATIONS = [f"dsn{n}" for n in range(3)]
DAYS = 12
HORIZON = DAYS * 86_400.0


def draw_contacts(random: Random) -> list[Contact]:
    made = []
    for one, others, daily, length, rate in (
        (SITES, ORBITERS, 2.5, (120.0, 700.0), 2e5),
        (ORBITERS, STATIONS, 2.0, (3600.0, 9000.0), 5e5),
        (ORBITERS, ORBITERS, 3.0, (60.0, 900.0), 1e5),
    ):
        for source in one:
            for target in others:
                if source == target:
                    continue
                for _ in range(int(daily * DAYS)):
                    start = random.uniform(0.0, HORIZON)
                    end = start + random.uniform(*length)
                    made.append(Contact(f"{source}-{target}", source, target, start, end, rate))
                    made.append(Contact(f"{source}-{target}", target, source, start, end, rate / 4))
    made += [Contact(f"{station}-control", station, "control", 0.0, HORIZON, 1e8) for station in STATIONS]
    return made


def make_plan(contacts: list[Contact], drift: float) -> ContactPlan:
    pairs = sorted({(c.source, c.target) for c in contacts})
    ranges = tuple(
        Range(s, t, 0.0, HORIZON, 800.0 + drift, 1e-5)
        if "dsn" in s + t and t != "control"
        else Range(s, t, 0.0, HORIZON, 0.01)
        for s, t in pairs
    )
    numbers = {name: n + 1 for n, name in enumerate([*SITES, *ORBITERS, *STATIONS, "control"])}
    ordered = tuple(sorted(contacts, key=lambda c: c.start))
    return ContactPlan("2026-10-01T00:00:00Z", 0.0, HORIZON, numbers, ordered, ranges)


def essence(decision: list[Forward] | NoRoute) -> object:
    if isinstance(decision, NoRoute):
        return decision
    return [(forward.start, forward.arrival, len(forward.route)) for forward in decision]


@pytest.mark.slow
def test_after_any_update_a_router_decides_like_a_new_one() -> None:
    random = Random(7)
    contacts, drift = draw_contacts(random), 0.0
    plan = make_plan(contacts, drift)
    assert len(plan.contacts) > 2400
    router = SabrRouter("site0", plan)
    names = [name for name in plan.nodes if name != "site0"]
    kinds = [
        RouteRequest(name, size, priority, HORIZON, excluded=excluded)
        for name in names
        for size, priority in ((1000, 2), (30_000, 3))
        for excluded in (frozenset[str](), frozenset(["orbiter1"]))
    ]
    for round_number in range(12):
        now = round_number * HORIZON / 15
        fresh = SabrRouter("site0", plan)
        for request in kinds * 3:
            known = router.route(request, now)
            new = fresh.route(request, now)
            assert essence(known) == essence(new)
            for one, decision in ((router, known), (fresh, new)):
                if not isinstance(decision, NoRoute):
                    one.release(decision[0].booking)
        change = round_number % 3
        if change == 0:
            contacts = [c for c in contacts if random.random() < 0.97]
        elif change == 1:
            contacts = contacts + random.sample(draw_contacts(random), 40)
        else:
            drift += 0.5
        plan = make_plan(contacts, drift)
        assert router.update(plan, now) == []


@pytest.mark.slow
def test_volume_is_never_promised_twice_under_load() -> None:
    random = Random(11)
    plan = make_plan(draw_contacts(random), 0.0)
    router = SabrRouter("site0", plan)
    bookings: list[Booking] = []
    waiting = [
        RouteRequest(random.choice(["control", "site3", "orbiter2"]), 400_000, random.randint(0, 3), HORIZON, key=n)
        for n in range(6000)
    ]
    refused = 0
    while waiting:
        request = waiting.pop()
        decision = router.route(request, 0.0)
        if isinstance(decision, NoRoute):
            refused += 1
            continue
        bookings.append(decision[0].booking)
        for lost in decision[0].displaced:
            assert lost.priority > request.priority
            waiting.append(request._replace(priority=lost.priority, key=lost.key))
    live = [booking for booking in bookings if booking.state is BookingState.LIVE]
    assert len(live) + refused == 6000
    assert len({booking.key for booking in live}) == len(live)
    held: dict[Contact, int] = {}
    for booking in live:
        for contact in booking.contacts:
            held[contact] = held.get(contact, 0) + booking.size
    assert refused > 0
    for contact, size in held.items():
        assert size <= contact.volume
        assert router.residual(contact, 3) == pytest.approx(contact.volume - size)
