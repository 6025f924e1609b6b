"""Timelines of a direction of a link, made from the contact plan, with faults laid over them.

Everything here is lazy: a year of contacts passes through in constant memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from marsnet.clock import MissionClock
from marsnet.errors import InputError
from marsnet.links.config import number, whole
from marsnet.links.segment import ALWAYS, NEVER, Bursts, Segment, read_timeline, write_timeline
from marsnet.plan.types import Contact, ContactPlan, Range

__all__ = [
    "ALWAYS",
    "NEVER",
    "Bursts",
    "Fault",
    "Segment",
    "faulted",
    "line_ns",
    "read_timeline",
    "timeline_for",
    "write_timeline",
]


def line_ns(clock: MissionClock, mission: float) -> int:
    """Line time in ns of a mission time in seconds."""
    return round(clock.origin * 1e9) + round(mission / clock.rate * 1e9)


def timeline_for(
    plan: ContactPlan,
    source: str,
    target: str,
    clock: MissionClock,
    *,
    link: str | None = None,
    hold: bool = True,
    corrupt: bool = False,
    start: float | None = None,
) -> Iterator[Segment]:
    """The timeline of one direction: up within contacts, with the light time of the plan's ranges.

    Delays are divided and rates multiplied by `clock.rate`; slopes stay. Between contacts the transmitter is down, and
    the light time goes on, for ground truth. A range holds until the next one starts.

    Args:
        plan: contacts and ranges, ordered by start.
        source: transmitting node.
        target: receiving node.
        clock: maps mission time to line time.
        link: only contacts of this link; None takes all between the nodes.
        hold: between contacts frames wait (True) or are dropped.
        corrupt: frames with bit errors are delivered corrupted instead of dropped.
        start: leave out what ends before this mission time.

    Raises:
        InputError: when the plan has no range for the direction, or two of its contacts overlap.
    """
    contacts = (
        c
        for c in plan.contacts
        if (c.source, c.target) == (source, target) and link in (None, c.link) and c.end > c.start
    )
    ranges = (r for r in plan.ranges if (r.source, r.target) == (source, target))
    first = next(ranges, None)
    if first is None:
        raise InputError(f"the plan has no range from {source!r} to {target!r}", remedy="add a range for the direction")
    return _apart(_segments(_spans(contacts), first, ranges, plan.start, clock, hold, corrupt), start, clock)


@dataclass(frozen=True, slots=True)
class _Span:
    """Until when which contact, or none, is in force."""

    contact: Contact | None
    end: float


def _spans(contacts: Iterable[Contact]) -> Iterator[_Span]:
    last = None
    for contact in contacts:
        if last is not None and contact.start < last.end:
            raise InputError(
                f"contacts of {contact.source!r} to {contact.target!r} overlap at {contact.start:g} s",
                remedy="name the link, or mend the plan",
            )
        if last is None or contact.start > last.end:
            yield _Span(None, contact.start)
        yield _Span(contact, contact.end)
        last = contact
    yield _Span(None, float("inf"))


def _segments(
    spans: Iterator[_Span],
    current: Range,
    ranges: Iterator[Range],
    begin: float,
    clock: MissionClock,
    hold: bool,
    corrupt: bool,
) -> Iterator[Segment]:
    span, coming, now = next(spans), next(ranges, None), begin
    while True:
        while span.end <= now:
            span = next(spans)
        while coming is not None and coming.start <= now:
            current, coming = coming, next(ranges, None)
        contact = span.contact
        yield Segment(
            line_ns(clock, now),
            round(current.owlt / clock.rate * 1e9),
            current.slope,
            None if contact is None else contact.rate * clock.rate,
            0.0 if contact is None else contact.loss,
            0.0 if contact is None else contact.ber,
            up=contact is not None,
            hold=hold,
            corrupt=corrupt,
            ref_ns=line_ns(clock, current.start),
        )
        if span.end == float("inf") and coming is None:
            return
        now = span.end if coming is None else min(span.end, coming.start)


def _apart(segments: Iterator[Segment], start: float | None, clock: MissionClock) -> Iterator[Segment]:
    """Leave out segments that no instant belongs to, and those that ended before the start."""
    begin = ALWAYS if start is None else line_ns(clock, start)
    held = next(segments)
    for segment in segments:
        if segment.t0_ns > held.t0_ns and segment.t0_ns > begin:
            yield held
        held = segment
    yield held


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that the plan does not know of, while it lasts.

    Attributes:
        start_ns: line time of its beginning.
        end_ns: line time of its end.
        outage: the transmitter is down.
        rate_factor: share of the planned rate that is left, above 0 to 1.
        loss: probability of loss, on top of the planned one.
        ber: bit error rate, on top of the planned one.
        extra_delay_ns: added to the light time.
        hold: during an outage frames wait (True) or are dropped (False); None leaves it as planned.
        bursts: losses in bursts.
    """

    start_ns: int
    end_ns: int
    outage: bool = False
    rate_factor: float = 1.0
    loss: float = 0.0
    ber: float = 0.0
    extra_delay_ns: int = 0
    hold: bool | None = None
    bursts: Bursts | None = None

    def __post_init__(self) -> None:
        whole(self.start_ns, "fault: start_ns", ALWAYS)
        whole(self.end_ns, "fault: end_ns", ALWAYS)
        if self.end_ns <= self.start_ns:
            raise InputError(
                f"fault ends at {self.end_ns} ns, not after its start at {self.start_ns} ns", remedy="swap them"
            )
        number(self.rate_factor, "fault: rate_factor", 1e-6, 1)
        number(self.loss, "fault: loss", 0, 1)
        number(self.ber, "fault: ber", 0, 0.5)
        whole(self.extra_delay_ns, "fault: extra_delay_ns", 0)

    def over(self, segment: Segment) -> Segment:
        """The segment under this fault."""
        return replace(
            segment,
            up=segment.up and not self.outage,
            hold=segment.hold if self.hold is None or not self.outage else self.hold,
            rate_bps=None if segment.rate_bps is None else segment.rate_bps * self.rate_factor,
            loss=1 - (1 - segment.loss) * (1 - self.loss),
            ber=min(segment.ber + self.ber, 0.5),
            delay_ns=segment.delay_ns + self.extra_delay_ns,
            bursts=self.bursts or segment.bursts,
        )


def faulted(segments: Iterable[Segment], faults: Iterable[Fault]) -> Iterator[Segment]:
    """A timeline with faults laid over it. They may overlap; their effects add up."""
    ordered = sorted(faults, key=lambda f: f.start_ns)
    edges = sorted({edge for f in ordered for edge in (f.start_ns, f.end_ns)})
    position = 0
    source = iter(segments)
    segment = next(source, None)
    while segment is not None:
        following = next(source, None)
        end = NEVER if following is None else following.t0_ns
        while position < len(edges) and edges[position] <= segment.t0_ns:
            position += 1
        starts = [segment.t0_ns]
        while position < len(edges) and edges[position] < end:
            starts.append(edges[position])
            position += 1
        ordered = [f for f in ordered if f.end_ns > segment.t0_ns]
        for start in starts:
            piece = segment if start == segment.t0_ns else segment.moved(start)
            for fault in ordered:
                if fault.start_ns <= start < fault.end_ns:
                    piece = fault.over(piece)
            yield piece
        segment = following
