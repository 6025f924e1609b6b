"""Contacts of constant rate: where a budget's rate steps within a window.

Adaptive transmitters have steps, and a contact begins and ends at each. A continuous budget is cut into levels of half
a decibel below the hardware cap (or the stated rate); each piece carries the least rate that the budget gives within
it, and its largest error rates. So a contact never promises more than the budget.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from marsnet.sky.budget import DirectedBudget
from marsnet.sky.directions import Sample
from marsnet.sky.ephemeris import LIGHT_SPEED
from marsnet.sky.intervals import Array
from marsnet.sky.profile import Index, Profile
from marsnet.sky.search import refine

LEVEL_DB = 0.5
"""Width of a level of a continuous budget, decibels."""
_EDGE = 0.01  # seconds around a change of level, which go to the lower rate
_CLOSED = -(2**60)


class Pieces(NamedTuple):
    """Contacts of constant rate, one row each, ordered.

    Attributes:
        start: transmission, mission seconds.
        end: transmission, mission seconds.
        rate: bit/s.
        ber: bit error rate.
        loss: frame loss probability.
    """

    start: Array
    end: Array
    rate: Array
    ber: Array
    loss: Array


class Levels:
    """The levels of one budget, and the distances at which they change."""

    def __init__(self, budget: DirectedBudget) -> None:
        self.budget = budget
        radio = budget.transmitter
        stepped = radio is not None and bool(radio.steps) and budget.fixed is None
        self.width = 1e-9 if stepped else LEVEL_DB / 10 * math.log(10)
        top = budget.cap if budget.fixed is None else budget.fixed
        self.top = math.log(top) if math.isfinite(top) else 0.0
        self.constant = budget.fixed is not None and budget.sep is None
        self.by_distance_only = not self.constant and budget.by_range and not budget.by_elevation and budget.sep is None
        self._known = (math.inf, -math.inf)
        self._limits = np.empty(0)

    def rates(self, sample: Sample) -> tuple[Array, Array, Array]:
        """Rate, bit error rate and loss."""
        return self.budget.rate(sample.delay * LIGHT_SPEED, sample.elevation, sample.sep)

    def of(self, rate: Array) -> Index:
        """Level of each rate; the top has one of its own. A link that does not close has the lowest."""
        open_ = rate > 0
        steps = (np.log(np.where(open_, rate, 1.0)) - self.top) / self.width
        return np.where(open_, np.floor(steps + 1e-6), _CLOSED).astype(np.intp)

    def limits(self, nearest: float, farthest: float) -> Array:
        """Light times between two at which the level changes, ascending, for budgets that only distance matters to."""
        if nearest < self._known[0] or farthest > self._known[1]:
            low, high = 0.5 * min(nearest, self._known[0]), 2 * max(farthest, self._known[1])
            self._limits = self._changes(np.array([low]), np.array([high]))
            self._known = low, high
        first, last = np.searchsorted(self._limits, [nearest, farthest])
        return self._limits[first:last]

    def _changes(self, low: Array, high: Array) -> Array:
        at_low, at_high = self._level(low), self._level(high)
        for _ in range(40):
            middle = np.sqrt(low * high)
            level = self._level(middle)
            left, right = level != at_low, level != at_high
            low, high, at_low, at_high = (
                np.concatenate([one[left], two[right]])
                for one, two in ((low, middle), (middle, high), (at_low, level), (level, at_high))
            )
            if np.all(high - low < 1e-9 * low):
                break
        return np.sort(0.5 * (low + high))

    def _level(self, delay: Array) -> Index:
        return self.of(self.rates(Sample(delay))[0])


class _Course(NamedTuple):
    """Samples of a profile in order: instants, their windows, and what the direction is like; n of each."""

    time: Array
    owner: Index
    sample: Sample


def pieces_of_constant_rate(profile: Profile, levels: Levels) -> Pieces:
    """Cut a profile's windows where the rate changes level; pieces in which the link does not close are left out."""
    if levels.constant:
        start, end = profile.windows.T
        rate = np.full(len(start), levels.budget.fixed)
        return _sent(profile, np.arange(len(start)), start, end, rate, 0.0 * rate, 0.0 * rate)
    course = _with_turns(profile)
    cuts = _cuts_by_distance(profile, levels, course) if levels.by_distance_only else _cuts(profile, levels, course)
    owner, low, high = cuts
    time = np.concatenate([course.time, low, high])
    window = np.concatenate([course.owner, owner, owner])
    at_cuts = levels.rates(profile.at(window[len(course.time) :], time[len(course.time) :]))
    rates = np.concatenate([np.stack(levels.rates(course.sample)), np.stack(at_cuts)], axis=1)
    # Windows are disjoint and ordered, so that the order of instants is the order of windows.
    order = np.argsort(time, kind="stable")
    return _pieces(profile, levels, time[order], window[order], rates[:, order])


def _with_turns(profile: Profile) -> _Course:
    """The knots, and the closest and farthest approaches between them, where levels come and go between two knots."""
    square = profile.exact.delay**2
    inside = np.flatnonzero(profile.owner[:-2] == profile.owner[2:]) + 1
    before, after = square[inside - 1] - square[inside], square[inside + 1] - square[inside]
    turning = (before * after > 0) & (before + after != 0)
    inside, before, after = inside[turning], before[turning], after[turning]
    owner = profile.owner[inside]
    shift = 0.5 * (before - after) / (before + after)
    time = profile.knots[inside] + shift * profile.step[owner]
    place = np.where(shift > 0, inside + 1, inside)
    there = profile.at(owner, time)

    def merged(knots: Array, turns: Array) -> Array:
        return np.insert(knots, place, turns)

    def merged_if(knots: Array | None, turns: Array | None) -> Array | None:
        return None if knots is None or turns is None else merged(knots, turns)

    exact = profile.exact
    sample = Sample(
        merged(exact.delay, there.delay),
        merged_if(exact.elevation, there.elevation),
        merged_if(exact.sep, there.sep),
    )
    return _Course(merged(profile.knots, time), np.insert(profile.owner, place, owner), sample)


def _cuts_by_distance(profile: Profile, levels: Levels, course: _Course) -> tuple[Index, Array, Array]:
    """Brackets around the instants at which the light time passes a level's limit."""
    delay = course.sample.delay
    limits = levels.limits(float(np.min(delay)), float(np.max(delay)))
    above = np.searchsorted(limits, delay)
    passed = np.where(course.owner[1:] == course.owner[:-1], np.abs(np.diff(above)), 0)
    step = np.repeat(np.arange(len(passed)), passed)
    if not len(step):
        return np.empty(0, dtype=np.intp), np.empty(0), np.empty(0)
    nth = np.arange(len(step)) - np.repeat(np.cumsum(passed) - passed, passed)
    limit = limits[np.minimum(above[step], above[step + 1]) + nth]
    owner, low, high = course.owner[step], course.time[step], course.time[step + 1]
    time = refine(
        lambda time, index: profile.delay(owner[index], time) - limit[index],
        low,
        high,
        delay[step] - limit,
        delay[step + 1] - limit,
    )
    return owner, np.maximum(time - 0.5 * _EDGE, low), np.minimum(time + 0.5 * _EDGE, high)


def _cuts(profile: Profile, levels: Levels, course: _Course) -> tuple[Index, Array, Array]:
    """Bisect every change of level; where a third level shows in between, both changes are followed."""
    level = levels.of(levels.rates(course.sample)[0])
    change = np.flatnonzero((level[1:] != level[:-1]) & (course.owner[1:] == course.owner[:-1]))
    owner, low, high = course.owner[change], course.time[change], course.time[change + 1]
    at_low, at_high = level[change], level[change + 1]
    while len(low) and np.max(high - low) > _EDGE:
        middle = 0.5 * (low + high)
        level = levels.of(levels.rates(profile.at(owner, middle))[0])
        left, right = level != at_low, level != at_high
        owner = np.concatenate([owner[left], owner[right]])
        low, high = np.concatenate([low[left], middle[right]]), np.concatenate([middle[left], high[right]])
        at_low, at_high = np.concatenate([at_low[left], level[right]]), np.concatenate([level[left], at_high[right]])
    return owner, low, high


def _pieces(profile: Profile, levels: Levels, time: Array, window: Index, rates: Array) -> Pieces:
    level = levels.of(rates[0])
    fresh = np.concatenate([[True], (level[1:] != level[:-1]) | (window[1:] != window[:-1])])
    first = np.flatnonzero(fresh)
    last = np.concatenate([first[1:], [len(time)]]) - 1
    start, end = time[first].copy(), time[last].copy()
    rate = np.minimum.reduceat(rates[0], first)
    ber, loss = (np.maximum.reduceat(row, first) for row in rates[1:])
    # Between two pieces of a window lies a bracket of `_EDGE`; it goes to the lower rate.
    same = window[first[1:]] == window[last[:-1]]
    falling = same & (rate[1:] < rate[:-1])
    rising = same & ~falling
    start[1:][falling] = end[:-1][falling]
    end[:-1][rising] = start[1:][rising]
    open_ = (rate > 0) & (end > start)
    return _sent(profile, window[first][open_], *(row[open_] for row in (start, end, rate, ber, loss)))


def _sent(profile: Profile, window: Index, start: Array, end: Array, rate: Array, ber: Array, loss: Array) -> Pieces:
    sent = profile.direction.sent
    return Pieces(sent(start, profile.delay(window, start)), sent(end, profile.delay(window, end)), rate, ber, loss)
