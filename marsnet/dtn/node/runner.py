"""Runs a bundle agent on an asyncio loop, real or virtual: one timer at the agent's next deadline, no polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.ltp import Train
from marsnet.dtn.node.agent import BundleAgent
from marsnet.dtn.node.conditions import Conditions
from marsnet.plan.types import ContactPlan


class Transport(Protocol):
    """Sends datagrams to neighbours."""

    def send(self, neighbour: str, datagram: Any, service_class: ServiceClass) -> None:
        """Send octets, or a `Train` where the agent makes them. What cannot be sent is the transport's to count."""

    def collect(self) -> None:
        """Hand over what has come and was not worth waking the node for."""


class NodeRunner:
    """Feeds an agent with datagrams and the passing of time.

    The loop's `time()` is the CLOCK_MONOTONIC of the agent's mission clock (or virtual seconds in its place).

    Attributes:
        agent: the node.
        listeners: called whenever it has acted.
    """

    def __init__(self, agent: BundleAgent, transport: Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.agent = agent
        self._transport, self._loop = transport, loop
        self.listeners: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._woken: asyncio.Handle | None = None

    def start(self) -> None:
        """Begin with what is due now."""
        for layer in self.agent.layers:
            layer.wake = self.wake
        self.pump()

    def stop(self) -> None:
        """Do nothing more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def receive(self, neighbour: str | None, datagrams: Sequence[bytes]) -> None:
        """Take datagrams of a neighbour in; call `heed` after a batch of them."""
        self.agent.receive_all(neighbour, datagrams, self._now())

    def receive_trains(self, neighbour: str, arrivals: Sequence[tuple[Train, int, int]]) -> None:
        """Take segments of trains in, as `receive`; see `LtpEngine.receive_trains`."""
        self.agent.receive_trains(neighbour, arrivals, self._now())

    def wake(self) -> None:
        """A layer has something to tell: act on it soon, and once for all that it tells meanwhile."""
        if self._woken is None and not self._stopped:
            self._woken = self._loop.call_soon(self.pump)

    def pump(self) -> None:
        """Do all that is due, send what results, and set the timer."""
        if not self._stopped:
            self._woken = None
            now = self._now()
            self.agent.advance(now)
            self._settle(now)

    def heed(self) -> None:
        """As `pump`, where nothing but `receive` has been called since: mostly there is little to do then."""
        if not self._stopped:
            now = self._now()
            self.agent.tick(now)
            self._settle(now)

    def _settle(self, now: float) -> None:
        agent = self.agent
        for neighbour, datagram, service_class in agent.ltp.take_datagrams():
            self._transport.send(neighbour, datagram, service_class)
        for listener in self.listeners:
            listener()
        deadline = agent.next_deadline(now)
        when = None if deadline is None else agent.clock.to_monotonic(agent.skew.true(deadline))
        if self._timer is not None:
            if when is not None and self._timer.when() == when:
                return
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._loop.call_at(when, self._due, when)

    def impose(self, conditions: Conditions, plan: ContactPlan) -> None:
        """Let the node live under conditions from now on, with this contact plan."""
        self.agent.impose(conditions, plan, self.agent.clock.to_mission(self._loop.time()))
        self.pump()

    def _now(self) -> float:
        """What the node's clock shows."""
        skew = self.agent.skew
        skew.now = now = self.agent.clock.to_mission(self._loop.time())
        return skew.local(now) if skew.active else now

    def _due(self, when: float) -> None:
        self.agent.metrics.late(self._loop.time() - when)
        self._timer = None
        # An answer that has come already is not overdue.
        self._transport.collect()
        self.heed()
