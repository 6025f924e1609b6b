"""Who exists: nodes, orbits, radios and the links between them, as a topology file declares them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from marsnet.model.bundles import BundleSettings
from marsnet.model.daemon import Protocol
from marsnet.model.document import Document, read_document
from marsnet.model.expressions import Scalar
from marsnet.model.mistakes import build
from marsnet.model.quantities import (
    Angle,
    Duration,
    Length,
    Rate,
    Size,
    Strict,
    Utc,
    misplaced,
)
from marsnet.model.radio import Band, Radio
from marsnet.model.templates import unknown_setting

NAME = r"^[a-z][a-z0-9_-]{0,30}$"
Name = Annotated[str, Field(pattern=NAME)]
ServiceClassName = Literal["critical", "expedited", "normal", "bulk"]
MARS_EQUATORIAL_RADIUS = 3_396_190.0
_LEAST_RADIUS, _MOST_RADIUS = 6.2e6, 7.4e6  # metres from the centre of the Earth


class Mask(Strict):
    """Least elevation for each direction, degrees, as seen from this node."""

    receive: Angle = Field(default=10.0, ge=-90, le=90)
    transmit: Angle = Field(default=10.0, ge=-90, le=90)


class TerrainPoint(Strict):
    """One point of a horizon: least elevation at an azimuth (clockwise from north)."""

    azimuth: Angle = Field(ge=-360, le=360)
    elevation: Angle = Field(ge=-90, le=90)


OWN_IMAGE = "marsnet/node"
"""Image of a node that names none of its own: marsnet's, or that of its daemon."""


class Container(Strict):
    """Limits of the container that runs a node in the emulated world and the warp world."""

    image: str = OWN_IMAGE
    cpus: float | None = Field(default=None, gt=0)
    memory: Size | None = None
    pids: int | None = Field(default=None, gt=0)


class Daemon(Strict):
    """Somebody else's bundle node in place of ours, in the emulated world and the warp world."""

    template: str = Field(min_length=1, description="a folder under services/foreign, or a path with a '/' in it")
    convergence: Protocol | None = Field(
        default=None, description="protocol towards its neighbours; by default the first that the template offers"
    )
    settings: dict[str, Scalar] = Field(default_factory=dict, description="what the template reads as 'settings'")


class NodeBase(Strict):
    """What every node has."""

    number: int = Field(ge=1, le=2**32 - 1, description="ipn node number (RFC 9758)")
    description: str = ""
    radios: tuple[str, ...] = ()
    storage: Size = Field(default=2e9, description="quota of the bundle store")
    container: Container = Container()
    daemon: Daemon | None = None


class Hub(NodeBase):
    """A place on Earth without motion, reached by wire: mission control, a cloud region."""

    kind: Literal["hub"]


class Station(NodeBase):
    """An Earth station, by ITRF coordinates or geodetic ones (WGS 84)."""

    kind: Literal["station"]
    itrf: tuple[Length, Length, Length] | None = None
    latitude: Angle | None = Field(default=None, ge=-90, le=90)
    longitude: Angle | None = Field(default=None, ge=-360, le=360)
    altitude: Length = Field(default=0.0, ge=-1e4, le=1e6)
    mask: Mask = Mask()

    @model_validator(mode="after")
    def _one_position(self) -> Self:
        if (self.itrf is None) == (self.latitude is None or self.longitude is None):
            raise ValueError("a station needs one position; give either 'itrf' or 'latitude' and 'longitude'")
        if self.itrf is not None and not _LEAST_RADIUS < math.hypot(*self.itrf) < _MOST_RADIUS:
            raise misplaced(
                f"the station is {math.hypot(*self.itrf) / 1e3:.1f} km from the centre of the Earth",
                "give ITRF coordinates in metres or kilometres, near the surface (6371 km)",
                "itrf",
            )
        return self


class Site(NodeBase):
    """A place on the surface of Mars (geodetic, IAU 2015 spheroid), Phobos or Deimos."""

    kind: Literal["site"]
    body: Literal["mars", "phobos", "deimos"] = "mars"
    latitude: Angle = Field(ge=-90, le=90)
    longitude: Angle = Field(ge=-360, le=360)
    altitude: Length = 0.0
    mask: Mask = Mask()
    terrain: tuple[TerrainPoint, ...] = ()


def _known_frame(value: object) -> object:
    if value != "mars-equator-j2000":
        raise ValueError(
            f"unknown frame {value!r}; convert elements to 'mars-equator-j2000' (z along the pole of Mars at J2000, x"
            " along the ascending node of that equator on the ICRF equator)"
        )
    return value


def _mean_elements(value: object) -> object:
    if value != "mean":
        raise ValueError(
            f"{value!r} elements; convert them to mean elements, or give the orbit as an 'ephemeris' (OEM or SPK file)"
        )
    return value


class MeanElements(Strict):
    """Mean Keplerian elements; secular J2 rates are applied to node, argument of periapsis and mean anomaly.

    The frame `mars-equator-j2000` has its z axis along the pole of Mars at J2000 and its x axis along the ascending
    node of that equator on the ICRF equator.
    """

    frame: Annotated[Literal["mars-equator-j2000"], BeforeValidator(_known_frame)]
    elements: Annotated[Literal["mean"], BeforeValidator(_mean_elements)]
    epoch: Utc
    semi_major_axis: Length
    eccentricity: float = Field(ge=0, lt=1)
    inclination: Angle = Field(ge=0, le=180)
    node: Angle
    periapsis: Angle
    anomaly: Angle = Field(description="mean anomaly at the epoch")

    @model_validator(mode="after")
    def _above_surface(self) -> Self:
        periapsis = self.semi_major_axis * (1 - self.eccentricity)
        if periapsis <= MARS_EQUATORIAL_RADIUS:
            raise misplaced(
                f"the periapsis radius of {periapsis / 1e3:.1f} km is below the surface of Mars "
                f"({MARS_EQUATORIAL_RADIUS / 1e3:.2f} km)",
                "raise semi_major_axis or lower eccentricity",
                "semi_major_axis",
            )
        return self


class Areostationary(Strict):
    """A fixed longitude above the equator at the areostationary radius."""

    longitude: Angle = Field(ge=-360, le=360)
    radius: Length = 20_428_000.0

    @model_validator(mode="after")
    def _above_surface(self) -> Self:
        if self.radius <= MARS_EQUATORIAL_RADIUS:
            raise misplaced(
                f"the radius of {self.radius / 1e3:.1f} km is below the surface of Mars "
                f"({MARS_EQUATORIAL_RADIUS / 1e3:.2f} km)",
                "give the distance from the centre of Mars, about 20428 km",
                "radius",
            )
        return self


class Ephemeris(Strict):
    """An orbit from a file: a CCSDS OEM, or a target of an SPK kernel. The path is relative to the topology file."""

    oem: Path | None = None
    spk: Path | None = None
    target: int | None = Field(default=None, description="SPK target id")

    @model_validator(mode="after")
    def _one_file(self) -> Self:
        if (self.oem is None) == (self.spk is None):
            raise ValueError("an ephemeris needs one file; give either 'oem' or 'spk' with 'target'")
        if self.spk is not None and self.target is None:
            raise ValueError("an SPK kernel holds several targets; give 'target'")
        return self


class Orbiter(NodeBase):
    """A spacecraft in orbit around Mars."""

    kind: Literal["orbiter"]
    orbit: MeanElements | None = None
    areostationary: Areostationary | None = None
    ephemeris: Ephemeris | None = None

    @model_validator(mode="after")
    def _one_orbit(self) -> Self:
        if sum(part is not None for part in (self.orbit, self.areostationary, self.ephemeris)) != 1:
            raise ValueError("an orbiter needs one motion; give one of 'orbit', 'areostationary' and 'ephemeris'")
        return self


Node = Annotated[Hub | Station | Site | Orbiter, Field(discriminator="kind")]


class Wire(Strict):
    """A terrestrial connection that is always there."""

    delay: Duration
    rate: Rate


class ClassLimit(Strict):
    """Bounds of one class's transmit queue."""

    size: Size | None = None
    frames: int | None = Field(default=None, gt=0)
    weight: int = Field(default=1, gt=0)


class Queue(Strict):
    """How a transmitter queues frames by class, in each direction of a link."""

    policy: Literal["strict", "weighted"] = "strict"
    outage: Literal["hold", "drop"] = "hold"
    limits: dict[ServiceClassName, ClassLimit] = Field(default_factory=dict)


class Link(Strict):
    """Two nodes that may talk, by radio when geometry allows or by wire always."""

    between: tuple[str, str]
    name: Name | None = None
    wired: Wire | None = None
    band: Band | None = Field(default=None, description="the band to use where the ends share several")
    rate: Rate | None = Field(default=None, description="a fixed rate for both directions, in place of link budgets")
    mtu: int = Field(default=1500, ge=576, le=9000)
    queue: Queue = Queue()

    @property
    def title(self) -> str:
        """The link's name; by default its two ends."""
        return self.name or "--".join(self.between)


class SepLimit(Strict):
    """How a band degrades near the Sun: nothing passes below `cut`, nothing is lost above `clear`.

    Between the two angles the rate falls linearly to zero, and frames are lost with a probability that rises linearly
    to `loss`.
    """

    cut: Angle = Field(ge=0, le=180)
    clear: Angle = Field(ge=0, le=180)
    loss: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.clear < self.cut:
            raise misplaced(f"clear at {self.clear:g} deg is below cut at {self.cut:g} deg", "swap them", "clear")
        return self


class Track(Strict):
    """Booked time of an Earth station, optionally for one spacecraft."""

    station: str
    spacecraft: str | None = None
    start: Utc
    end: Utc

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise misplaced(f"the track ends at {self.end}, before it starts", f"give an end after {self.start}", "end")
        return self


class Topology(Strict):
    """A topology file."""

    marsnet: Literal["topology/1"]
    name: Name
    description: str = ""
    parameters: dict[str, Scalar] = Field(default_factory=dict, description="values that '${name}' stands for")
    radios: dict[str, Radio] = Field(default_factory=dict)
    nodes: dict[Name, Node]
    links: tuple[Link, ...] = Field(min_length=1)
    sep: dict[Band, SepLimit] = Field(default_factory=dict, description="by band")
    tracks: tuple[Track, ...] | None = Field(default=None, description="without a list, all visible time is booked")
    bundles: BundleSettings = Field(default=BundleSettings(), description="what every node does with bundles")

    @model_validator(mode="after")
    def _references(self) -> Self:
        self._check_nodes()
        for group, members in self.bundles.groups.items():
            for position, member in enumerate(members):
                if member not in self.nodes:
                    raise misplaced(
                        f"group {group!r} names unknown node {member!r}",
                        f"declare it under 'nodes' ({_there_are(self.nodes)})",
                        *("bundles", "groups", group, position),
                    )
        titles: set[str] = set()
        for index, link in enumerate(self.links):
            self._check_link(index, link)
            if link.title in titles:
                raise misplaced(
                    f"there are two links named {link.title!r}", "remove one or give it a 'name'", "links", index
                )
            titles.add(link.title)
        for index, track in enumerate(self.tracks or ()):
            self._check_track(index, track)
        return self

    def _check_nodes(self) -> None:
        numbers: dict[int, str] = {}
        for name, node in self.nodes.items():
            if node.number in numbers:
                raise misplaced(
                    f"nodes {numbers[node.number]!r} and {name!r} share number {node.number}",
                    "change one",
                    *("nodes", name, "number"),
                )
            numbers[node.number] = name
            for position, radio in enumerate(node.radios):
                if radio not in self.radios:
                    raise misplaced(
                        f"node {name!r} names unknown radio {radio!r}",
                        f"declare it under 'radios' ({_there_are(self.radios)})",
                        *("nodes", name, "radios", position),
                    )

    def _check_link(self, index: int, link: Link) -> None:
        place = ("links", index)
        for position, end in enumerate(link.between):
            if end not in self.nodes:
                raise misplaced(
                    f"link {link.title!r} names unknown node {end!r}",
                    f"declare it under 'nodes' ({_there_are(self.nodes)})",
                    *(*place, "between", position),
                )
        if link.between[0] == link.between[1]:
            raise misplaced(f"link {link.title!r} joins a node to itself", "name two nodes", *place, "between")
        planets = [_ground(self.nodes[end]) for end in link.between]
        if link.wired is not None:
            if None in planets or planets[0] != planets[1]:
                raise misplaced(
                    f"link {link.title!r} is a wire but its ends are not on the ground of one body",
                    "remove 'wired'; a radio link needs radios of one band at both ends",
                    *(*place, "wired"),
                )
            return
        if planets == ["earth", "earth"]:
            raise misplaced(
                f"link {link.title!r} joins two nodes on Earth without a wire",
                "give it 'wired: {delay: 20 ms, rate: 1 Gbit/s}'",
                *(*place, "between"),
            )
        if any(isinstance(self.nodes[end], Hub) for end in link.between):
            raise misplaced(
                f"link {link.title!r} joins a hub, which has no antenna, to Mars",
                "join a station to Mars, and the hub to that station by wire",
                *(*place, "between"),
            )
        try:
            names = self.link_radios(link)
        except ValueError as error:
            problem, _, remedy = str(error).partition("; ")
            raise misplaced(problem, remedy, *place) from None
        bands = set.intersection(*({self.radios[r].band for r in self.nodes[end].radios} for end in link.between))
        if link.band is None and len(bands) > 1:
            raise misplaced(
                f"the ends of link {link.title!r} share the bands {', '.join(sorted(bands))}",
                f"choose one: 'band: {min(bands)}'",
                *place,
            )
        for sender, receiver in (names, names[::-1]) if link.rate is None else ():
            if self.radios[sender].has_budget and not self.radios[receiver].receives_by_budget:
                raise misplaced(
                    f"radio {receiver!r} has no receiver for the budget of link {link.title!r}",
                    "give it 'gt', or 'gain' and 'noise_temperature', or give the link a 'rate'",
                    *("radios", receiver),
                )

    def _check_track(self, index: int, track: Track) -> None:
        if not isinstance(self.nodes.get(track.station), Station):
            stations = [name for name, node in self.nodes.items() if isinstance(node, Station)]
            raise misplaced(
                f"the track's station {track.station!r} is no station",
                f"name a node of kind station ({_there_are(stations)})",
                *("tracks", index, "station"),
            )
        if track.spacecraft is not None and track.spacecraft not in self.nodes:
            raise misplaced(
                f"the track names unknown node {track.spacecraft!r}",
                f"declare it under 'nodes' ({_there_are(self.nodes)})",
                *("tracks", index, "spacecraft"),
            )

    def link_radios(self, link: Link) -> tuple[str, str]:
        """The names of the radios that a link uses, in the order of its ends.

        Raises:
            ValueError: when the ends have no common band.
        """
        first, second = (self.nodes[end].radios for end in link.between)
        for a in first:
            for b in second:
                band = self.radios[a].band
                if band == self.radios[b].band and link.band in (None, band):
                    return a, b
        wanted = f"band {link.band}" if link.band else "common band"
        bands = [
            ", ".join(sorted({self.radios[r].band for r in self.nodes[end].radios})) or "no radio"
            for end in link.between
        ]
        raise ValueError(
            f"the ends of link {link.title!r} have no {wanted}: {link.between[0]} has {bands[0]}, "
            f"{link.between[1]} has {bands[1]}; give both a radio of one band"
        )


def _there_are(names: Iterable[str]) -> str:
    return f"there are {', '.join(names) or 'none'}"


def _ground(node: Hub | Station | Site | Orbiter) -> str | None:
    """The body on whose ground a node stands."""
    if isinstance(node, Site):
        return node.body
    return None if isinstance(node, Orbiter) else "earth"


def load_topology(path: str | Path, settings: Mapping[str, object] | None = None) -> Topology:
    """Read and validate a topology file.

    Args:
        path: of the file.
        settings: values of parameters, in place of those that it declares.

    Raises:
        InputError: with file, line, value and remedy.
    """
    document = read_document(path, settings)
    for name in settings or {}:
        if name not in document.parameters:
            raise unknown_setting(name, document.parameters.values())
    return build_topology(document)


def build_topology(document: Document) -> Topology:
    """The topology that a document holds.

    Raises:
        InputError: with file, line, value and remedy.
    """
    topology = build(Topology, document)
    for name in document.parameters.values():
        if name not in document.parameters.used:
            raise document.error(
                ("parameters", name),
                f"nothing uses parameter {name!r}",
                "write '${" + name + "}' somewhere, or remove it",
            )
    nodes = dict(topology.nodes)
    for name, node in topology.nodes.items():
        if isinstance(node, Orbiter) and node.ephemeris is not None:
            moved = {
                key: document.beside(("nodes", name, "ephemeris", key), path)
                for key in ("oem", "spk")
                if (path := getattr(node.ephemeris, key)) is not None
            }
            nodes[name] = node.model_copy(update={"ephemeris": node.ephemeris.model_copy(update=moved)})
    for name, node in list(nodes.items()):
        if node.daemon is not None and "/" in node.daemon.template:
            folder = document.place(("nodes", name, "daemon", "template")).file.parent / node.daemon.template
            daemon = node.daemon.model_copy(update={"template": str(folder.resolve())})
            nodes[name] = node.model_copy(update={"daemon": daemon})
    security = topology.bundles.security.within(document.path.parent).inlined()
    bundles = topology.bundles.model_copy(update={"security": security})
    return topology.model_copy(update={"nodes": nodes, "bundles": bundles})
