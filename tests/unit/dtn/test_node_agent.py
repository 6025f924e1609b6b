"""A small network of bundle agents on hand-made plans: custody, priorities, silence, restart."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path

import pytest

from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.config import ClockConfig, FlowConfig, NeighbourConfig, NodeConfig
from marsnet.dtn.node.ledger import MemoryLedger, Step
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.store import BundleStore
from marsnet.plan.types import Contact, ContactPlan, Range

NUMBERS = {"rover": 1, "relay": 2, "spare": 3, "earth": 4}
LIGHT = {"rover relay": 0.01, "rover spare": 0.01, "relay earth": 800.0, "spare earth": 800.0}


def plan_of(*contacts: tuple[str, float, float, float]) -> ContactPlan:
    """Contacts in both directions: (pair, start, end, bit/s)."""
    both: list[Contact] = []
    ranges: list[Range] = []
    for pair, start, end, rate in contacts:
        a, b = pair.split()
        both += [Contact(pair, x, y, start, end, rate) for x, y in ((a, b), (b, a))]
    for pair, light in LIGHT.items():
        a, b = pair.split()
        ranges += [Range(x, y, 0.0, 1e6, light) for x, y in ((a, b), (b, a))]
    return ContactPlan(
        "2026-10-01T00:00:00.000Z", 0.0, 1e6, NUMBERS, tuple(sorted(both, key=lambda c: c.start)), tuple(ranges)
    )


class Network:
    """Agents joined by channels with the plan's light time, driven from event to event."""

    def __init__(self, plan: ContactPlan, flows: dict[str, tuple[FlowConfig, ...]], **options: int) -> None:
        self.plan, self.ledger, self.now = plan, MemoryLedger(), 0.0
        self.passes: Callable[[str, str, float], bool] = lambda source, target, now: True
        self._events: list[tuple[float, int, str, str, bytes]] = []
        self._count = 0
        self.stores = {name: BundleStore(None) for name in NUMBERS}
        self.configs = {
            name: NodeConfig(
                name=name,
                number=NUMBERS[name],
                numbers=NUMBERS,
                clock=ClockConfig(epoch=plan.epoch, rate=1.0, origin=0.0),
                plan=Path("plan.json"),
                neighbours={o: NeighbourConfig() for o in NUMBERS if (name, o) in plan.pairs()},
                hiccup=0.0,
                flows=flows.get(name, ()),
                **options,
            )
            for name in NUMBERS
        }
        self.agents: dict[str, BundleAgent] = {}
        for name in NUMBERS:
            self.start(name)

    def start(self, name: str) -> None:
        delivered = [r.bundle for r in self.ledger.records if r.step == Step.DELIVERED and r.node == name]
        self.agents[name] = BundleAgent(
            self.configs[name], self.plan, self.stores[name], self.ledger, NodeMetrics(name), self.now, delivered
        )

    def run(self, until: float) -> None:
        while True:
            for name, agent in self.agents.items():
                self._act(name, agent)
            deadlines = [d for a in self.agents.values() if (d := a.next_deadline(self.now)) is not None]
            if self._events:
                deadlines.append(self._events[0][0])
            following = min(deadlines, default=until)
            if following >= until:
                self.now = until
                return
            self.now = max(self.now, following)
            while self._events and self._events[0][0] <= self.now:
                _, _, source, target, datagram = heapq.heappop(self._events)
                if target in self.agents:
                    self.agents[target].receive(source, datagram, self.now)

    def _act(self, name: str, agent: BundleAgent) -> None:
        agent.advance(self.now)
        for neighbour, datagram, _ in agent.take_datagrams():
            if self.passes(name, neighbour, self.now):
                self._count += 1
                arrival = self.now + self.plan.owlt(name, neighbour, self.now)
                heapq.heappush(self._events, (arrival, self._count, name, neighbour, datagram))

    def steps(self, step: Step) -> list[tuple[str, float]]:
        return [(r.node, r.time) for r in self.ledger.records if r.step == step]


def flow(name: str, service_class: str = "normal", **changes: float | int) -> FlowConfig:
    fields = {"size": 1000, "every": 100.0, "lifetime": 80000.0, "start": 0.0, "stop": 1000.0} | changes
    return FlowConfig(name=name, destination="earth", service_class=service_class, **fields)  # type: ignore[arg-type]


ALWAYS = (("rover relay", 0.0, 9e5, 1e5), ("relay earth", 0.0, 9e5, 1e5))


def test_bundles_cross_two_hops_once_and_intact() -> None:
    network = Network(plan_of(*ALWAYS), {"rover": (flow("t"),)})
    network.run(5000.0)
    delivered = [r for r in network.ledger.records if r.step == Step.DELIVERED]
    assert [r.node for r in delivered] == ["earth"] * 10
    assert all(r.details["intact"] for r in delivered)
    assert len({r.bundle for r in delivered}) == 10
    latency = delivered[0].time - 0.0
    assert 800.01 <= latency < 802
    assert all(store.usage.bundles == 0 for store in network.stores.values())


def test_a_bundle_waits_for_the_contact_and_light_time() -> None:
    plan = plan_of(("rover relay", 100.0, 200.0, 1e5), ("relay earth", 5000.0, 6000.0, 1e5))
    network = Network(plan, {"rover": (flow("t", stop=50.0),)})
    network.run(10000.0)
    assert [round(t) for node, t in network.steps(Step.RECEIVED)] == [100, 5800]


def test_urgent_classes_go_first_when_all_compete() -> None:
    plan = plan_of(("rover relay", 1000.0, 2000.0, 80_000.0), ("relay earth", 0.0, 9e5, 1e6))
    flows = (
        flow("images", "bulk", size=100_000, burst=20, stop=50.0),
        flow("alarm", "critical", size=500, start=900.0, stop=950.0),
        flow("late-alarm", "critical", size=500, start=1050.0, stop=1060.0),
    )
    network = Network(plan, {"rover": flows})
    network.run(20000.0)
    classes = {r.bundle: r.details["class"] for r in network.ledger.records if r.step == Step.ACCEPTED}
    at_relay = [
        (r.time, classes[r.bundle]) for r in network.ledger.records if r.node == "relay" and r.step == Step.RECEIVED
    ]
    assert at_relay[0][1] == "critical"
    assert at_relay[0][0] < 1001
    late = [t for t, c in at_relay if c == "critical"][1]
    assert 1050 < late < 1052, "a critical bundle passes an image that is being sent"
    assert len(at_relay) == 22


def test_silence_of_a_relay_delays_but_loses_nothing() -> None:
    plan = plan_of(
        ("rover relay", 0.0, 50_000.0, 1e5), ("relay earth", 0.0, 9e5, 1e5),
        ("rover spare", 20_000.0, 21_000.0, 1e5), ("spare earth", 0.0, 9e5, 1e5),
    )  # fmt: skip
    network = Network(plan, {"rover": (flow("t", stop=5000.0),)})
    network.passes = lambda source, target, now: "relay" not in (source, target) or not 500 <= now < 60_000
    network.run(150_000.0)
    assert len(network.steps(Step.ACCEPTED)) == 50
    assert len(network.steps(Step.DELIVERED)) == 50
    by_spare = [r for r in network.ledger.records if r.node == "spare" and r.step == Step.RECEIVED]
    assert by_spare, "what the silent relay did not take goes by the spare one"


@pytest.mark.parametrize("at", [3.0, 450.0, 801.0, 1601.5])
@pytest.mark.parametrize("victim", ["rover", "relay", "earth"])
def test_a_crash_loses_no_accepted_bundle_and_delivers_none_twice(victim: str, at: float) -> None:
    network = Network(plan_of(*ALWAYS), {"rover": (flow("t", every=50.0),)})
    network.run(at)
    del network.agents[victim]
    network.run(at + 300.0)
    network.start(victim)
    network.run(60_000.0)
    accepted = {r.bundle for r in network.ledger.records if r.step == Step.ACCEPTED}
    delivered = [r.bundle for r in network.ledger.records if r.step == Step.DELIVERED]
    assert accepted == set(delivered)
    assert len(delivered) == len(set(delivered))


def test_an_expired_bundle_leaves_the_store_and_the_ledger_says_so() -> None:
    network = Network(
        plan_of(("rover relay", 5000.0, 6000.0, 1e5)), {"rover": (flow("t", lifetime=1000.0, stop=50.0),)}
    )
    network.run(7000.0)
    assert network.steps(Step.EXPIRED) == [("rover", 1000.0)]
    assert network.stores["rover"].usage.bundles == 0


def test_a_full_store_refuses_at_the_source_and_says_so() -> None:
    network = Network(plan_of(("rover relay", 5000.0, 6000.0, 1e5)), {"rover": (flow("t", size=5000, burst=10),)})
    network.stores["rover"] = BundleStore(None, quota_bytes=20_000)
    network.start("rover")
    network.run(50.0)
    assert len(network.steps(Step.ACCEPTED)) == 3
    assert len(network.steps(Step.REFUSED)) == 7
