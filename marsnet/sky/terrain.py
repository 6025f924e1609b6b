"""Terrain masks: a horizon that rises and falls with azimuth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from marsnet.model.topology import TerrainPoint
from marsnet.sky.intervals import Array, nothing
from marsnet.sky.nodes import Span
from marsnet.sky.places import SurfacePoint
from marsnet.sky.search import positive_windows

_FINER = 16


def horizon(terrain: Sequence[TerrainPoint], azimuth: Array) -> Array:
    """Least elevation in degrees at azimuths in degrees; lines between the points, around the full circle."""
    points = sorted((point.azimuth % 360.0, point.elevation) for point in terrain)
    angles, heights = np.array(points).T
    return np.asarray(np.interp(azimuth % 360.0, angles, heights, period=360.0))


def clear_of_terrain(
    span: Span,
    name: str,
    terrain: Sequence[TerrainPoint],
    looking: Callable[[Array], tuple[Array, Array]],
    allowed: Array,
    step: float,
) -> Array:
    """The parts of the allowed windows, shape (n, 2), in which the line of sight is above a site's terrain.

    The horizon has corners, so it is sampled sixteen times finer than the motion and at every window on its own.

    Args:
        span: the stretch of time.
        name: the site.
        terrain: its horizon.
        looking: for instants of shape (n,), the vector in ICRF from the site to the other end, shape (3, n), and the
            instants at the site that belong to them: those of reception where the site receives.
        allowed: ordered, disjoint windows.
        step: seconds between samples that show the motion.
    """
    site = span.sky.places[name]
    if not isinstance(site, SurfacePoint):
        return allowed

    def clearance(time: Array) -> Array:
        vector, own = looking(time)
        tdb = span.tdb(own)
        motion = site.motion(tdb, span.rotation)
        assert motion.up is not None  # noqa: S101 - a site has a horizon
        rise = np.einsum("in,in->n", vector, motion.up) / np.linalg.norm(vector, axis=0)
        elevation = np.degrees(np.arcsin(np.clip(rise, -1.0, 1.0)))
        return np.asarray(elevation - horizon(terrain, site.azimuth(vector, tdb, span.rotation)))

    parts = [nothing()]
    for first, last in allowed:
        grid = np.linspace(first, last, max(int(_FINER * (last - first) / step), _FINER) + 1)
        parts.append(positive_windows(clearance, grid, clearance(grid)))
    return np.concatenate(parts)
