"""Contacts, ranges and the plan that holds them.

Times are mission seconds since the plan's epoch, stated at the transmitter: a contact is the interval in which bits may
leave `source` so that `target` can receive them one light time later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Contact:
    """One direction of a link while its parameters are constant.

    Attributes:
        link: name of the link in the topology.
        source: transmitting node.
        target: receiving node.
        start: first transmission, seconds.
        end: end of transmission, seconds.
        rate: bit/s at the transmitter.
        ber: bit error rate after coding.
        loss: probability that a frame is lost.
    """

    link: str
    source: str
    target: str
    start: float
    end: float
    rate: float
    ber: float = 0.0
    loss: float = 0.0

    @property
    def volume(self) -> float:
        """Bytes that the contact can carry."""
        return (self.end - self.start) * self.rate / 8

    def __reduce__(self) -> tuple[object, ...]:
        fields = (self.link, self.source, self.target, self.start, self.end, self.rate, self.ber, self.loss)
        return Contact, fields


@dataclass(frozen=True, slots=True)
class Range:
    """Light time of one direction, linear in time between `start` and `end`.

    Attributes:
        source: transmitting node.
        target: receiving node.
        start: seconds, at the transmitter.
        end: seconds, at the transmitter.
        owlt: one-way light time in seconds of what leaves at `start`.
        slope: change of the light time per second of transmission time.
    """

    source: str
    target: str
    start: float
    end: float
    owlt: float
    slope: float = 0.0

    def at(self, time: float) -> float:
        """Light time in seconds of what leaves at `time`."""
        return self.owlt + self.slope * (time - self.start)

    def __reduce__(self) -> tuple[object, ...]:
        return Range, (self.source, self.target, self.start, self.end, self.owlt, self.slope)


@dataclass(frozen=True)
class ContactPlan:
    """Who can talk to whom, when, how fast and how far away.

    Attributes:
        epoch: UTC instant of time 0, ISO 8601.
        start: first second that the plan covers.
        end: end of the interval that the plan covers.
        nodes: node name to ipn node number, in the topology's order.
        contacts: ordered by start.
        ranges: ordered by start.
        meta: where the plan comes from (topology, generator version).
    """

    epoch: str
    start: float
    end: float
    nodes: dict[str, int]
    contacts: tuple[Contact, ...]
    ranges: tuple[Range, ...]
    meta: dict[str, str] = field(default_factory=dict)
    _ranges: dict[tuple[str, str], tuple[list[float], list[Range]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for segment in self.ranges:
            starts, segments = self._ranges.setdefault((segment.source, segment.target), ([], []))
            starts.append(segment.start)
            segments.append(segment)

    def __reduce__(self) -> tuple[object, ...]:
        fields = (self.epoch, self.start, self.end, self.nodes, self.contacts, self.ranges, self.meta)
        return ContactPlan, fields

    def owlt(self, source: str, target: str, time: float) -> float:
        """One-way light time in seconds of what leaves `source` for `target` at `time`.

        Between and outside of the segments, where nothing can be sent, it is that of the nearest instant before, or
        else after, that has one: a low orbiter's range must not be extrapolated.

        Raises:
            KeyError: when the plan has no range for the pair.
        """
        starts, segments = self._ranges[source, target]
        segment = segments[max(bisect_right(starts, time) - 1, 0)]
        return segment.at(min(max(time, segment.start), segment.end))

    def between(self, source: str, target: str) -> Iterable[Contact]:
        """The contacts of one direction, in order."""
        return (c for c in self.contacts if c.source == source and c.target == target)

    def pairs(self) -> list[tuple[str, str]]:
        """Every direction that has a contact or a range, in order of first appearance."""
        seen = dict.fromkeys((c.source, c.target) for c in self.contacts)
        seen.update(dict.fromkeys((r.source, r.target) for r in self.ranges))
        return list(seen)
