"""Routers to compare SABR with: next hops from a table, and flooding.

Both book the volume of the contact to the next hop and nothing beyond it, and both give as `arrival` the time at which
the neighbour has the bundle: a lower bound of delivery, and delivery itself when the neighbour is the destination.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from marsnet.dtn.routing.api import Booking, Decision, Forward, NoRoute, Reason, RouteRequest
from marsnet.dtn.routing.base import PlannedRouter
from marsnet.dtn.routing.graph import SABR_MARGIN, Margin
from marsnet.dtn.routing.search import Bundle, Found, Origin, capacity, opportunity, search
from marsnet.plan.types import Contact, ContactPlan, Range


class _NeighbourRouter(PlannedRouter):
    def __init__(self, node: str, plan: ContactPlan, *, margin: Margin = SABR_MARGIN) -> None:
        super().__init__(node, plan, margin)

    def _may_reach(self, destination: str) -> bool:
        return True

    def _offer(self, bundle: RouteRequest, neighbours: Iterable[str], now: float) -> Decision:
        """Send to each of the neighbours that are allowed, on the contact that has the bundle there first."""
        barred = bundle.excluded | bundle.avoided | {bundle.previous_hop, self._node}
        offers: list[Forward] = []
        fits, late, met = 0, False, False
        for name in neighbours:
            if name not in self._graph.index or name in barred:
                continue
            best = self._direct(name, bundle, bundle.size, now)
            if best is not None and best.arrival <= bundle.expires:
                route = (best.slots[0].contact,)
                times = (opportunity(best.slots[0], bundle.priority, now), best.arrival)
                offers.append(self._book(bundle, route, best.slots, times, now))
                continue
            met = met or self._direct(name, bundle, 0, now, loaded=False) is not None
            least = self._direct(name, bundle, 1, now)
            if least is not None:
                start = opportunity(least.slots[0], bundle.priority, now)
                fits = max(fits, capacity(least.slots, start, bundle.size, bundle.priority, bundle.expires))
                late = late or best is not None or least.arrival > bundle.expires
        if offers:
            return sorted(offers, key=lambda forward: forward.arrival)
        if late:
            return NoRoute(Reason.LATE, fits)
        return NoRoute(Reason.VOLUME if met else Reason.UNREACHABLE, fits)

    def _direct(
        self, neighbour: str, bundle: RouteRequest, size: int, now: float, *, loaded: bool = True
    ) -> Found | None:
        """The earliest arrival at a neighbour without a detour."""
        index = self._graph.index
        here, there = index[self._node], index[neighbour]
        others = [node for node in range(len(index)) if node != there]
        request = Bundle(there, size, bundle.priority)
        return search(self._graph, Origin(here, now, others), request, loaded=loaded)


class StaticRouter(_NeighbourRouter):
    """Next hops from a table.

    Args:
        node: name of this node.
        plan: contacts and ranges.
        table: destination to neighbour; `*` stands for every destination that is not named. A node that was
            discovered is its own next hop while it is there, unless the table names it.
        margin: added to the light time.

    Raises:
        InputError: when a contact of the plan has no range.
    """

    def __init__(self, node: str, plan: ContactPlan, table: Mapping[str, str], *, margin: Margin = SABR_MARGIN) -> None:
        super().__init__(node, plan, margin=margin)
        self._table = dict(table)
        self._met: set[str] = set()

    def add_opportunistic(self, contact: Contact, light: Range, now: float) -> None:
        """A contact was discovered. It counts until its end, through plan updates, or `remove_opportunistic`."""
        super().add_opportunistic(contact, light, now)
        if contact.source == self._node:
            self._met.add(contact.target)

    def remove_opportunistic(self, contact: Contact, now: float) -> list[Booking]:
        """A discovered contact is gone. Returns: the live bookings on it, void."""
        self._met.discard(contact.target)
        return super().remove_opportunistic(contact, now)

    def route(self, bundle: RouteRequest, now: float) -> Decision:
        """Decide and book.

        Raises:
            InputError: when the size is not positive or the priority is none of 0..3.
        """
        obstacle = self._admit(bundle, now)
        if obstacle is not None:
            return obstacle
        neighbour = self._table.get(bundle.destination)
        if neighbour is None:
            neighbour = bundle.destination if bundle.destination in self._met else self._table.get("*")
        return NoRoute(Reason.UNREACHABLE) if neighbour is None else self._offer(bundle, [neighbour], now)


class EpidemicRouter(_NeighbourRouter):
    """A copy to every neighbour but the one the bundle came from and those that refused it (Vahdat and Becker 2000).

    What a neighbour holds already the node learns from it, as a refusal; it asks again with the neighbour excluded.
    """

    def route(self, bundle: RouteRequest, now: float) -> Decision:
        """Decide and book.

        Raises:
            InputError: when the size is not positive or the priority is none of 0..3.
        """
        obstacle = self._admit(bundle, now)
        if obstacle is not None:
            return obstacle
        return self._offer(bundle, self._graph.neighbours(self._node), now)
