"""What a picture of a plan shows, apart from how it is drawn."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marsnet.clock import parse_utc
from marsnet.model.topology import Site, Topology
from marsnet.plan.types import ContactPlan
from marsnet.sky.ephemeris import coverage, position
from marsnet.sky.marsframe import equator_j2000
from marsnet.sky.nodes import Sky, Span
from marsnet.sky.places import OrbitingPoint
from marsnet.sky.timescale import Timeline
from marsnet.units import AU, SOL

Array = NDArray[np.float64]

RATE_CLASSES: tuple[tuple[float, str, str], ...] = (
    (1e3, "below 1 kbit/s", "#440154"),
    (1e4, "1 to 10 kbit/s", "#443983"),
    (1e5, "10 to 100 kbit/s", "#31688e"),
    (1e6, "0.1 to 1 Mbit/s", "#21918c"),
    (1e7, "1 to 10 Mbit/s", "#35b779"),
    (math.inf, "10 Mbit/s and more", "#90d743"),
)
"""Upper bound in bit/s, name and colour of the classes that contacts are drawn in (colours of viridis)."""
NODE_COLOURS = (
    "#1f77b4",
    "#d62728",
    "#2ca02c",
    "#9467bd",
    "#ff7f0e",
    "#17becf",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
)
_FAR = 1.0  # seconds of light time from which a pair counts as interplanetary
_TURN_SAMPLES = 361


def rate_class(rate: float) -> int:
    """Index of a rate's class."""
    return next(index for index, (bound, _, _) in enumerate(RATE_CLASSES) if rate < bound)


@dataclass(frozen=True)
class Lane:
    """One direction of a link as a row of a Gantt chart.

    Attributes:
        label: `source > target`.
        link: the link's name.
        source: transmitting node.
        bars: start and end in mission seconds, and rate class, of every contact; contacts that touch and have the same
            class are one bar.
    """

    label: str
    link: str
    source: str
    bars: tuple[tuple[float, float, int], ...]


def lanes(plan: ContactPlan) -> list[Lane]:
    """The plan's directions, both of a link beside each other, in the order of the plan's nodes."""
    rows: dict[str, dict[tuple[str, str], list[tuple[float, float, int]]]] = {}
    for contact in plan.contacts:
        bars = rows.setdefault(contact.link, {}).setdefault((contact.source, contact.target), [])
        shade = rate_class(contact.rate)
        if bars and bars[-1][2] == shade and contact.start - bars[-1][1] < 1.0:
            bars[-1] = bars[-1][0], contact.end, shade
        else:
            bars.append((contact.start, contact.end, shade))
    order = {name: index for index, name in enumerate(plan.nodes)}

    def rank(link: str) -> list[int]:
        return sorted(order[end] for end in next(iter(rows[link])))

    return [
        Lane(f"{source} > {target}", link, source, tuple(rows[link][source, target]))
        for link in sorted(rows, key=rank)
        for source, target in sorted(rows[link], key=lambda ends: order[ends[0]])
    ]


@dataclass(frozen=True)
class Curve:
    """A value of one direction over time, with NaN where there is none.

    Attributes:
        label: `source > target`.
        source: transmitting node.
        time: mission seconds, shape (n,).
        value: same shape.
    """

    label: str
    source: str
    time: Array
    value: Array


def light_time_curves(plan: ContactPlan) -> tuple[list[Curve], list[Curve]]:
    """Light times in seconds: between the planets, and around Mars. Wires, whose delay never changes, are left out."""
    pieces: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    for piece in plan.ranges:
        row = (piece.start, piece.end, piece.owlt, piece.at(piece.end))
        pieces.setdefault((piece.source, piece.target), []).append(row)
    far: list[Curve] = []
    near: list[Curve] = []
    for (source, target), rows in pieces.items():
        values = np.array(rows)
        if np.ptp(values[:, 2:]) == 0.0:
            continue
        time, value = _broken(values[:, 0], values[:, 1], values[:, 2], values[:, 3])
        curve = Curve(f"{source} > {target}", source, time, value)
        (far if np.max(values[:, 2]) >= _FAR else near).append(curve)
    return far, near


def rate_curves(plan: ContactPlan) -> list[Curve]:
    """Rates in bit/s of every direction that is not open all the time."""
    rows: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {}
    for contact in plan.contacts:
        if contact.start > plan.start or contact.end < plan.end:
            key = contact.link, contact.source, contact.target
            rows.setdefault(key, []).append((contact.start, contact.end, contact.rate))
    curves = []
    for (_, source, target), contacts in rows.items():
        values = np.array(contacts)
        time, value = _broken(values[:, 0], values[:, 1], values[:, 2], values[:, 2])
        curves.append(Curve(f"{source} > {target}", source, time, value))
    return curves


@dataclass(frozen=True)
class Panel:
    """Curves that share an axis.

    Attributes:
        title: what they show, with its unit.
        curves: in base units.
        unit: what base units are multiplied by.
        scale: `linear` or `log`.
    """

    title: str
    curves: list[Curve]
    unit: float
    scale: str


def panels(plan: ContactPlan) -> list[Panel]:
    """What is drawn over time below the contacts; panels without a curve are left out."""
    far, near = light_time_curves(plan)
    found = (
        Panel("light time between the planets, minutes", far, 1 / 60, "linear"),
        Panel("light time around Mars, milliseconds", near, 1e3, "linear"),
        Panel("rate, bit/s", rate_curves(plan), 1.0, "log"),
    )
    return [panel for panel in found if panel.curves]


def colours(plan: ContactPlan) -> dict[str, str]:
    """A colour for every node."""
    return dict(zip(plan.nodes, itertools.cycle(NODE_COLOURS), strict=False))


def _broken(start: Array, end: Array, first: Array, last: Array) -> tuple[Array, Array]:
    """Lines from (start, first) to (end, last), with a break where one does not begin where the one before ended."""
    time = np.stack([start, end, end], axis=1)
    value = np.stack([first, last, np.full(len(start), np.nan)], axis=1)
    keep = np.ones(time.shape, dtype=bool)
    keep[:-1, 2] = np.abs(start[1:] - end[:-1]) > 1.0
    return time[keep], value[keep]


def instants(plan: ContactPlan, time: Array | float) -> NDArray[np.datetime64]:
    """Mission seconds as UTC instants."""
    epoch = np.datetime64(_naive(parse_utc(plan.epoch)), "us")
    micro = np.round(np.asarray(time, dtype=np.float64) * 1e6).astype("timedelta64[us]")
    return np.asarray(epoch + micro)


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)


@dataclass(frozen=True)
class Track:
    """A node seen from above Mars' north pole, megametres along the axes of `mars-equator-j2000`.

    Attributes:
        name: the node.
        path: one turn, shape (2, n); empty for a site.
        place: where it is at the plan's start, shape (2,).
        site: whether it stands on Mars.
    """

    name: str
    path: Array
    place: Array
    site: bool


def tracks(plan: ContactPlan, topology: Topology, base_dir: Path) -> list[Track]:
    """Every node of the Mars side, at the plan's start and along one turn."""
    sky = Sky.of(topology, plan.epoch, base_dir)
    frame = equator_j2000().T / 1e6
    found = []
    for name, place in sky.places.items():
        pace = place.orbit.rates[2] if isinstance(place, OrbitingPoint) else place.fastest
        turn = 2 * math.pi / pace
        span = Span.over(sky, plan.start, plan.start + turn)
        time = plan.start + np.linspace(0.0, turn, _TURN_SAMPLES)
        path = (frame @ span.motion(name, time).place)[:2]
        node = topology.nodes[name]
        site = isinstance(node, Site) and node.body == "mars"
        found.append(Track(name, np.empty((2, 0)) if site else path, path[:, 0], site))
    return found


@dataclass(frozen=True)
class Planets:
    """Earth and Mars around the Sun from above the north pole of the ecliptic, astronomical units.

    Attributes:
        earth: one year, shape (2, n).
        mars: one year, shape (2, n).
        earth_at: at the plan's start and end, shape (2, 2), one column each.
        mars_at: the same.
    """

    earth: Array
    mars: Array
    earth_at: Array
    mars_at: Array


_YEARS = {"earth": 365.25636 * 86400.0, "mars": 668.5991 * SOL}
_OBLIQUITY = math.radians(84381.406 / 3600)  # of J2000, IAU 2006


def planets(plan: ContactPlan) -> Planets:
    """The planets around the plan's interval.

    Raises:
        InputError: when the interval is outside the ephemeris.
    """
    ends = Timeline.at(plan.epoch).tdb(np.array([plan.start, plan.end]))
    first, last = coverage()
    places = {}
    for body, year in _YEARS.items():
        begin = min(max(ends[0] - year / 2, first), last - year)
        places[body] = _heliocentric(body, begin + np.linspace(0.0, year, _TURN_SAMPLES))
    return Planets(places["earth"], places["mars"], _heliocentric("earth", ends), _heliocentric("mars", ends))


def _heliocentric(body: str, tdb: Array) -> Array:
    x, y, z = position("earth" if body == "earth" else "mars", tdb) - position("sun", tdb)
    return np.stack([x, y * math.cos(_OBLIQUITY) + z * math.sin(_OBLIQUITY)]) / AU
