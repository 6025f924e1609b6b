"""What every router at a node does alike: the contact graph, the ledger of bookings, and news about contacts."""

from __future__ import annotations

from itertools import pairwise

from mypy_extensions import mypyc_attr

from marsnet.dtn.routing.api import PRIORITIES, Booking, BookingState, Forward, NoRoute, Outlook, Reason, RouteRequest
from marsnet.dtn.routing.graph import Change, ContactGraph, Margin, Slot
from marsnet.dtn.routing.ledger import Ledger, inherit_spent
from marsnet.errors import InputError
from marsnet.plan.types import Contact, ContactPlan, Range


@mypyc_attr(allow_interpreted_subclasses=True)
class PlannedRouter:
    """A node's view of the contacts and of the volume that its bundles hold on them.

    Args:
        node: name of this node.
        plan: contacts and ranges.
        margin: added to the light time of every hop.

    Raises:
        InputError: when a contact of the plan has no range.
    """

    def __init__(self, node: str, plan: ContactPlan, margin: Margin) -> None:
        self._node = node
        self._graph = ContactGraph(plan, margin)
        self._ledger = Ledger()

    @property
    def node(self) -> str:
        """Name of the node that this router decides for."""
        return self._node

    def consume(self, booking: Booking) -> None:
        """The bundle left on the booked contact: its volume is spent and it no longer delays what waits behind it."""
        self._ledger.close(booking, BookingState.SENT)

    def release(self, booking: Booking) -> None:
        """The bundle will not leave on the booked contact: give its volume back. Without effect unless LIVE."""
        self._ledger.close(booking, BookingState.RELEASED)

    def contact_failed(self, neighbour: str, now: float) -> list[Booking]:
        """The contact to a neighbour that should be open is not: avoid it until its end or `contact_restored`.

        Returns: the bookings on it, void.
        """
        failed = [slot for slot in self._graph.open_contacts(self._node, neighbour, now) if not slot.down]
        for slot in failed:
            slot.down = True
        self._withdraw(set(failed))
        return self._ledger.void(failed)

    def contact_restored(self, neighbour: str, now: float) -> None:
        """The neighbour answers again."""
        restored = [slot for slot in self._graph.open_contacts(self._node, neighbour, now) if slot.down]
        for slot in restored:
            slot.down = False
        self._ledger.unblock(restored)

    def update(self, plan: ContactPlan, now: float) -> list[Booking]:
        """Take a new plan. Contacts that are equal in both keep their bookings.

        Returns: live bookings with a contact that changed or vanished, void.
        """
        return self._apply(self._graph.load(plan, now))

    def add_opportunistic(self, contact: Contact, light: Range, now: float) -> None:
        """A contact was discovered. It counts until its end, through plan updates, or `remove_opportunistic`."""
        self._apply(self._graph.discover(contact, light, now))

    def remove_opportunistic(self, contact: Contact, now: float) -> list[Booking]:
        """A discovered contact is gone. Returns: the live bookings on it, void."""
        return self._apply(self._graph.forget(contact, now))

    def overdue(self, now: float) -> list[Booking]:
        """Live bookings whose first contact has ended without their being sent: void, to be routed again."""
        return self._ledger.overdue(now)

    def outlook(self, neighbour: str, now: float) -> Outlook:
        """The contact with a neighbour that is open, what is booked and left of it, and the next one."""
        graph = self._graph
        open_now = graph.open_contacts(self._node, neighbour, now)
        coming = graph.next_contact(self._node, neighbour, now)
        if not open_now:
            return Outlook(next=coming)
        slot = max(open_now, key=lambda slot: slot.stop)
        free = tuple(slot.residual(priority) for priority in range(PRIORITIES))
        booked = tuple(more - less for less, more in pairwise((0.0, *slot.pending)))
        return Outlook(slot.contact, free, booked, coming)

    def residual(self, contact: Contact, priority: int) -> float:
        """Bytes of the contact that a bundle of this priority can still book (SABR 3.2.6.8.8, MTV).

        Raises:
            KeyError: when the contact is neither in the plan nor discovered.
        """
        return self._graph.slots[contact].residual(priority)

    def _apply(self, change: Change) -> list[Booking]:
        void = self._ledger.void(change.gone)
        inherit_spent(change.gone, self._graph.slots.values())
        return void

    def _withdraw(self, slots: set[Slot]) -> None:
        """Contacts can no longer be used: a router that remembers routes forgets those that use them."""

    def _admit(self, bundle: RouteRequest, now: float) -> NoRoute | None:
        """Check a request and release what its bundle holds. Returns: the obstacle that shows without a search.

        Raises:
            InputError: when the size is not positive or the priority is none of 0..3.
        """
        if bundle.size <= 0:
            raise InputError(f"a bundle of {bundle.size} bytes", remedy="give its size on the wire, at least 1")
        if not 0 <= bundle.priority < PRIORITIES:
            raise InputError(f"priority {bundle.priority}", remedy="give 0 (critical) to 3 (bulk)")
        if bundle.key is not None:
            self._ledger.release_key(bundle.key)
        if bundle.destination == self._node:
            return NoRoute(Reason.LOCAL)
        if not self._may_reach(bundle.destination) or self._node not in self._graph.index:
            return NoRoute(Reason.UNKNOWN)
        return NoRoute(Reason.EXPIRED) if bundle.expires <= now else None

    def _may_reach(self, destination: str) -> bool:
        """Whether a bundle for a node can be routed at all."""
        return destination in self._graph.index

    def _book(
        self,
        bundle: RouteRequest,
        route: tuple[Contact, ...],
        slots: tuple[Slot, ...],
        times: tuple[float, float],
        now: float,
    ) -> Forward:
        booking, displaced = self._ledger.book(bundle.key, bundle.size, bundle.priority, route, slots, now)
        return Forward(route[0].target, route[0], *times, route, booking, displaced)
