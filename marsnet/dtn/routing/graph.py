"""The contact graph: contacts with light time, free volume and what is booked on them, indexed for searching.

Nodes are small integers. From each node there is a *lane* for every neighbour and link: contacts that follow one
another without overlap, so that the first usable one at a time is found by bisection. Contacts that overlap on one
link (which a plan may state for two radios under one name) go to separate lanes.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple, TypeAlias

from marsnet.dtn.routing.api import PRIORITIES
from marsnet.dtn.routing.native import Cell, Net
from marsnet.errors import InputError
from marsnet.plan.types import Contact, ContactPlan, Range

CacheKey: TypeAlias = tuple[str, int, str | None, frozenset[str]]
"""What a cached search was for: destination, size class, previous hop, excluded neighbours."""

Light: TypeAlias = tuple[tuple[float, float, float], ...]
"""Start, base and slope of each line of a contact's arrivals (`Slot.light`)."""

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

    __slots__ = ("blocked",)

    def __init__(self, contact: Contact, source: int, target: int, light: Light) -> None:
        super().__init__()
        self.contact, self.source, self.target = contact, source, target
        self.start, self.stop = contact.start, contact.end + _TIME_TOLERANCE
        self.pace = 8 / contact.rate if contact.rate > 0 else float("inf")
        self.light = light
        self.free = (max(contact.volume, 0.0) + _VOLUME_TOLERANCE,) * PRIORITIES
        self.bookings = {}
        self.blocked: set[CacheKey] = set()

    def residual(self, priority: int) -> float:
        """Bytes that a bundle of the priority can still book."""
        return max(self.free[priority] - _VOLUME_TOLERANCE, 0.0)


_Pair: TypeAlias = tuple[str, str]
"""Source and target."""


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


class Direction(NamedTuple):
    """What is known of one direction of a pair of nodes. Equal ones need nothing done when a plan is replaced.

    Attributes:
        contacts: as the plan states them.
        ranges: likewise.
        discovered: contacts that were discovered, with their light time.
    """

    contacts: list[Contact]
    ranges: list[Range]
    discovered: list[tuple[Contact, Range]]


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
        self._plan: ContactPlan | None = None
        self._stated: dict[_Pair, Direction] = {}
        self._directions: dict[_Pair, Direction] = {}
        self._lanes: dict[_Pair, list[Lane]] = {}
        self._discovered: dict[Contact, Range] = {}
        self.load(plan)

    def load(self, plan: ContactPlan, now: float = float("-inf")) -> Change:
        """Replace the plan. Slots of contacts that stay keep their bookings; discovered contacts stay until their end.

        Only directions with news are indexed anew.

        Raises:
            InputError: when a contact has no range or a range is impossible; then nothing has changed.
        """
        stated = self._stated if plan is self._plan else _by_pair(plan)
        directions = dict(stated)
        discovered = {contact: light for contact, light in self._discovered.items() if contact.end > now}
        for contact, light in discovered.items():
            pair = contact.source, contact.target
            before = directions.get(pair, Direction([], [], []))
            directions[pair] = before._replace(discovered=[*before.discovered, (contact, light)])
        news = [pair for pair, direction in directions.items() if direction != self._directions.get(pair)]
        lights = {pair: _lights(directions[pair], self._margin) for pair in news}

        index, numbers = dict(self.index), list(self.numbers)
        for name in [*plan.nodes, *(name for pair in directions for name in pair)]:
            if name not in index:
                index[name] = len(index)
                numbers.append(float("inf"))
        for name, number in plan.nodes.items():
            numbers[index[name]] = number

        gone: list[Slot] = []
        opened = float("inf")
        for pair in [*news, *(pair for pair in self._directions if pair not in directions)]:
            changed = lights.get(pair, {})
            past = dict.fromkeys(_contacts(self._directions.get(pair)))
            gone += [self.slots.pop(contact) for contact in past if contact not in changed]
            for contact, lines in changed.items():
                slot = self.slots.get(contact)
                if slot is None:
                    self.slots[contact] = Slot(contact, index[contact.source], index[contact.target], lines)
                elif slot.light == lines:
                    continue
                else:
                    slot.light = lines
                opened = min(opened, contact.start)
            self._lanes[pair] = _lanes([self.slots[contact] for contact in changed])
        self._plan, self._stated, self._directions, self._discovered = plan, stated, directions, discovered
        self.index, self.names, self.numbers = index, list(index), numbers
        self.lanes = [[] for _ in numbers]
        for (source, _), lanes in self._lanes.items():
            self.lanes[index[source]].extend(lanes)
        # The lowest neighbour number comes first: that decides ties (CCSDS 734.3-B-1 3.2.8.1.4).
        for outgoing in self.lanes:
            outgoing.sort(key=lambda lane: numbers[lane.target])
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
        coming = [lane.slots[at] for lane in lanes if (at := bisect_right(lane.ends, now)) < len(lane.slots)]
        return [slot for slot in coming if slot.start <= now]

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
        return self._again(now)

    def forget(self, contact: Contact, now: float) -> Change:
        """Remove a discovered contact; a contact of the plan stays."""
        self._discovered.pop(contact, None)
        return self._again(now)

    def _again(self, now: float) -> Change:
        assert self._plan is not None  # noqa: S101 - the constructor loads one
        return self.load(self._plan, now)


def _by_pair(plan: ContactPlan) -> dict[_Pair, Direction]:
    """The contacts and ranges of a plan by direction, in order of first appearance."""
    ranges: dict[_Pair, list[Range]] = {}
    for segment in plan.ranges:
        ranges.setdefault((segment.source, segment.target), []).append(segment)
    contacts: dict[_Pair, list[Contact]] = {}
    for contact in plan.contacts:
        contacts.setdefault((contact.source, contact.target), []).append(contact)
    for pair, some in contacts.items():
        if pair not in ranges:
            raise InputError(
                f"contact {some[0].source} to {some[0].target} at {some[0].start} s has no range",
                remedy="state the light time of the pair as a range in the plan",
            )
    return {pair: Direction(some, ranges[pair], []) for pair, some in contacts.items()}


def _contacts(direction: Direction | None) -> list[Contact]:
    """All contacts of a direction, which there may not be."""
    if direction is None:
        return []
    return [*direction.contacts, *(contact for contact, _ in direction.discovered)]


def _lights(direction: Direction, margin: Margin) -> dict[Contact, Light]:
    """The contacts of a direction with their light time. At its edges the nearest range segment is extrapolated."""
    starts = [segment.start for segment in direction.ranges]
    lights = {}
    for contact in direction.contacts:
        first = max(bisect_right(starts, contact.start) - 1, 0)
        last = max(bisect_right(starts, contact.end) - 1, first)
        lights[contact] = _light(direction.ranges[first : last + 1], contact, margin)
    for contact, segment in direction.discovered:
        lights[contact] = _light([segment], contact, margin)
    return lights


def _light(ranges: list[Range], contact: Contact, margin: Margin) -> Light:
    """The arrivals of a contact that range segments cover.

    Raises:
        InputError: when what leaves later would arrive earlier.
    """
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
    _, base, slope = lines[0]
    # Where a single line holds, its start means nothing.
    alike = len(lines) == 1 or all(line[1:] == (base, slope) for line in lines)
    return ((contact.start, base, slope),) if alike else tuple(lines)


def _lanes(slots: list[Slot]) -> list[Lane]:
    """The lanes of one direction, in the order of their first contacts."""
    by_link: dict[str, list[Lane]] = {}
    for slot in sorted(slots, key=lambda slot: (slot.start, slot.stop)):
        contact = slot.contact
        if contact.end <= contact.start or contact.rate <= 0:
            continue
        group = by_link.setdefault(contact.link, [])
        for lane in group:
            if lane.ends[-1] <= contact.start:
                break
        else:
            lane = Lane(slot.target, [], [])
            group.append(lane)
        lane.ends.append(contact.end)
        lane.slots.append(slot)
    return [lane for group in by_link.values() for lane in group]
