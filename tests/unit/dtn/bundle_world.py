"""A small network of bundle agents on a hand-made plan, driven from event to event; foreign octets can be put in."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Any

from marsnet.dtn.apps.submission import Submission, SubmissionError
from marsnet.dtn.bpv7 import Bundle, Eid, ServiceClass, decode
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.config import ClockConfig, NodeConfig
from marsnet.dtn.node.identity import name_of
from marsnet.dtn.node.ledger import MemoryLedger, Record, Step
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.store import BundleState, BundleStore
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.runs.lives import Life, lives

EPOCH = "2026-10-01T00:00:00.000Z"
FOREVER = 1e6


def make_plan(numbers: dict[str, int], *contacts: tuple[str, float, float, float], light: float = 1.0) -> ContactPlan:
    """Contacts in both directions: (pair, start, end, bit/s), all links with one light time."""
    both: list[Contact] = []
    pairs: dict[tuple[str, str], None] = {}
    for pair, start, end, rate in contacts:
        a, b = pair.split()
        both += [Contact(pair, x, y, start, end, rate) for x, y in ((a, b), (b, a))]
        pairs |= {(a, b): None, (b, a): None}
    ranges = tuple(Range(a, b, 0.0, FOREVER, light) for a, b in pairs)
    return ContactPlan(EPOCH, 0.0, FOREVER, numbers, tuple(sorted(both, key=lambda c: c.start)), ranges)


class World:
    """Agents joined by channels with the plan's light time."""

    def __init__(
        self,
        nodes: str,
        *contacts: tuple[str, float, float, float],
        light: float = 1.0,
        only: dict[str, dict[str, Any]] | None = None,
        stores: dict[str, BundleStore] | None = None,
        **options: Any,
    ) -> None:
        """Start all nodes.

        Args:
            nodes: their names; numbers count from 1.
            contacts: as `make_plan` takes them.
            light: seconds of every link.
            only: options of single nodes.
            stores: of single nodes; the others are in memory.
            options: more of `NodeConfig`, the same for all.
        """
        numbers = {name: number for number, name in enumerate(nodes.split(), 1)}
        self.plan, self.ledger, self.now = make_plan(numbers, *contacts, light=light), MemoryLedger(), 0.0
        self.passes: Callable[[str, str, float], bool] = lambda source, target, now: True
        self.delivered: list[tuple[str, Bundle]] = []
        self._events: list[tuple[float, int, str, str, bytes]] = []
        self._count = 0
        self.stores = {name: (stores or {}).get(name) or BundleStore(None) for name in numbers}
        self.configs = {
            name: NodeConfig.model_validate(
                {
                    "name": name,
                    "number": numbers[name],
                    "numbers": numbers,
                    "clock": ClockConfig(epoch=EPOCH, rate=1.0, origin=0.0),
                    "plan": Path("plan.json"),
                    "neighbours": {other: {} for other in numbers if (name, other) in self.plan.pairs()},
                    "hiccup": 0.0,
                }
                | options
                | (only or {}).get(name, {})
            )
            for name in numbers
        }
        self.agents: dict[str, BundleAgent] = {}
        for name in numbers:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a node on what its store holds."""
        delivered = [r.bundle for r in self.ledger.records if r.step == Step.DELIVERED and r.node == name]
        self.agents[name] = BundleAgent(
            self.configs[name], self.plan, self.stores[name], self.ledger, NodeMetrics(name), self.now, delivered
        )

    def attach(self, node: str, endpoint: str) -> None:
        """An application takes all bundles of an endpoint."""
        agent = self.agents[node]

        def take(delivery: Any) -> None:
            self.delivered.append((node, delivery.content))
            agent.act(lambda now: agent.local.applications.confirm(delivery.parcel, now), self.now)

        attachment = agent.local.applications.attach(endpoint, "test", take)
        agent.local.applications.grant(attachment, 10**6)

    def send(self, node: str, destination: str, payload: bytes, **fields: Any) -> Bundle | SubmissionError:
        """An application sends; what the node said."""
        agent = self.agents[node]
        told: list[Bundle | SubmissionError] = []
        options = {"source": Eid.ipn(self.configs[node].number, 9), "report_to": agent.keeper.endpoints.admin} | fields
        agent.submit(Submission(Eid.parse(destination), payload, **options), self.now, told.append)
        agent.advance(self.now)
        return told[0]

    def inject(self, via: str, target: str, octets: bytes) -> None:
        """A neighbour sends octets that no node of ours made."""
        layer = self.agents[via].forwarder.layers[target]
        layer.send(target, octets, self.now, tag=None, service_class=ServiceClass.NORMAL)

    def run(self, until: float) -> None:
        """Go on to a mission time."""
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

    def records(self, step: Step, node: str = "") -> list[Record]:
        """Steps of a kind, of one node or all."""
        return [r for r in self.ledger.records if r.step == step and node in ("", r.node)]

    def holdings(self, node: str) -> list[str]:
        """Names of the bundles in a node's store."""
        store = self.stores[node]
        return [name_of(decode(store.load(record.key))) for record in store.iterate(*BundleState)]

    def lives(self) -> dict[str, Life]:
        """What a run's judge would see."""
        return lives(self.ledger.records, {name: self.holdings(name) for name in self.stores})

    def metric(self, node: str, text: str) -> float:
        """The value of the one line of a node's metrics that begins with a text."""
        lines = [x for x in self.agents[node].metrics.exposition().decode().splitlines() if x.startswith(text)]
        assert len(lines) == 1, (text, lines)
        return float(lines[0].split()[-1])
