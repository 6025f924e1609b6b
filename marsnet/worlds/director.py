"""Makes faults happen, the same in every world: which node dies or revives, what is imposed on whom, and when.

Sans-IO: the world tells mission time and the ledger's records, and does what is asked of it. What faults do to links is
in the links' timelines from the start, unless it waits for a condition: then the world is told to load them anew.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from marsnet.dtn.node.conditions import Conditions, Tampering
from marsnet.dtn.node.ledger import Record, Step
from marsnet.model.faults import Fault
from marsnet.worlds.contents import Contents
from marsnet.worlds.incidents import links_of, made
from marsnet.worlds.spec import Incident, RunSpec


class Stage(Protocol):
    """What a world does when the director asks."""

    def kill(self, node: str) -> None:
        """End a node's process without notice."""

    def revive(self, node: str) -> None:
        """Start it again."""

    def impose(self, node: str, conditions: Conditions) -> None:
        """Impose these on a node that is up, in place of what was imposed before."""

    def stop_controller(self, segment: str) -> None:
        """End the network controller of a segment."""

    def start_controller(self, segment: str) -> None:
        """Start it again."""

    def relink(self, links: frozenset[str], happened: tuple[Incident, ...]) -> None:
        """Load the timelines of links anew from now on: they obey all that has happened."""


@dataclass
class _Waiting:
    """A fault that waits for its condition."""

    index: int
    fault: Fault
    count: int = 0


class Director:
    """The faults of a run."""

    def __init__(self, spec: RunSpec, stage: Stage) -> None:
        self._spec, self._stage = spec, stage
        self._agenda: list[tuple[float, int, bool, Incident]] = []
        self._order = 0
        self._happened: list[Incident] = list(spec.incidents)
        self._active: list[Incident] = []
        self._down: dict[str, int] = defaultdict(int)
        self._contents = Contents()
        self._flows: dict[str, str] = {}
        known = {incident.name for incident in spec.incidents}
        self._waiting = [
            _Waiting(index, fault)
            for index, fault in enumerate(spec.scenario.faults)
            if fault.when is not None
            and fault.when.contact_opens is None
            and (fault.when.begins or fault.when.ends) not in known
        ]
        for incident in spec.incidents:
            self._schedule(incident)

    @property
    def happened(self) -> tuple[Incident, ...]:
        """All incidents, in order of their starts."""
        return tuple(sorted(self._happened, key=lambda i: (i.start, i.subject)))

    @property
    def watches(self) -> bool:
        """Whether it needs to see the ledger's records."""
        return any(w.fault.when is not None and (w.fault.when.delivered or w.fault.when.storage) for w in self._waiting)

    @property
    def next_time(self) -> float | None:
        """Mission time of the next thing to do."""
        return self._agenda[0][0] if self._agenda else None

    def advance(self, now: float) -> None:
        """Do what is due by `now`."""
        while self._agenda and self._agenda[0][0] <= now:
            _, _, begins, incident = heapq.heappop(self._agenda)
            if begins:
                self._active.append(incident)
            else:
                self._active.remove(incident)
            self._act(incident, begins)
            for waiting in list(self._waiting):
                when = waiting.fault.when
                if when is not None and incident.name and incident.name == (when.begins if begins else when.ends):
                    self._trigger(waiting, now)

    def observe(self, records: Iterable[Record], now: float) -> None:
        """See what the nodes have recorded; what waits for it is scheduled."""
        for record in records:
            self._note(record)
            for waiting in list(self._waiting):
                when = waiting.fault.when
                if when is None:
                    continue
                if when.delivered is not None and record.step == Step.DELIVERED:
                    waiting.count += self._flows.get(record.bundle) == when.delivered.flow
                    if waiting.count >= when.delivered.count:
                        self._trigger(waiting, now)
                elif when.storage is not None and record.node == when.storage.node:
                    quota = self._spec.topology.nodes[record.node].storage
                    if self._contents.payload[record.node] > when.storage.above * quota:
                        self._trigger(waiting, now)

    def _note(self, record: Record) -> None:
        if record.step == Step.ACCEPTED:
            self._flows[record.bundle] = record.details["flow"]
        self._contents.note(record)

    def _trigger(self, waiting: _Waiting, now: float) -> None:
        self._waiting.remove(waiting)
        spec, when = self._spec, waiting.fault.when
        start = now + (0.0 if when is None else when.delay)
        fresh = list(made(waiting.fault, waiting.index, start, spec.scenario, spec.topology))
        for incident in fresh:
            self._happened.append(incident)
            self._schedule(incident)
        links = frozenset(
            link
            for incident in fresh
            for link in (
                *incident.links,
                *(fade.link for fade in incident.fades),
                *(links_of(incident.down, spec.topology) if incident.down else ()),
            )
        )
        if links:
            self._stage.relink(links, self.happened)

    def _schedule(self, incident: Incident) -> None:
        for time, begins in ((incident.start, True), (incident.end, False)):
            self._order += 1
            heapq.heappush(self._agenda, (time, self._order, begins, incident))

    def _act(self, incident: Incident, begins: bool) -> None:
        if incident.segment:
            (self._stage.stop_controller if begins else self._stage.start_controller)(incident.segment)
        if incident.down:
            self._down[incident.down] += 1 if begins else -1
            if begins and self._down[incident.down] == 1:
                self._stage.kill(incident.down)
            elif not begins and not self._down[incident.down]:
                self._stage.revive(incident.down)
                if any(s.node == incident.down for other in self._active for s in other.strains):
                    self._impose(incident.down)
        for node in dict.fromkeys(strain.node for strain in incident.strains):
            self._impose(node)

    def _impose(self, node: str) -> None:
        if self._down[node]:
            return
        strains = [s for incident in self._active for s in incident.strains if s.node == node]
        storage = self._spec.topology.nodes[node].storage
        share = min((s.quota for s in strains), default=1.0)
        drift = sum(s.drift for s in strains)
        plans = [s.plan for s in strains if s.plan]
        tampering = {}
        for peer in dict.fromkeys(s.peer for s in strains if s.peer):
            corrupt = replay = 0.0
            for s in strains:
                if s.peer == peer:
                    corrupt, replay = 1 - (1 - corrupt) * (1 - s.corrupt), 1 - (1 - replay) * (1 - s.replay)
            tampering[peer] = Tampering(corrupt=corrupt, replay=replay)
        self._stage.impose(
            node,
            Conditions(
                quota=round(share * storage) if share < 1 else None,
                drift=drift,
                plan=plan_file(plans[-1]) if plans else None,
                tampering=tampering,
            ),
        )


def plan_file(name: str) -> Path:
    """Where a node finds another contact plan of the run, in the folder of its configuration."""
    return Path(f"plan-{name}.json")
