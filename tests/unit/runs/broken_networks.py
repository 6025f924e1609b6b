"""Ways to break a network: each takes one behaviour away, and returns the parameters that it sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from marsnet.dtn.bpv7 import Bundle, ServiceClass
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.arriving import Arrivals
from marsnet.dtn.node.forwarding import Forwarder
from marsnet.dtn.node.handling import Handler
from marsnet.dtn.node.queues import ClassQueue
from marsnet.links.pipeline import Pipeline, PipelineStats
from marsnet.plan.types import Contact, ContactPlan
from marsnet.runs import prepare
from marsnet.sky.budget import DirectedBudget

Mutation = Callable[[pytest.MonkeyPatch], dict[str, object]]


def trusting(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Routes go on leading by a neighbour that does not answer."""
    monkeypatch.setattr(Forwarder, "failed", lambda *arguments, **options: None)
    return {}


def forgetful(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What a convergence layer gives up is not routed again."""
    monkeypatch.setattr(Handler, "_goes_on", lambda *arguments: None)
    return {}


def careless(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Nodes lose the first bundle of each class that comes, and every fifth, and say that they have them."""
    receive, came = Arrivals.receive, Counter[tuple[Arrivals, ServiceClass]]()

    def lossy(self: Arrivals, bundle: Bundle, *arguments: Any) -> bool:
        service_class = bundle.service_class
        came[self, service_class] += 1
        return came[self, service_class] % 5 == 1 or receive(self, bundle, *arguments)

    monkeypatch.setattr(Arrivals, "receive", lossy)
    return {}


def miscounting(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Links forget one of the frames that they have delivered."""
    stats = Pipeline.stats

    def short(self: Pipeline) -> PipelineStats:
        told = stats(self)
        frames, octets = told.delivered
        return replace(told, delivered=(max(0, frames - 1), octets))

    monkeypatch.setattr(Pipeline, "stats", short)
    return {}


def upside_down(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The least urgent class leaves first."""
    monkeypatch.setattr(
        ClassQueue, "urgent", lambda self: next((c for c in reversed(ServiceClass) if self.count(c)), None)
    )
    return {}


def starving(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Strict priority: a less urgent class leaves only when no other waits."""
    monkeypatch.setattr(ClassQueue, "urgent", lambda self: next((c for c in ServiceClass if self.count(c)), None))
    return {}


def shut_out(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Bulk waits as long as it is alone."""
    monkeypatch.setattr(
        ClassQueue,
        "urgent",
        lambda self: next((c for c in ServiceClass if self.count(c) and c is not ServiceClass.BULK), None),
    )
    return {}


def unanswered(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Nobody answers a request."""
    monkeypatch.setattr(BundleAgent, "_answer", lambda *arguments: None)
    return {}


def scaled(factor: float) -> Mutation:
    """Every link budget has another rate."""

    def mutate(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
        rate = DirectedBudget.rate

        def other(self: DirectedBudget, *arguments: Any) -> tuple[Any, ...]:
            whole, *errors = rate(self, *arguments)
            return (factor * whole, *errors)

        monkeypatch.setattr(DirectedBudget, "rate", other)
        return {}

    return mutate


def planned(change: Callable[[Contact], Contact | None]) -> Mutation:
    """The planner errs: it makes something else, or nothing, of a contact."""

    def mutate(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
        plan_contacts = prepare.plan_contacts

        def erring(*arguments: Any, **options: Any) -> ContactPlan:
            plan = plan_contacts(*arguments, **options)
            found = tuple(other for contact in plan.contacts if (other := change(contact)) is not None)
            return replace(plan, contacts=found, _ranges={})

        monkeypatch.setattr(prepare, "plan_contacts", erring)
        return {}

    return mutate


def thinner(share: float) -> Mutation:
    """Contacts carry a share of what they should."""
    return planned(lambda contact: replace(contact, rate=share * contact.rate))


def unseen(*names: str) -> Mutation:
    """The planner sees no contacts of some nodes."""
    return planned(lambda contact: None if {contact.source, contact.target} & {*names} else contact)


def settings(**changed: object) -> Mutation:
    """Another value of a parameter."""
    return lambda monkeypatch: changed


def both(*mutations: Mutation) -> Mutation:
    """Several at once."""

    def mutate(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
        found: dict[str, object] = {}
        for mutation in mutations:
            found |= mutation(monkeypatch)
        return found

    return mutate
