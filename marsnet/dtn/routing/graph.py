"""The contact graph: contacts with light time, free volume and what is booked on them, indexed for searching.

Nodes are small integers. From each node there is a *lane* for every neighbour and link: contacts that follow one
another without overlap, so that the first usable one at a time is found by bisection. Contacts that overlap on one
link (which a plan may state for two radios under one name) go to separate lanes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from marsnet.dtn.routing.api import PRIORITIES, Booking
from marsnet.dtn.routing.native import Cell, Net
from marsnet.errors import InputError
from marsnet.plan.types import Contact, ContactPlan, Range

CacheKey: TypeAlias = tuple[str, int, str | None, frozenset[str]]
"""What a cached search was for: destination, size class, previous hop, excluded neighbours."""

_TIME_TOLERANCE = 1e-6
"""Seconds by which float rounding may exceed the end of a contact that a bundle fills exactly."""
_VOLUME_TOLERANCE = 2.0**-10
"""Bytes, likewise; a power of two, so that sums of whole bytes stay exact."""


class Margin(NamedTuple):
    """What is added to the light time of every hop.

    Attributes:
        ratio: seconds per second of light time.
        seconds: constant part.
    """

    ratio: float
    seconds: float = 0.0


SABR_MARGIN = Margin(150_000 * 0.44704 / 299_792_458)
"""150,000 miles per hour over the speed of light, per second of light time (CCSDS 734.3-B-1 section 2.4.2)."""


class Slot(Cell):
    """One contact and its bookkeeping.

    Attributes:
        contact: the contact.
        source, target: node indices.
        start: seconds.
        stop: the end, seconds, with the tolerance for rounding.
        pace: seconds per byte.
        light: what leaves at t arrives at `base + slope * t`, light time and margin included: (start, base, slope) for
            each range segment that covers the contact, in order; one when all are alike.
        free: bytes that a bundle of each priority can still book: the volume less bookings of its priority or higher.
        pending: bytes of each priority or higher that wait here to leave on this contact.
        spent: bytes of each priority or higher whose bundles have left.
        bookings: live bookings, oldest first.
        down: failed, not to be used.
        blocked: keys of the cached searches that left the contact out for want of volume or because it was down.
    """

    __slots__ = ("blocked", "bookings", "contact")

    def __init__(self, contact: Contact, source: int, target: int) -> None:
        super().__init__()
        self.contact, self.source, self.target = contact, source, target
        self.start, self.stop = contact.start, contact.end + _TIME_TOLERANCE
        self.pace = 8 / contact.rate if contact.rate > 0 else float("inf")
        self.light = ((contact.start, 0.0, 1.0),)
        self.free = (max(contact.volume, 0.0) + _VOLUME_TOLERANCE,) * PRIORITIES
        self.bookings: dict[Booking, None] = {}
        self.blocked: set[CacheKey] = set()

    def residual(self, priority: int) -> float:
        """Bytes that a bundle of the priority can still book."""
        return max(self.free[priority] - _VOLUME_TOLERANCE, 0.0)

    def illuminate(self, ranges: list[Range], margin: Margin) -> bool:
        """Take the light time from the range segments that cover the contact. Returns: whether it changed."""
        before = self.light
        lines = []
        for segment in ranges:
            scale = 1 + margin.ratio
            slope = segment.slope * scale
            if 1 + slope <= 0:
                raise InputError(
                    f"range {segment.source} to {segment.target} at {segment.start} s shrinks by {-segment.slope} s/s",
                    remedy="a slope is above -1: nothing overtakes what left before it",
                )
            lines.append((segment.start, segment.owlt * scale + margin.seconds - slope * segment.start, 1 + slope))
        if all(line[1:] == lines[0][1:] for line in lines):
            # Where a single line holds, its start means nothing.
            lines = [(self.start, *lines[0][1:])]
        self.light = tuple(lines)
        return self.light != before


class Lane(NamedTuple):
    """Contacts of one link to one neighbour, in order, none overlapping another.

    Attributes:
        target: node index of the neighbour.
        ends: their ends, seconds.
        slots: the contacts.
    """

    target: int
    ends: list[float]
    slots: list[Slot]


class Change(NamedTuple):
    """What a new plan changed.

    Attributes:
        gone: contacts that are no longer stated.
        opened: earliest start of a contact that is new or has a new light time; infinite when there is none.
    """

    gone: list[Slot]
    opened: float


class ContactGraph:
    """A contact plan and the discovered contacts, ready for searching.

    Attributes:
        names: node names by index.
        index: node indices by name.
        numbers: ipn node numbers by index; nodes without a number come last.
        slots: the contacts.
        lanes: outgoing lanes by node index.
        net: the same, for searching.
    """

    def __init__(self, plan: ContactPlan, margin: Margin) -> None:
        self.names: list[str] = []
        self.index: dict[str, int] = {}
        self.numbers: list[float] = []
        self.slots: dict[Contact, Slot] = {}
        self.lanes: list[list[Lane]] = []
        self.net = Net(self.lanes)
        self._margin = margin
        self._plan = plan
        self._discovered: dict[Contact, Range] = {}
        self.load(plan)

    def load(self, plan: ContactPlan, now: float = float("-inf")) -> Change:
        """Replace the plan. Slots of contacts that stay keep their bookings; discovered contacts stay until their end.

        Raises:
            InputError: when a contact has no range or a range is impossible.
        """
        discovered = {contact: light for contact, light in self._discovered.items() if contact.end > now}
        segments: dict[tuple[str, str], list[Range]] = {}
        for segment in plan.ranges:
            segments.setdefault((segment.source, segment.target), []).append(segment)
        for contact in plan.contacts:
            if (contact.source, contact.target) not in segments:
                raise InputError(
                    f"contact {contact.source} to {contact.target} at {contact.start} s has no range",
                    remedy="state the light time of the pair as a range in the plan",
                )
        index, numbers = dict(self.index), list(self.numbers)
        for name in [*plan.nodes, *(n for c in (*plan.contacts, *discovered) for n in (c.source, c.target))]:
            if name not in index:
                index[name] = len(index)
                numbers.append(float("inf"))
        for name, number in plan.nodes.items():
            numbers[index[name]] = number

        slots: dict[Contact, Slot] = {}
        opened = float("inf")
        for contact in (*plan.contacts, *discovered):
            known = self.slots.get(contact)
            slot = known or Slot(contact, index[contact.source], index[contact.target])
            light = discovered.get(contact)
            ranges = [light] if light else _covering(segments[contact.source, contact.target], contact)
            changed = slot.illuminate(ranges, self._margin)
            if known is None or changed:
                opened = min(opened, contact.start)
            slots[contact] = slot
        gone = [slot for contact, slot in self.slots.items() if contact not in slots]
        self._plan, self._discovered = plan, discovered
        self.index, self.names, self.numbers, self.slots = index, list(index), numbers, slots
        self.lanes = _lanes(slots.values(), numbers)
        self.net = Net(self.lanes)
        return Change(gone, opened)

    def neighbours(self, node: str) -> list[str]:
        """The nodes that a node has contacts to, each once."""
        return [self.names[target] for target in dict.fromkeys(lane.target for lane in self.lanes[self.index[node]])]

    def open_contacts(self, node: str, neighbour: str, now: float) -> list[Slot]:
        """The contacts from a node to a neighbour that are under way."""
        if node not in self.index or neighbour not in self.index:
            return []
        target = self.index[neighbour]
        lanes = [lane for lane in self.lanes[self.index[node]] if lane.target == target]
        return [slot for lane in lanes for slot in lane.slots if slot.start <= now < slot.contact.end]

    def next_contact(self, node: str, neighbour: str, now: float) -> Contact | None:
        """The contact from a node to a neighbour that begins next."""
        if node not in self.index or neighbour not in self.index:
            return None
        target = self.index[neighbour]
        coming = []
        for lane in self.lanes[self.index[node]]:
            if lane.target == target:
                at = bisect_right(lane.ends, now)
                coming += [slot.contact for slot in lane.slots[at : at + 2] if slot.start > now][:1]
        return min(coming, key=lambda contact: contact.start, default=None)

    def discover(self, contact: Contact, light: Range, now: float) -> Change:
        """Add a contact that no plan states."""
        if contact not in self.slots:
            self._discovered[contact] = light
        return self.load(self._plan, now)

    def forget(self, contact: Contact, now: float) -> Change:
        """Remove a discovered contact; a contact of the plan stays."""
        self._discovered.pop(contact, None)
        return self.load(self._plan, now)


def _covering(segments: list[Range], contact: Contact) -> list[Range]:
    """The segments that hold somewhere in the contact; at its edges the nearest one is extrapolated."""
    starts = [segment.start for segment in segments]
    first = max(bisect_right(starts, contact.start) - 1, 0)
    last = max(bisect_right(starts, contact.end) - 1, first)
    return segments[first : last + 1]


def _lanes(slots: Iterable[Slot], numbers: list[float]) -> list[list[Lane]]:
    """The lanes of every node, the lowest neighbour number first: that decides ties (CCSDS 734.3-B-1 3.2.8.1.4)."""
    by_link: dict[tuple[int, int, str], list[Lane]] = {}
    for slot in sorted(slots, key=lambda slot: (slot.start, slot.stop)):
        contact = slot.contact
        if contact.end <= contact.start or contact.rate <= 0:
            continue
        group = by_link.setdefault((slot.source, slot.target, contact.link), [])
        for lane in group:
            if lane.ends[-1] <= contact.start:
                break
        else:
            lane = Lane(slot.target, [], [])
            group.append(lane)
        lane.ends.append(contact.end)
        lane.slots.append(slot)
    lanes: list[list[Lane]] = [[] for _ in numbers]
    for (source, _, _), group in by_link.items():
        lanes[source].extend(group)
    for outgoing in lanes:
        outgoing.sort(key=lambda lane: numbers[lane.target])
    return lanes
