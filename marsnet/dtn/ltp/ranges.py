"""A set of octet offsets as sorted, disjoint, non-adjacent half-open intervals."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """Octets of a block that are known to have arrived. Adding in ascending order costs O(1), else O(log n).

    Attributes:
        total: number of octets in the set.
    """

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def end(self) -> int:
        """One past the last octet, 0 when empty."""
        return self._ends[-1] if self._ends else 0

    def add(self, start: int, end: int) -> int:
        """Add [start, end) and return how many of its octets are new."""
        if start >= end:
            return 0
        starts, ends = self._starts, self._ends
        if not ends or start > ends[-1]:
            starts.append(start)
            ends.append(end)
            self.total += end - start
            return end - start
        if start == ends[-1]:
            ends[-1] = end
            self.total += end - start
            return end - start
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        before = sum(ends[i] - starts[i] for i in range(first, last))
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]
        added = end - start - before
        self.total += added
        return added

    def covers(self, start: int, end: int) -> bool:
        """Whether every octet of [start, end) is in the set."""
        place = bisect_right(self._starts, start) - 1
        return start >= end or (place >= 0 and self._ends[place] >= end)

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The maximal intervals of [start, end) that are not in the set, ascending."""
        missing = []
        for place in range(bisect_right(self._ends, start), len(self._starts)):
            low = self._starts[place]
            if low >= end:
                break
            if low > start:
                missing.append((start, low))
            start = self._ends[place]
        if start < end:
            missing.append((start, end))
        return missing

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        """The set's intervals clipped to [start, end), ascending."""
        found = []
        for place in range(bisect_right(self._ends, start), len(self._starts)):
            low = self._starts[place]
            if low >= end:
                break
            found.append((max(low, start), min(self._ends[place], end)))
        return found
