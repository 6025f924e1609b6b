"""Routes per second of the SABR router, and of the SABR of `aiodtnsim` on the same plans where it can be imported.

    python benchmarks/routing.py [--contacts 400 4000 40000] [--bundles 2000]

Every figure counts complete decisions: a route is chosen and its volume booked. Seconds are processor time.

* `warm`: bundles of one size to three destinations at one instant, routes to them known: what a busy node sees.
* `stream`: the same bundles, one after another over the first nine tenths of the plan, so that known routes expire.
* `mixed`: like stream, with sizes over three decades and four priorities (the peer has no priorities).
* `any`: like mixed, each to one of all the other nodes.
* `cold`: nothing is known, one bundle to every other node in turn.

Then both are asked, without any booking, for the best route to every node at times over the whole plan, and the
arrivals of a 1 kB bundle along the two routes are compared. The peer gets the same contacts with the light time at
their start. Runs of both take turns. Last, the time that an update of the plan takes when one contact goes.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import random
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, Protocol, cast

from marsnet.dtn.routing import Decision, Margin, NoRoute, RouteRequest, SabrRouter
from marsnet.plan.types import Contact, ContactPlan, Range

EARTH = ["dsn-goldstone", "dsn-madrid", "dsn-canberra"]
ORBITERS = [f"orbiter-{n}" for n in range(6)]
SURFACE = [f"site-{n}" for n in range(12)]
SOURCE = SURFACE[0]
TARGETS = ["control", "site-5", "orbiter-3"]
SIZE = 1000
DAILY = 416
"""Contacts a day of the pattern below."""


def make_plan(contacts: int, seed: int = 1) -> ContactPlan:
    """Surface sites see orbiters in short passes, orbiters see stations for hours, stations reach control always."""
    dice = random.Random(seed)
    days = contacts / DAILY
    horizon = days * 86_400.0
    made: list[Contact] = []
    ranges: list[Range] = []

    def pair(
        one: str, other: str, light: float, windows: list[tuple[float, float]], rates: tuple[float, float]
    ) -> None:
        name, last = f"{one}-{other}", 0.0
        for source, target in ((one, other), (other, one)):
            ranges.append(Range(source, target, 0.0, horizon, light))
        for start, duration in sorted(windows):
            # The peer wants the contacts of a pair one after another.
            begin, last = max(start, last), max(start, last) + duration
            made.append(Contact(name, one, other, begin, last, rates[0]))
            made.append(Contact(name, other, one, begin, last, rates[1]))

    def windows(daily: float, shortest: float, longest: float) -> list[tuple[float, float]]:
        count = max(round(daily * days), 1)
        return [(dice.uniform(0.0, horizon), dice.uniform(shortest, longest)) for _ in range(count)]

    for site in SURFACE:
        for orbiter in ORBITERS:
            pair(site, orbiter, 0.005, windows(2.4, 240.0, 700.0), (2.048e6, 256e3))
    for orbiter in ORBITERS:
        for station in EARTH:
            pair(orbiter, station, 800.0 + dice.uniform(0.0, 0.02), windows(2.0, 3600.0, 10_000.0), (4e6, 500e3))
    for station in EARTH:
        pair(station, "control", 0.05, [(0.0, horizon)], (1e9, 1e9))
    made.sort(key=lambda contact: contact.start)
    names = [*SURFACE, *ORBITERS, *EARTH, "control"]
    numbers = {name: number + 1 for number, name in enumerate(names)}
    return ContactPlan("2026-10-01T00:00:00Z", 0.0, horizon, numbers, tuple(made[:contacts]), tuple(ranges))


class Subject(Protocol):
    """A router under measurement."""

    def decide(self, destination: str, size: int, priority: int, now: float) -> tuple[Contact, ...]:
        """Choose and book. Returns: the route, empty when there is none."""

    def clear(self) -> None:
        """Give back what was booked last."""


class Ours:
    """SabrRouter."""

    def __init__(self, plan: ContactPlan) -> None:
        self._router = SabrRouter(SOURCE, plan, margin=Margin(0.0))
        self._decision: Decision = []

    def decide(self, destination: str, size: int, priority: int, now: float) -> tuple[Contact, ...]:
        """Choose and book."""
        decision = self._decision = self._router.route(RouteRequest(destination, size, priority, 1e12), now)
        return () if isinstance(decision, NoRoute) else decision[0].route

    def clear(self) -> None:
        """Give back what was booked last."""
        if not isinstance(self._decision, NoRoute):
            self._router.release(self._decision[0].booking)


class Peer:
    """A node of aiodtnsim. Its buffer, events and transmission are left out."""

    def __init__(self, plan: ContactPlan) -> None:
        package, sabr = import_module("aiodtnsim"), import_module("aiodtnsim.simulation.cgr.sabr")
        node = import_module("aiodtnsim.simulation.cgr.sabr_nodegraph_node")
        contact_plan, tvg = import_module("tvgutil.contact_plan"), import_module("tvgutil.tvg")
        predicted = [
            contact_plan.PredictedContact.simple(
                c.source, c.target, c.start, c.end, bit_rate=c.rate, delay=plan.owlt(c.source, c.target, c.start)
            )
            for c in plan.contacts
        ]
        self._contacts = {(c.source, c.target, c.start): c for c in plan.contacts}
        graph = tvg.from_contact_plan(predicted)
        self._loop = _Clock()
        asyncio._set_running_loop(cast(asyncio.AbstractEventLoop, self._loop))
        self._node = node.NGSABRNode(SOURCE, -1, package.EventDispatcher(), sabr.sabr, graph, 0)
        self._message, self._sabr = package.Message, sabr.sabr
        self._graph = self._node.cgr_data.get_entry_for(0)
        self._last: tuple[Any, int] | None = None

    def decide(self, destination: str, size: int, priority: int, now: float) -> tuple[Contact, ...]:
        """Choose and book."""
        node = self._node
        self._loop.now = now
        message = self._message(now, SOURCE, destination, size * 8, 1e12)
        routes = self._sabr(
            gd=self._graph,
            bundle=message,
            cur_eid=SOURCE,
            cur_time=now,
            excluded_eids=[],
            tx_queue_volume_f=node.get_tx_queue_volume,
            max_transmission_volume_f=node.get_max_tx_volume,
            route_generator_factory=node.route_generator_factory,
            max_routes=float("inf"),
            max_order_routes=node.max_order_routes,
        )
        if not routes:
            return ()
        node.add_to_tx_queue(message, routes[0])
        self._last = routes[0], size * 8
        return tuple(self._contacts[c.tx_node, c.rx_node, c.start_time] for c in routes[0].contact_path)

    def clear(self) -> None:
        """Give back what was booked last."""
        if self._last is not None:
            route, bits = self._last
            self._node.node_tx_queue_volumes[route.neighbor_eid] -= bits
            self._node.update_cvu(route.contact_path, -bits)
            self._last = None


class _Clock:
    """The time that the peer reads. Its tasks, which only watch contacts end, never run."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def create_task(self, coro: Any, **_: Any) -> Any:
        coro.close()


def arrival_on(plan: ContactPlan, route: tuple[Contact, ...], now: float) -> float:
    """When a bundle of the usual size, there at `now`, arrives along a route; infinite when it misses or has none."""
    at = now if route else float("inf")
    for contact in route:
        at = max(at, contact.start) + SIZE * 8 / contact.rate
        if at > contact.end + 1e-6:
            return float("inf")
        at += plan.owlt(contact.source, contact.target, at)
    return at


Request = tuple[str, int, int, float]
"""Destination, size, priority, time."""


def workloads(plan: ContactPlan, bundles: int) -> dict[str, list[Request]]:
    """The requests of each workload."""
    dice = random.Random(2)
    step = 0.9 * plan.end / bundles
    others = [name for name in plan.nodes if name != SOURCE]
    usual = [(dice.choice(TARGETS), SIZE, 2, 0.0) for _ in range(bundles)]
    sizes = [(int(10 ** dice.uniform(2, 5)), dice.randint(0, 3)) for _ in range(bundles)]
    return {
        "warm": usual,
        "stream": [(target, size, 2, n * step) for n, (target, size, _, _) in enumerate(usual)],
        "mixed": [(usual[n][0], *sizes[n], n * step) for n in range(bundles)],
        "any": [(dice.choice(others), *sizes[n], n * step) for n in range(bundles)],
        "cold": [(name, SIZE, 2, 0.0) for name in others],
    }


def speed(subject: Subject, work: list[Request], known: int) -> float:
    """Routes per second of processor time, once the first `known` requests have been made."""
    for request in work[:known]:
        subject.decide(*request)
    begin = time.process_time()
    for request in work:
        subject.decide(*request)
    return len(work) / (time.process_time() - begin)


def update_time(plan: ContactPlan) -> float:
    """Seconds that a router takes to learn that one contact is gone, from a plan that was read anew."""
    router = SabrRouter(SOURCE, plan, margin=Margin(0.0))
    middle = len(plan.contacts) // 2
    contacts = tuple(replace(contact) for n, contact in enumerate(plan.contacts) if n != middle)
    fewer = replace(plan, contacts=contacts)
    begin = time.process_time()
    router.update(fewer, 0.0)
    return time.process_time() - begin


def compare(plan: ContactPlan) -> str:
    """How often both arrive together, ours earlier or the peer's earlier, on an empty network."""
    counts = {"equal": 0, "ours earlier": 0, "peer earlier": 0}
    for n in range(10):
        now = n * 0.09 * plan.end
        # The peer keeps routes that it found for an earlier time, so each time gets nodes of its own.
        ours, peer = Ours(plan), Peer(plan)
        for name in plan.nodes:
            if name == SOURCE:
                continue
            mine, theirs = (arrival_on(plan, subject.decide(name, SIZE, 2, now), now) for subject in (ours, peer))
            ours.clear()
            peer.clear()
            equal = mine == theirs or abs(mine - theirs) < 1e-3
            counts["equal" if equal else "ours earlier" if mine < theirs else "peer earlier"] += 1
    return ", ".join(f"{key} {count}" for key, count in counts.items())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, nargs="+", default=[400, 4000, 40_000])
    parser.add_argument("--bundles", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    peer = importlib.util.find_spec("aiodtnsim") is not None
    if not peer:
        print("aiodtnsim cannot be imported here: no comparison (pip install aiodtnsim)")
    print(f"{'contacts':>8}  {'workload':8} {'marsnet/s':>10}" + (f" {'aiodtnsim/s':>12} {'ratio':>6}" if peer else ""))
    for contacts in options.contacts:
        plan = make_plan(contacts)
        makers: list[Callable[[ContactPlan], Subject]] = [Ours, Peer] if peer else [Ours]
        for name, work in workloads(plan, options.bundles).items():
            best = [0.0] * len(makers)
            for run in range(options.runs):
                for number, make in enumerate(makers):
                    # The peer takes minutes on the largest plan.
                    if run == 0 or number == 0 or contacts <= 4000:
                        best[number] = max(best[number], speed(make(plan), work, 100 if name == "warm" else 0))
            line = f"{len(plan.contacts):8}  {name:8} {best[0]:10.0f}"
            if peer:
                line += f" {best[1]:12.0f} {best[0] / best[1]:6.1f}"
            print(line, flush=True)
        if peer:
            print(f"{len(plan.contacts):8}  arrivals: {compare(plan)}", flush=True)
        print(f"{len(plan.contacts):8}  update without one contact: {update_time(plan) * 1e3:.1f} ms", flush=True)


if __name__ == "__main__":
    main()
