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
Index = NDArray[np.intp]

EDGE_TOLERANCE = 1e-3
"""Seconds to which an edge is refined."""
_SHORTEST = 0.01  # seconds; shorter windows and gaps are not looked for
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
        edges[wanted] = refine(
            lambda time, _: function(time), low[wanted], high[wanted], at_low[wanted], at_high[wanted]
        )
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


def _widen(function: Function, times: Array, change: Index) -> tuple[Array, Array, Array, Array, Flags]:
    low, high = times[change], times[change + 1]
    extra = 0.05 * (high - low)
    low, high = low - extra, high + extra
    both = function(np.concatenate([low, high]))
    at_low, at_high = both[: len(low)], both[len(low) :]
    return low, high, at_low, at_high, (at_low > 0) != (at_high > 0)


def _with_extrema(function: Function, grid: Array, values: Array, within: Array | None) -> tuple[Array, Array]:
    """The samples, with those extrema added that lie on the other side of zero than their neighbours."""
    maxima, minima = (_hidden(function, grid, values, sign, within) for sign in (1.0, -1.0))
    times = np.concatenate([maxima[0], minima[0]])
    if not len(times):
        return grid, values
    order = np.argsort(times)
    times, samples = times[order], np.concatenate([maxima[1], -minima[1]])[order]
    place = np.searchsorted(grid, times)
    return np.insert(grid, place, times), np.insert(values, place, samples)


def _hidden(function: Function, grid: Array, values: Array, sign: float, within: Array | None) -> tuple[Array, Array]:
    """Maxima of sign * values above zero whose neighbouring samples are all below."""
    v = values if sign > 0 else -values
    if len(v) < 3:
        return np.empty(0), np.empty(0)
    middle = v[1:-1]
    fall = 0.5 * (2 * middle - v[:-2] - v[2:])
    lean = 0.5 * (v[2:] - v[:-2])
    # A parabola has its top lean^2 / 4 fall above the middle; through three samples it errs by less than `fall`.
    near = (middle <= 0) & (fall > 0) & (lean**2 > -4 * fall * (middle + fall))
    peak = np.flatnonzero(near & (middle >= v[:-2]) & (middle > v[2:]))
    low, high, drop = grid[peak], grid[peak + 2], fall[peak]
    # At the ends of the grid the greatest sample has one neighbour only.
    for end, step, inner in ((0, 0, 1), (len(middle) - 1, len(v) - 2, len(v) - 2)):
        outer = 0 if end == 0 else len(v) - 1
        if near[end] and v[outer] <= 0 and v[outer] > v[inner]:
            low, high = np.append(low, grid[step]), np.append(high, grid[step + 1])
            drop = np.append(drop, fall[end])
    if within is not None:
        wanted = overlaps(low, high, within)
        low, high, drop = low[wanted], high[wanted], drop[wanted]
    if not len(low):
        return np.empty(0), np.empty(0)
    return _climb(lambda time: sign * function(time), low, high, drop)


def _climb(function: Function, low: Array, high: Array, fall: Array) -> tuple[Array, Array]:
    """Golden-section search for points above zero between `low` and `high`, each holding one maximum.

    A search ends when it is above zero, or when what the function can still gain (it falls by `fall` over half the
    bracket, hence by the square of the part that is left of it) does not reach zero.
    """
    found_time, found_value = [np.empty(0)], [np.empty(0)]
    width = high - low
    inner, outer = high - _GOLDEN * width, low + _GOLDEN * width
    at_inner, at_outer = function(inner), function(outer)
    while len(low):
        left = at_inner >= at_outer
        best = np.maximum(at_inner, at_outer)
        above = best > 0
        if above.any():
            found_time.append(np.where(left, inner, outer)[above])
            found_value.append(best[above])
        part = (high - low) / width
        going = ~above & (best > -8 * fall * part**2) & (high - low > _SHORTEST)
        left = left[going]
        low, high, inner, outer, at_inner, at_outer, width, fall = (
            row[going] for row in (low, high, inner, outer, at_inner, at_outer, width, fall)
        )
        low, high = np.where(left, low, inner), np.where(left, outer, high)
        fresh = np.where(left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_fresh = function(fresh) if len(fresh) else fresh
        inner, outer = np.where(left, fresh, outer), np.where(left, inner, fresh)
        at_inner, at_outer = np.where(left, at_fresh, at_outer), np.where(left, at_inner, at_fresh)
    return np.concatenate(found_time), np.concatenate(found_value)


def refine(
    function: Callable[[Array, Index], Array],
    low: Array,
    high: Array,
    at_low: Array,
    at_high: Array,
    tolerance: float = EDGE_TOLERANCE,
) -> Array:
    """Roots between `low` and `high`, where the function has opposite signs; all arrays of shape (n,).

    The function is given instants and which of the n roots each is for, both of shape (m,), m <= n.

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
        fx = function(x, index)
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
