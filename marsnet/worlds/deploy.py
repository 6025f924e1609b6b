"""Deploys a run in the emulated world: nodes in containers, switches, delay lines, controllers, Prometheus."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from marsnet.clock import MissionClock
from marsnet.dtn.node.config import Address, FlowConfig, NodeConfig
from marsnet.errors import InputError, RunInvalidError
from marsnet.links.client import DelayLineClient
from marsnet.links.netem import NetemLine
from marsnet.links.planned import line_ns
from marsnet.model.topology import OWN_IMAGE, Hub, Station
from marsnet.plan.files import write_plan
from marsnet.worlds import netem_links
from marsnet.worlds.channels import Channel, channels, link_config, starting
from marsnet.worlds.director import plan_file
from marsnet.worlds.foreign_nodes import ForeignNodes, NodeParts
from marsnet.worlds.images import ensure_foreign_image, ensure_node_image
from marsnet.worlds.lab import Lab, Limits, LinkSpec, NodeSpec, web
from marsnet.worlds.lab import spec as lab_spec
from marsnet.worlds.lab.containers import in_parallel
from marsnet.worlds.lab.services import ServiceError
from marsnet.worlds.nodes import node_configs
from marsnet.worlds.spec import EmulatedOptions, Frames, Incident, RunSpec

HICCUP = 0.05
"""Host seconds that a node's process may be late on a busy machine; LTP's timers allow for it."""
LEAD = 5.0
"""Host seconds between the decision on the clock's origin and mission time 0, in which controllers install flows."""
_SPARE = 1.0
"""Host seconds that must be left for telling the nodes the clock."""
_AHEAD, _MISSION_AHEAD = 0.005, 1.0
"""What leaves within so many host seconds, or mission seconds where that is more, a node hands to the line at once."""
_SEGMENTS_AHEAD = 8
"""Segments handed over at once on a slow radio, which otherwise wakes its node for each of them."""
_BURST = 1 << 18
"""Octets handed over at once at most: the switches between a node and the line take them as fast as they can."""
STATE = "/var/lib/marsnet"
_SCRAPE = 2.0
"""Host seconds between Prometheus' scrapes."""
_PATIENCE = 10
"""Host seconds that a node gets to end."""

_DATAPATHS: dict[str, Literal["system", "netdev"]] = {"kernel": "system", "user": "netdev"}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Deployment:
    """A network that is up and running on its mission clock.

    Attributes:
        lab: containers, switches and services.
        clock: the mission clock of every process.
        folder: of the run.
        prometheus: host and port at which its Prometheus is reached from this machine; empty where none runs.
        netem: holds the links where the delay line does not.
    """

    lab: Lab
    clock: MissionClock
    folder: Path
    prometheus: str
    netem: NetemLine | None = None

    def node_folder(self, node: str) -> Path:
        """Where a node keeps its store and its ledger, on the host."""
        return self.folder / "nodes" / node / "state"

    def stop_nodes(self) -> None:
        """End every node's process in order (SIGTERM), so that its store and its ledger are closed."""
        in_parallel(lambda name: self.lab.containers.node(name).stop(timeout=_PATIENCE), list(self.lab.nodes))

    def await_node(self, node: str, since: float) -> None:
        """Wait until a node that was started at an instant (Unix time) has said that it is ready."""
        _await_ready(self.lab, node, since)

    def reload(self, spec: RunSpec, links: Collection[str], happened: Iterable[Incident]) -> None:
        """Let links obey all that has happened, from now on."""
        now = line_ns(self.clock, self.clock.now())
        for channel in channels(spec, self.clock, happened, links):
            link = self.lab.links[channel.link]
            direction = direction_name((link.a, link.b), channel.source)
            client = self.lab.client
            client.load_timeline(channel.link, direction, starting(channel.segments, now), replace_from_ns=now)
            deaf = [(max(start, now), end) for start, end in channel.deaf if end > now]
            client.receiver_down(channel.link, direction, deaf, replace_from_ns=now)

    def node_request(self, node: str, path: str, *, method: str = "GET", body: bytes | None = None) -> bytes:
        """Ask a node's HTTP interface."""
        url = f"http://{self.lab.mgmt(node)}:{lab_spec.NODE_METRICS_PORT}{path}"
        return web.request(self.lab.namespace, url, method=method, body=body)


def lab_of(
    spec: RunSpec,
    name: str,
    image: str,
    foreign: Mapping[str, NodeParts] | None = None,
    options: EmulatedOptions | None = None,
) -> Lab:
    """The lab that a run needs, not built yet.

    Args:
        spec: the run.
        name: of the lab.
        image: of our nodes.
        foreign: what the nodes that run somebody else's daemon have of their own.
        options: how it is set up.
    """
    options = options or EmulatedOptions()
    nodes = []
    for title, node in spec.topology.nodes.items():
        folder = spec.folder / "nodes" / title
        limits = node.container
        parts = (foreign or {}).get(title, NodeParts(image))
        nodes.append(
            NodeSpec(
                title,
                node.number,
                "earth" if isinstance(node, Hub | Station) else "mars",
                parts.image if limits.image == OWN_IMAGE else limits.image,
                command=parts.command,
                env=dict(parts.environment),
                config_dir=folder / "config",
                state_dir=folder / "state",
                limits=Limits(
                    cpus=limits.cpus,
                    memory=512 * 1024**2 if limits.memory is None else round(limits.memory),
                    pids=limits.pids or 256,
                ),
                held=parts.held,
                metrics=parts.metrics,
            )
        )
    links = [
        LinkSpec(link.title, *link.between, mtu=link.mtu, config=link_config(link, spec.seed, spec.rate))
        for link in spec.topology.links
    ]
    return Lab(
        name,
        nodes,
        links,
        run_dir=spec.folder,
        run=spec.folder.name,
        delay_line=options.links == "line",
        datapath=_DATAPATHS.get(options.datapath or ""),
        quiet=options.quiet,
    )


def deploy(spec: RunSpec, name: str, say: Say, options: EmulatedOptions, *, reports: bool = False) -> Deployment:
    """Bring everything up and start the mission clock.

    Returns when all processes know the clock; mission time 0 may still be ahead.

    Args:
        spec: the run.
        name: of the lab.
        say: told each step.
        options: how it is set up. Its Prometheus is reached at port 9090 of the loopback, or a free one where that is
            taken, unless they say where.
        reports: whether nodes send the status reports that bundles ask for.

    Raises:
        EnvironmentLacksError: the machine lacks something.
        InputError: a lab of that name is up already, or the address is not to be had.
    """
    if options.links == "netem":
        netem_links.constants(spec, MissionClock(spec.plan.epoch, spec.rate, 0.0))
    foreign = ForeignNodes.of(spec)
    say("images")
    images = _foreign_images(foreign, say) if options.images is None else options.images
    lab = lab_of(spec, name, options.image or ensure_node_image(progress=say), foreign.parts(images), options)
    configs = _write_configs(spec, lab, foreign, reports=reports)
    if not lab.up(say):
        raise InputError(f"lab {name!r} is up already", remedy=f"take it down first: marsnet down {name}")
    try:
        return _start(spec, lab, say, options, foreign, configs)
    except BaseException:
        lab.down()
        raise


def _foreign_images(foreign: ForeignNodes, say: Say) -> dict[str, str]:
    """The image of each node that runs a foreign daemon and names no image of its own."""
    nodes = foreign.spec.topology.nodes
    found = {name: template for name, template in foreign.found.items() if nodes[name].container.image == OWN_IMAGE}
    made = {
        template.folder: ensure_foreign_image(template.folder, template.manifest.image, progress=say)
        for template in found.values()
    }
    return {name: made[template.folder] for name, template in found.items()}


def _write_configs(spec: RunSpec, lab: Lab, foreign: ForeignNodes, *, reports: bool) -> dict[str, NodeConfig]:
    """Write what each container finds at `/etc/marsnet`: its configuration and the contact plan.

    Foreign daemons find theirs when the mission clock is known.

    Returns:
        What each node is told, without addresses.
    """
    plan = spec.folder / "plan.json"
    if not plan.exists():
        write_plan(spec.plan, plan)
    configs = node_configs(spec, None, hiccup=HICCUP, ahead=max(_AHEAD, _MISSION_AHEAD / spec.rate), burst=_BURST)
    foreign.check(configs)
    for name, config in configs.items():
        folder = spec.folder / "nodes" / name / "config"
        folder.mkdir(parents=True)
        shutil.copyfile(plan, folder / "plan.json")
        for other, content in spec.plans.items():
            write_plan(content, folder / plan_file(other))
        if name in foreign.found:
            continue
        flows = tuple(_with_file(flow, folder) for flow in config.flows)
        addressed = config.model_copy(
            update={
                "neighbours": {
                    other: foreign.neighbour_of_ours(other, lab.address(other), neighbour)
                    or neighbour.model_copy(update={"address": lab.address(other)})
                    for other, neighbour in config.neighbours.items()
                },
                "flows": flows,
                "listen": foreign.listening(name, lab.address(name)),
                "state": Path(STATE),
                # A scenario kills processes, not the host; waiting for its disk would cost seconds of mission time.
                "durability": "process",
                "segments_ahead": _SEGMENTS_AHEAD,
                "reports": config.reports.model_copy(update={"enabled": config.reports.enabled or reports}),
                "metrics": Address(lab.mgmt(name), lab_spec.NODE_METRICS_PORT),
            }
        )
        (folder / "node.json").write_text(addressed.model_dump_json(indent=1), encoding="utf-8")
    return configs


def _with_file(flow: FlowConfig, folder: Path) -> FlowConfig:
    """The flow with its file in the node's own folder, which is all that its container sees."""
    if flow.file is None:
        return flow
    own = Path(f"{flow.name}.file")
    shutil.copyfile(flow.file, folder / own)
    return flow.model_copy(update={"file": own})


def direction_name(ends: tuple[str, str], source: str) -> str:
    """The delay line's name of the direction of a link that leaves a node."""
    return "ab" if source == ends[0] else "ba"


def frames_of(stats: dict[str, Any], links: dict[str, tuple[str, str]]) -> list[Frames]:
    """What became of the frames of every direction, from a delay line's statistics.

    Args:
        stats: its answer.
        links: link title to its ends.
    """
    found = []
    for title, ends in links.items():
        for source, target in (ends, ends[::-1]):
            figures = stats["links"][title]["directions"][direction_name(ends, source)]
            found.append(
                Frames(
                    title,
                    source,
                    target,
                    figures["in"]["frames"],
                    figures["delivered"]["frames"],
                    figures["queued"]["frames"],
                    figures["in_flight"]["frames"],
                    {reason: count["frames"] for reason, count in figures["dropped"].items()},
                )
            )
    return found


def _load(client: DelayLineClient, channel: Channel, ends: tuple[str, str]) -> None:
    direction = direction_name(ends, channel.source)
    client.load_timeline(channel.link, direction, channel.segments)
    client.receiver_down(channel.link, direction, channel.deaf)


def _netem(lab: Lab) -> NetemLine:
    line = NetemLine()
    for title, ((_, a), (_, b)) in lab.ends().items():
        line.add_link(title, a, b)
    return line


def _forward(lab: Lab, listen: str | None) -> str:
    inside = f"127.0.0.1:{lab_spec.PROMETHEUS_PORT}"
    try:
        return lab.forward(inside, listen or inside)
    except ServiceError:
        if listen is not None:
            raise InputError(f"cannot listen on {listen!r}", remedy="give a free address of this machine") from None
        return lab.forward(inside)


def _await_ready(lab: Lab, node: str, since: float | None = None) -> None:
    """Follow a node's log, from an instant on, until it says that it is ready.

    Raises:
        RunInvalidError: it ended instead, with the end of its log.
    """
    lines: list[str] = []
    for line in lab.containers.node(node).logs(stream=True, follow=True, since=since):
        lines.append(line.decode(errors="replace").rstrip())
        if lines[-1] == f"node {node} ready":
            return
    raise RunInvalidError(f"node {node!r} ended before it was ready: " + " | ".join(lines[-5:]))


def _start(
    spec: RunSpec,
    lab: Lab,
    say: Say,
    options: EmulatedOptions,
    foreign: ForeignNodes,
    configs: Mapping[str, NodeConfig],
) -> Deployment:
    ours = [name for name in lab.nodes if name not in foreign.found]
    prometheus = ""
    if options.metrics:
        say("prometheus")
        lab.start_prometheus(
            scrape_interval=options.scrape or _SCRAPE, targets=foreign.bridges(lab), archived=options.archived_metrics
        )
        prometheus = _forward(lab, options.prometheus)
        say(f"prometheus at http://{prometheus}")
    say("nodes")
    in_parallel(lambda name: _await_ready(lab, name), ours)
    netem = _netem(lab) if options.links == "netem" else None
    lead = LEAD
    while True:
        began = time.monotonic()
        origin = began + lead if options.origin is None else options.origin
        clock = MissionClock(spec.plan.epoch, spec.rate, origin)
        say("links")
        if netem is not None:
            netem_links.load(netem, lab.links, netem_links.constants(spec, clock))
        else:
            for channel in channels(spec, clock):
                link = lab.links[channel.link]
                _load(lab.client, channel, (link.a, link.b))
        say("controllers")
        lab.start_controllers(spec.folder / "plan.json", clock)
        if foreign.found:
            say("foreign daemons")
            foreign.start(lab, configs, clock)
        if clock.now() < -_SPARE * spec.rate:
            break
        if options.origin is not None:
            raise RunInvalidError("everything was up only after mission time 0 had passed")
        # A busy machine: nobody may start after mission time 0, so the origin is moved and the schedules made anew.
        for segment in lab.controllers.segments():
            lab.stop_controller(segment)
        foreign.stop(lab)
        lead = 2 * (time.monotonic() - began)
    deployment = Deployment(lab, clock, spec.folder, prometheus, netem)
    body = json.dumps(asdict(clock)).encode()
    in_parallel(lambda node: deployment.node_request(node, "/clock", method="PUT", body=body), ours)
    if clock.now() > 0:
        raise RunInvalidError("the nodes were told the mission clock after it had started: the machine is too busy")
    say("waiting for mission time 0")
    return deployment
