"""What every router offers to a bundle node: requests, decisions, bookings and the `Router` protocol.

A router is sans-IO. It takes mission time as an argument, answers at once, and owns the bookkeeping of contact volume.
The node keeps each `Booking` beside its bundle and reports back what became of it:

* `consume` when the bundle left on the contact that the decision named;
* `release` when it will not (expired, deleted, sent on another contact);
* `route` again for every booking that comes back void, from `Forward.displaced`, `update`, `contact_failed`,
  `remove_opportunistic` or `overdue`. A void booking needs no `release`.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from marsnet.plan.types import Contact, ContactPlan, Range

if TYPE_CHECKING:
    from marsnet.dtn.routing.graph import Slot

PRIORITIES = 4
"""Priority levels: 0 critical, 1 expedited, 2 normal, 3 bulk. The lower number goes first."""


class RouteRequest(NamedTuple):
    """What a router must know about a bundle.

    Attributes:
        destination: node name.
        size: bytes on the wire, convergence-layer overhead included (the estimated volume consumption of SABR 2.4.3).
        priority: 0 critical, 1 expedited, 2 normal, 3 bulk.
        expires: mission time in seconds after which delivery is worthless.
        previous_hop: node the bundle came from; never a next hop.
        excluded: neighbours that refused the bundle; never next hops.
        avoided: nodes that the route must not lead by, wherever they stand on it.
        critical: replicate over disjoint paths.
        key: identity of the bundle. Routing a key again first releases its live bookings, so that a bundle never holds
            volume twice. None switches that off.
    """

    destination: str
    size: int
    priority: int
    expires: float
    previous_hop: str | None = None
    excluded: frozenset[str] = frozenset()
    avoided: frozenset[str] = frozenset()
    critical: bool = False
    key: Hashable = None


class BookingState(IntEnum):
    """Life of a booking."""

    LIVE = 0
    SENT = 1
    RELEASED = 2
    VOID = 3


class Booking:
    """Volume that one bundle holds on every contact of its route. Compared and hashed by identity.

    Attributes:
        key: the request's key.
        size: bytes.
        priority: 0..3.
        contacts: the route.
        state: LIVE until sent, released or void.
    """

    __slots__ = ("contacts", "key", "priority", "size", "slots", "state")

    def __init__(
        self,
        key: Hashable,
        size: int,
        priority: int,
        contacts: tuple[Contact, ...],
        slots: tuple[Slot, ...],
    ) -> None:
        self.key, self.size, self.priority = key, size, priority
        self.contacts, self.slots = contacts, slots
        self.state = BookingState.LIVE

    def __repr__(self) -> str:
        path = " > ".join([self.contacts[0].source, *(c.target for c in self.contacts)])
        return f"Booking({self.key!r}, {self.size} B, priority {self.priority}, {path}, {self.state.name})"


class Forward(NamedTuple):
    """Send the bundle, or a copy of it, to a neighbour.

    Attributes:
        neighbour: next hop.
        contact: contact to send it on.
        start: mission time at which its first byte can leave (earliest transmission opportunity, SABR 3.2.6.2).
        arrival: projected arrival of the last byte at the destination (SABR 3.2.6.7), seconds.
        route: contacts from here to the destination, `contact` first.
        booking: handle of the volume it holds.
        displaced: bookings of lower priority that lost their volume to this one: void, to be routed again.
    """

    neighbour: str
    contact: Contact
    start: float
    arrival: float
    route: tuple[Contact, ...]
    booking: Booking
    displaced: tuple[Booking, ...] = ()


class Reason(StrEnum):
    """Why there is no route."""

    LOCAL = "destination is this node"
    UNKNOWN = "destination is in no contact"
    EXPIRED = "bundle has expired"
    UNREACHABLE = "no sequence of contacts reaches the destination through a neighbour that is allowed"
    LATE = "no route arrives before the bundle expires"
    VOLUME = "no route has the volume left"


class NoRoute(NamedTuple):
    """Keep the bundle: nothing can be done now.

    Attributes:
        reason: the first obstacle, in the order of `Reason`.
        fits: with `Reason.VOLUME` and `Reason.LATE`, the bytes that the earliest route still delivers in time: a
            fragment of at most this size on the wire has a route. 0 when there is none.
    """

    reason: Reason
    fits: int = 0


class Outlook(NamedTuple):
    """What a router knows of the contacts with a neighbour.

    Attributes:
        contact: the one that is open; None without one.
        free: bytes of it that a bundle of each priority can still book.
        booked: bytes of bundles of each priority that are to leave on it.
        next: the one that begins next.
    """

    contact: Contact | None = None
    free: tuple[float, ...] = ()
    booked: tuple[float, ...] = ()
    next: Contact | None = None


Decision: TypeAlias = list[Forward] | NoRoute
"""At least one `Forward`, ordered by arrival (several when a bundle is replicated), or `NoRoute`."""


class Router(Protocol):
    """Next hops for bundles at one node."""

    @property
    def node(self) -> str:
        """Name of the node that this router decides for."""

    def route(self, bundle: RouteRequest, now: float) -> Decision:
        """Decide and book.

        Raises:
            InputError: when the size is not positive or the priority is none of 0..3.
        """

    def consume(self, booking: Booking) -> None:
        """The bundle left on the booked contact: its volume is spent and it no longer delays what waits behind it."""

    def release(self, booking: Booking) -> None:
        """The bundle will not leave on the booked contact: give its volume back. Without effect unless LIVE."""

    def contact_failed(self, neighbour: str, now: float) -> list[Booking]:
        """The contact to a neighbour that should be open is not: avoid it until its end or `contact_restored`.

        Returns: the bookings on it, void.
        """

    def contact_restored(self, neighbour: str, now: float) -> None:
        """The neighbour answers again."""

    def update(self, plan: ContactPlan, now: float) -> list[Booking]:
        """Take a new plan. Contacts that are equal in both keep their bookings.

        Returns: live bookings with a contact that changed or vanished, void.
        """

    def add_opportunistic(self, contact: Contact, light: Range, now: float) -> None:
        """A contact was discovered. It counts until its end, through plan updates, or `remove_opportunistic`."""

    def remove_opportunistic(self, contact: Contact, now: float) -> list[Booking]:
        """A discovered contact is gone. Returns: the live bookings on it, void."""

    def overdue(self, now: float) -> list[Booking]:
        """Live bookings whose first contact has ended without their being sent: void, to be routed again."""

    def outlook(self, neighbour: str, now: float) -> Outlook:
        """The contact with a neighbour that is open, what is booked and left of it, and the next one."""

    def residual(self, contact: Contact, priority: int) -> float:
        """Bytes of the contact that a bundle of this priority can still book (SABR 3.2.6.8.8, MTV).

        Raises:
            KeyError: when the contact is neither in the plan nor discovered.
        """
