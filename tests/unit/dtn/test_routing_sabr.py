"""SABR on plans small enough to answer by hand."""

from __future__ import annotations

import pytest

from marsnet.dtn.routing import BookingState, Decision, Forward, Margin, NoRoute, Reason, RouteRequest, SabrRouter
from marsnet.errors import InputError
from marsnet.plan.types import Contact, ContactPlan, Range

NEVER = 1e9
NO_MARGIN = Margin(0.0)


def contact(source: str, target: str, start: float, end: float, rate: float = 8000.0, link: str = "") -> Contact:
    """1000 bytes a second unless told."""
    return Contact(link or f"{source}-{target}", source, target, start, end, rate)


def plan(*contacts: Contact, light: float = 0.0, ranges: tuple[Range, ...] = ()) -> ContactPlan:
    names = dict.fromkeys(name for c in contacts for name in (c.source, c.target))
    stated = {(r.source, r.target) for r in ranges}
    pairs = dict.fromkeys((c.source, c.target) for c in contacts if (c.source, c.target) not in stated)
    constant = tuple(Range(source, target, 0.0, NEVER, light) for source, target in pairs)
    return ContactPlan(
        "2026-10-01T00:00:00Z",
        0.0,
        NEVER,
        {name: number + 1 for number, name in enumerate(names)},
        tuple(sorted(contacts, key=lambda c: c.start)),
        (*ranges, *constant),
    )


def ask(destination: str = "d", size: int = 1000, priority: int = 2, **more: object) -> RouteRequest:
    return RouteRequest(destination, size, priority, more.pop("expires", NEVER), **more)  # type: ignore[arg-type]


def only(decision: Decision) -> Forward:
    assert isinstance(decision, list), decision
    assert len(decision) == 1
    return decision[0]


def router(*contacts: Contact, **more: object) -> SabrRouter:
    return SabrRouter("a", plan(*contacts, **more), margin=NO_MARGIN)  # type: ignore[arg-type]


def test_waits_for_each_contact_and_adds_transmission_and_light_time() -> None:
    r = router(contact("a", "b", 10, 20), contact("b", "d", 50, 60), light=5.0)
    f = only(r.route(ask(size=2000), 0.0))
    assert (f.neighbour, f.start, f.arrival) == ("b", 10.0, 57.0)  # leaves b at 50, 2 s to send, 5 s of light
    assert [c.target for c in f.route] == ["b", "d"]
    assert f.contact is f.route[0]


def test_contact_is_stated_at_the_transmitter() -> None:
    # Leaves a in [10, 12], is at b from 111 on, when b's first contact is over for us.
    late = contact("b", "d", 500, 600)
    r = router(contact("a", "b", 10, 12), contact("b", "d", 50, 111.5), late, light=100.0)
    assert only(r.route(ask(), 0.0)).route[1] == late


def test_light_time_is_taken_at_transmission() -> None:
    shrinking = Range("a", "d", 0.0, NEVER, 1000.0, -0.01)
    r = router(contact("a", "d", 100, 200), ranges=(shrinking,))
    assert only(r.route(ask(), 0.0)).arrival == pytest.approx(101 + 1000 - 1.01)


def test_light_time_follows_the_segment_in_force() -> None:
    steps = (Range("a", "d", 0.0, 150.0, 10.0), Range("a", "d", 150.0, NEVER, 20.0))
    for now, arrival in ((100.0, 111.0), (160.0, 181.0)):
        assert only(router(contact("a", "d", 100, 200), ranges=steps).route(ask(), now)).arrival == arrival


def test_margin_is_added_on_every_hop() -> None:
    contacts = (contact("a", "b", 0, 1000), contact("b", "d", 0, 1000))
    r = SabrRouter("a", plan(*contacts, light=100.0), margin=Margin(0.01, 0.5))
    assert only(r.route(ask(), 0.0)).arrival == pytest.approx(2 * (1 + 100 + 1 + 0.5))


def test_default_margin_is_that_of_the_book() -> None:
    r = SabrRouter("a", plan(contact("a", "d", 0, 10), light=1200.0))
    assert only(r.route(ask(), 0.0)).arrival == pytest.approx(1 + 1200 * (1 + 2.2368e-4), abs=1e-3)


def test_margin_can_cost_a_connection() -> None:
    contacts = (contact("a", "b", 0, 10), contact("b", "d", 0, 102.4), contact("b", "d", 200, 210))
    assert only(SabrRouter("a", plan(*contacts, light=100.0), margin=NO_MARGIN).route(ask(), 0.0)).arrival == 202.0
    assert only(SabrRouter("a", plan(*contacts, light=100.0), margin=Margin(0.01)).route(ask(), 0.0)).arrival == 302.0


def test_sub_second_contacts() -> None:
    # 0.25 s at 1000 B/s take 250 bytes and no more.
    r = router(contact("a", "d", 1.5, 1.75), contact("a", "d", 10, 11))
    assert only(r.route(ask(size=250), 0.0)).arrival == pytest.approx(1.75)
    assert only(r.route(ask(size=251), 0.0)).start == 10.0


def test_a_bundle_that_fills_a_contact_of_awkward_numbers() -> None:
    c = contact("a", "d", 86400.1, 86400.4, rate=8e6 / 3)
    assert only(router(c).route(ask(size=100_000), 0.0)).contact == c


def test_rate_steps_are_contacts_of_their_own() -> None:
    slow, fast = contact("a", "d", 0, 10), contact("a", "d", 10, 20, 80_000)
    r = router(slow, fast)
    assert only(r.route(ask(size=10_000), 0.0)).contact == slow
    assert only(r.route(ask(size=10_001), 0.0)).contact == fast
    decision = router(slow, contact("a", "d", 10, 20)).route(ask(size=15_000), 0.0)
    assert decision == NoRoute(Reason.VOLUME, 10_000)


def test_overlapping_contacts_of_two_links() -> None:
    slow, fast = contact("a", "d", 0, 100, link="uhf"), contact("a", "d", 5, 100, 800_000, link="x")
    r = router(slow, fast)
    assert only(r.route(ask(size=1000), 0.0)).contact == slow
    assert only(r.route(ask(size=50_000), 0.0)).contact == fast


def test_overlapping_contacts_of_one_link() -> None:
    long, short = contact("a", "d", 0, 100, 800), contact("a", "d", 5, 20, 80_000, link="a-d")
    assert only(router(long, short).route(ask(size=5000), 0.0)).contact == short


def test_fewer_hops_win_when_arrival_is_equal() -> None:
    # c gets the bundle through b at 2, directly at 31; both wait for the contact at 50.
    r = router(contact("a", "b", 0, 10), contact("b", "c", 0, 10), contact("a", "c", 30, 40), contact("c", "d", 50, 60))
    assert [c.target for c in only(r.route(ask(), 0.0)).route] == ["c", "d"]


def test_previous_hop_is_not_a_next_hop() -> None:
    r = router(contact("a", "b", 0, 10), contact("b", "d", 0, 10), contact("a", "c", 20, 30), contact("c", "d", 20, 30))
    assert only(r.route(ask(), 0.0)).neighbour == "b"
    assert only(r.route(ask(previous_hop="b"), 0.0)).neighbour == "c"
    assert r.route(ask(previous_hop="b", excluded=frozenset("c")), 0.0) == NoRoute(Reason.UNREACHABLE)


def test_excluded_neighbours() -> None:
    r = router(contact("a", "b", 0, 10), contact("b", "d", 0, 10), contact("a", "c", 20, 30), contact("c", "d", 20, 30))
    assert only(r.route(ask(excluded=frozenset("b")), 0.0)).neighbour == "c"
    assert only(r.route(ask(excluded=frozenset(["nobody"])), 0.0)).neighbour == "b"


def test_expiry_is_a_deadline() -> None:
    r = router(contact("a", "d", 10, 20), light=100.0)
    assert r.route(ask(expires=110.9), 0.0) == NoRoute(Reason.LATE, 900)
    assert only(r.route(ask(expires=111.0), 0.0)).arrival == 111.0
    assert r.route(ask(expires=111.5), 0.0) == NoRoute(Reason.LATE, 500)  # the first is still waiting
    assert r.route(ask(expires=5.0), 0.0) == NoRoute(Reason.LATE)
    assert r.route(ask(expires=5.0), 5.0) == NoRoute(Reason.EXPIRED)


def test_reasons() -> None:
    r = router(contact("a", "b", 0, 10), contact("d", "a", 0, 10))
    assert r.route(ask("a"), 0.0) == NoRoute(Reason.LOCAL)
    assert r.route(ask("z"), 0.0) == NoRoute(Reason.UNKNOWN)
    assert r.route(ask("d"), 0.0) == NoRoute(Reason.UNREACHABLE)
    assert r.route(ask("b"), 10.0) == NoRoute(Reason.UNREACHABLE)
    assert r.route(ask("b", size=10_001), 0.0) == NoRoute(Reason.VOLUME, 10_000)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": -5}, {"priority": 4}, {"priority": -1}])
def test_wrong_requests(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        router(contact("a", "d", 0, 10)).route(ask(**wrong), 0.0)


def test_contact_without_range() -> None:
    bare = ContactPlan("2026-10-01T00:00:00Z", 0.0, 10.0, {"a": 1, "d": 2}, (contact("a", "d", 0.0, 10.0),), ())
    with pytest.raises(InputError, match=r"a to d at 0\.0 s has no range"):
        SabrRouter("a", bare)


def test_range_that_overtakes() -> None:
    with pytest.raises(InputError, match="shrinks by 2"):
        router(contact("a", "d", 0, 10), ranges=(Range("a", "d", 0.0, 10.0, 100.0, -2.0),))


def test_bundles_queue_and_volume_is_never_booked_twice() -> None:
    first, second = contact("a", "d", 10, 13), contact("a", "d", 100, 103)
    r = router(first, second)
    forwards = [only(r.route(ask(), 0.0)) for _ in range(6)]
    assert [f.start for f in forwards] == [10.0, 11.0, 12.0, 100.0, 101.0, 102.0]
    assert [f.arrival for f in forwards] == [11.0, 12.0, 13.0, 101.0, 102.0, 103.0]
    assert r.residual(first, 3) == r.residual(second, 3) == 0.0
    assert r.route(ask(), 0.0) == NoRoute(Reason.VOLUME, 0)


def test_volume_beyond_the_first_hop_is_booked() -> None:
    narrow, wide = contact("b", "d", 50, 52), contact("b", "d", 90, 190)
    r = router(contact("a", "b", 0, 100), narrow, wide)
    assert [only(r.route(ask(), 0.0)).route[1] for _ in range(4)] == [narrow, narrow, wide, wide]


def test_release_gives_volume_back() -> None:
    soon, later = contact("a", "d", 10, 12), contact("a", "d", 100, 102)
    r = router(soon, later)
    held = [only(r.route(ask(), 0.0)) for _ in range(3)]
    assert held[2].contact == later
    r.release(held[0].booking)
    r.release(held[0].booking)
    assert held[0].booking.state is BookingState.RELEASED
    assert r.residual(soon, 2) == 1000.0
    assert only(r.route(ask(), 0.0)).contact == soon
    assert only(r.route(ask(), 0.0)).contact == later


def test_consumed_volume_stays_spent_and_no_longer_delays() -> None:
    c = contact("a", "d", 0, 10)
    r = router(c)
    sent = only(r.route(ask(), 0.0))
    r.consume(sent.booking)
    assert sent.booking.state is BookingState.SENT
    assert only(r.route(ask(), 1.0)).start == 1.0
    r.release(sent.booking)
    assert r.residual(c, 2) == 8000.0


def test_routing_a_key_again_does_not_book_twice() -> None:
    c = contact("a", "d", 0, 10)
    r = router(c)
    first = only(r.route(ask(key="bundle"), 0.0))
    again = only(r.route(ask(key="bundle"), 0.0))
    assert first.booking.state is BookingState.RELEASED
    assert again.start == 0.0
    assert r.residual(c, 2) == 9000.0


def test_a_clock_that_is_set_back() -> None:
    early = contact("a", "d", 0, 5)
    r = router(early, contact("a", "d", 100, 110))
    for _ in range(3):
        assert only(r.route(ask(), 50.0)).start >= 100.0
    assert only(r.route(ask(), 0.0)).contact == early


def test_time_spent_idle_is_lost() -> None:
    r = router(contact("a", "d", 0, 10))
    assert only(r.route(ask(size=2000), 8.0)).arrival == 10.0
    assert r.route(ask(size=2000), 8.0) == NoRoute(Reason.VOLUME, 0)


def test_higher_priority_goes_first_and_books_over_lower() -> None:
    soon, later = contact("a", "d", 10, 13), contact("a", "d", 100, 113)
    r = router(soon, later)
    bulk = [only(r.route(ask(priority=3, key=n), 0.0)) for n in range(2)]
    normal = only(r.route(ask(priority=2), 0.0))
    assert (normal.start, normal.displaced) == (10.0, ())
    assert r.residual(soon, 3) == 0.0
    assert r.residual(soon, 0) == 3000.0
    expedited = only(r.route(ask(priority=1), 0.0))
    assert expedited.start == 10.0
    assert expedited.displaced == (bulk[1].booking,)  # the youngest of the lowest level
    assert bulk[1].booking.state is BookingState.VOID
    assert bulk[0].booking.state is BookingState.LIVE
    assert only(r.route(ask(priority=3, key=1), 0.0)).contact == later
    critical = only(r.route(ask(priority=0, size=2000), 0.0))
    assert critical.displaced == (bulk[0].booking, normal.booking)


def test_equal_priority_does_not_displace() -> None:
    r = router(contact("a", "d", 10, 12))
    for _ in range(2):
        only(r.route(ask(priority=0), 0.0))
    assert r.route(ask(priority=0), 0.0) == NoRoute(Reason.VOLUME, 0)


def test_displacement_when_time_runs_out_before_volume() -> None:
    r = router(contact("a", "d", 0, 10))
    bulk = only(r.route(ask(priority=3, size=3000), 6.0))
    urgent = only(r.route(ask(priority=1, size=2000), 6.0))
    assert urgent.displaced == (bulk.booking,)


def test_displacement_beyond_the_first_hop() -> None:
    r = router(
        contact("a", "b", 0, 10),
        contact("a", "c", 0, 10),
        contact("b", "x", 20, 30),
        contact("c", "x", 20, 30),
        contact("x", "d", 50, 52),
    )
    bulk = only(r.route(ask(priority=3, size=2000), 0.0))
    urgent = only(r.route(ask(priority=0, previous_hop=bulk.neighbour), 0.0))
    assert urgent.neighbour != bulk.neighbour
    assert urgent.displaced == (bulk.booking,)


def test_what_has_left_is_not_displaced() -> None:
    r = router(contact("a", "b", 0, 10), contact("b", "d", 20, 22))
    sent = only(r.route(ask(priority=3, size=2000), 0.0))
    r.consume(sent.booking)
    urgent = only(r.route(ask(priority=0), 2.0))
    assert urgent.displaced == ()
    assert sent.booking.state is BookingState.SENT


def test_overdue_bookings_come_back() -> None:
    soon, later = contact("a", "d", 0, 2), contact("a", "d", 100, 102)
    r = router(soon, later)
    sent, missed = only(r.route(ask(), 0.0)), only(r.route(ask(), 0.0))
    waiting = only(r.route(ask(), 0.0))
    r.consume(sent.booking)
    assert r.overdue(1.9) == []
    assert r.overdue(2.0) == [missed.booking]
    assert r.overdue(2.0) == []
    assert missed.booking.state is BookingState.VOID
    assert waiting.booking.state is BookingState.LIVE


def test_failed_contact_is_avoided_until_restored() -> None:
    r = router(contact("a", "b", 0, 50), contact("b", "d", 0, 50), contact("a", "c", 20, 60), contact("c", "d", 20, 60))
    for _ in range(3):
        lost = only(r.route(ask(), 0.0))
        assert lost.neighbour == "b"
        r.release(lost.booking)
    lost = only(r.route(ask(), 0.0))
    assert r.contact_failed("b", 1.0) == [lost.booking]
    assert r.contact_failed("b", 1.0) == []
    for _ in range(3):
        assert only(r.route(ask(), 1.0)).neighbour == "c"
    r.contact_restored("b", 2.0)
    assert only(r.route(ask(), 2.0)).neighbour == "b"
    assert r.contact_failed("nobody", 3.0) == []


def test_plan_update_voids_exactly_the_changed() -> None:
    kept, moved = contact("a", "b", 0, 10), contact("b", "d", 20, 30)
    other = contact("a", "c", 0, 10)
    r = router(kept, moved, other)
    through, direct = only(r.route(ask(), 0.0)), only(r.route(ask("b"), 0.0))
    elsewhere = only(r.route(ask("c"), 0.0))
    shifted = contact("b", "d", 40, 50)
    assert r.update(plan(kept, shifted, other), 0.0) == [through.booking]
    assert direct.booking.state is elsewhere.booking.state is BookingState.LIVE
    assert r.residual(kept, 2) == 9000.0
    assert only(r.route(ask(), 0.0)).arrival == 41.0
    with pytest.raises(KeyError):
        r.residual(moved, 2)


def test_what_was_sent_stays_charged_when_a_contact_is_stretched() -> None:
    first, old = contact("a", "b", 0, 10), contact("b", "d", 20, 23)
    r = router(first, old)
    r.consume(only(r.route(ask(size=2000), 0.0)).booking)
    new = contact("b", "d", 20, 24)
    assert r.update(plan(first, new), 2.0) == []
    assert r.residual(new, 2) == 2000.0


def test_refused_plan_leaves_the_router_as_it_was() -> None:
    c = contact("a", "d", 0, 10)
    r = router(c)
    bad = ContactPlan("2026-10-01T00:00:00Z", 0.0, 10.0, {"a": 1, "d": 2}, (contact("a", "d", 5, 10),), ())
    with pytest.raises(InputError):
        r.update(bad, 0.0)
    assert only(r.route(ask(), 0.0)).contact == c


def test_opportunistic_contacts() -> None:
    r = router(contact("a", "b", 100, 110), contact("b", "d", 120, 130))
    for _ in range(2):
        r.release(only(r.route(ask(), 0.0)).booking)
    found = contact("a", "d", 5, 50)
    r.add_opportunistic(found, Range("a", "d", 5.0, 50.0, 1.0), 5.0)
    lucky = only(r.route(ask(), 5.0))
    assert (lucky.contact, lucky.arrival) == (found, 7.0)
    assert r.update(plan(contact("a", "b", 100, 111), contact("b", "d", 120, 130)), 6.0) == []
    assert lucky.booking.state is BookingState.LIVE
    assert r.remove_opportunistic(found, 7.0) == [lucky.booking]
    assert only(r.route(ask(), 7.0)).neighbour == "b"


def test_opportunistic_contact_with_a_stranger() -> None:
    r = router(contact("a", "b", 100, 110))
    assert r.route(ask("stranger"), 0.0) == NoRoute(Reason.UNKNOWN)
    r.add_opportunistic(contact("a", "stranger", 5, 50), Range("a", "stranger", 5.0, 50.0, 0.0), 5.0)
    assert only(r.route(ask("stranger"), 5.0)).neighbour == "stranger"
    r.update(plan(contact("a", "b", 100, 110)), 60.0)
    assert r.route(ask("stranger"), 60.0) == NoRoute(Reason.UNREACHABLE)


def test_fragment_hint_respects_every_hop_and_expiry() -> None:
    r = router(contact("a", "b", 0, 100), contact("b", "d", 0, 30, 4000))
    # 30 s in all: x/1000 to b, then x/500 to d.
    assert r.route(ask(size=50_000), 0.0) == NoRoute(Reason.VOLUME, 10_000)
    assert r.route(ask(size=50_000, expires=15.0), 0.0) == NoRoute(Reason.VOLUME, 5000)
    assert only(r.route(ask(size=10_000), 0.0)).arrival == pytest.approx(30.0)


def test_critical_bundles_take_disjoint_routes() -> None:
    contacts = (
        contact("a", "b", 0, 10), contact("b", "d", 10, 20),
        contact("a", "c", 0, 10), contact("c", "b", 0, 10), contact("c", "d", 30, 40),
    )  # fmt: skip
    r = router(*contacts)
    decision = r.route(ask(critical=True, key="k"), 0.0)
    assert isinstance(decision, list)
    assert [(f.neighbour, f.arrival) for f in decision] == [("b", 11.0), ("c", 31.0)]
    assert all(f.booking.key == "k" for f in decision)
    assert len(r.routes_disjoint(ask(key="k"), 5, 0.0)) == 2
    assert [r.residual(c, 2) for c in contacts] == [9000.0, 9000.0, 9000.0, 10_000.0, 9000.0]


def test_disjoint_routes_share_a_node_only_when_they_must() -> None:
    r = router(
        contact("a", "b", 0, 10),
        contact("a", "c", 0, 10),
        contact("c", "b", 0, 10),
        contact("b", "d", 10, 20),
        contact("b", "e", 10, 20),
        contact("e", "d", 20, 30),
    )
    paths = [[c.target for c in f.route] for f in r.routes_disjoint(ask(), 2, 0.0)]
    assert paths == [["b", "d"], ["c", "b", "e", "d"]]


def test_critical_bundle_without_route() -> None:
    r = router(contact("a", "d", 0, 10))
    assert r.route(ask(critical=True, expires=0.5), 0.0) == NoRoute(Reason.LATE, 500)
    assert r.routes_disjoint(ask("a"), 2, 0.0) == []


def test_lowest_node_number_decides_a_full_tie() -> None:
    contacts = [contact("a", n, 0, 10) for n in "bc"] + [contact(n, "d", 20, 30) for n in "bc"]
    for order in (contacts, contacts[::-1]):
        p = plan(*order)
        p = ContactPlan(p.epoch, p.start, p.end, {"a": 1, "b": 9, "c": 3, "d": 4}, p.contacts, p.ranges)
        r = SabrRouter("a", p, margin=NO_MARGIN)
        r.release(only(r.route(ask(), 0.0)).booking)
        assert {only(r.route(ask(size=1001), 0.0)).neighbour for _ in range(2)} == {"c"}
