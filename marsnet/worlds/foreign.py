"""Foreign daemons: somebody else's bundle node as a container, told by a template what the topology and plan are.

A template is a folder with a `daemon.yaml` (a `Manifest`) and Jinja2 templates of the daemon's configuration files. The
contract between the two sides is docs/foreign.md.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2

from marsnet.clock import MissionClock, parse_utc
from marsnet.dtn.node.config import FlowConfig, NodeConfig
from marsnet.errors import InputError
from marsnet.model.daemon import Manifest, Protocol
from marsnet.model.document import read_document
from marsnet.model.mistakes import build
from marsnet.model.topology import Topology
from marsnet.plan.files import as_format, write_plan_to
from marsnet.plan.types import ContactPlan
from marsnet.worlds.spec import RunSpec

MANIFEST = "daemon.yaml"
_HOST_CLOCK_SLACK = 600.0
"""Seconds that the mission's UTC may be away from the machine's where a daemon knows no other clock."""


@dataclass(frozen=True)
class Template:
    """A template that was read.

    Attributes:
        folder: where it lies.
        manifest: its `daemon.yaml`.
    """

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.name


@dataclass(frozen=True)
class Neighbour:
    """What a template is told of a node that the daemon has a link to.

    Attributes:
        name, number, address: who and where.
        convergence: protocol between the two.
        port: where the neighbour listens.
        mtu: bytes of an IP packet.
    """

    name: str
    number: int
    address: str
    convergence: str
    port: int
    mtu: int


def shipped() -> Path:
    """The folder of the templates that come with marsnet."""
    return Path(__file__).resolve().parents[2] / "services" / "foreign"


def read_template(name: str) -> Template:
    """A template by its name, or by its path.

    Raises:
        InputError: there is none, or its manifest or a file that it names is wrong.
    """
    folder = Path(name) if "/" in name else shipped() / name
    if not (folder / MANIFEST).is_file():
        known = sorted(path.parent.name for path in shipped().glob(f"*/{MANIFEST}"))
        raise InputError(
            f"there is no daemon template {name!r}",
            remedy=f"name one of {', '.join(known)}, or give the path of a folder with a {MANIFEST}",
        )
    document = read_document(folder / MANIFEST)
    manifest = build(Manifest, document)
    for target, source in manifest.files.items():
        if not (folder / source).is_file():
            raise document.error(("files", target), f"there is no file {source!r} in {folder}", "add it, or correct it")
    return Template(folder, manifest)


def templates(topology: Topology) -> dict[str, Template]:
    """The template of every node that runs a foreign daemon.

    Raises:
        InputError: as `read_template`, or a protocol that the daemon does not speak, or two that do not meet.
    """
    found = {name: read_template(node.daemon.template) for name, node in topology.nodes.items() if node.daemon}
    for name in found:
        protocol(topology, found, name)
    for link in topology.links:
        spoken = {protocol(topology, found, end) for end in link.between if end in found}
        if len(spoken) > 1:
            raise InputError(
                f"the daemons at the ends of link {link.title!r} speak {' and '.join(sorted(spoken))}",
                remedy="give both the same 'convergence'",
            )
    return found


def protocol(topology: Topology, found: Mapping[str, Template], name: str) -> Protocol:
    """The protocol that a foreign daemon speaks with its neighbours.

    Raises:
        InputError: its template does not offer the one that the topology wants.
    """
    daemon, offered = topology.nodes[name].daemon, found[name].manifest.convergence
    wanted = daemon.convergence if daemon is not None else None
    if wanted is None:
        return next(iter(offered))
    if wanted not in offered:
        raise InputError(
            f"node {name!r}: the daemon {found[name].name!r} does not speak {wanted}",
            remedy=f"choose one of {', '.join(offered)}",
        )
    return wanted


def refuse_foreign(topology: Topology) -> None:
    """Raise InputError where a node runs a foreign daemon: for worlds without containers."""
    for name, node in topology.nodes.items():
        if node.daemon is not None:
            raise InputError(
                f"node {name!r} runs the daemon {node.daemon.template!r}, and the virtual world has no containers",
                remedy="run with --world emulated or --world warp, or take 'daemon' out",
            )


def check_run(spec: RunSpec, found: Mapping[str, Template], machine_time: datetime) -> None:
    """Check that foreign daemons can take their part in a run.

    Args:
        spec: the run.
        found: templates of its foreign daemons, by node.
        machine_time: UTC of the machine that they run on.

    Raises:
        InputError: traffic begins or ends at a daemon that writes no ledger, a fault asks of a daemon what only
            marsnet's nodes do, or one lives on its machine's clock and the mission does not.
    """
    for name, template in found.items():
        for flow in spec.scenario.traffic if not template.manifest.ledger else ():
            if name in (flow.source, flow.destination):
                raise InputError(
                    f"flow {flow.name!r} has an end at {name!r}, whose daemon {template.name!r} writes no ledger",
                    remedy="let it run between nodes that do, across that daemon if you like",
                )
        for incident in spec.incidents:
            if any(strain.node == name for strain in incident.strains):
                raise InputError(
                    f"the fault {incident.name or incident.kind!r} strains {name!r}, whose daemon is foreign",
                    remedy="let it happen to one of marsnet's nodes; crashes, silence and links work on any",
                )
        away = abs((parse_utc(spec.scenario.start) - machine_time).total_seconds())
        if template.manifest.clock == "host" and (spec.rate != 1 or away > _HOST_CLOCK_SLACK):
            raise InputError(
                f"node {name!r} runs a daemon that knows only this machine's clock, and the mission starts at "
                f"{spec.scenario.start} at {spec.rate:g} seconds a second",
                remedy=f"start it at {machine_time:%Y-%m-%dT%H:%M}Z with 'rate: 1', or run it with --world warp",
            )


def check_traffic(found: Mapping[str, Template], configs: Mapping[str, NodeConfig]) -> None:
    """Raise InputError for traffic that foreign daemons cannot generate or answer.

    Args:
        found: their templates, by node.
        configs: what each node would be told if it were marsnet's.
    """
    for name in found:
        config = configs[name]
        if config.receivers:
            raise InputError(
                f"an application at {name!r} answers, or puts a file together, and its daemon is foreign",
                remedy="let one of marsnet's nodes do that",
            )
        for flow in config.flows:
            if flow.arrivals not in ("periodic", "poisson") or flow.service_class != "normal":
                raise InputError(
                    f"flow {flow.name!r} begins at the foreign daemon of {name!r}",
                    remedy="give it periodic or Poisson arrivals and class normal, or let another node send it",
                )


class Renderer:
    """Renders the configuration of one foreign daemon."""

    def __init__(
        self,
        template: Template,
        *,
        name: str,
        topology: Topology,
        plan: ContactPlan,
        addresses: Mapping[str, str],
        management: str,
        neighbours: tuple[Neighbour, ...],
        convergence: str,
        flows: tuple[FlowConfig, ...] = (),
        seed: int = 1,
    ) -> None:
        """Take what is known before the mission clock is.

        Args:
            template: the daemon's.
            name: of the node.
            topology: the network.
            plan: contacts and ranges.
            addresses: of every node's data plane.
            management: this node's management address, where metrics and probes look for it.
            neighbours: those it has links to.
            convergence: protocol that it speaks.
            flows: traffic that it is to generate.
            seed: of random draws.
        """
        self._template, self._plan, self._name = template, plan, name
        node = topology.nodes[name]
        if node.daemon is None:
            raise InputError(f"node {name!r} has no foreign daemon", remedy="give it a 'daemon'")
        numbers = {other: known.number for other, known in topology.nodes.items()}
        self._context: dict[str, Any] = {
            "node": {
                "name": name,
                "number": node.number,
                "address": addresses[name],
                "management": management,
                "convergence": convergence,
                "port": template.manifest.convergence[convergence],  # type: ignore[index]
                "storage": round(node.storage),
            },
            "nodes": [{"name": n, "number": numbers[n], "address": addresses[n]} for n in numbers],
            "neighbours": [asdict(neighbour) for neighbour in neighbours],
            "next_hop": next_hops(topology, name),
            "flows": [flow.model_dump(mode="json") for flow in flows],
            "settings": dict(node.daemon.settings),
            "seed": seed,
            "contacts": [
                asdict(contact)
                | {
                    "owlt": plan.owlt(contact.source, contact.target, contact.start),
                    "source_number": numbers[contact.source],
                    "target_number": numbers[contact.target],
                }
                for contact in plan.contacts
            ],
            "plan": {"start": plan.start, "end": plan.end, "epoch": plan.epoch},
        }

    def render(self, clock: MissionClock) -> dict[str, str]:
        """File name to content of everything that the daemon finds under `/etc/marsnet`.

        Raises:
            InputError: a template is wrong, or asks for something that does not exist.
        """
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(self._template.folder),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701
        )
        epoch, now = parse_utc(clock.epoch), clock.now()

        def instant(seconds: float) -> datetime:
            return epoch + timedelta(seconds=seconds)

        def plan_as(name: str) -> str:
            out = io.StringIO()
            write_plan_to(self._plan, out, as_format(name))
            return out.getvalue()

        names = {"clock": asdict(clock), "now": now, "instant": instant, "plan_as": plan_as}
        files = {"clock.json": json.dumps(asdict(clock)), "faketimerc": faketime(clock, now)}
        for target, source in self._template.manifest.files.items():
            try:
                files[target] = environment.get_template(source).render(self._context, **names)
            except jinja2.TemplateError as error:
                raise InputError(
                    f"node {self._name!r}: {error}",
                    remedy="correct the template, or give what it asks for under 'settings'",
                    file=self._template.folder / source,
                    line=getattr(error, "lineno", None),
                ) from None
        return files


def faketime(clock: MissionClock, now: float) -> str:
    """What libfaketime is to read (FAKETIME_TIMESTAMP_FILE) by a program that begins at mission time `now`."""
    instant = parse_utc(clock.epoch) + timedelta(seconds=now)
    return f"@{instant:%Y-%m-%d %H:%M:%S}" + (f" x{clock.rate:g}" if clock.rate != 1 else "") + "\n"


def next_hops(topology: Topology, name: str) -> dict[str, str]:
    """For each other node the neighbour that the fewest links lead by: for daemons whose routes are static."""
    links: dict[str, list[str]] = {node: [] for node in topology.nodes}
    for link in topology.links:
        first, second = link.between
        links[first].append(second)
        links[second].append(first)
    hops: dict[str, str] = {}
    reached = [(neighbour, neighbour) for neighbour in links[name]]
    for node, by in reached:
        if node in hops or node == name:
            continue
        hops[node] = by
        reached += [(further, by) for further in links[node]]
    return hops
