"""What happens: traffic, faults, requirements and clock, as a scenario file declares them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from marsnet.errors import InputError
from marsnet.model.document import Document, read_document
from marsnet.model.expressions import Scalar
from marsnet.model.faults import Fault, Planned, StalePlan
from marsnet.model.mistakes import build
from marsnet.model.parts import Location
from marsnet.model.programs import Program, Software
from marsnet.model.quantities import Duration, PositiveDuration, Strict, Utc, misplaced
from marsnet.model.requirements import (
    AvailabilityRequirement,
    CompletionRequirement,
    OnlineRequirement,
    PrintedRequirement,
    RecoveryRequirement,
    Requirement,
    RoundTripRequirement,
    Selection,
    StorageRequirement,
    VolumeRequirement,
)
from marsnet.model.templates import unknown_setting
from marsnet.model.times import When
from marsnet.model.topology import Name, Site, Topology, build_topology
from marsnet.model.traffic import Flow, read_trace
from marsnet.units import format_size

SEEDS = 2**63
"""One more than the largest seed."""


def check_seed(seed: int) -> int:
    """A seed that did not come from a scenario file.

    Raises:
        InputError: it is out of range.
    """
    if not 0 <= seed < SEEDS:
        raise InputError(f"{seed} is no seed", remedy=f"give a whole number from 0 to {SEEDS - 1}")
    return seed


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
    seed: int = Field(default=1, ge=0, lt=SEEDS)
    rate: float | None = Field(
        default=None, gt=0, description="mission seconds per host second; default: what the machine keeps up with"
    )
    traffic: tuple[Flow, ...] = ()
    faults: tuple[Fault, ...] = ()
    programs: tuple[Program, ...] = Field(default=(), description="programs of other people; not in the virtual world")
    software: Software = Field(default=Software(), description="what the programs need installed")
    requirements: tuple[Requirement, ...] = ()
    fidelity: Fidelity = Fidelity()

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        lists = (
            ("flows", "traffic", self.traffic),
            ("faults", "faults", self.faults),
            ("programs", "programs", self.programs),
        )
        for what, key, entries in lists:
            names: list[str] = []
            for index, entry in enumerate(entries):
                if entry.name is not None and entry.name in names:
                    raise misplaced(f"two {what} are named {entry.name!r}", "rename one", key, index, "name")
                names.append(entry.name or "")
        return self

    @model_validator(mode="after")
    def _no_circles(self) -> Self:
        waits = {fault.name: fault.when.begins or fault.when.ends for fault in self.faults if fault.name and fault.when}
        for index, fault in enumerate(self.faults):
            seen, name = [fault.name], waits.get(fault.name or "")
            while name is not None and name not in seen:
                seen.append(name)
                name = waits.get(name)
            if name is not None and name == fault.name != seen[-1]:
                way = " and ".join(repr(other) for other in seen[1:])
                raise misplaced(
                    f"fault {fault.name!r} waits for {way}, which waits for it",
                    "let one of them begin at a time",
                    *("faults", index, "when"),
                )
        return self

    @model_validator(mode="after")
    def _something_happens(self) -> Self:
        if not self.traffic and not self.programs:
            raise misplaced("nothing happens: the scenario has neither flows nor programs", "add one", "traffic")
        if self.traffic and not self.requirements:
            raise misplaced("nothing is required of the traffic", "state a requirement", "requirements")
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
    scenario = scenario.model_copy(
        update={
            "topology": document.beside(("topology",), scenario.topology),
            "traffic": tuple(
                _with_files(flow, ("traffic", index), ("file", "trace"), document)
                for index, flow in enumerate(scenario.traffic)
            ),
            "faults": tuple(
                _with_files(fault, ("faults", index), ("plan",), document)
                for index, fault in enumerate(scenario.faults)
            ),
            "programs": tuple(
                program.model_copy(
                    update={
                        "files": tuple(
                            _file(path, ("programs", index, "files", position), document)
                            for position, path in enumerate(program.files)
                        )
                    }
                )
                for index, program in enumerate(scenario.programs)
            ),
        }
    )
    file = Path(path).parent / scenario.topology
    if not file.is_file():
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


Entry = TypeVar("Entry", bound=Strict)


def _with_files(entry: Entry, location: Location, keys: tuple[str, ...], document: Document) -> Entry:
    """A flow or a fault with the paths of its files found, and the files looked at."""
    for key in keys:
        path: Path | None = getattr(entry, key, None)
        if path is None:
            continue
        return entry.model_copy(update={key: _file(path, (*location, key), document)})
    return entry


def _file(path: Path, place: Location, document: Document) -> Path:
    """The absolute path of a file that a scenario names."""
    found = (document.place(place).file.parent / path).resolve()
    if not found.is_file() or not found.stat().st_size:
        problem = f"there is no file {str(path)!r} with content"
        raise document.error(place, problem, "give its path relative to this file")
    return found


class Need(Protocol):
    """Notes a reference to something that does not exist."""

    def __call__(self, kind: str, name: str, known: Collection[str], *location: int | str) -> None: ...


def _dangling(scenario: Scenario, topology: Topology) -> list[tuple[tuple[int | str, ...], str, str]]:
    """References to nodes, links and flows that do not exist: location, problem, remedy."""
    nodes = topology.nodes
    flows = [flow.name for flow in scenario.traffic]
    replies = [f"{flow.name}.reply" for flow in scenario.traffic if flow.reply is not None]
    tenants = sorted({flow.tenant for flow in scenario.traffic if flow.tenant is not None})
    found: list[tuple[tuple[int | str, ...], str, str]] = []

    def need(kind: str, name: str, known: Collection[str], *location: int | str) -> None:
        if name not in known:
            found.append((location, f"unknown {kind} {name!r}", f"there are {', '.join(known) or 'none'}"))

    for i, flow in enumerate(scenario.traffic):
        need("node", flow.source, nodes, "traffic", i, "source")
        if flow.destination is not None:
            need("node", flow.destination, nodes, "traffic", i, "destination")
        room = nodes[flow.source].storage if flow.source in nodes else math.inf
        if flow.size is not None and flow.size > room:
            whole, quota = format_size(flow.size), format_size(room)
            what = f"a bundle of {whole} never fits the storage of {flow.source!r}, {quota}"
            found.append((("traffic", i, "size"), what, "send smaller ones, or give the node more 'storage'"))
        if flow.trace is not None:
            for entry in read_trace(flow.trace):
                to = entry.destination or flow.destination
                if to not in nodes:
                    what = "has no destination" if to is None else f"goes to unknown node {to!r}"
                    where = f"line {entry.line} of the trace {what}"
                    found.append((("traffic", i, "trace"), where, f"there are {', '.join(nodes)}"))
        for key, when in (("start", flow.start), ("stop", flow.stop)):
            if when is not None and when.site:
                need("site", when.site, nodes, "traffic", i, key)
    for i, program in enumerate(scenario.programs):
        need("node", program.node, nodes, "programs", i, "node")
        for key, when in (("at", program.at), ("stop", program.stop)):
            if when is not None and when.site:
                need("site", when.site, nodes, "programs", i, key)
    faults = [fault.name for fault in scenario.faults if fault.name is not None]
    for i, fault in enumerate(scenario.faults):
        _fault_references(fault, ("faults", i), need, scenario, topology)
    backlogs = [flow.name for flow in scenario.traffic if flow.volume is not None or flow.file is not None]
    requests = [flow.name for flow in scenario.traffic if flow.reply is not None]
    for i, requirement in enumerate(scenario.requirements):
        place = ("requirements", i)
        if isinstance(requirement, OnlineRequirement | AvailabilityRequirement):
            need("node", requirement.site, nodes, *place, "site")
            need("node", requirement.to, nodes, *place, "to")
            if requirement.site == requirement.to:
                what = f"'site' and 'to' are both {requirement.to!r}"
                found.append(((*place, "to"), what, "name another node, to which it is to have a way"))
        if isinstance(requirement, Selection):
            if requirement.flow is not None:
                need("flow", requirement.flow, [*flows, *replies], *place, "flow")
            if requirement.tenant is not None:
                need("tenant", requirement.tenant, tenants, *place, "tenant")
        match requirement:
            case CompletionRequirement():
                need("volume or file", requirement.flow, backlogs, *place, "flow")
            case RoundTripRequirement():
                need("flow with a reply", requirement.flow, requests, *place, "flow")
            case StorageRequirement() if requirement.node is not None:
                need("node", requirement.node, nodes, *place, "node")
            case VolumeRequirement() if requirement.via is not None:
                need("node", requirement.via, nodes, *place, "via")
            case PrintedRequirement():
                need("program", requirement.program, [p.name for p in scenario.programs], *place, "program")
            case RecoveryRequirement():
                need("fault", requirement.fault, faults, *place, "fault")
    return found


def _fault_references(fault: Fault, place: Location, need: Need, scenario: Scenario, topology: Topology) -> None:
    nodes, links = topology.nodes, [link.title for link in topology.links]
    own = [other.name for other in scenario.faults if other.name is not None and other.name != fault.name]
    for key in ("node", "link"):
        if (value := getattr(fault, key, None)) is not None:
            need(key, value, nodes if key == "node" else links, *place, key)
    for key, kind, known in (("nodes", "node", nodes), ("sites", "site", _sites(topology)), ("without", "link", links)):
        for position, value in enumerate(getattr(fault, key, None) or ()):
            need(kind, value, known, *place, key, position)
    for position, name in enumerate(fault.misses if isinstance(fault, StalePlan) else ()):
        planned = [f.name for f in scenario.faults if isinstance(f, Planned) and f.planned and f.name is not None]
        need("planned fault", name, planned, *place, "misses", position)
    for when, key in ((fault.at, "at"), (_after(fault), "when")):
        if when is not None and when.site:
            need("site", when.site, nodes, *place, key)
    condition = fault.when
    if condition is None:
        return
    if condition.delivered is not None:
        flows = [f.name for f in scenario.traffic] + [f"{f.name}.reply" for f in scenario.traffic if f.reply]
        need("flow", condition.delivered.flow, flows, *place, "when", "delivered", "flow")
    if condition.storage is not None:
        need("node", condition.storage.node, nodes, *place, "when", "storage", "node")
    if condition.contact_opens is not None:
        need("link", condition.contact_opens.link, links, *place, "when", "contact_opens", "link")
    for key in ("begins", "ends"):
        if (name := getattr(condition, key)) is not None:
            need("other fault", name, own, *place, "when", key)


def _after(fault: Fault) -> When | None:
    opens = None if fault.when is None else fault.when.contact_opens
    return None if opens is None else opens.after


def _sites(topology: Topology) -> list[str]:
    return [name for name, node in topology.nodes.items() if isinstance(node, Site) and node.body == "mars"]
