"""The course of a direction within its windows: exact samples, and smooth curves between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from marsnet.sky.directions import Direction, Sample
from marsnet.sky.intervals import Array

Index = NDArray[np.intp]
_LEAST_KNOTS = 7


@dataclass(frozen=True)
class Profile:
    """Samples at equal steps within each window, six-point interpolation between them.

    The square of the light time is what is interpolated: near a closest approach it is almost a parabola where the
    light time itself is a hyperbola.

    Attributes:
        direction: what is sampled.
        windows: instants of the direction's own time, shape (w, 2).
        offset: index of each window's first knot, shape (w + 1,).
        step: seconds between a window's knots, shape (w,).
        knots: instants, shape (k,).
        exact: the direction at the knots.
    """

    direction: Direction
    windows: Array
    offset: Index
    step: Array
    knots: Array
    exact: Sample

    @classmethod
    def of(cls, direction: Direction, windows: Array) -> Profile:
        """Sample a direction in its windows, shape (w, 2), w >= 1."""
        length = windows[:, 1] - windows[:, 0]
        count = np.maximum(np.ceil(length / direction.step).astype(np.intp) + 1, _LEAST_KNOTS)
        offset = np.concatenate([[0], np.cumsum(count)])
        step = length / (count - 1)
        within = np.arange(offset[-1]) - np.repeat(offset[:-1], count)
        knots = np.repeat(windows[:, 0], count) + within * np.repeat(step, count)
        return cls(direction, windows, offset, step, knots, direction.sample(knots))

    @cached_property
    def owner(self) -> Index:
        """The window of each knot, shape (k,)."""
        return np.repeat(np.arange(len(self.windows)), np.diff(self.offset))

    @cached_property
    def _rows(self) -> Array:
        rows = [self.exact.delay**2]
        rows += [row for row in (self.exact.elevation, self.exact.sep) if row is not None]
        return np.stack(rows)

    def at(self, window: Index, time: Array) -> Sample:
        """The direction at instants inside given windows, both of shape (n,)."""
        rows = self._interpolate(self._rows, window, time)
        delay = np.sqrt(rows[0])
        elevation = rows[1] if self.exact.elevation is not None else None
        return Sample(delay, elevation, rows[-1] if self.exact.sep is not None else None)

    def delay(self, window: Index, time: Array) -> Array:
        """Light time at instants inside given windows, both of shape (n,)."""
        return np.asarray(np.sqrt(self._interpolate(self._rows[:1], window, time)[0]))

    def _interpolate(self, rows: Array, window: Index, time: Array) -> Array:
        first, last = self.offset[window], self.offset[window + 1]
        place = (time - self.windows[window, 0]) / self.step[window]
        index = np.clip(place.astype(np.intp), 2, last - first - 4)
        p = place - index
        a, b, d, e, f = p + 2, p + 1, p - 1, p - 2, p - 3
        ab, de, ef = a * b, d * e, e * f
        abp, pde = ab * p, p * de
        weights = (
            b * pde * f / -120,
            a * pde * f / 24,
            ab * d * ef / -12,
            abp * ef / 12,
            abp * d * f / -24,
            abp * de / 120,
        )
        index += first - 2
        total = np.take(rows, index, axis=1) * weights[0]
        for offset in range(1, 6):
            total += np.take(rows[:, offset:], index, axis=1) * weights[offset]
        return np.asarray(total)
