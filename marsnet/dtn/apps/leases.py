"""Bundles that were handed to an application by a single request: it has so long to acknowledge each."""

from __future__ import annotations

import asyncio

from marsnet.dtn.apps.registry import Attachment, Delivery
from marsnet.dtn.bpv7 import Eid
from marsnet.dtn.node.gateway import Gateway


class Leases:
    """The single requests of all applications."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[Delivery]] = set()
        self._closed = False
        self._running: dict[tuple[str, str], tuple[Gateway, Attachment, asyncio.TimerHandle]] = {}

    async def next(self, node: Gateway, endpoint: Eid, wait: float, lease: float) -> Delivery | None:
        """The next bundle of an endpoint.

        Args:
            node: where.
            endpoint: whose bundles.
            wait: mission seconds to wait for one.
            lease: host seconds after which it is for others again, unless it was acknowledged.

        Returns:
            None when none came in time.
        """
        if self._closed:
            return None
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[Delivery] = loop.create_future()
        self._waiting.add(arrived)

        def take(delivery: Delivery) -> None:
            if not arrived.done():
                arrived.set_result(delivery)

        deadline = node.now + wait
        attachment = node.attach(endpoint, "request", take, 1)
        try:
            # What waits already comes with the next commit, however short the wait.
            await node.settled()
            delay = node.host_time(deadline) - loop.time()
            delivery = await asyncio.wait_for(arrived, max(0.0, delay)) if not arrived.done() else arrived.result()
        except TimeoutError:
            node.detach(attachment)
            return None
        except asyncio.CancelledError:
            node.detach(attachment)
            if self._closed:
                return None
            raise
        except BaseException:
            node.detach(attachment)
            raise
        finally:
            self._waiting.discard(arrived)
        place = (str(endpoint), delivery.parcel.bundle)
        self._running[place] = node, attachment, loop.call_later(lease, self.end, *place)
        return delivery

    def end(self, endpoint: str, bundle: str) -> None:
        """The time to acknowledge a bundle is over, or it was acknowledged."""
        found = self._running.pop((endpoint, bundle), None)
        if found is not None:
            node, attachment, timer = found
            timer.cancel()
            node.detach(attachment)

    def close(self) -> None:
        """The node ends: nothing comes any more."""
        self._closed = True
        for arrived in self._waiting:
            arrived.cancel()
        for _, _, timer in self._running.values():
            timer.cancel()
        self._running.clear()
