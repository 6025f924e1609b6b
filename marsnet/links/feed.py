"""Keeps a bounded window of an unbounded timeline loaded in a pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, takewhile

from marsnet.errors import InputError
from marsnet.links.segment import ALWAYS, NEVER, RawSegment, in_order

Sink = Callable[[int, list[RawSegment], int], None]
"""Replaces a pipeline's timeline: from when on, with what, and up to when it is known (the horizon)."""


class TimelineFeed:
    """Feeds a pipeline from iterators, `window` segments at a time.

    The pipeline decides nothing beyond the horizon, so a late refill delays frames and is counted as a stall; it never
    makes them obey the wrong segment.

    Attributes:
        refill_ns: line time at which `refill` is due, None when everything is loaded.
    """

    def __init__(self, sink: Sink, window: int = 1024) -> None:
        self._sink, self._window = sink, window
        self._rest: Iterator[RawSegment] = iter(())
        self._ahead: RawSegment | None = None
        self._until = NEVER
        self._loaded: deque[int] = deque(maxlen=window + 1)
        self.refill_ns: int | None = None

    def load(self, segments: Iterable[RawSegment], from_ns: int | None = None, until_ns: int | None = None) -> None:
        """Replace the timeline, all of it or from an instant on.

        Args:
            segments: in order of time.
            from_ns: earlier segments stay.
            until_ns: from then on nothing is known until `extend`; None lets the last segment hold for ever.

        Raises:
            InputError: when the segments are out of order.
        """
        start = ALWAYS if from_ns is None else from_ns
        fresh = _starting(start, in_order(segments))
        if self._ahead is not None and self._ahead.t0 < start:
            kept = takewhile(lambda s: s.t0 < start, chain((self._ahead,), self._rest))
            self._rest = chain(kept, fresh)
            self._ahead = next(self._rest)
            self._until = NEVER if until_ns is None else until_ns
            return
        while self._loaded and self._loaded[-1] >= start:
            self._loaded.pop()
        self._fill(start, None, fresh, NEVER if until_ns is None else until_ns)

    def extend(self, segments: Iterable[RawSegment], until_ns: int | None = None) -> None:
        """Append segments to the timeline.

        Raises:
            InputError: when the segments are out of order.
        """
        fresh = in_order(segments)
        until = NEVER if until_ns is None else until_ns
        if self._ahead is not None:
            self._rest, self._until = chain(self._rest, fresh), until
            return
        first = next(fresh, None)
        if first is not None and self._loaded and first.t0 <= self._loaded[-1]:
            raise InputError(
                f"the extension starts at {first.t0} ns, not after the last segment at {self._loaded[-1]} ns",
                remedy="replace the timeline from that instant on",
            )
        self._fill(self._until if first is None else first.t0, first, fresh, until)

    def refill(self, now_ns: int) -> None:
        """Load more when half of the window is used up."""
        while self.refill_ns is not None and now_ns >= self.refill_ns:
            ahead = self._ahead
            self._fill(NEVER if ahead is None else ahead.t0, ahead, self._rest, self._until)

    def _fill(self, start: int, first: RawSegment | None, source: Iterator[RawSegment], until: int) -> None:
        half = max(self._window // 2, 1)
        batch = [] if first is None else [first]
        batch += islice(source, (half if self._loaded else self._window) - len(batch))
        ahead = next(source, None)
        self._sink(start, batch, until if ahead is None else ahead.t0)
        self._ahead, self._rest, self._until = ahead, source, until
        self._loaded.extend(s.t0 for s in batch)
        self.refill_ns = None if ahead is None else self._loaded[-min(half, len(self._loaded))]


def _starting(start: int, segments: Iterator[RawSegment]) -> Iterator[RawSegment]:
    """The segments in force from an instant on; the one in force at it starts there, its delay unchanged."""
    before = None
    for segment in segments:
        if segment.t0 <= start:
            before = segment._replace(t0=start)
            continue
        if before is not None:
            yield before
            before = None
        yield segment
    if before is not None:
        yield before
