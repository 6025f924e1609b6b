"""Static and epidemic routing, and what all routers share."""

from __future__ import annotations

import pytest

from marsnet.dtn.routing import (
    BookingState,
    Decision,
    EpidemicRouter,
    Margin,
    NoRoute,
    Reason,
    Router,
    RouteRequest,
    SabrRouter,
    StaticRouter,
)
from marsnet.errors import InputError
from marsnet.plan.types import Contact, ContactPlan, Range

NO_MARGIN = Margin(0.0)


def contact(source: str, target: str, start: float, end: float) -> Contact:
    return Contact(f"{source}-{target}", source, target, start, end, 8000.0)


def plan(*contacts: Contact) -> ContactPlan:
    names = dict.fromkeys(name for c in contacts for name in (c.source, c.target))
    pairs = dict.fromkeys((c.source, c.target) for c in contacts)
    ranges = tuple(Range(source, target, 0.0, 1e6, 1.0) for source, target in pairs)
    numbers = {name: number + 1 for number, name in enumerate(names)}
    return ContactPlan(
        "2026-10-01T00:00:00Z", 0.0, 1e6, numbers, tuple(sorted(contacts, key=lambda c: c.start)), ranges
    )


PLAN = plan(contact("a", "b", 10, 20), contact("a", "c", 5, 8), contact("a", "b", 50, 60), contact("b", "d", 30, 40))


def ask(destination: str = "d", size: int = 1000, expires: float = 1e6, **more: object) -> RouteRequest:
    return RouteRequest(destination, size, 2, expires, **more)  # type: ignore[arg-type]


def sent_to(decision: Decision) -> list[tuple[str, float, float]]:
    assert isinstance(decision, list), decision
    return [(forward.neighbour, forward.start, forward.arrival) for forward in decision]


def static(table: dict[str, str]) -> StaticRouter:
    return StaticRouter("a", PLAN, table, margin=NO_MARGIN)


def test_static_follows_its_table() -> None:
    router = static({"d": "b", "*": "c"})
    assert sent_to(router.route(ask(), 0.0)) == [("b", 10.0, 12.0)]
    assert sent_to(router.route(ask("b"), 0.0)) == [("c", 5.0, 7.0)]


def test_static_queues_and_moves_to_the_next_contact() -> None:
    router = static({"d": "b"})
    starts = [sent_to(router.route(ask(size=4000), 0.0))[0][1] for _ in range(3)]
    assert starts == [10.0, 14.0, 50.0]


def test_static_without_a_way() -> None:
    router = static({"d": "b", "c": "x"})
    assert router.route(ask("b"), 0.0) == NoRoute(Reason.UNREACHABLE)
    assert router.route(ask("c"), 0.0) == NoRoute(Reason.UNREACHABLE)
    assert router.route(ask("z"), 0.0) == NoRoute(Reason.UNREACHABLE)
    assert router.route(ask("a"), 0.0) == NoRoute(Reason.LOCAL)
    assert router.route(ask(expires=1.0), 1.0) == NoRoute(Reason.EXPIRED)
    assert router.route(ask(expires=11.5), 0.0) == NoRoute(Reason.LATE, 500)
    assert router.route(ask(size=20_000), 0.0) == NoRoute(Reason.VOLUME, 10_000)
    assert router.route(ask(previous_hop="b"), 0.0) == NoRoute(Reason.UNREACHABLE)


def test_static_reports_a_full_contact() -> None:
    router = StaticRouter("a", plan(contact("a", "b", 10, 11)), {"b": "b"}, margin=NO_MARGIN)
    sent_to(router.route(ask("b"), 0.0))
    assert router.route(ask("b"), 0.0) == NoRoute(Reason.VOLUME, 0)


def test_epidemic_goes_to_every_neighbour_but_those_that_have_it() -> None:
    router = EpidemicRouter("a", PLAN, margin=NO_MARGIN)
    assert sent_to(router.route(ask(), 0.0)) == [("c", 5.0, 7.0), ("b", 10.0, 12.0)]
    assert sent_to(router.route(ask(previous_hop="c"), 0.0)) == [("b", 11.0, 13.0)]
    refused = ask(previous_hop="c", excluded=frozenset("b"))
    assert router.route(refused, 0.0) == NoRoute(Reason.UNREACHABLE)


def test_epidemic_never_takes_a_detour() -> None:
    router = EpidemicRouter("a", plan(contact("a", "b", 0, 10), contact("b", "c", 0, 10), contact("a", "c", 50, 60)))
    decision = router.route(ask("c"), 0.0)
    assert isinstance(decision, list)
    assert [len(forward.route) for forward in decision] == [1, 1]


ROUTERS: list[Router] = [
    SabrRouter("a", PLAN, margin=NO_MARGIN),
    static({"d": "b"}),
    EpidemicRouter("a", PLAN, margin=NO_MARGIN),
]


@pytest.mark.parametrize("router", ROUTERS, ids=lambda router: type(router).__name__)
def test_life_of_a_booking_is_the_same_for_all(router: Router) -> None:
    first, second = PLAN.contacts[1], PLAN.contacts[3]
    assert (first.target, second.target) == ("b", "b")
    assert router.node == "a"

    def book(now: float) -> Contact:
        decision = router.route(ask(excluded=frozenset("c"), key="k"), now)
        assert isinstance(decision, list)
        bookings.append(decision[0].booking)
        return decision[0].contact

    bookings: list = []
    assert book(0.0) == first
    router.release(bookings[-1])
    assert router.residual(first, 2) == 10_000.0
    book(0.0)
    assert router.contact_failed("b", 12.0) == [bookings[-1]]
    router.contact_restored("b", 12.0)
    assert book(12.0) == first
    router.consume(bookings[-1])
    assert router.residual(first, 2) == 9000.0
    assert book(12.0) == first
    assert router.overdue(20.0) == [bookings[-1]]
    assert [booking.state for booking in bookings] == [
        BookingState.RELEASED,
        BookingState.VOID,
        BookingState.SENT,
        BookingState.VOID,
    ]


@pytest.mark.parametrize("kind", [SabrRouter, EpidemicRouter])
def test_discovered_contacts_and_new_plans_for_all(kind: type[SabrRouter | EpidemicRouter]) -> None:
    router = kind("a", PLAN, margin=NO_MARGIN)
    met = contact("a", "d", 0, 100)
    router.add_opportunistic(met, Range("a", "d", 0.0, 100.0, 0.0), 0.0)
    decision = router.route(ask(excluded=frozenset("bc")), 0.0)
    assert sent_to(decision) == [("d", 0.0, 1.0)]
    assert router.update(PLAN, 0.0) == []
    assert router.remove_opportunistic(met, 0.0) == [decision[0].booking]  # type: ignore[union-attr]
    assert isinstance(router.route(ask(excluded=frozenset("bc")), 0.0), NoRoute)


@pytest.mark.parametrize("router", ROUTERS[1:], ids=lambda router: type(router).__name__)
def test_wrong_requests(router: Router) -> None:
    with pytest.raises(InputError, match="-1 bytes"):
        router.route(ask(size=-1), 0.0)
