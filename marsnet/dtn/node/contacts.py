"""When each neighbour can be reached: windows of the plan, neighbours that fail and come back, and chance meetings."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from marsnet.dtn.ltp import PlanPeer
from marsnet.dtn.ltp.timers import answer_departure
from marsnet.plan.types import Contact, ContactPlan, Range

FIRST_RETRY, LAST_RETRY = 60.0, 1800.0
"""Mission seconds before a failed neighbour is tried again: doubled each time, up to a limit."""
_MET_RATE = 1e8
"""bit/s assumed of a contact that no plan states."""
_MET_FOR = 1e9
"""Mission seconds until which such a contact is assumed to last, unless its end is seen before."""


class Closed(NamedTuple):
    """A contact that has closed.

    Attributes:
        neighbour: with whom.
        doubted: mission seconds when light could have brought an answer to what left in it.
        answered: likewise, when the neighbour must have answered that has to wait for a contact of its own.
    """

    neighbour: str
    doubted: float
    answered: float


class Passed(NamedTuple):
    """What time has brought.

    Attributes:
        closed: contacts that have closed.
        answered: neighbours for whose answers one of these times has come.
        again: failed neighbours that are to be tried again.
        silent: neighbours that were tried again and have not answered by now.
        boundary: whether any contact of this node began or ended.
    """

    closed: list[Closed]
    answered: list[str]
    again: list[str]
    silent: list[str]
    boundary: bool


class Contacts:
    """The contacts of one node.

    Attributes:
        models: what the plan says of each neighbour.
        met: contacts that no plan states, by the neighbour that is there now.
    """

    def __init__(self, node: str, neighbours: Mapping[str, int], plan: ContactPlan, now: float, margin: float) -> None:
        """Prepare for a plan.

        Args:
            node: name of this node.
            neighbours: octets of the largest segment by name.
            plan: contacts and ranges.
            now: mission seconds.
            margin: mission seconds that an answer may be late.
        """
        self.models = {name: PlanPeer(plan, node, name, mtu=mtu) for name, mtu in neighbours.items()}
        self.met: dict[str, Contact] = {}
        self._node, self._margin = node, margin
        self._now = now
        self._open = {name: model.can_send(now) for name, model in self.models.items()}
        self._failed: dict[str, tuple[float, float]] = {}
        """Neighbours that do not answer: when to try again, and how long to wait after that."""
        self._tried: set[str] = set()
        """Failed neighbours to which one bundle may go, to see whether they are there again."""
        self._trials: list[tuple[float, str]] = []
        """When those that it went to must have answered."""
        self._answers: list[tuple[float, str]] = []
        """When the last answers over a contact that has closed must have come, and from whom."""
        self._plan = plan
        self._boundaries = self._ahead(plan, now)

    def _ahead(self, plan: ContactPlan, now: float) -> list[float]:
        """Mission times of what is to come of this node's contacts, the last one first."""
        boundaries = {t for c in plan.contacts if c.source == self._node for t in (c.start, c.end)}
        return sorted((t for t in boundaries if t > now), reverse=True)

    @property
    def time(self) -> float:
        """Mission time when the node last acted; every begin and end of a contact makes it act."""
        return self._now

    def update(self, plan: ContactPlan, now: float) -> None:
        """Take another plan: the next `advance` tells what it has opened and closed."""
        self._plan = plan
        for model in self.models.values():
            if isinstance(model, PlanPeer):
                model.load(plan)
        self._boundaries = [*self._ahead(plan, now), now]

    def differences(self, plan: ContactPlan) -> frozenset[str]:
        """The nodes whose contacts another plan states otherwise."""
        changed = set(self._plan.contacts) ^ set(plan.contacts)
        return frozenset(node for contact in changed for node in (contact.source, contact.target))

    def is_open(self, neighbour: str, now: float) -> bool:
        """Whether bundles can be sent to it, by plan or by chance."""
        model = self.models.get(neighbour)
        return neighbour in self.met or (model is not None and model.can_send(now))

    def planned_rate(self, neighbour: str, now: float) -> float:
        """bit/s that the plan states to it, 0 without a contact."""
        model = self.models.get(neighbour)
        return model.rate(now) if model is not None and model.can_send(now) else 0.0

    def meet(self, neighbour: str, now: float) -> tuple[Contact, Range]:
        """A node is there that the plan has no contact with now."""
        known = self.met.get(neighbour)
        if known is None:
            known = Contact("met", self._node, neighbour, now, now + _MET_FOR, _MET_RATE)
            self.met[neighbour] = known
        return known, Range(self._node, neighbour, now, now + _MET_FOR, 0.0)

    def part(self, neighbour: str) -> Contact | None:
        """Such a node is gone; returns its contact, None when there was none."""
        return self.met.pop(neighbour, None)

    def states(self) -> Iterable[tuple[str, bool]]:
        """Each neighbour, and whether its contact was open when the node last acted."""
        return [(name, self.is_open(name, self._now)) for name in (*self.models, *(self.met.keys() - self.models))]

    def rate(self, neighbour: str, now: float) -> float:
        """bit/s to it."""
        if neighbour in self.met:
            return self.met[neighbour].rate
        return self.models[neighbour].rate(now)

    def timers(self) -> dict[str, int]:
        """How many deadlines there are, by what they are for."""
        retries = sum(at < math.inf for at, _ in self._failed.values())
        return {"contact": len(self._boundaries), "answer": len(self._answers), "retry": retries}

    def next_deadline(self) -> float | None:
        """Mission time of the next thing to do; None when there is none."""
        candidates = [at for at, _ in self._failed.values() if at < math.inf]
        if self._boundaries:
            candidates.append(self._boundaries[-1])
        candidates += [heap[0][0] for heap in (self._answers, self._trials) if heap]
        return min(candidates, default=None)

    def advance(self, now: float) -> Passed:
        """What has happened by `now`."""
        self._now = now
        passed = Passed([], [], [], [], self._pass_boundaries(now))
        while self._answers and self._answers[0][0] <= now:
            passed.answered.append(heapq.heappop(self._answers)[1])
        for neighbour, (at, wait) in self._failed.items():
            if at <= now:
                self._failed[neighbour] = (math.inf, wait)
                self._tried.add(neighbour)
                passed.again.append(neighbour)
        while self._trials and self._trials[0][0] <= now:
            neighbour = heapq.heappop(self._trials)[1]
            if neighbour in self._failed:
                passed.silent.append(neighbour)
        if passed.boundary:
            for name, model in self.models.items():
                is_open = model.can_send(now)
                if self._open[name] and not is_open:
                    closed = Closed(name, *self._answers_due(model, now))
                    passed.closed.append(closed)
                    for due in {closed.doubted, closed.answered}:
                        heapq.heappush(self._answers, (due, name))
                self._open[name] = is_open
        return passed

    def _answers_due(self, model: PlanPeer, now: float) -> tuple[float, float]:
        """When the answer to what left until `now` could have come, and when it must have by the plan.

        Where the plan gives the neighbour no contact any more, it is not waited for longer than light takes to and fro.
        """
        arrives = now + model.owlt(now)
        leaves = answer_departure(model, arrives)
        doubted = arrives + model.owlt(arrives) + self._margin
        return doubted, doubted if leaves is None else leaves + model.owlt(leaves) + self._margin

    def failed(self, neighbour: str, now: float, *, retries: bool) -> None:
        """A neighbour does not answer. Unless its layer `retries`, it is tried again after a while.

        What is said again before that, of other things that were under way to it, is no news.
        """
        at, wait = self._failed.get(neighbour, (math.inf, FIRST_RETRY))
        if at == math.inf:
            self._failed[neighbour] = (math.inf if retries else now + wait, min(2 * wait, LAST_RETRY))

    def tries(self, neighbour: str, size: int, now: float) -> bool:
        """A bundle leaves; returns whether it is the one that shows whether a failed neighbour is there again.

        Args:
            neighbour: that it leaves for.
            size: octets of the bundle.
            now: mission seconds.
        """
        if neighbour not in self._tried:
            return False
        self._tried.discard(neighbour)
        model = self.models[neighbour]
        light = model.owlt(now)
        answer = answer_departure(model, now + 8 * size / self.rate(neighbour, now) + light)
        if answer is not None:
            heapq.heappush(self._trials, (answer + light + self._margin, neighbour))
        return True

    def heard(self, neighbour: str) -> bool:
        """A neighbour is there; returns whether it had failed."""
        if not self._failed and not self._tried:
            return False
        self._tried.discard(neighbour)
        return self._failed.pop(neighbour, None) is not None

    def _pass_boundaries(self, now: float) -> bool:
        passed = False
        while self._boundaries and self._boundaries[-1] <= now:
            self._boundaries.pop()
            passed = True
        return passed
