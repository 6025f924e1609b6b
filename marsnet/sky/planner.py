"""The contact planner: from a topology and an interval to the ContactPlan that everything else obeys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

import marsnet
from marsnet.errors import InputError
from marsnet.model.topology import Hub, Link, Site, Topology
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.sky.budget import DirectedBudget, directed_budget
from marsnet.sky.directions import BLOCKING_RADIUS, Direction, EarthDirection, LocalDirection
from marsnet.sky.ephemeris import require_covered
from marsnet.sky.nodes import Sky, Span
from marsnet.sky.profile import Profile
from marsnet.sky.ranges import RANGE_ERROR, light_time_lines
from marsnet.sky.rates import pieces_of_constant_rate

Progress = Callable[[float, float], None]
"""Called with the seconds done and the seconds in all."""

CHUNK = 1.44e6
"""Seconds of mission time that are planned at once: 16 sols."""
_LIGHT_MARGIN = 4500.0


class PlanChunk(NamedTuple):
    """A stretch of a plan.

    Attributes:
        start: mission seconds.
        end: mission seconds.
        contacts: those that start in the stretch, ordered by start.
        ranges: those that start in the stretch, ordered by start.
    """

    start: float
    end: float
    contacts: tuple[Contact, ...]
    ranges: tuple[Range, ...]


def plan_contacts(
    topology: Topology,
    start: str,
    duration: float,
    *,
    base_dir: Path | None = None,
    progress: Progress | None = None,
    range_error: float = RANGE_ERROR,
    blocking_radius: float = BLOCKING_RADIUS,
) -> ContactPlan:
    """Plan every contact of a topology's links, in memory.

    Args:
        topology: nodes, radios and links.
        start: UTC instant at which the plan begins, ISO 8601; mission time counts from it.
        duration: seconds.
        base_dir: what paths of ephemeris files are relative to; the working directory by default.
        progress: told how far planning has come.
        range_error: bound in seconds of what ranges differ from the light time.
        blocking_radius: sphere that lines between orbiters must clear, metres.

    Returns:
        Contacts and ranges at the transmitter, each ordered by start.

    Raises:
        InputError: when the interval is empty or outside the ephemeris, or a link cannot be planned.
    """
    contacts: list[Contact] = []
    ranges: list[Range] = []
    for chunk in stream_contacts(
        topology,
        start,
        duration,
        base_dir=base_dir,
        progress=progress,
        range_error=range_error,
        blocking_radius=blocking_radius,
    ):
        contacts += chunk.contacts
        ranges += chunk.ranges
    nodes = {name: node.number for name, node in topology.nodes.items()}
    meta = {
        "topology": topology.name,
        "generator": f"marsnet {marsnet.__version__}",
        "range_error": f"{range_error:g} s",
    }
    return ContactPlan(start, 0.0, float(duration), nodes, tuple(_joined(contacts)), tuple(ranges), meta)


def stream_contacts(
    topology: Topology,
    start: str,
    duration: float,
    *,
    base_dir: Path | None = None,
    progress: Progress | None = None,
    range_error: float = RANGE_ERROR,
    blocking_radius: float = BLOCKING_RADIUS,
) -> Iterator[PlanChunk]:
    """Plan as `plan_contacts` does, in chunks ordered by time, so that memory does not grow with the interval.

    A contact that crosses from one chunk into the next is whole; one that lasts through all of the next chunk is cut
    where it begins.

    Raises:
        InputError: as `plan_contacts` does, before the first chunk.
    """
    if not (math.isfinite(duration) and duration > 0):
        raise InputError(f"a duration of {duration:g} s leaves nothing to plan", remedy="give a positive duration")
    sky = Sky.of(topology, start, base_dir)
    links = [_PlannedLink.of(topology, link) for link in topology.links]
    if any(not link.wired for link in links):
        require_covered(sky.timeline, -_LIGHT_MARGIN, duration + _LIGHT_MARGIN)
    return _chunks(sky, links, float(duration), progress, range_error, blocking_radius)


class _PlannedLink(NamedTuple):
    """A link with the budgets of its two directions."""

    link: Link
    budgets: tuple[DirectedBudget, DirectedBudget]

    @property
    def wired(self) -> bool:
        return self.link.wired is not None

    @classmethod
    def of(cls, topology: Topology, link: Link) -> _PlannedLink:
        a, b = link.between
        if link.wired is None:
            _require_sky(topology, link)
        return cls(link, (directed_budget(topology, link, a, b), directed_budget(topology, link, b, a)))


def _require_sky(topology: Topology, link: Link) -> None:
    """Refuse radio links for which there is no geometry to plan by."""
    kinds = [topology.nodes[end] for end in link.between]
    remedy = "give the link 'wired' with delay and rate, or join other nodes"
    for name, node in zip(link.between, kinds, strict=True):
        if isinstance(node, Hub):
            raise InputError(f"radio link {link.title!r} ends at hub {name!r}, which has no position", remedy=remedy)
    if all(node.kind == "station" for node in kinds):
        raise InputError(f"radio link {link.title!r} joins two Earth stations", remedy=remedy)
    bodies = [node.body for node in kinds if isinstance(node, Site)]
    if len(bodies) == 2 and bodies[0] == bodies[1]:
        raise InputError(
            f"radio link {link.title!r} joins two sites on {bodies[0]}, which a straight line through the ground would",
            remedy=remedy,
        )


def _chunks(
    sky: Sky,
    links: list[_PlannedLink],
    duration: float,
    progress: Progress | None,
    range_error: float,
    blocking_radius: float,
) -> Iterator[PlanChunk]:
    count = max(math.ceil(duration / CHUNK - 1e-9), 1)
    bounds = np.linspace(0.0, duration, count + 1)
    held: PlanChunk | None = None
    for number in range(count):
        first, last = float(bounds[number]), float(bounds[number + 1])
        contacts: list[Contact] = []
        ranges: list[Range] = []
        if number == 0:
            _wires(links, duration, contacts, ranges)
        span = Span.over(sky, first, last)
        for link in links:
            if not link.wired:
                for budget in link.budgets:
                    direction = _direction(span, budget, blocking_radius)
                    _plan_direction(direction, budget, range_error, contacts, ranges)
        contacts.sort(key=lambda contact: contact.start)
        ranges.sort(key=lambda line: line.start)
        fresh = PlanChunk(first, last, tuple(contacts), tuple(ranges))
        if held is not None:
            held, fresh = _across(held, fresh)
            yield held
        held = fresh
        if progress is not None:
            progress(last, duration)
    assert held is not None  # noqa: S101 - there is at least one chunk
    yield held


def _wires(links: list[_PlannedLink], duration: float, contacts: list[Contact], ranges: list[Range]) -> None:
    for link in links:
        if link.link.wired is not None:
            for budget in link.budgets:
                rate = link.link.wired.rate
                contacts.append(Contact(budget.link, budget.source, budget.target, 0.0, duration, rate))
                ranges.append(Range(budget.source, budget.target, 0.0, duration, link.link.wired.delay))


def _direction(span: Span, budget: DirectedBudget, blocking_radius: float) -> Direction:
    if budget.source in span.sky.grounds or budget.target in span.sky.grounds:
        return EarthDirection(span, budget.source, budget.target, budget.sep)
    return LocalDirection(span, budget.source, budget.target, blocking_radius)


def _plan_direction(
    direction: Direction, budget: DirectedBudget, range_error: float, contacts: list[Contact], ranges: list[Range]
) -> None:
    windows = direction.windows()
    if not len(windows):
        return
    profile = Profile.of(direction, windows)
    names = budget.source, budget.target
    pieces = pieces_of_constant_rate(profile, budget)
    contacts += [
        Contact(budget.link, *names, *row) for row in zip(*(column.tolist() for column in pieces), strict=True)
    ]
    lines = light_time_lines(profile, range_error)
    ranges += [Range(*names, *row) for row in zip(*(column.tolist() for column in lines), strict=True)]


_TOUCH = 1e-6  # seconds; what rounding leaves between the two halves of a contact at a chunk's border


def _continues(earlier: Contact, later: Contact) -> bool:
    return abs(earlier.end - later.start) < _TOUCH and earlier.rate == later.rate


def _merged(earlier: Contact, later: Contact) -> Contact:
    return replace(earlier, end=later.end, ber=max(earlier.ber, later.ber), loss=max(earlier.loss, later.loss))


def _across(held: PlanChunk, fresh: PlanChunk) -> tuple[PlanChunk, PlanChunk]:
    """Join contacts over the border of two chunks, except those that last through all of the later one."""
    border = fresh.start
    opening = {
        (contact.link, contact.source): contact
        for contact in fresh.contacts
        if abs(contact.start - border) < _TOUCH and contact.end < fresh.end - _TOUCH
    }
    taken: set[int] = set()
    contacts = []
    for contact in held.contacts:
        rest = opening.get((contact.link, contact.source))
        if rest is not None and _continues(contact, rest):
            taken.add(id(rest))
            contacts.append(_merged(contact, rest))
        else:
            contacts.append(contact)
    if not taken:
        return held, fresh
    left = tuple(contact for contact in fresh.contacts if id(contact) not in taken)
    return held._replace(contacts=tuple(contacts)), fresh._replace(contacts=left)


def _joined(contacts: list[Contact]) -> list[Contact]:
    """Join contacts of one rate that a chunk's border cut."""
    result: list[Contact] = []
    newest: dict[tuple[str, str], int] = {}
    for contact in contacts:
        key = contact.link, contact.source
        place = newest.get(key)
        if place is not None and _continues(result[place], contact):
            result[place] = _merged(result[place], contact)
        else:
            newest[key] = len(result)
            result.append(contact)
    return result
