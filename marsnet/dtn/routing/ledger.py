"""Who has booked how much of which contact.

A booking takes its bundle's size from every contact of the route, for its own priority and all lower ones (CCSDS
734.3-B-1 section 3.2.6.8.8: the maximum transmission volume is what bundles of the same or a higher priority leave
over). So a bundle may book what lower priorities hold already. When a contact thereby promises more than it can
carry, the lowest and youngest bookings lose theirs: they turn void and come back for routing (overbooking
management).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from marsnet.dtn.routing.api import Booking, BookingState
from marsnet.dtn.routing.graph import CacheKey, Slot
from marsnet.dtn.routing.native import give, take
from marsnet.plan.types import Contact


class Ledger:
    """Bookings of one router.

    Attributes:
        freed: keys of cached searches that a returned volume has made obsolete, until `collect`.
    """

    def __init__(self) -> None:
        self.freed: set[CacheKey] = set()
        self._waiting: dict[Slot, None] = {}
        self._by_key: dict[Hashable, list[Booking]] = {}

    def book(
        self,
        key: Hashable,
        size: int,
        priority: int,
        contacts: tuple[Contact, ...],
        slots: tuple[Slot, ...],
        now: float,
    ) -> tuple[Booking, tuple[Booking, ...]]:
        """Take a bundle's volume from the contacts of a route.

        Returns: its booking, and those of lower priority that no longer fit beside it, void.
        """
        booking = Booking(key, size, priority, contacts, slots)
        tight = take(slots, now, size, priority, booking)
        self._waiting[slots[0]] = None
        if key is not None:
            self._by_key.setdefault(key, []).append(booking)
        return booking, self._displace(booking, now) if tight else ()

    def _displace(self, booking: Booking, now: float) -> tuple[Booking, ...]:
        void: list[Booking] = []
        for slot in booking.slots:
            queue_from = max(now, slot.start) if slot is booking.slots[0] else None
            if not _overbooked(slot, queue_from):
                continue
            lower = [other for other in slot.bookings if other.priority > booking.priority]
            # The dictionary is in order of age and sorting is stable: the youngest of the lowest level comes last.
            lower.sort(key=lambda other: other.priority)
            for other in reversed(lower):
                if not _overbooked(slot, queue_from):
                    break
                # On its first contact only what waits here relieves the queue; elsewhere any booking relieves volume.
                if slot.free[-1] >= 0 and other.slots[0] is not slot:
                    continue
                self.close(other, BookingState.VOID)
                void.append(other)
        return tuple(void)

    def close(self, booking: Booking, state: BookingState) -> None:
        """End a live booking. SENT spends its volume; RELEASED and VOID give it back."""
        if booking.state is not BookingState.LIVE:
            return
        booking.state = state
        give(booking.slots, state is BookingState.SENT, booking.size, booking.priority, booking)
        if state is not BookingState.SENT:
            self.unblock(booking.slots)
        if booking.key is not None:
            live = self._by_key[booking.key]
            live.remove(booking)
            if not live:
                del self._by_key[booking.key]

    def unblock(self, slots: Iterable[Slot]) -> None:
        """Cached searches that left these contacts out are obsolete: they can take more again."""
        for slot in slots:
            if slot.blocked:
                self.freed |= slot.blocked
                slot.blocked.clear()

    def release_key(self, key: Hashable) -> None:
        """Release whatever a bundle still holds."""
        for booking in tuple(self._by_key.get(key, ())):
            self.close(booking, BookingState.RELEASED)

    def void(self, slots: Iterable[Slot], *, first_only: bool = False) -> list[Booking]:
        """Void the live bookings on contacts; with `first_only`, those that leave on one of them."""
        lost = [booking for slot in slots for booking in slot.bookings if not first_only or booking.slots[0] is slot]
        lost = list(dict.fromkeys(lost))
        for booking in lost:
            self.close(booking, BookingState.VOID)
        return lost

    def overdue(self, now: float) -> list[Booking]:
        """Void the live bookings whose first contact has ended."""
        ended = [slot for slot in self._waiting if slot.contact.end <= now]
        for slot in ended:
            del self._waiting[slot]
        return self.void(ended, first_only=True)

    def collect(self) -> set[CacheKey]:
        """The keys of obsolete searches since the last call."""
        freed, self.freed = self.freed, set()
        return freed


def _overbooked(slot: Slot, queue_from: float | None) -> bool:
    """Whether a contact holds more than it carries or, with the time its queue begins to leave, than it can in time."""
    if slot.free[-1] < 0:
        return True
    return queue_from is not None and queue_from + slot.pending[-1] * slot.pace > slot.stop


def inherit_spent(gone: Iterable[Slot], slots: Iterable[Slot]) -> None:
    """Charge what was sent over vanished contacts to the contacts of the same link that took their place."""
    spent = [slot for slot in gone if slot.spent[-1]]
    if not spent:
        return
    by_link: dict[tuple[str, str, str], list[Slot]] = {}
    for slot in slots:
        contact = slot.contact
        by_link.setdefault((contact.link, contact.source, contact.target), []).append(slot)
    for old in spent:
        contact = old.contact
        heirs = by_link.get((contact.link, contact.source, contact.target), [])
        heir = max(heirs, key=lambda slot: _overlap(slot.contact, contact), default=None)
        if heir is not None and _overlap(heir.contact, contact) > 0:
            heir.spent = tuple(more + moved for more, moved in zip(heir.spent, old.spent, strict=True))
            heir.free = tuple(more - moved for more, moved in zip(heir.free, old.spent, strict=True))


def _overlap(one: Contact, other: Contact) -> float:
    return min(one.end, other.end) - max(one.start, other.start)
