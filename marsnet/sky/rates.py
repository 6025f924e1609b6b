"""Contacts of constant rate: where a budget's rate steps within a window.

Adaptive transmitters have steps, and a contact begins and ends at each. A continuous budget is cut into levels of
half a decibel below the hardware cap (or the stated rate); each piece carries the least rate that the budget gives
within it, and its largest error rates. So a contact never promises more than the budget.
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

LEVEL_DB = 0.5
"""Width of a level of a continuous budget, decibels."""
_EDGE = 0.01  # seconds to which a step is located, always on the side of the lower rate


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


def pieces_of_constant_rate(profile: Profile, budget: DirectedBudget) -> Pieces:
    """Cut a profile's windows where the rate changes level; pieces in which the link does not close are left out."""
    if budget.fixed is not None and budget.sep is None:
        start, end = profile.windows.T
        ones = np.ones(len(start))
        return _sent(profile, np.arange(len(start)), start, end, budget.fixed * ones, 0.0 * ones, 0.0 * ones)
    levels = _Levels(budget)
    at_knots = levels.rates(profile.exact)
    level = levels.of(at_knots[0])
    owner, knots = profile.owner, profile.knots
    change = np.flatnonzero((level[1:] != level[:-1]) & (owner[1:] == owner[:-1]))
    below, above = _edges(
        profile, levels, owner[change], knots[change], knots[change + 1], level[change], level[change + 1]
    )
    cut_owner = np.concatenate([below.owner, above.owner])
    cut_time = np.concatenate([below.time, above.time])
    cut_rates = levels.rates(profile.at(cut_owner, cut_time))
    time = np.concatenate([knots, cut_time])
    window = np.concatenate([owner, cut_owner])
    rates = np.concatenate([np.stack(at_knots), np.stack(cut_rates)], axis=1)
    order = np.lexsort((time, window))
    return _pieces(profile, levels, time[order], window[order], rates[:, order])


class _Levels:
    """The levels of one budget."""

    def __init__(self, budget: DirectedBudget) -> None:
        self.budget = budget
        radio = budget.transmitter
        stepped = radio is not None and bool(radio.steps) and budget.fixed is None
        self.width = 1e-9 if stepped else LEVEL_DB / 10 * math.log(10)
        top = budget.fixed if budget.fixed is not None else None if radio is None else radio.cap
        self.top = math.log(top) if top else 0.0

    def rates(self, sample: Sample) -> tuple[Array, Array, Array]:
        return self.budget.rate(sample.delay * LIGHT_SPEED, sample.elevation, sample.sep)

    def of(self, rate: Array) -> Index:
        """Level of each rate; the top has one of its own. A link that does not close has the lowest."""
        with np.errstate(divide="ignore"):
            steps = (np.log(np.where(rate > 0, rate, 1.0)) - self.top) / self.width
        return np.where(rate > 0, np.floor(steps + 1e-6), -(2**60)).astype(np.intp)


class _Cuts(NamedTuple):
    owner: Index
    time: Array


def _edges(
    profile: Profile, levels: _Levels, owner: Index, low: Array, high: Array, at_low: Index, at_high: Index
) -> tuple[_Cuts, _Cuts]:
    """Bisect every change of level; where a third level shows in between, both changes are followed."""
    while len(low) and np.max(high - low) > _EDGE:
        middle = 0.5 * (low + high)
        level = levels.of(levels.rates(profile.at(owner, middle))[0])
        left, right = level != at_low, level != at_high
        owner, low, high, at_low, at_high = (
            np.concatenate([one[left], two[right]])
            for one, two in ((owner, owner), (low, middle), (middle, high), (at_low, level), (level, at_high))
        )
    return _Cuts(owner, low), _Cuts(owner, high)


def _pieces(profile: Profile, levels: _Levels, time: Array, window: Index, rates: Array) -> Pieces:
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
