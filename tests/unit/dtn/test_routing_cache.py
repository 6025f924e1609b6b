"""What the router remembers of routes never changes an answer: each is as good as one computed from scratch."""

from __future__ import annotations

from random import Random

import pytest
from test_routing_large import HORIZON, draw_contacts, make_plan

from marsnet.dtn.routing import Booking, NoRoute, RouteRequest, SabrRouter
from marsnet.dtn.routing.graph import SABR_MARGIN, ContactGraph
from marsnet.dtn.routing.search import Bundle, Found, Origin, search


def from_scratch(router: SabrRouter, request: RouteRequest, now: float) -> Found | None:
    """The best route by one search over the contacts as they are booked now."""
    graph: ContactGraph = router._graph
    here, there = graph.index[router.node], graph.index[request.destination]
    shut = frozenset((here, graph.index[name]) for name in request.excluded)
    bundle = Bundle(there, request.size, request.priority, shut)
    return search(graph, Origin(here, now), bundle, loaded=True)


@pytest.mark.parametrize("seed", range(4))
def test_cached_answers_are_those_of_a_search_from_scratch(seed: int) -> None:
    random = Random(seed)
    plan = make_plan(draw_contacts(random), 0.0)
    router = SabrRouter("site0", plan, margin=SABR_MARGIN)
    held: list[Booking] = []
    answers = refusals = 0
    for number in range(400):
        now = number * 0.5 * HORIZON / 400 if seed % 2 else number * 2.0
        request = RouteRequest(
            random.choice(["control", "site3", "orbiter2"]),
            int(10 ** random.uniform(2, 6)),
            random.randint(0, 3),
            HORIZON,
            excluded=random.choice([frozenset[str](), frozenset[str](), frozenset(["orbiter1"])]),
        )
        expected = from_scratch(router, request, now)
        decision = router.route(request, now)
        if isinstance(decision, NoRoute):
            refusals += 1
            assert expected is None or expected.arrival > HORIZON
            continue
        answers += 1
        assert expected is not None
        assert (decision[0].arrival, len(decision[0].route)) == (expected.arrival, expected.hops)
        held.append(decision[0].booking)
        if random.random() < 0.3:
            booking = held.pop(random.randrange(len(held)))
            random.choice([router.release, router.consume])(booking)
    assert answers > 300
