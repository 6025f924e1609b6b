"""Passes: when an orbiter is above a site's horizon mask, by geometry alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from marsnet.errors import InputError
from marsnet.model.topology import Site, Topology
from marsnet.sky.ephemeris import require_covered
from marsnet.sky.intervals import Array, intersect, nothing, union
from marsnet.sky.nodes import Sky, Span, step_for
from marsnet.sky.places import Motion
from marsnet.sky.search import positive_windows
from marsnet.sky.terrain import clear_of_terrain

_CHUNK = 2.88e6  # seconds
_TOUCH = 1e-3
_SAMPLES = 17  # of a window in each round of the search for its best instant


@dataclass(frozen=True)
class Pass:
    """One passage of an orbiter above a site's mask.

    Attributes:
        start: mission seconds since the interval's start; 0 when it was already above.
        end: mission seconds; the interval's end when it is still above.
        rise: UTC of `start`.
        set: UTC of `end`.
        highest_deg: greatest elevation, degrees.
        nearest_m: least distance, metres.
    """

    start: float
    end: float
    rise: str
    set: str
    highest_deg: float
    nearest_m: float

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.end - self.start


def passes(
    topology: Topology,
    site: str,
    orbiter: str,
    start: str,
    duration: float,
    *,
    mask_deg: float | None = None,
    base_dir: Path | None = None,
) -> list[Pass]:
    """Every pass of an orbiter over a site.

    Both are taken at the same instant, as almanacs do; a contact plan shifts the edges by the light time.

    Args:
        topology: the nodes.
        site: a site.
        orbiter: an orbiter, or a site on a moon.
        start: UTC instant at which the interval begins, ISO 8601.
        duration: its seconds.
        mask_deg: least elevation; by default the site's mask for reception. Its terrain counts as well.
        base_dir: what paths of ephemeris files are relative to.

    Raises:
        InputError: when a name is no such node, or the interval is empty or outside the ephemeris.
    """
    node = topology.nodes.get(site)
    if not isinstance(node, Site):
        sites = [name for name, other in topology.nodes.items() if isinstance(other, Site)]
        raise InputError(f"{site!r} is no site", remedy=f"name one of the topology ({', '.join(sites) or 'none'})")
    if not (math.isfinite(duration) and duration > 0):
        raise InputError(f"a duration of {duration:g} s holds no passes", remedy="give a positive duration")
    sky = Sky.of(topology, start, base_dir)
    sky.place(orbiter)
    if site == orbiter:
        raise InputError(f"{site!r} does not pass over itself", remedy="name an orbiter")
    require_covered(sky.timeline, 0.0, duration + 7200.0)
    mask = node.mask.receive if mask_deg is None else mask_deg
    count = max(math.ceil(duration / _CHUNK), 1)
    bounds = np.linspace(0.0, duration, count + 1)
    found, details = [nothing()], []
    for first, last in pairwise(bounds):
        span = Span.over(sky, float(first), float(last))
        windows = _windows(span, node, site, orbiter, mask)
        found.append(windows)
        details += _best(span, site, orbiter, windows) if len(windows) else []
    pieces = np.concatenate(found)
    merged = union(np.stack([pieces[:, 0], pieces[:, 1] + _TOUCH], axis=1)) if len(pieces) else nothing()
    result = []
    for first, last in merged:
        parts = [best for best, piece in zip(details, pieces, strict=True) if first <= piece[0] < last]
        end = float(last) - _TOUCH
        rise, set_ = sky.timeline.utc(float(first)), sky.timeline.utc(end)
        highest, nearest = max(part[0] for part in parts), min(part[1] for part in parts)
        result.append(Pass(float(first), end, rise, set_, highest, nearest))
    return result


def _windows(span: Span, node: Site, site: str, orbiter: str, mask_deg: float) -> Array:
    sine = math.sin(math.radians(mask_deg))

    def above(ground: Motion, craft: Motion) -> Array:
        apart = craft.place - ground.place
        assert ground.up is not None  # noqa: S101 - a site has a horizon
        return np.asarray(np.einsum("in,in->n", apart, ground.up) - sine * np.linalg.norm(apart, axis=0))

    def function(time: Array) -> Array:
        return above(span.motion(site, time), span.motion(orbiter, time))

    step = min(step_for(span.sky.places[orbiter], sine), step_for(span.sky.places[site]))
    stride = span.stride(step)
    values = above(span.on_grid(site, stride), span.on_grid(orbiter, stride))
    windows = positive_windows(function, span.grid[::stride], values)
    windows = intersect(windows, np.array([[span.first, span.last]]))
    if not node.terrain:
        return windows

    def looking(time: Array) -> tuple[Array, Array]:
        return span.motion(orbiter, time).place - span.motion(site, time).place, time

    return clear_of_terrain(span, site, node.terrain, looking, windows, step)


def _best(span: Span, site: str, orbiter: str, windows: Array) -> list[tuple[float, float]]:
    """Greatest elevation in degrees and least distance in metres of each window, by ever finer samples."""
    parts = np.linspace(0.0, 1.0, _SAMPLES)

    def look(time: Array) -> tuple[Array, Array]:
        flat = time.reshape(-1)
        ground, craft = span.motion(site, flat), span.motion(orbiter, flat)
        apart = craft.place - ground.place
        distance = np.sqrt(np.einsum("in,in->n", apart, apart))
        assert ground.up is not None  # noqa: S101 - a site has a horizon
        rise = np.einsum("in,in->n", apart, ground.up) / distance
        return rise.reshape(time.shape), distance.reshape(time.shape)

    results = []
    for which, sign in ((0, 1.0), (1, -1.0)):
        low, width = windows[:, 0], windows[:, 1] - windows[:, 0]
        while True:
            values = sign * look(low[:, None] + width[:, None] * parts)[which]
            best = np.argmax(values, axis=1)
            if np.max(width) < 0.1:
                results.append(sign * np.max(values, axis=1))
                break
            first = np.maximum(best - 1, 0)
            low, width = low + width * parts[first], width * (parts[np.minimum(best + 1, _SAMPLES - 1)] - parts[first])
    highest = np.degrees(np.arcsin(np.minimum(results[0], 1.0)))
    return list(zip(highest.tolist(), results[1].tolist(), strict=True))
