"""How durations are distributed, in bounded memory however long a node runs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

_STEP = math.log(1.02)
_LEAST = 1e-6
"""Seconds: what is shorter is not told apart."""
_SHORTEST = math.ceil(math.log(_LEAST) / _STEP)


class Buckets:
    """Counts of values up to bounds, as Prometheus' histograms have them.

    Attributes:
        total: sum of the values.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bound, the last one infinite, and how many values do not exceed it."""
        count = 0
        for bound, more in zip((*self._bounds, math.inf), self._counts, strict=True):
            count += more
            yield bound, count


class Quantiles:
    """Quantiles of durations to 2 %.

    Attributes:
        count: of durations.
        largest: of them, seconds; 0 without any.
    """

    def __init__(self) -> None:
        self.count, self.largest = 0, 0.0
        self._bins: Counter[int] = Counter()

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.count += 1
        self.largest = max(self.largest, seconds)
        self._bins[_SHORTEST if seconds <= _LEAST else math.ceil(math.log(seconds) / _STEP)] += 1

    def at_most(self, share: float) -> float:
        """Seconds that at least this share of the durations do not exceed; 0 without any."""
        wanted, seen = share * self.count, 0
        for number in sorted(self._bins):
            seen += self._bins[number]
            if seen >= wanted:
                return min(math.exp(number * _STEP), self.largest)
        return 0.0
