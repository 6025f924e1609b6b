"""Faults laid over the timeline of a direction of a link.

Everything here is lazy: a year of contacts passes through in constant memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from marsnet.errors import InputError
from marsnet.links.config import number, whole
from marsnet.links.segment import ALWAYS, NEVER, Bursts, Segment, read_timeline, write_timeline

__all__ = ["ALWAYS", "NEVER", "Bursts", "Fault", "Segment", "faulted", "read_timeline", "write_timeline"]


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
        """The segment under this fault. Where less than a bit a second is left of the rate, nothing passes."""
        rate = None if segment.rate_bps is None else segment.rate_bps * self.rate_factor
        dark = rate is not None and rate < 1
        return replace(
            segment,
            up=segment.up and not self.outage,
            hold=segment.hold if self.hold is None or not self.outage else self.hold,
            rate_bps=segment.rate_bps if dark else rate,
            loss=1.0 if dark else 1 - (1 - segment.loss) * (1 - self.loss),
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
