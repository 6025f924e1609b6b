"""Planning one stretch of time for all directions, as columns of numbers; and many stretches on several processors."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from marsnet.sky.directions import Direction, EarthDirection, LocalDirection
from marsnet.sky.intervals import union
from marsnet.sky.nodes import Sky, Span
from marsnet.sky.profile import Profile
from marsnet.sky.ranges import Lines, light_time_lines
from marsnet.sky.rates import Levels, Pieces, pieces_of_constant_rate

_LEAST_FOR_PROCESSES = 4  # stretches; fewer are planned sooner than processes are started


class Carrier(NamedTuple):
    """One radio link of a direction: its name and the levels of its budget."""

    link: str
    levels: Levels


class Pair(NamedTuple):
    """A direction from node to node, with every radio link that serves it."""

    source: str
    target: str
    carriers: tuple[Carrier, ...]


@dataclass(frozen=True)
class Job:
    """What to plan.

    Attributes:
        sky: the nodes.
        pairs: the directions.
        range_error: bound of the error of ranges, seconds.
        blocking_radius: sphere that lines between orbiters must clear, metres.
    """

    sky: Sky
    pairs: tuple[Pair, ...]
    range_error: float
    blocking_radius: float


class Stretch(NamedTuple):
    """What was planned, as columns.

    Attributes:
        contacts: link, source, target and the contacts of each, in no order between them.
        ranges: source, target and the ranges of each.
    """

    contacts: list[tuple[str, str, str, Pieces]]
    ranges: list[tuple[str, str, Lines]]


def plan_stretch(job: Job, first: float, last: float) -> Stretch:
    """Everything that is transmitted between two mission times."""
    span = Span.over(job.sky, first, last)
    result = Stretch([], [])
    for pair in job.pairs:
        profiles: list[Profile] = []
        for carrier in pair.carriers:
            direction = _direction(span, pair, carrier, job.blocking_radius)
            windows = direction.windows()
            if not len(windows):
                continue
            profiles.append(Profile.of(direction, windows))
            pieces = pieces_of_constant_rate(profiles[-1], carrier.levels)
            result.contacts.append((carrier.link, pair.source, pair.target, pieces))
        if profiles:
            lines = light_time_lines(_whole(profiles), job.range_error)
            result.ranges.append((pair.source, pair.target, lines))
    return result


def plan_stretches(job: Job, bounds: Sequence[float]) -> Iterator[Stretch]:
    """The stretches between successive mission times, in order.

    Many stretches are planned by as many processes as there are processors. Not many more than those wait to be taken,
    so that memory does not grow with their number.
    """
    workers = min(len(os.sched_getaffinity(0)), len(bounds) - 1)
    pairs = list(pairwise(bounds))
    if workers < 2 or len(pairs) < _LEAST_FOR_PROCESSES:
        for first, last in pairs:
            yield plan_stretch(job, first, last)
        return
    # Forked processes inherit the job: nothing of it has to be picklable.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_inherit, initargs=(job,)) as pool:
        waiting: deque[Future[Stretch]] = deque()
        try:
            for first, last in pairs:
                waiting.append(pool.submit(_inherited_stretch, first, last))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


_inherited: list[Job] = []


def _inherit(job: Job) -> None:
    _inherited[:] = [job]


def _inherited_stretch(first: float, last: float) -> Stretch:
    return plan_stretch(_inherited[0], first, last)


def _direction(span: Span, pair: Pair, carrier: Carrier, blocking_radius: float) -> Direction:
    if pair.source in span.sky.grounds or pair.target in span.sky.grounds:
        return EarthDirection(span, pair.source, pair.target, carrier.levels.budget.sep)
    return LocalDirection(span, pair.source, pair.target, blocking_radius)


def _whole(profiles: list[Profile]) -> Profile:
    """One profile of all windows: links of several bands share a light time, but not when the Sun lets them work."""
    if len(profiles) == 1:
        return profiles[0]
    windows = union(np.concatenate([profile.windows for profile in profiles]))
    return Profile.of(profiles[0].direction, windows)
