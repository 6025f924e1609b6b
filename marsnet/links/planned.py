"""A contact plan's view of one direction as a delay line takes it: when it is up, how fast, how far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from marsnet.clock import MissionClock
from marsnet.links.segment import ALWAYS, Segment
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


def timeline_for(
    plan: ContactPlan,
    source: str,
    target: str,
    clock: MissionClock,
    *,
    hold: bool = True,
    outages: Sequence[Outage] = (),
) -> Iterator[Segment]:
    """The segments of the direction from `source` to `target` on a mission clock.

    Args:
        plan: contacts and ranges.
        source: transmitting node.
        target: receiving node.
        clock: delays are divided and rates multiplied by its rate; the slope of the delay stays.
        hold: between contacts frames wait at the transmitter (True) or are dropped.
        outages: disjoint and in order.
    """
    ranges = (r for r in plan.ranges if (r.source, r.target) == (source, target))
    return segments(plan.between(source, target), ranges, clock, hold=hold, outages=outages)


def segments(
    contacts: Iterable[Contact],
    ranges: Iterable[Range],
    clock: MissionClock,
    *,
    hold: bool = True,
    outages: Iterable[Outage] = (),
) -> Iterator[Segment]:
    """The same from contacts and ranges of one direction, each ordered by start; they are read as far as needed.

    Where no range holds, the light time stays at what it was, or before the first one will be.
    """
    contact: _Cursor[Contact] = _Cursor(contacts)
    light: _Cursor[Range] = _Cursor(ranges)
    outage: _Cursor[Outage] = _Cursor(outages)
    owlt = light.following.owlt if light.following is not None else 0.0
    time, last_t0 = -math.inf, None
    while True:
        for cursor in (contact, light, outage):
            cursor.move(time)
        slope = 0.0
        if light.current is not None:
            owlt, slope = light.current.at(time), light.current.slope
        elif light.last is not None:
            owlt = light.last.at(light.last.end)
        t0 = ALWAYS if time == -math.inf else round(clock.to_monotonic(time) * _NS)
        if last_t0 is None or t0 > last_t0:
            yield _segment(t0, owlt, slope, contact.current, clock, outage.current is not None, hold)
            last_t0 = t0
        time = min(contact.change, light.change, outage.change)
        if time == math.inf:
            return


def _segment(
    t0: int, owlt: float, slope: float, contact: Contact | None, clock: MissionClock, is_out: bool, hold: bool
) -> Segment:
    delay = round(owlt / clock.rate * _NS)
    if contact is None:
        return Segment(t0, delay, slope, up=False, hold=hold and not is_out)
    return Segment(
        t0,
        delay,
        slope,
        contact.rate * clock.rate,
        contact.loss,
        contact.ber,
        up=not is_out,
        hold=hold and not is_out,
    )


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
