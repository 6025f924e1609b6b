"""What waits for others goes by a silent neighbour when it answers again, at a bounded cost."""

from __future__ import annotations

from typing import Any

import pytest
from bundle_world import World

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node import ways
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.limbo import Limbo
from marsnet.dtn.node.queues import Held

LATE = (20_000.0, 25_000.0, 1e6)
ALWAYS = (0.0, 1e6, 1e6)


def world(until: float) -> World:
    """The relay is silent until then; the other way opens hours later."""
    made = World(
        "here relay other there",
        ("here relay", *ALWAYS),
        ("relay there", *ALWAYS),
        ("here other", *LATE),
        ("other there", *ALWAYS),
    )
    made.passes = lambda source, target, now: "relay" not in (source, target) or now > until
    made.attach("there", "ipn:4.20")
    return made


def send(made: World, count: int, **fields: Any) -> None:
    for _ in range(count):
        made.send("here", "ipn:4.20", b"x", lifetime=90_000.0, **fields)


def decisions(made: World) -> list[float]:
    """Mission times of the decisions of the first node, from now on."""
    times: list[float] = []
    router = made.agents["here"].forwarder.router
    route = router.route

    def counted(request: Any, now: float) -> Any:
        times.append(now)
        return route(request, now)

    router.route = counted  # type: ignore[method-assign]
    return times


def waiting(made: World, neighbour: str) -> int:
    return next(len(queue) for name, _, queue, _, _ in made.agents["here"].forwarder.queues() if name == neighbour)


def test_what_waits_for_a_late_pass_turns_back_when_the_silent_neighbour_answers() -> None:
    made = world(70.0)
    send(made, 30)
    made.run(60.0)
    assert waiting(made, "other") == 30, "the neighbour is silent, the late pass is what is left"
    made.run(200.0)
    arrived = [record.time for record in made.records(Step.RECEIVED, "there")]
    assert len(arrived) == 30
    assert max(arrived) < 100.0
    assert waiting(made, "other") == 0
    made.run(30_000.0)
    assert len(made.delivered) == 30, "none twice"


@pytest.mark.interpreted
def test_a_trial_asks_one_bundle_of_a_kind_however_many_wait() -> None:
    made = world(1e9)
    send(made, 40)
    send(made, 40, priority=ServiceClass.BULK)
    made.run(60.0)
    assert waiting(made, "other") == 80
    times = decisions(made)
    made.run(82.0)
    assert waiting(made, "other") == 79
    # The one that tries it, and nothing else: the others stay where they are.
    assert 1 <= len(times) <= 4
    made.run(150.0)
    assert waiting(made, "other") == 80, "it was not answered, and waits for the late pass again"
    assert len(times) <= 8
    made.run(19_000.0)
    assert len(times) <= 8 * 14, "and so at each of the following trials"
    made.run(40_000.0)
    assert len(made.delivered) == 80


@pytest.mark.interpreted
def test_news_of_a_neighbour_are_worked_off_in_portions_the_most_urgent_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(70.0)
    send(made, 10, priority=ServiceClass.BULK)
    send(made, 10, priority=ServiceClass.EXPEDITED)
    made.run(60.0)
    monkeypatch.setattr(ways, "AT_ONCE", 4)
    agent, times = made.agents["here"], decisions(made)
    agent.forwarder.failed("relay", made.now, retries=False)
    times.clear()
    agent.receive("relay", b"", made.now)
    assert len(times) == 4
    urgent = {held.priority for held in agent.forwarder.held.values() if held.legs[0].neighbour == "relay"}
    assert urgent == {ServiceClass.EXPEDITED}
    assert agent.next_deadline(made.now) == made.now, "the others at once, after what has come in"
    agent.forwarder.advance(made.now)
    assert len(times) == 8
    made.run(100.0)
    assert len(made.records(Step.RECEIVED, "there")) == 20
    deadline = agent.next_deadline(made.now)
    assert deadline is None or deadline > made.now


@pytest.mark.interpreted
def test_bundles_without_a_way_are_looked_at_in_portions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "AT_ONCE", 3)
    made = World("here there", ("here there", 0.0, 10.0, 1e6), ("here there", 20.0, 1e5, 1e6))
    for _ in range(10):
        made.send("here", "ipn:77.1", b"nowhere", lifetime=1000.0)
    agent, times = made.agents["here"], decisions(made)
    assert agent.forwarder.unroutable == 10
    made.run(15.0)
    assert len(times) == 10
    assert agent.forwarder.unroutable == 10
    made.run(30.0)
    assert len(times) == 20, "once at each news"


def test_what_is_marked_is_taken_once_in_order() -> None:
    helds = [
        Held(key, str(key), "there", 1, service_class, 1e9, 0.0)
        for key, service_class in enumerate([ServiceClass.BULK, ServiceClass.CRITICAL] * 3, 1)
    ]
    limbo = Limbo()
    limbo.mark(reversed(helds))
    limbo.mark(helds)
    assert limbo.marked == 6
    assert [held.key for held in limbo.take(4)] == [2, 4, 6, 1]
    limbo.mark(helds[:1])
    assert [held.key for held in limbo.take(10)] == [3, 5, 1]
    assert limbo.marked == 0
