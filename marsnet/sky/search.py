"""Window search: when a smooth function of time is positive.

The function is sampled on a grid. Between neighbours of opposite sign lies an edge. Between neighbours of the same
sign a short window or a short gap can hide: wherever the samples have an extremum on the wrong side whose parabola
comes near zero, the extremum is searched for. Edges are then refined together, as arrays, to a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from marsnet.sky.intervals import Array, nothing, overlaps

Function = Callable[[Array], Array]
Flags = NDArray[np.bool_]

EDGE_TOLERANCE = 1e-3
"""Seconds to which an edge is refined."""
_GOLDEN = (np.sqrt(5.0) - 1) / 2


def positive_windows(
    function: Function, grid: Array, values: Array, *, within: Array | None = None, coarse: bool = False
) -> Array:
    """The intervals in which a function is positive.

    Args:
        function: maps instants of shape (n,) to values of shape (n,).
        grid: ordered instants, shape (m,), m >= 2; the result is clipped to them.
        values: the function, or one that differs little from it, at the grid.
        within: ordered, disjoint intervals, shape (k, 2), outside of which edges need not be exact.
        coarse: whether `values` come from a neighbouring function, so that a sign may change within a twentieth of a
        step
            outside its bracket.

    Returns:
        Shape (j, 2), ordered and disjoint.
    """
    times, samples = _with_extrema(function, grid, values, within)
    above = samples > 0
    change = np.flatnonzero(above[1:] != above[:-1])
    low, high = times[change], times[change + 1]
    edges = 0.5 * (low + high)
    wanted = np.ones(len(edges), dtype=bool) if within is None else overlaps(low, high, within)
    if coarse:
        low, high, at_low, at_high, sure = _widen(function, times, change)
        wanted &= sure
    else:
        at_low, at_high = samples[change], samples[change + 1]
    if wanted.any():
        edges[wanted] = refine(function, low[wanted], high[wanted], at_low[wanted], at_high[wanted])
    return _pair(edges, grid, starts_above=bool(above[0]), ends_above=bool(above[-1]))


def _pair(edges: Array, grid: Array, *, starts_above: bool, ends_above: bool) -> Array:
    parts = [grid[:1]] if starts_above else []
    parts.append(edges)
    if ends_above:
        parts.append(grid[-1:])
    flat = np.concatenate(parts)
    if not len(flat):
        return nothing()
    windows = flat.reshape(-1, 2)
    return windows[windows[:, 1] > windows[:, 0]]


def _widen(function: Function, times: Array, change: NDArray[np.intp]) -> tuple[Array, Array, Array, Array, Flags]:
    low, high = times[change], times[change + 1]
    extra = 0.05 * (high - low)
    low, high = low - extra, high + extra
    both = function(np.concatenate([low, high]))
    at_low, at_high = both[: len(low)], both[len(low) :]
    return low, high, at_low, at_high, (at_low > 0) != (at_high > 0)


def _with_extrema(function: Function, grid: Array, values: Array, within: Array | None) -> tuple[Array, Array]:
    """The samples, with those extrema added that lie on the other side of zero than their neighbours."""
    found = [_hidden(function, grid, values, sign, within) for sign in (1.0, -1.0)]
    times = np.concatenate([part[0] for part in found])
    if not len(times):
        return grid, values
    samples = np.concatenate([part[1] for part in found])
    place = np.searchsorted(grid, times)
    order = np.argsort(times)
    return np.insert(grid, place[order], times[order]), np.insert(values, place[order], samples[order])


def _hidden(function: Function, grid: Array, values: Array, sign: float, within: Array | None) -> tuple[Array, Array]:
    """Maxima of sign * values above zero whose neighbouring samples are all below."""
    v = values if sign > 0 else -values
    middle = v[1:-1]
    peak = np.flatnonzero((middle <= 0) & (middle >= v[:-2]) & (middle > v[2:])) + 1
    fall = 0.5 * (2 * v[peak] - v[peak - 1] - v[peak + 1])
    lean = 0.5 * (v[peak + 1] - v[peak - 1])
    top = v[peak] + lean**2 / (4 * np.maximum(fall, 1e-300))
    # A parabola through three samples errs by less than what the function falls in one step.
    peak = peak[top > -fall]
    if within is not None:
        peak = peak[overlaps(grid[peak - 1], grid[peak + 1], within)]
    if not len(peak):
        return np.empty(0), np.empty(0)
    low, high = grid[peak - 1].copy(), grid[peak + 1].copy()
    inner, outer = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_inner, at_outer = sign * function(inner), sign * function(outer)
    best, at_best = grid[peak].copy(), v[peak].copy()
    for _ in range(40):
        left = at_inner >= at_outer
        better = np.maximum(at_inner, at_outer) > at_best
        best = np.where(better, np.where(left, inner, outer), best)
        at_best = np.where(better, np.maximum(at_inner, at_outer), at_best)
        if np.all((at_best > 0) | (high - low < 0.01)):
            break
        low, high = np.where(left, low, inner), np.where(left, outer, high)
        fresh = np.where(left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_fresh = sign * function(fresh)
        inner, outer = np.where(left, fresh, outer), np.where(left, inner, fresh)
        at_inner, at_outer = np.where(left, at_fresh, at_outer), np.where(left, at_inner, at_fresh)
    up = at_best > 0
    return best[up], sign * at_best[up]


def refine(
    function: Function, low: Array, high: Array, at_low: Array, at_high: Array, tolerance: float = EDGE_TOLERANCE
) -> Array:
    """Roots between `low` and `high`, where the function has opposite signs; all arrays of shape (n,).

    Chandrupatla's method (1997): inverse quadratic steps where they are safe, bisection elsewhere. A root is accepted
    when the flatter of the two newest secants puts it within the tolerance.
    """
    result = np.empty(low.shape)
    index = np.arange(len(low))
    a, fa, b, fb = high.copy(), at_high.copy(), low.copy(), at_low.copy()
    # The first point is the secant's, kept off the ends.
    part = np.clip(fb / (fb - fa), 0.02, 0.98)
    for _ in range(64):
        x = b + part * (a - b)
        fx = function(x)
        same = (fx > 0) == (fb > 0)
        # c is the point that leaves the bracket (a, b).
        c, fc = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = x, fx
        nearer = np.abs(fb) < np.abs(fa)
        best = np.where(nearer, b, a)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.fmin(np.abs((fa - fb) / (a - b)), np.abs((fc - fb) / (c - b)))
            offset = np.minimum(np.abs(fa), np.abs(fb)) / slope
        done = (offset < tolerance) | (np.abs(a - b) < tolerance)
        if done.any():
            result[index[done]] = best[done]
            keep = ~done
            index = index[keep]
            if not len(index):
                return result
            a, fa, b, fb, c, fc = (array[keep] for array in (a, fa, b, fb, c, fc))
        with np.errstate(divide="ignore", invalid="ignore"):
            xi, phi = (b - a) / (c - a), (fb - fa) / (fc - fa)
            safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
            quadratic = fb / (fa - fb) * fc / (fa - fc) + (c - b) / (a - b) * fb / (fc - fb) * fa / (fc - fa)
        margin = np.minimum(0.25 * tolerance / np.maximum(np.abs(a - b), 1e-300), 0.5)
        part = np.where(safe & np.isfinite(quadratic), np.clip(quadratic, margin, 1 - margin), 0.5)
    result[index] = 0.5 * (a + b)
    return result
