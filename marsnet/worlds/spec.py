"""What a world is given to run and what it gives back: the same for every world."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from marsnet.clock import parse_utc
from marsnet.dtn.node.ledger import Record
from marsnet.errors import InputError
from marsnet.model.scenario import Scenario
from marsnet.model.times import When
from marsnet.model.topology import Site, Topology
from marsnet.plan.types import ContactPlan
from marsnet.sky.marstime import local_time_instant

ETHERNET_UDP_OVERHEAD = 42
"""Bytes that Ethernet, IPv4 and UDP headers add to an LTP segment."""
IP_UDP_OVERHEAD = 28
"""Bytes of the MTU that IPv4 and UDP headers take."""
NO_CONTACT = "no_contact"
"""Why a frame is dropped that a node sends while the true plan has no contact: nobody listens."""


@dataclass(frozen=True, slots=True)
class Fade:
    """What a fault does to a link for a while, on top of the plan.

    Attributes:
        link: its title.
        start: mission seconds.
        end: mission seconds.
        source: the transmitting node of the direction that fades; empty for both.
        rate: share of the rate that is left.
        ber: bit error rate.
        loss: probability that a frame is lost.
    """

    link: str
    start: float
    end: float
    source: str = ""
    rate: float = 1.0
    ber: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Strain:
    """What a fault does to a node while it lasts.

    Attributes:
        node: its name.
        quota: share of the storage that is left.
        drift: seconds that its clock gains in a second.
        plan: name of the contact plan that it goes by, among the run's `plans`; empty for the true one.
        peer: the neighbour whose bundles are tampered with.
        corrupt: share of these that arrive corrupted.
        replay: probability that an old one arrives with each.
    """

    node: str
    quota: float = 1.0
    drift: float = 0.0
    plan: str = ""
    peer: str = ""
    corrupt: float = 0.0
    replay: float = 0.0


@dataclass(frozen=True, slots=True)
class Incident:
    """A fault with its times resolved.

    Attributes:
        kind: of the fault.
        subject: the node, the link, or what else it happens to.
        start: mission seconds.
        end: mission seconds.
        links: titles of the links that are down meanwhile.
        name: what the scenario calls it; empty when it has no name.
        down: the node whose process is gone meanwhile; empty when none is.
        planned: the contact plan knows it.
        fades: what it does to links.
        strains: what it does to nodes.
        segment: whose network controller is gone; empty when none is.
    """

    kind: str
    subject: str
    start: float
    end: float
    links: tuple[str, ...] = ()
    name: str = ""
    down: str = ""
    planned: bool = False
    fades: tuple[Fade, ...] = ()
    strains: tuple[Strain, ...] = ()
    segment: str = ""


@dataclass(frozen=True)
class RunSpec:
    """Everything that a run is determined by.

    Attributes:
        scenario: the file's content.
        topology: the network.
        plan: contacts and ranges over the run.
        incidents: the faults whose times are known ahead, in order of time.
        seed: of every random draw.
        rate: mission seconds per host second, in the emulated world.
        folder: where the run leaves its files.
        plans: other contact plans that nodes are given by faults, by name.
    """

    scenario: Scenario
    topology: Topology
    plan: ContactPlan
    incidents: tuple[Incident, ...]
    seed: int
    rate: float
    folder: Path
    plans: dict[str, ContactPlan] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frames:
    """What became of the frames of one direction of a link.

    Attributes:
        link: its title.
        source: transmitting node.
        target: receiving node.
        entered: frames that came to the transmitter.
        delivered: frames that left the receiver.
        queued: frames that wait for the transmitter at the end.
        in_flight: frames under way at the end.
        dropped: the others, by reason.
    """

    link: str
    source: str
    target: str
    entered: int
    delivered: int
    queued: int
    in_flight: int
    dropped: dict[str, int]

    @property
    def unaccounted(self) -> int:
        """Frames that vanished without a reason: zero, or the run cannot be trusted."""
        return self.entered - self.delivered - self.queued - self.in_flight - sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """What became of a program of the scenario.

    Attributes:
        name: its name.
        node: in whose network it ran.
        started: mission seconds; None when it did not come to it.
        ended: mission seconds; None when it was still running when it was asked to end.
        code: its exit code, negative for the signal that ended it; None when it did not run.
        stopped: whether it was asked to end.
    """

    name: str
    node: str
    started: float | None = None
    ended: float | None = None
    code: int | None = None
    stopped: bool = False


@dataclass
class Outcome:
    """What a world observed.

    Attributes:
        world: `virtual`, `emulated` or `warp`.
        records: the ledger of all nodes.
        stored: bundle ids in each node's store at the end.
        frames: of every direction of every link.
        fidelity: figures of how true the run was to its model, in host time.
        invalid: reasons why the run cannot be trusted, beyond figures out of budget.
        interrupted: whether a person broke it off.
        incidents: the faults that happened, in order of time.
        elapsed: mission seconds that were run.
        wall: host seconds that it took.
        programs: what became of the scenario's programs, in its order.
    """

    world: str
    records: list[Record]
    stored: dict[str, list[str]]
    frames: list[Frames]
    fidelity: dict[str, float] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)
    interrupted: bool = False
    incidents: tuple[Incident, ...] = ()
    elapsed: float = 0.0
    wall: float = 0.0
    programs: tuple[ProgramEnd, ...] = ()


@dataclass(frozen=True, slots=True)
class Pause:
    """An instant at which somebody looks in.

    Attributes:
        at: mission seconds; infinite for never.
        look: called then, with the mission time and the process ids in whose networks the nodes are.
    """

    at: float
    look: Callable[[float, Mapping[str, int]], None]


LinkKind = Literal["line", "netem"]
DatapathKind = Literal["kernel", "user"]


@dataclass(frozen=True, slots=True)
class EmulatedOptions:
    """How the emulated world is set up.

    Attributes:
        lab: its name; the scenario's name when None.
        keep: leave it up afterwards.
        prometheus: host and port of this machine at which its Prometheus is to be reached; None for the default.
        metrics: run a Prometheus.
        scrape: host seconds between its scrapes; 2 when None, in the warp world, where they are the mission's, 15.
        archived_metrics: whether all that it has seen is to be had as complete blocks at the end.
        image: of the bundle nodes; built from this source tree when None.
        images: of the nodes that run a foreign daemon, by node; built or looked for when None.
        origin: CLOCK_MONOTONIC, seconds, at mission time 0; as soon as everything is up when None.
        quiet: whether switches are not to wake up without a frame or a change.
        asleep: entered while the mission runs and no container is to be started, stopped or asked.
        links: what light time is made of: the delay line, or the kernel's netem, which knows no schedule.
        datapath: of the switches: the kernel's or Open vSwitch's own; the kernel's where it has one when None.
        pause: when somebody looks in, while the mission waits.
        packages: folder of the Python packages that the scenario's programs need; made when None.
    """

    lab: str | None = None
    keep: bool = False
    prometheus: str | None = None
    metrics: bool = True
    scrape: float | None = None
    archived_metrics: bool = False
    image: str | None = None
    images: Mapping[str, str] | None = None
    origin: float | None = None
    quiet: bool = False
    asleep: Callable[[], AbstractContextManager[object]] = nullcontext
    links: LinkKind = "line"
    datapath: DatapathKind | None = None
    pause: Pause | None = None
    packages: Path | None = None


Progress = Callable[[float, str], None]
"""Called with the share of the run that is done, 0 to 1, and what goes on."""


def check_rate(rate: float) -> None:
    """Raise InputError for a rate, in mission seconds per host second, at which no clock runs."""
    if not (rate > 0 and math.isfinite(rate)):
        raise InputError(f"a rate of {rate:g} is no positive number", remedy="give more than 0, as in --rate 600")


def mission_time(when: When, scenario: Scenario, topology: Topology) -> float:
    """Seconds after the start of the run.

    Raises:
        InputError: a local time at a node that is no site on Mars.
    """
    if when.offset is not None:
        return when.offset
    if when.utc is not None:
        return (parse_utc(when.utc) - parse_utc(scenario.start)).total_seconds()
    site = topology.nodes[when.site]
    if not isinstance(site, Site) or site.body != "mars" or when.sol is None:
        raise InputError(f"{when.text!r}: {when.site!r} has no local time", remedy="name a site on Mars")
    return local_time_instant(scenario.start, when.sol, when.hour, site.longitude, when.scale)
