"""SABR against an exhaustive search, through random histories of bundles, news and plan updates.

All times, sizes and light times are multiples of 1/4, so that both sides compute without rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from marsnet.dtn.routing import Booking, BookingState, Margin, NoRoute, Reason, RouteRequest, SabrRouter
from marsnet.plan.types import Contact, ContactPlan, Range

NODES = "abcde"
EDGE = 1e-6
PAIRS = [(s, t) for s in NODES for t in NODES if s != t]

# Hypothesis draws only the seed: drawing each number of a history through it takes ten times as long.
histories = given(st.integers(0, 2**32 - 1).map(Random))


def quarters(random: Random, low: float, high: float) -> float:
    return random.randint(int(low * 4), int(high * 4)) / 4


def contacts(random: Random, least: int, most: int) -> list[Contact]:
    made = []
    for _ in range(random.randint(least, most)):
        source, target = random.choice(PAIRS)
        start = quarters(random, 0, 40)
        # The name is unique, so that what was sent over a contact that vanishes is inherited by no other.
        name = f"link{random.getrandbits(60)}"
        rate = 8 * random.choice([1, 2, 8])
        made.append(Contact(name, source, target, start, start + quarters(random, 0.25, 20), rate))
    return made


def light_times(random: Random) -> tuple[Range, ...]:
    ranges = []
    for source, target in PAIRS:
        turn = quarters(random, 5, 30)
        slope, later = random.choice([0.0, 0.0, 0.5, -0.25]), random.choice([0.0, 0.25])
        owlt = quarters(random, 0, 5) + (8 if slope < 0 else 0)
        ranges.append(Range(source, target, 0.0, turn, owlt, slope))
        # Continuous: what leaves later never arrives earlier.
        ranges.append(Range(source, target, turn, 100.0, owlt + slope * turn, later))
    return tuple(sorted(ranges, key=lambda r: r.start))


def a_request(random: Random) -> RouteRequest:
    return RouteRequest(
        random.choice("bcde"),
        random.choice([1, 2, 8, 9]),
        random.randint(0, 3),
        random.choice([1e9, 1e9, 50.0]),
        random.choice([None, None, "b"]),
        random.choice([frozenset(), frozenset(), frozenset("c")]),
    )


def make_plan(some: list[Contact], ranges: tuple[Range, ...]) -> ContactPlan:
    numbers = {name: index + 1 for index, name in enumerate(NODES)}
    ordered = tuple(sorted(some, key=lambda c: c.start))
    return ContactPlan("2026-10-01T00:00:00Z", 0.0, 100.0, numbers, ordered, ranges)


class Model:
    """What the router should know, kept in the plainest way."""

    def __init__(self, plan: ContactPlan, margin: Margin) -> None:
        self.plan, self.margin = plan, margin
        self.bookings: list[Booking] = []
        self.spent: dict[Contact, list[tuple[int, int]]] = {}
        self.down: set[Contact] = set()

    def live(self) -> list[Booking]:
        return [b for b in self.bookings if b.state is BookingState.LIVE]

    def booked(self, contact: Contact, priority: int) -> int:
        live = sum(b.size for b in self.live() if contact in b.contacts and b.priority <= priority)
        return live + sum(size for level, size in self.spent.get(contact, []) if level <= priority)

    def routes(self, request: RouteRequest, now: float) -> Iterator[tuple[float, int]]:
        """Arrival and hops of every route that takes the bundle."""
        barred = request.excluded | {request.previous_hop}

        def walk(node: str, time: float, seen: tuple[str, ...]) -> Iterator[tuple[float, int]]:
            for contact in self.plan.contacts:
                if contact.source != node or contact.target in seen or contact in self.down:
                    continue
                begin = max(time, contact.start)
                if node == "a":
                    if contact.target in barred:
                        continue
                    waiting = [b for b in self.live() if b.contacts[0] == contact and b.priority <= request.priority]
                    begin += sum(b.size for b in waiting) * 8 / contact.rate
                end = begin + request.size * 8 / contact.rate
                if end > contact.end + EDGE:
                    continue
                if self.booked(contact, request.priority) + request.size > contact.volume + EDGE:
                    continue
                owlt = self.plan.owlt(node, contact.target, end)
                arrival = end + owlt * (1 + self.margin.ratio) + self.margin.seconds
                if contact.target == request.destination:
                    yield arrival, len(seen)
                else:
                    yield from walk(contact.target, arrival, (*seen, contact.target))

        yield from walk("a", now, ("a",))


ACTIONS = ["route"] * 6 + ["consume", "release", "wait", "update", "fail", "restore", "overdue"]


@settings(max_examples=300, deadline=None)
@histories
def test_every_decision_is_the_best_there_is(random: Random) -> None:
    margin = random.choice([Margin(0.0), Margin(0.25, 0.5)])
    ranges = light_times(random)
    plan = make_plan(contacts(random, 3, 16), ranges)
    router, model = SabrRouter("a", plan, margin=margin), Model(plan, margin)
    # Few kinds of bundles, so that cached routes are in use when news arrives.
    kinds = [a_request(random) for _ in range(random.randint(1, 2))]
    now = 0.0
    for _ in range(random.randint(5, 40)):
        action = random.choice(ACTIONS)
        live = model.live()
        if action == "route":
            check_decision(router, model, random.choice(kinds), now)
        elif action in ("consume", "release") and live:
            booking = random.choice(live)
            if action == "release":
                router.release(booking)
            else:
                router.consume(booking)
                for contact in booking.contacts:
                    model.spent.setdefault(contact, []).append((booking.priority, booking.size))
        elif action == "wait":
            now += quarters(random, 0, 4)
        elif action == "update":
            kept = [c for c in model.plan.contacts if random.random() < 0.8]
            if random.random() < 0.3:
                ranges = light_times(random)
            model.plan = make_plan(kept + contacts(random, 0, 3), ranges)
            gone = {b for b in live if any(c not in model.plan.contacts for c in b.contacts)}
            assert set(router.update(model.plan, now)) == gone
            model.spent = {c: spent for c, spent in model.spent.items() if c in model.plan.contacts}
            model.down &= set(model.plan.contacts)
        elif action in ("fail", "restore"):
            neighbour = random.choice("bcde")
            open_now = {c for c in model.plan.between("a", neighbour) if c.start <= now < c.end}
            if action == "fail":
                lost = {b for b in live if open_now & set(b.contacts) - model.down}
                assert set(router.contact_failed(neighbour, now)) == lost
                model.down |= open_now
            else:
                router.contact_restored(neighbour, now)
                model.down -= open_now
        elif action == "overdue":
            assert set(router.overdue(now)) == {b for b in live if b.contacts[0].end <= now}
        for contact in model.plan.contacts:
            for priority in range(4):
                expected = contact.volume - model.booked(contact, priority)
                assert router.residual(contact, priority) == max(expected, 0.0)


def check_decision(router: SabrRouter, model: Model, request: RouteRequest, now: float) -> None:
    best = min(model.routes(request, now), default=None)
    before = model.live()
    decision = router.route(request, now)
    if isinstance(decision, NoRoute):
        assert best is None or best[0] > request.expires
        if request.expires <= now:
            assert decision.reason is Reason.EXPIRED
        elif best is not None:
            assert decision.reason is Reason.LATE
        return
    (forward,) = decision
    assert best is not None
    assert (forward.arrival, len(forward.route)) == best
    assert forward.arrival <= request.expires
    assert forward.neighbour == forward.route[0].target
    model.bookings.append(forward.booking)
    voided = [b for b in before if b.state is BookingState.VOID]
    assert set(voided) == set(forward.displaced)
    assert all(b.priority > request.priority for b in voided)
    for contact in forward.route:
        if contact not in model.spent:
            assert model.booked(contact, 3) <= contact.volume


@settings(max_examples=100, deadline=None)
@histories
def test_hinted_fragment_has_a_route(random: Random) -> None:
    plan = make_plan(contacts(random, 3, 14), light_times(random))
    request = RouteRequest(random.choice("bcde"), 10_000, 2, random.choice([1e9, 50.0]))
    decision = SabrRouter("a", plan, margin=Margin(0.0)).route(request, 0.0)
    assert isinstance(decision, NoRoute)
    model = Model(plan, Margin(0.0))
    least = min(model.routes(request._replace(size=1), 0.0), default=(1e9, 0))
    if least[0] > request.expires or least[0] == 1e9:
        assert decision.fits == 0
        return
    assert decision.fits > 0
    fragment = SabrRouter("a", plan, margin=Margin(0.0)).route(request._replace(size=decision.fits), 0.0)
    assert not isinstance(fragment, NoRoute)
    assert fragment[0].arrival <= request.expires
