"""The budget of a link at one instant, with the geometry of that instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marsnet.errors import InputError
from marsnet.model.topology import Link, Topology
from marsnet.sky.budget import BudgetItem, DirectedBudget, directed_budget
from marsnet.sky.directions import Direction, EarthDirection, LocalDirection
from marsnet.sky.ephemeris import LIGHT_SPEED, require_covered
from marsnet.sky.nodes import Sky, Span

_MARGIN = 4500.0
_STRETCH = 60.0  # seconds on both sides of the instant that are searched for an open window


@dataclass(frozen=True)
class ExplainedDirection:
    """One direction of a link at one instant of transmission.

    Attributes:
        link: the link's name.
        source: transmitting node.
        target: receiving node.
        transmitted_at: UTC, ISO 8601.
        open: whether bits that leave then will arrive.
        light_time: seconds.
        lines: the budget, line by line.
    """

    link: str
    source: str
    target: str
    transmitted_at: str
    open: bool
    light_time: float
    lines: tuple[BudgetItem, ...]


def explain_link(
    topology: Topology, title: str, start: str, time: float, *, base_dir: Path | None = None
) -> list[ExplainedDirection]:
    """Explain both directions of a link.

    Args:
        topology: nodes, radios and links.
        title: name of the link; its ends may be given in either order.
        start: UTC instant of mission time 0.
        time: mission seconds at which both ends transmit.
        base_dir: what paths of ephemeris files are relative to.

    Raises:
        InputError: when there is no such link, or the instant is outside the ephemeris.
    """
    links = {link.title: link for link in topology.links}
    if title not in links:
        backwards = {"--".join(link.between[::-1]): name for name, link in links.items()}
        title = backwards.get(title, title)
    if title not in links:
        raise InputError(f"there is no link {title!r}", remedy=f"there are {', '.join(links)}")
    link = links[title]
    sky = Sky.of(topology, start, base_dir)
    if link.wired is None:
        require_covered(sky.timeline, time - _MARGIN, time + _MARGIN)
    first, second = link.between
    return [_explain(sky, link, *ends, time) for ends in ((first, second), (second, first))]


def _explain(sky: Sky, link: Link, source: str, target: str, time: float) -> ExplainedDirection:
    budget = directed_budget(sky.topology, link, source, target)
    utc = sky.timeline.utc(time)
    if link.wired is not None:
        lines = budget.explain(link.wired.delay * LIGHT_SPEED)
        return ExplainedDirection(link.title, source, target, utc, True, link.wired.delay, tuple(lines))
    span = Span.over(sky, time - _STRETCH, time + _STRETCH)
    direction = _direction(span, budget)
    own = np.array([time])
    for _ in range(5):
        own = own + time - direction.sent(own, direction.sample(own).delay)
    sample = direction.sample(own)
    elevation = None if sample.elevation is None else float(sample.elevation[0])
    sep = None if sample.sep is None else float(sample.sep[0])
    windows = direction.windows()
    seen = bool(np.any((windows[:, 0] <= own[0]) & (own[0] <= windows[:, 1])))
    delay = float(sample.delay[0])
    lines = budget.explain(delay * LIGHT_SPEED, elevation, sep)
    return ExplainedDirection(link.title, source, target, utc, seen, delay, tuple(lines))


def _direction(span: Span, budget: DirectedBudget) -> Direction:
    if budget.source in span.sky.grounds or budget.target in span.sky.grounds:
        return EarthDirection(span, budget.source, budget.target, budget.sep)
    return LocalDirection(span, budget.source, budget.target)
