"""The contact planner: from a topology and an interval to the ContactPlan that everything else obeys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

import marsnet
from marsnet.errors import InputError
from marsnet.model.topology import Link, Site, Topology
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.sky.budget import directed_budget
from marsnet.sky.directions import BLOCKING_RADIUS
from marsnet.sky.ephemeris import require_covered
from marsnet.sky.intervals import Array
from marsnet.sky.nodes import Sky
from marsnet.sky.ranges import RANGE_ERROR, Lines
from marsnet.sky.rates import Levels, Pieces
from marsnet.sky.stretch import Carrier, Job, Pair, Stretch, plan_stretches
from marsnet.sky.timescale import Timeline

Progress = Callable[[float, float], None]
"""Called with the seconds done and the seconds in all."""

CHUNK = 2.16e6
"""Seconds of mission time that are planned at once, 24 sols: fewer take longer, more take memory in each process."""
_DECIMALS = 6
"""Of times and light times in a plan, seconds: microseconds, far below what the orbits themselves are good for."""
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
    pairs = _pairs(topology)
    check_covered(topology, start, duration)
    job = Job(sky, pairs, range_error, blocking_radius)
    return _chunks(topology, job, float(duration), progress)


def check_covered(topology: Topology, start: str, duration: float) -> None:
    """Refuse an interval that cannot be planned because the ephemeris does not reach so far.

    Args:
        topology: without radio links it may be any.
        start: UTC instant, ISO 8601.
        duration: seconds.

    Raises:
        InputError: naming the instant and the years that are covered.
    """
    if any(link.wired is None for link in topology.links):
        require_covered(Timeline.at(start), -_LIGHT_MARGIN, duration + _LIGHT_MARGIN)


def _pairs(topology: Topology) -> tuple[Pair, ...]:
    """The directions of all radio links; those between the same radios share what is known of their budget."""
    shared: dict[tuple[int, int, float | None, int], Levels] = {}
    carriers: dict[tuple[str, str], list[Carrier]] = {}
    for link in topology.links:
        if link.wired is not None:
            continue
        _require_sky(topology, link)
        for source, target in (link.between, link.between[::-1]):
            budget = directed_budget(topology, link, source, target)
            key = id(budget.transmitter), id(budget.receiver), budget.fixed, id(budget.sep)
            levels = shared.setdefault(key, Levels(budget))
            carriers.setdefault((source, target), []).append(Carrier(link.title, levels))
    return tuple(Pair(*ends, tuple(served)) for ends, served in carriers.items())


def _require_sky(topology: Topology, link: Link) -> None:
    """Refuse a radio link along the ground, which elevation masks would keep shut for ever."""
    bodies = [node.body for node in map(topology.nodes.__getitem__, link.between) if isinstance(node, Site)]
    if len(bodies) == 2 and bodies[0] == bodies[1]:
        raise InputError(
            f"radio link {link.title!r} joins two sites on {bodies[0]}: the planner knows no relief between them",
            remedy="give the link 'wired' with delay and rate",
        )


def _chunks(topology: Topology, job: Job, duration: float, progress: Progress | None) -> Iterator[PlanChunk]:
    count = max(math.ceil(duration / CHUNK - 1e-9), 1)
    bounds = [float(bound) for bound in np.linspace(0.0, duration, count + 1)]
    held: PlanChunk | None = None
    for first, last, stretch in zip(bounds[:-1], bounds[1:], plan_stretches(job, bounds), strict=True):
        contacts, ranges = _contacts(stretch, (first, last)), _ranges(stretch, (first, last))
        if held is None:
            wires = list(_wires(topology, duration))
            contacts, ranges = [wire[0] for wire in wires] + contacts, [wire[1] for wire in wires] + ranges
        fresh = PlanChunk(first, last, tuple(contacts), tuple(ranges))
        if held is not None:
            held, fresh = _across(held, fresh)
            yield held
        held = fresh
        if progress is not None:
            progress(last, duration)
    if held is not None:
        yield held


def _wires(topology: Topology, duration: float) -> Iterator[tuple[Contact, Range]]:
    for link in topology.links:
        if link.wired is not None:
            for source, target in (link.between, link.between[::-1]):
                yield (
                    Contact(link.title, source, target, 0.0, duration, link.wired.rate),
                    Range(source, target, 0.0, duration, link.wired.delay),
                )


def _contacts(stretch: Stretch, bounds: tuple[float, float]) -> list[Contact]:
    """The contacts of a stretch, ordered by start."""
    names = [part[:3] for part in stretch.contacts]
    rounded = []
    for *_, pieces in stretch.contacts:
        start, end = _rounded(pieces.start, bounds), _rounded(pieces.end, bounds)
        rounded.append(Pieces(*(column[end > start] for column in pieces._replace(start=start, end=end))))
    owner, rows = _ordered(rounded)
    return [Contact(*names[which], *row) for which, row in zip(owner, rows, strict=True)]


def _ranges(stretch: Stretch, bounds: tuple[float, float]) -> list[Range]:
    names = [part[:2] for part in stretch.ranges]
    rounded = []
    for _, _, lines in stretch.ranges:
        start, end = _rounded(lines.start, bounds), _rounded(lines.end, bounds)
        # A slope is what leads from one rounded light time to the other.
        until = (lines.delay + lines.slope * (lines.end - lines.start)).round(_DECIMALS)
        delay, some = lines.delay.round(_DECIMALS), end > start
        start, end, delay, until = start[some], end[some], delay[some], until[some]
        rounded.append(Lines(start, end, delay, (until - delay) / (end - start)))
    owner, rows = _ordered(rounded)
    return [Range(*names[which], *row) for which, row in zip(owner, rows, strict=True)]


def _rounded(times: Array, bounds: tuple[float, float]) -> Array:
    """Times to the microsecond, unless they are the bounds of the stretch.

    The last digits of a sum depend on the processor and on the library that adds; a plan must not.
    """
    return np.where(np.isin(times, bounds), times, times.round(_DECIMALS))


def _ordered(parts: Sequence[tuple[Array, ...]]) -> tuple[list[int], Iterator[tuple[float, ...]]]:
    """Rows of several tables of columns, ordered by the first column, and the table that each comes from."""
    if not parts:
        return [], iter(())
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    owner = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])[order]
    return owner.tolist(), zip(*(column[order].tolist() for column in columns), strict=True)


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
