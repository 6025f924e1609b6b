"""Ping and trace: bundles that ask the network about itself, judged by the light time and contacts of the plan."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from marsnet.client.asynchronous import AsyncNodeClient, Stream
from marsnet.client.calls import RequestError
from marsnet.dtn.apps.documents import ClassName, FlagName, Forecast, NodeStatus, Report

UNPLANNED = 3600.0
"""Mission seconds to wait for an answer where the plan knows no way."""
_SERVICES = (1 << 31, (1 << 32) - 1)
"""Service numbers that answers are awaited at: large ones are nobody's."""
_WINDOW = 64
_ORDER = {"received": 0, "forwarded": 1, "delivered": 2, "deleted": 3}
_REPORTS: tuple[FlagName, ...] = (
    "report_reception",
    "report_forwarding",
    "report_delivery",
    "report_deletion",
    "status_time",
)


@dataclass
class Probe:
    """One bundle that is to come back. Times are mission seconds.

    Attributes:
        number: from 1.
        bundle: its ID.
        sent: when it was made.
        expected: round trip by the plan; None without a way.
        latest: the longest round trip that is not late; infinite without a way.
        came: when the answer was there; None while it is missing.
        source: who answered.
    """

    number: int
    bundle: str
    sent: float
    expected: float | None
    latest: float
    came: float | None = None
    source: str = ""

    @property
    def round_trip(self) -> float | None:
        """How long it took."""
        return None if self.came is None else self.came - self.sent

    @property
    def late(self) -> bool:
        """Whether it came later than the plan and the node's allowance explain."""
        return self.came is not None and self.came - self.sent > self.latest


def echo_endpoint(status: NodeStatus, text: str) -> str:
    """The echo service of a node that is given by name; any other endpoint as it is."""
    return f"{text}.{status.echo_service or 7}" if text in status.nodes else text


async def forecast_of(node: AsyncNodeClient, endpoint: str, size: int) -> Forecast | None:
    """What the plan promises; None where the node has no plan for the endpoint."""
    try:
        return await node.forecast(endpoint, size=size)
    except RequestError as error:
        if error.status == 400 and error.problem.startswith("no node is known"):
            return None
        raise


async def ping(
    node: AsyncNodeClient,
    target: str,
    *,
    count: int = 4,
    interval: float = 1.0,
    size: int = 64,
    service_class: ClassName = "normal",
    timeout: float | None = None,
    announce: Callable[[str, Forecast | None], None] = lambda endpoint, forecast: None,
    tell: Callable[[Probe], None] = lambda probe: None,
) -> list[Probe]:
    """Send bundles to an echo service and wait for the answers. Times are mission seconds.

    Args:
        node: where to send from.
        target: name of a node, or an endpoint that echoes.
        count: bundles.
        interval: between them.
        size: octets of each payload.
        service_class: of each.
        timeout: how long to wait for each answer; default: twice the round trip that the plan promises, and the
            allowance of the node for late processes.
        announce: told what the plan promises the first one.
        tell: told each answer.
    """
    status = await node.status()
    endpoint, rate = echo_endpoint(status, target), status.clock.rate
    service = random.randint(*_SERVICES)
    probes: dict[int, Probe] = {}
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    deadlines: dict[int, float] = {}

    async def send() -> None:
        for number in range(1, count + 1):
            began = loop.time()
            promise = await forecast_of(node, endpoint, size)
            if number == 1:
                announce(endpoint, promise)
            expected = None if promise is None else promise.round_trip
            latest = math.inf if expected is None else expected + status.allowance
            patience = timeout or (UNPLANNED if expected is None else 2 * expected + status.allowance)
            made = await node.send(
                endpoint,
                number.to_bytes(8, "big") + bytes(max(0, size - 8)),
                service_class=service_class,
                lifetime=max(1.0, patience),
                service=service,
            )
            probes[number] = Probe(number, made.bundle, made.created, expected, latest)
            deadlines[number] = loop.time() + patience / rate
            changed.set()
            if number < count:
                await asyncio.sleep(max(0.0, began + interval / rate - loop.time()))

    async with node.stream(service, window=_WINDOW) as stream:
        sender = asyncio.create_task(send())
        upcoming = asyncio.create_task(stream.next())
        try:
            while not sender.done() or deadlines:
                now = loop.time()
                deadlines = {number: at for number, at in deadlines.items() if at > now}
                left = max(deadlines.values(), default=None)
                if left is None and sender.done():
                    break
                alarm = asyncio.create_task(changed.wait())
                waiting = {upcoming, alarm} | (set() if sender.done() else {sender})
                patience_left = None if left is None or not sender.done() else left - now
                await asyncio.wait(waiting, timeout=patience_left, return_when=asyncio.FIRST_COMPLETED)
                alarm.cancel()
                changed.clear()
                if sender.done():
                    sender.result()
                if upcoming.done():
                    came = upcoming.result()
                    await came.acknowledge()
                    probe = probes.get(int.from_bytes(came.payload[:8], "big"))
                    if probe is not None and probe.came is None:
                        probe.came, probe.source = came.document.received, came.document.source
                        deadlines.pop(probe.number, None)
                        tell(probe)
                    upcoming = asyncio.create_task(stream.next())
        finally:
            upcoming.cancel()
            sender.cancel()
    return list(probes.values())


@dataclass
class Traced:
    """The way of one bundle, as nodes reported it.

    Attributes:
        bundle: its ID.
        sent: mission seconds.
        promise: what the plan promised.
        reports: in order of what they tell.
    """

    bundle: str
    sent: float
    promise: Forecast | None
    reports: list[Report]

    @property
    def delivered(self) -> bool:
        """Whether it reached its destination, as far as was heard."""
        return any(report.assertion == "delivered" for report in self.reports)

    def complete(self) -> bool:
        """Whether nothing more is to be expected: it was deleted, or every node of the planned way has spoken."""
        if any(report.assertion == "deleted" for report in self.reports):
            return True
        if not self.delivered or self.promise is None or self.promise.out is None:
            return False
        said = {(report.node, report.assertion) for report in self.reports}
        return all((hop.source, "forwarded") in said for hop in self.promise.out.hops)


async def trace(
    node: AsyncNodeClient,
    target: str,
    *,
    size: int = 64,
    service_class: ClassName = "normal",
    timeout: float | None = None,
    announce: Callable[[str, Forecast | None], None] = lambda endpoint, forecast: None,
    tell: Callable[[Traced, Report], None] = lambda traced, report: None,
) -> Traced:
    """Send a bundle that asks every node on its way for status reports, and collect them.

    Args:
        node: where to send from.
        target: name of a node, or an endpoint that something takes bundles at.
        size: octets of the payload.
        service_class: of the bundle.
        timeout: mission seconds; default: twice the round trip that the plan promises, and the node's allowance.
        announce: told what the plan promises.
        tell: told each report as it comes.
    """
    status = await node.status()
    endpoint, rate = echo_endpoint(status, target), status.clock.rate
    promise = await forecast_of(node, endpoint, size)
    announce(endpoint, promise)
    expected = None if promise is None else promise.round_trip
    patience = timeout or (UNPLANNED if expected is None else 2 * expected + status.allowance)
    service = random.randint(*_SERVICES)
    known = await node.reports()
    after = known[-1].number if known else 0
    loop = asyncio.get_running_loop()
    async with node.stream(service) as stream:
        # The echo of what is delivered would lie in the store until it expires.
        drain = asyncio.create_task(_drain(stream))
        made = await node.send(
            endpoint,
            bytes(size),
            service_class=service_class,
            lifetime=max(1.0, patience),
            flags=_REPORTS,
            service=service,
            report_to=status.node_id,
        )
        deadline = loop.time() + patience / rate
        traced = Traced(made.bundle, made.created, promise, [])
        while not traced.complete() and (left := (deadline - loop.time()) * rate) > 0:
            for report in await node.reports(made.bundle, after=after, wait=left):
                after = report.number
                traced.reports.append(report)
                tell(traced, report)
        drain.cancel()
    traced.reports.sort(key=lambda r: (r.received if r.time is None else r.time, _ORDER[r.assertion]))
    return traced


async def _drain(stream: Stream) -> None:
    async for bundle in stream:
        await bundle.acknowledge()
