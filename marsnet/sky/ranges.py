"""Light time as continuous lines within an error bound."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marsnet.sky.intervals import Array
from marsnet.sky.profile import Index, Profile

RANGE_ERROR = 1e-3
"""Default bound of a line's error against the light time, seconds."""
_RESERVE = 0.8  # of the bound; the rest covers what curvature estimated from samples misses


class Lines(NamedTuple):
    """Light time as lines, one row each, ordered within each window.

    Attributes:
        start: transmission, mission seconds.
        end: transmission, mission seconds.
        delay: light time at the start, seconds.
        slope: seconds of light time per second of transmission.
    """

    start: Array
    end: Array
    delay: Array
    slope: Array


def light_time_lines(profile: Profile, bound: float = RANGE_ERROR) -> Lines:
    """Lines that follow a profile's light time within `bound` seconds and meet where they touch.

    Each window is divided equally, so that a chord's error h^2 |f''| / 8 stays below the bound for the largest
    curvature in the window; then every line is checked at three points, and a window that fails is divided further.
    """
    count = _divisions(profile, bound)
    while True:
        lines, owner = _divide(profile, count)
        worst = _worst_error(profile, lines, owner, len(count))
        failing = worst > bound
        if not failing.any():
            return _sent(profile, lines)
        count = np.where(failing, 2 * count, count)


class _Pieces(NamedTuple):
    start: Array
    end: Array
    at_start: Array
    at_end: Array


def _divisions(profile: Profile, bound: float) -> Index:
    delay = profile.exact.delay
    bend = np.zeros(len(delay))
    bend[1:-1] = np.abs(delay[2:] - 2 * delay[1:-1] + delay[:-2])
    edges = np.concatenate([profile.offset[:-1], profile.offset[1:] - 1])
    bend[edges] = 0.0
    most = np.maximum.reduceat(bend, profile.offset[:-1]) / profile.step**2
    length = profile.windows[:, 1] - profile.windows[:, 0]
    return np.maximum(np.ceil(length * np.sqrt(most / (8 * _RESERVE * bound))), 1).astype(np.intp)


def _divide(profile: Profile, count: Index) -> tuple[_Pieces, Index]:
    owner = np.repeat(np.arange(len(count)), count)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    first, last = profile.windows[owner, 0], profile.windows[owner, 1]
    start = first + (last - first) * (piece / count[owner])
    end = np.where(piece + 1 == count[owner], last, first + (last - first) * ((piece + 1) / count[owner]))
    # Both ends of neighbours come from the same array, so lines meet to the bit.
    at_start = profile.delay(owner, start)
    at_end = np.empty_like(at_start)
    at_end[:-1] = at_start[1:]
    final = np.cumsum(count) - 1
    at_end[final] = profile.delay(owner[final], end[final])
    return _Pieces(start, end, at_start, at_end), owner


def _worst_error(profile: Profile, pieces: _Pieces, owner: Index, windows: int) -> Array:
    worst = np.zeros(len(owner))
    for part in (0.25, 0.5, 0.75):
        time = pieces.start + part * (pieces.end - pieces.start)
        line = pieces.at_start + part * (pieces.at_end - pieces.at_start)
        worst = np.maximum(worst, np.abs(profile.delay(owner, time) - line))
    starts = np.searchsorted(owner, np.arange(windows))
    return np.asarray(np.maximum.reduceat(worst, starts))


def _sent(profile: Profile, pieces: _Pieces) -> Lines:
    start = profile.direction.sent(pieces.start, pieces.at_start)
    end = profile.direction.sent(pieces.end, pieces.at_end)
    span = np.maximum(end - start, 1e-12)
    return Lines(start, end, pieces.at_start, (pieces.at_end - pieces.at_start) / span)
