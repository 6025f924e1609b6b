"""What happens: traffic, faults, requirements and clock, as a scenario file declares them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from marsnet.model.document import read_document
from marsnet.model.expressions import Scalar
from marsnet.model.mistakes import build
from marsnet.model.quantities import Duration, Fraction, PositiveDuration, Size, Strict, Utc, misplaced
from marsnet.model.templates import unknown_setting
from marsnet.model.times import When, WhenField
from marsnet.model.topology import Name, ServiceClassName, Topology, build_topology


class Flow(Strict):
    """One source of traffic: bundles of one class from one node to another.

    A periodic flow sends every `every`, a Poisson flow at that mean interval. `burst` bundles leave together each time.
    """

    name: Name
    source: str
    destination: str
    service_class: ServiceClassName = Field(alias="class")
    size: Size
    every: PositiveDuration
    arrivals: Literal["periodic", "poisson"] = "periodic"
    burst: int = Field(default=1, ge=1)
    lifetime: PositiveDuration
    start: WhenField = When("0 s", offset=0.0)
    stop: WhenField | None = None


class NodeSilent(Strict):
    """A spacecraft falls silent without notice: it neither transmits nor receives, but keeps running."""

    kind: Literal["node_silent"]
    node: str
    at: WhenField
    duration: PositiveDuration


class NodeCrash(Strict):
    """The node's container is killed, and started again after a time."""

    kind: Literal["node_crash"]
    node: str
    at: WhenField
    duration: PositiveDuration


class LinkOutage(Strict):
    """A link falls without notice, in both directions."""

    kind: Literal["link_outage"]
    link: str
    at: WhenField
    duration: PositiveDuration


Fault = Annotated[NodeSilent | NodeCrash | LinkOutage, Field(discriminator="kind")]


class Selection(Strict):
    """Which bundles a requirement looks at: all, those of a class, or those of a flow."""

    service_class: ServiceClassName | None = Field(default=None, alias="class")
    flow: str | None = None


class DeliveryRequirement(Selection):
    """Share of the accepted bundles that their destination received by the end of the run."""

    kind: Literal["delivery"]
    at_least: Fraction


class LatencyRequirement(Selection):
    """A percentile of latency beyond the light time from source to destination at the bundle's creation."""

    kind: Literal["latency"]
    percentile: Fraction
    beyond_light_time: Duration


class NoLossRequirement(Strict):
    """No accepted bundle vanishes: each is delivered, stored somewhere, or was dropped for a stated lawful reason."""

    kind: Literal["nothing_lost"]


class FramesRequirement(Strict):
    """Frames in equal frames delivered, queued, in flight and dropped for a reason, on every link."""

    kind: Literal["frames_accounted"]


class OnlineRequirement(Strict):
    """Share of the run in which a site had a path to the destination: "Mars online".

    There is a path at an instant when bits leaving the site then reach the destination over contacts that were really
    up, waiting no longer than `patience` in any store on the way.
    """

    kind: Literal["online"]
    site: str
    to: str
    at_least: Fraction
    patience: Duration = 60.0


Requirement = Annotated[
    DeliveryRequirement | LatencyRequirement | NoLossRequirement | FramesRequirement | OnlineRequirement,
    Field(discriminator="kind"),
]


class Fidelity(Strict):
    """How far the emulation may fall behind its own model, in host time, before the run is invalid."""

    link_lateness_p99: Duration = 0.02
    node_lateness_p99: Duration = 0.25
    mission_lateness_p99: Duration = Field(
        default=300.0, description="the larger of the two in mission time, which bounds the rate"
    )
    ring_drops: int = Field(default=0, ge=0, description="frames that the links' own receive rings had no room for")
    switch_drops: int = Field(default=0, ge=0, description="frames that the switches' sockets had no room for")


class Scenario(Strict):
    """A scenario file."""

    marsnet: Literal["scenario/1"]
    name: Name
    description: str = ""
    parameters: dict[str, Scalar] = Field(
        default_factory=dict, description="values that '${name}' stands for, here and in the topology"
    )
    topology: Path = Field(description="relative to the scenario file")
    start: Utc
    duration: PositiveDuration
    seed: int = Field(default=1, ge=0, lt=2**63)
    rate: float | None = Field(
        default=None, gt=0, description="mission seconds per host second; default: what the machine keeps up with"
    )
    traffic: tuple[Flow, ...] = Field(min_length=1)
    faults: tuple[Fault, ...] = ()
    requirements: tuple[Requirement, ...] = Field(min_length=1)
    fidelity: Fidelity = Fidelity()

    @model_validator(mode="after")
    def _unique_flows(self) -> Self:
        names = [flow.name for flow in self.traffic]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise misplaced(f"two flows are named {name!r}", "rename one", "traffic", index, "name")
        return self


def load_scenario(path: str | Path, settings: Mapping[str, object] | None = None) -> tuple[Scenario, Topology]:
    """Read and validate a scenario and the topology that it names.

    Args:
        path: of the scenario file.
        settings: values of parameters, in place of those that the scenario and its topology declare.

    Raises:
        InputError: with file, line, value and remedy.
    """
    settings = settings or {}
    document = read_document(path, settings)
    scenario = build(Scenario, document)
    scenario = scenario.model_copy(update={"topology": document.beside(("topology",), scenario.topology)})
    file = Path(path).parent / scenario.topology
    if not file.exists():
        raise document.error(
            ("topology",), f"there is no topology {str(file)!r}", "give its path relative to this file"
        )
    own = document.parameters
    topology_document = read_document(file, {**own.values(), **settings})
    topology = build_topology(topology_document)
    theirs = topology_document.parameters
    for name in settings:
        if name not in own and name not in theirs:
            raise unknown_setting(name, [*own.values(), *theirs.values()])
    for name in own.values():
        if name not in own.used and name not in theirs:
            raise document.error(
                ("parameters", name),
                f"nothing uses parameter {name!r}",
                "write '${" + name + "}' somewhere, or remove it",
            )
    for location, problem, remedy in _dangling(scenario, topology):
        raise document.error(location, problem, remedy)
    return scenario, topology


def _dangling(scenario: Scenario, topology: Topology) -> list[tuple[tuple[int | str, ...], str, str]]:
    """References to nodes, links and flows that do not exist: location, problem, remedy."""
    nodes, links = topology.nodes, [link.title for link in topology.links]
    flows = [flow.name for flow in scenario.traffic]
    found: list[tuple[tuple[int | str, ...], str, str]] = []

    def need(kind: str, name: str, known: Any, *location: int | str) -> None:
        if name not in known:
            found.append((location, f"unknown {kind} {name!r}", f"there are {', '.join(known) or 'none'}"))

    for i, flow in enumerate(scenario.traffic):
        need("node", flow.source, nodes, "traffic", i, "source")
        need("node", flow.destination, nodes, "traffic", i, "destination")
        for key, when in (("start", flow.start), ("stop", flow.stop)):
            if when is not None and when.site:
                need("site", when.site, nodes, "traffic", i, key)
    for i, fault in enumerate(scenario.faults):
        if isinstance(fault, LinkOutage):
            need("link", fault.link, links, "faults", i, "link")
        else:
            need("node", fault.node, nodes, "faults", i, "node")
        if fault.at.site:
            need("site", fault.at.site, nodes, "faults", i, "at")
    for i, requirement in enumerate(scenario.requirements):
        if isinstance(requirement, OnlineRequirement):
            need("node", requirement.site, nodes, "requirements", i, "site")
            need("node", requirement.to, nodes, "requirements", i, "to")
        if isinstance(requirement, Selection) and requirement.flow is not None:
            need("flow", requirement.flow, flows, "requirements", i, "flow")
    return found
