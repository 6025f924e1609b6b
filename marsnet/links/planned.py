"""A contact plan's view of one direction as a delay line takes it: when it is up, how fast, how far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from marsnet.clock import MissionClock
from marsnet.errors import InputError
from marsnet.links.segment import ALWAYS, Segment
from marsnet.links.timeline import Fault, faulted
from marsnet.plan.types import Contact, ContactPlan, Range

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Outage:
    """An interval in which a transmitter is off, whatever the plan says; what it is given meanwhile is dropped.

    Attributes:
        start: mission seconds.
        end: mission seconds.
    """

    start: float
    end: float


def line_ns(clock: MissionClock, mission: float) -> int:
    """Line time in ns of a mission time in seconds."""
    return round(clock.to_monotonic(mission) * _NS)


def timeline_for(
    plan: ContactPlan,
    source: str,
    target: str,
    clock: MissionClock,
    *,
    link: str | None = None,
    hold: bool = True,
    corrupt: bool = False,
    outages: Iterable[Outage] = (),
) -> Iterator[Segment]:
    """The segments of the direction from `source` to `target` on a mission clock: lazily, and covering all time.

    Args:
        plan: contacts and ranges.
        source: transmitting node.
        target: receiving node.
        clock: delays are divided and rates multiplied by its rate; the slope of the delay stays.
        link: only contacts of this link; None takes all between the nodes.
        hold: between contacts frames wait at the transmitter (True) or are dropped.
        corrupt: frames with bit errors are delivered corrupted instead of dropped.
        outages: they may overlap.

    Raises:
        InputError: when the plan has contacts, but no range for the direction; while it is read, where two of its
            contacts overlap.
    """
    contacts = [c for c in plan.between(source, target) if link in (None, c.link)]
    ranges = [r for r in plan.ranges if (r.source, r.target) == (source, target)]
    if contacts and not ranges:
        raise InputError(f"the plan has no range from {source!r} to {target!r}", remedy="add a range for the direction")
    return segments(contacts, ranges, clock, hold=hold, corrupt=corrupt, outages=outages)


def segments(
    contacts: Iterable[Contact],
    ranges: Iterable[Range],
    clock: MissionClock,
    *,
    hold: bool = True,
    corrupt: bool = False,
    outages: Iterable[Outage] = (),
) -> Iterator[Segment]:
    """The same from contacts and ranges of one direction, each ordered by start; they are read as far as needed.

    Where no range holds, the light time stays at what it was, or before the first one will be.
    """
    edges = ((line_ns(clock, o.start), line_ns(clock, o.end)) for o in outages)
    faults = [Fault(start, end, outage=True, hold=False) for start, end in edges if end > start]
    return faulted(_planned(_disjoint(contacts), ranges, clock, hold, corrupt), faults)


def _disjoint(contacts: Iterable[Contact]) -> Iterator[Contact]:
    last = None
    for contact in contacts:
        if contact.end <= contact.start:
            continue
        if last is not None and contact.start < last.end:
            raise InputError(
                f"contacts of {contact.source!r} to {contact.target!r} overlap at {contact.start:g} s",
                remedy="name the link, or mend the plan",
            )
        yield contact
        last = contact


def _planned(
    contacts: Iterable[Contact], ranges: Iterable[Range], clock: MissionClock, hold: bool, corrupt: bool
) -> Iterator[Segment]:
    contact: _Cursor[Contact] = _Cursor(contacts)
    light: _Cursor[Range] = _Cursor(ranges)
    owlt = light.following.owlt if light.following is not None else 0.0
    time, held = -math.inf, None
    while True:
        contact.move(time)
        light.move(time)
        slope = 0.0
        if light.current is not None:
            owlt, slope = light.current.at(time), light.current.slope
        elif light.last is not None:
            owlt = light.last.at(light.last.end)
        current = contact.current
        segment = Segment(
            ALWAYS if time == -math.inf else line_ns(clock, time),
            round(owlt / clock.rate * _NS),
            slope,
            None if current is None else current.rate * clock.rate,
            0.0 if current is None else current.loss,
            0.0 if current is None else current.ber,
            up=current is not None,
            hold=hold,
            corrupt=corrupt,
        )
        if held is not None and segment.t0_ns > held.t0_ns:  # else no instant belongs to what is held
            yield held
        held = segment
        time = min(contact.change, light.change)
        if time == math.inf:
            yield held
            return


class _Interval(Protocol):
    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float: ...


Kind = TypeVar("Kind", bound=_Interval)


class _Cursor(Generic[Kind]):
    """Walks along intervals in order of their starts.

    Attributes:
        current: the latest one that holds at the present time.
        last: the latest one that has begun.
        following: the next one to begin.
    """

    def __init__(self, intervals: Iterable[Kind]) -> None:
        self._rest = iter(intervals)
        self.current: Kind | None = None
        self.last: Kind | None = None
        self.following: Kind | None = next(self._rest, None)

    def move(self, time: float) -> None:
        """Go on to a later time."""
        while self.following is not None and self.following.start <= time:
            self.current = self.last = self.following
            self.following = next(self._rest, None)
        if self.current is not None and self.current.end <= time:
            self.current = None

    @property
    def change(self) -> float:
        """When something begins or ends next; infinite when nothing does."""
        end = math.inf if self.current is None else self.current.end
        return end if self.following is None else min(end, self.following.start)
