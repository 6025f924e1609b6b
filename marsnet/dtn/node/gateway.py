"""A running node as servers for applications see it: asyncio around the agent, one commit for all who ask at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from marsnet.dtn.apps.keyring import KeyRing
from marsnet.dtn.apps.registry import Attachment, Delivery, Parcel
from marsnet.dtn.apps.submission import Submission, SubmissionError
from marsnet.dtn.bpv7 import Bundle, BundleError, BundleId, Eid, Malformation, Scheme
from marsnet.dtn.node.agent import SINK, BundleAgent
from marsnet.dtn.node.forecast import Forecaster
from marsnet.dtn.node.identity import delivery_keys
from marsnet.dtn.node.network import network_of, on_epoch
from marsnet.dtn.node.reports import ReceivedReport
from marsnet.dtn.node.runner import NodeRunner
from marsnet.plan.types import ContactPlan

_RESERVED = {0: "it is the node's own", SINK: "scenario traffic ends there"}


class Gateway:
    """What applications can do at a node.

    Attributes:
        agent: the node.
        node_id: its administrative endpoint.
        plan: the contact plan that it goes by.
        keys: of its security.
    """

    def __init__(
        self,
        runner: NodeRunner,
        plan: ContactPlan,
        loop: asyncio.AbstractEventLoop,
        keep_plan: Callable[[ContactPlan], None],
        keys: Path,
    ) -> None:
        """Open.

        Args:
            runner: drives the node.
            plan: that the node goes by.
            loop: that it runs on.
            keep_plan: makes another plan outlive the process.
            keys: file that remembers changes to the keys.

        Raises:
            InputError: that file is damaged.
        """
        self.agent: BundleAgent = runner.agent
        self.node_id = Eid.ipn(self.agent.config.number, 0)
        self.plan = plan
        self._runner, self._loop, self._keep_plan = runner, loop, keep_plan
        self.keys = KeyRing(self.agent.keeper.security, keys)
        self._reporting: set[asyncio.Event] = set()
        self._reports_seen = 0
        self._kicked = False
        self.listen(self._look_for_reports)
        self._forecaster: Forecaster | None = None

    @property
    def now(self) -> float:
        """Mission seconds."""
        return self.agent.clock.to_mission(self._loop.time())

    def host_time(self, mission: float) -> float:
        """The loop's time at a mission time."""
        return self.agent.clock.to_monotonic(mission)

    def kick(self) -> None:
        """Let the node act as soon as everybody has said what they want now."""
        if not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._act)

    def _act(self) -> None:
        self._kicked = False
        self._runner.pump()

    def listen(self, tell: Callable[[], None]) -> None:
        """Call something whenever the node has acted."""
        self._runner.listeners.append(tell)

    def links(self) -> Iterable[tuple[str, bool]]:
        """Each neighbour, and whether there is contact."""
        return self.agent.forwarder.contacts.states()

    def address(self, neighbour: str) -> str:
        """How a neighbour is reached: layer and address."""
        config = self.agent.config.neighbours.get(neighbour)
        layer = self.agent.forwarder.layers[neighbour].name
        return f"{layer}:{config.address}:{config.destination.port}" if config is not None and config.address else layer

    # Endpoints

    def endpoint(self, text: str, *, receiving: bool = False) -> Eid:
        """An endpoint of this node: its service number, or its endpoint ID in full.

        Args:
            text: as an application writes it.
            receiving: whether bundles are wanted there.

        Raises:
            BundleError: it is none, another node's, or one that the node uses itself.
        """
        number = text.isascii() and text.isdigit()
        endpoint = Eid.ipn(self.node_id.node, int(text)) if number else Eid.parse(text)
        own = (
            endpoint.name == self.agent.config.name
            if endpoint.scheme == Scheme.DTN
            else endpoint.node_id == self.node_id
        )
        if not own:
            raise BundleError(
                Malformation.EID, f"{text!r} is no endpoint of this node; write it as ipn:{self.node_id.node}.5"
            )
        taken = _RESERVED if self.agent.local.echo is None else {**_RESERVED, self.agent.local.echo: "it echoes"}
        if self.agent.receivers.at(endpoint.service) is not None:
            taken = {**taken, endpoint.service: "an application of the scenario is there"}
        if endpoint.scheme == Scheme.IPN and receiving and endpoint.service in taken:
            raise BundleError(
                Malformation.EID,
                f"no application can be at {endpoint}: {taken[endpoint.service]}; choose another service number",
            )
        return endpoint

    def destination(self, text: str) -> Eid:
        """An endpoint that a bundle is sent to: an endpoint ID, or `name.service` with the name of a node.

        Raises:
            BundleError: it is none.
        """
        name, _, service = text.rpartition(".")
        number = self.numbers.get(name)
        if number is not None and service.isascii() and service.isdigit():
            return Eid.ipn(number, int(service))
        return Eid.parse(text)

    @property
    def numbers(self) -> dict[str, int]:
        """ipn node numbers of all nodes by name."""
        return {**self.plan.nodes, **self.agent.config.known_numbers()}

    def name_of(self, endpoint: Eid) -> str | None:
        """The node that an endpoint is at, where it is known."""
        if endpoint.scheme == Scheme.DTN:
            return endpoint.name if endpoint.name in self.numbers else None
        return next((name for name, number in self.numbers.items() if number == endpoint.node), None)

    # Bundles

    async def submit(self, submission: Submission) -> Bundle:
        """Make a bundle; returns when it is durable.

        Raises:
            SubmissionError: the store has no room.
            BundleError: the bundle would break a rule of RFC 9171.
        """
        future: asyncio.Future[Bundle] = self._loop.create_future()

        def done(outcome: Bundle | SubmissionError) -> None:
            if future.done():
                return
            if isinstance(outcome, SubmissionError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.agent.submit(submission, self.now, done)
        self.kick()
        return await future

    def attach(self, endpoint: Eid, name: str, take: Callable[[Delivery], None], credit: int) -> Attachment:
        """Receive the bundles of an endpoint, so many at first."""
        applications = self.agent.local.applications
        attachment = applications.attach(str(endpoint), name, take)
        self.grant(attachment, credit)
        return attachment

    def grant(self, attachment: Attachment, count: int = 1) -> None:
        """Receive so many more; a negative number takes that back."""
        self.agent.act(lambda now: self.agent.local.applications.grant(attachment, count), self.now)
        self.kick()

    def detach(self, attachment: Attachment) -> None:
        """Receive no more; what was not confirmed is for the next one."""
        self.agent.act(lambda now: self.agent.local.applications.detach(attachment, now), self.now)
        self.kick()

    def release(self, parcel: Parcel, *, refused: bool = False) -> None:
        """Give a bundle back."""
        self.agent.act(lambda now: self.agent.local.applications.release(parcel, now, refused=refused), self.now)
        self.kick()

    def confirm_later(self, parcel: Parcel) -> None:
        """A bundle was taken; nobody waits until that is durable."""
        self.agent.act(lambda now: self.agent.local.applications.confirm(parcel, now), self.now)
        self.kick()

    async def confirm(self, endpoint: Eid, bundle: str) -> bool | None:
        """A bundle was taken; returns when that is durable.

        Returns:
            True now; False when it had been before; None when no application can have seen such a bundle.
        """
        local, agent = self.agent.local, self.agent
        parcel = local.applications.find(str(endpoint), bundle)
        if parcel is None:
            try:
                known = any(map(agent.store.delivered, delivery_keys(bundle)))
            except BundleError:
                return None
            return False if known else None
        found: list[bool] = []
        agent.act(lambda now: found.append(local.applications.confirm(parcel, now)), self.now)
        if found != [True]:
            return None
        await self.settled()
        return True

    async def settled(self) -> None:
        """Wait until what was asked for so far is durable and has been handed over."""
        durable = self._loop.create_future()
        self.agent.local.when_durable(lambda: None if durable.done() else durable.set_result(None))
        self.agent.act(lambda now: None, self.now)
        self.kick()
        await durable

    # Reports

    def _look_for_reports(self) -> None:
        count = self.agent.keeper.reports.count
        if count != self._reports_seen:
            self._reports_seen = count
            for event in self._reporting:
                event.set()

    async def reports(self, bundle: BundleId | None, after: int, wait: float) -> list[ReceivedReport]:
        """Status reports that came to this node, oldest first.

        Args:
            bundle: only those about this bundle, and about fragments of it.
            after: only those with a larger number.
            wait: mission seconds to wait for one.
        """
        log, deadline = self.agent.keeper.reports, self.host_time(self.now + wait)
        news = asyncio.Event()
        self._reporting.add(news)
        try:
            while True:
                found = [r for r in (log if bundle is None else log.about(bundle)) if r.number > after]
                if found or self._loop.time() >= deadline:
                    return found
                news.clear()
                try:
                    await asyncio.wait_for(news.wait(), deadline - self._loop.time())
                except TimeoutError:
                    return []
        finally:
            self._reporting.discard(news)

    # Plan

    def set_plan(self, plan: ContactPlan) -> None:
        """Go by another plan from now on.

        Raises:
            InputError: a contact of it has no range, or a range is impossible; the plan before stays.
        """
        plan = network_of(self.agent.config, on_epoch(plan, self.agent.clock.epoch))
        forecaster = Forecaster(plan)
        self.agent.update_plan(plan, self.now)
        self._keep_plan(plan)
        self.plan, self._forecaster = plan, forecaster
        self.kick()

    @property
    def forecaster(self) -> Forecaster:
        """Earliest arrivals over the plan."""
        if self._forecaster is None:
            self._forecaster = Forecaster(self.plan)
        return self._forecaster
