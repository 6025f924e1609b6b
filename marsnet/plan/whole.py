"""Light time in whole seconds, for formats that know no other."""

from __future__ import annotations

import math
from collections.abc import Iterator

from marsnet.plan.types import Range


def nearest(value: float) -> int:
    """The nearest whole number; halves go up."""
    return math.floor(value + 0.5)


def steps(piece: Range) -> Iterator[tuple[float, float, int]]:
    """Start, end and light time in whole seconds of the parts of a range in which the nearest whole second is constant.

    Within a part the light time differs from the whole number by at most half a second.
    """
    start = piece.start
    value = nearest(piece.owlt)
    last = nearest(piece.at(piece.end))
    direction = 1 if last > value else -1
    while value != last:
        boundary = value + 0.5 * direction
        crossing = piece.start + (boundary - piece.owlt) / piece.slope
        yield start, min(max(crossing, start), piece.end), value
        start, value = min(max(crossing, start), piece.end), value + direction
    yield start, piece.end, value


class WholeRanges:
    """Turns ranges, as they come, into whole-second ranges that neither overlap nor repeat their neighbour.

    Times are whole seconds after a reference.
    """

    def __init__(self, offset: float) -> None:
        """Seconds to add to mission time to count from the reference."""
        self._offset = offset
        self._open: dict[tuple[str, str], tuple[int, float, int]] = {}

    def add(self, piece: Range) -> Iterator[tuple[str, str, int, int, int]]:
        """Source, target, start, end and light time of the whole-second ranges that this one completes."""
        key = piece.source, piece.target
        for start, end, value in steps(piece):
            low = math.floor(start + self._offset)
            if key in self._open:
                first, last, open_value = self._open[key]
                if open_value == value and start <= last + 1e-6:
                    self._open[key] = first, end, value
                    continue
                gap = start > last + 1e-6
                stop = math.ceil(last + self._offset) if gap else math.floor(last + self._offset)
                if stop > first:
                    yield *key, first, stop, open_value
                low = max(low, stop)
            self._open[key] = low, end, value

    def close(self) -> Iterator[tuple[str, str, int, int, int]]:
        """The ranges that are still open, up to their end."""
        for key, (first, last, value) in self._open.items():
            stop = math.ceil(last + self._offset)
            if stop > first:
                yield *key, first, stop, value
        self._open.clear()
