"""Sets of intervals as arrays: what several constraints allow together."""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def everything(first: float, last: float) -> Array:
    """One interval, shape (1, 2)."""
    return np.array([[first, last]])


def nothing() -> Array:
    """No interval, shape (0, 2)."""
    return np.empty((0, 2))


def intersect(*sets: Array) -> Array:
    """What lies in every one of the sets.

    Args:
        sets: each of shape (n, 2): starts and ends, ordered and disjoint.

    Returns:
        Shape (m, 2), ordered and disjoint; intervals of no length are left out.
    """
    return reduce(_both, sets)


def _both(one: Array, two: Array) -> Array:
    if not len(one) or not len(two):
        return nothing()
    # Interval i of `one` meets those of `two` that end after it starts and start before it ends.
    first = np.searchsorted(two[:, 1], one[:, 0], side="right")
    last = np.searchsorted(two[:, 0], one[:, 1], side="left")
    count = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(one)), count)
    other = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    return np.stack([np.maximum(one[owner, 0], two[other, 0]), np.minimum(one[owner, 1], two[other, 1])], axis=1)


def union(intervals: Array) -> Array:
    """Any intervals, shape (n, 2), merged into ordered, disjoint ones."""
    if not len(intervals):
        return nothing()
    ordered = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ordered[:, 1])
    fresh = np.concatenate([[True], ordered[1:, 0] > reach[:-1]])
    starts = np.flatnonzero(fresh)
    ends = np.concatenate([starts[1:], [len(ordered)]]) - 1
    return np.stack([ordered[starts, 0], reach[ends]], axis=1)


def overlaps(low: Array, high: Array, intervals: Array) -> NDArray[np.bool_]:
    """Which of the closed brackets [low, high], shape (n,), touch one of the ordered, disjoint intervals."""
    if not len(intervals):
        return np.zeros(low.shape, dtype=bool)
    following = np.searchsorted(intervals[:, 1], low, side="left")
    return np.asarray((following < len(intervals)) & (intervals[np.minimum(following, len(intervals) - 1), 0] <= high))
