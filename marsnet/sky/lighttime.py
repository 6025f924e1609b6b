"""Light time between two bodies or nodes at a given instant of transmission or reception."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from marsnet.errors import InputError
from marsnet.model.topology import Hub, Station, Topology
from marsnet.sky.earthframe import EarthRotation
from marsnet.sky.ephemeris import LIGHT_SPEED, position, require_covered
from marsnet.sky.intervals import Array
from marsnet.sky.marsframe import Rotation
from marsnet.sky.nodes import Sky
from marsnet.sky.timescale import Timeline

BODIES = ("earth", "mars")
"""Names that need no topology: the geocentre, and the barycentre of Mars' system."""
_MARGIN = 3000.0


def signal_ends(a: str, b: str, *, received: bool, at: str | None, topology: Topology | None) -> tuple[str, str]:
    """Source and target of a signal between two ends of which the instant at one is known.

    Args:
        a: an end.
        b: the other end.
        received: the instant is that of reception. It holds at the end on Earth, as Earth-received time does, in
            whatever order the ends are given; at `b` when neither or both are on Earth. That of transmission holds
            at `a`.
        at: the end at which it holds instead.
        topology: the nodes.

    Raises:
        InputError: when `at` is neither of the ends.
    """
    if at is None:
        at = a
        if received:
            at = a if _on_earth(a, topology) and not _on_earth(b, topology) else b
    elif at not in (a, b):
        raise InputError(f"{at!r} is no end of the signal", remedy=f"name {a} or {b}")
    other = b if at == a else a
    return (other, at) if received else (at, other)


def _on_earth(name: str, topology: Topology | None) -> bool:
    return name == "earth" or (topology is not None and isinstance(topology.nodes.get(name), Station))


def light_time(
    a: str,
    b: str,
    *,
    received_at: str | None = None,
    transmitted_at: str | None = None,
    topology: Topology | None = None,
    base_dir: Path | None = None,
) -> float:
    """Seconds that a signal needs from `a` to `b`.

    Args:
        a: where it is transmitted: `earth`, `mars` or a node of the topology.
        b: where it is received.
        received_at: UTC instant of reception, ISO 8601.
        transmitted_at: UTC instant of transmission; give exactly one of the two.
        topology: the nodes; a node may not be called like a body.
        base_dir: what paths of ephemeris files are relative to.

    Raises:
        InputError: when a name is unknown, the instants are not exactly one, or it lies outside the ephemeris.
    """
    instant = received_at if received_at is not None else transmitted_at
    if instant is None or (received_at is not None and transmitted_at is not None):
        raise InputError(
            "a light time needs one instant", remedy="give either the instant of reception or that of transmission"
        )
    timeline = Timeline.at(instant)
    require_covered(timeline, -_MARGIN, _MARGIN)
    places = _Barycentric(timeline, None if topology is None else Sky.of(topology, instant, base_dir))
    zero = np.zeros(1)
    if received_at is not None:
        fixed, moving, sign = places.at(b, zero), a, -1.0
    else:
        fixed, moving, sign = places.at(a, zero), b, 1.0
    delay = zero
    for _ in range(20):
        newer = np.linalg.norm(places.at(moving, sign * delay) - fixed, axis=0) / LIGHT_SPEED
        change = float(np.abs(newer - delay)[0])
        delay = newer
        if change < 1e-10:
            break
    return float(delay[0])


class _Barycentric:
    """Positions relative to the barycentre of the solar system near mission time 0."""

    def __init__(self, timeline: Timeline, sky: Sky | None) -> None:
        self.timeline, self.sky = timeline, sky

    def at(self, name: str, time: Array) -> Array:
        """Metres along ICRF, shape (3, n), at mission seconds, shape (n,)."""
        tdb = self.timeline.tdb(time)
        if name in BODIES:
            return position("earth" if name == "earth" else "mars", tdb)
        if self.sky is not None and name in self.sky.grounds:
            rotation = EarthRotation.over(self.timeline, -_MARGIN, _MARGIN)
            return position("earth", tdb) + rotation.carry(self.sky.grounds[name], time)[0]
        if self.sky is not None and name in self.sky.places:
            rotation_of_mars = Rotation.over(float(tdb[0]) - _MARGIN, float(tdb[0]) + _MARGIN)
            return position("mars", tdb) + self.sky.places[name].motion(tdb, rotation_of_mars).place
        raise self._unknown(name)

    def _unknown(self, name: str) -> InputError:
        if self.sky is None:
            return InputError(f"{name!r} is no body", remedy="name earth or mars, or give a topology with that node")
        if isinstance(self.sky.topology.nodes.get(name), Hub):
            return InputError(
                f"hub {name!r} has no position", remedy="name a station, a site, an orbiter, earth or mars"
            )
        known = ", ".join([*BODIES, *self.sky.grounds, *self.sky.places])
        return InputError(f"{name!r} is no body and no node", remedy=f"name one of {known}")
