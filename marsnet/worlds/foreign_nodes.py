"""Foreign daemons in a lab: their part of the specification, their start on the mission clock, and their probes."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from marsnet.clock import MissionClock
from marsnet.dtn.node.config import DEFAULT_PORTS, Address, LayerName, NeighbourConfig, NodeConfig
from marsnet.errors import RunInvalidError
from marsnet.model.daemon import Ready
from marsnet.worlds.foreign import Neighbour, Renderer, Template, check_run, check_traffic, protocol, templates
from marsnet.worlds.lab import Lab, Target, namespace
from marsnet.worlds.lab import spec as lab_spec
from marsnet.worlds.lab.bridge import start_bridge
from marsnet.worlds.spec import RunSpec

_PROBE_PAUSE = 0.2
"""Host seconds between two tries of a probe that cannot be waited for."""


@dataclass(frozen=True)
class NodeParts:
    """What a node's container has of its own: image, entry point, environment, metrics, and who starts it."""

    image: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[int, str] | None = (lab_spec.NODE_METRICS_PORT, "/metrics")
    held: bool = False


@dataclass(frozen=True)
class ForeignNodes:
    """The foreign daemons of a run, by node.

    Attributes:
        spec: the run.
        found: their templates.
    """

    spec: RunSpec
    found: Mapping[str, Template]

    @staticmethod
    def of(spec: RunSpec) -> ForeignNodes:
        """Those of a run.

        Raises:
            InputError: a template or a protocol is wrong, traffic begins or ends at a daemon that writes no ledger, a
                fault asks of a daemon what only marsnet's nodes do, or one lives on this machine's clock and the
                mission does not.
        """
        found = templates(spec.topology)
        check_run(spec, found, datetime.now(UTC))
        return ForeignNodes(spec, found)

    def check(self, configs: Mapping[str, NodeConfig]) -> None:
        """Raise InputError for traffic that foreign daemons cannot generate or answer."""
        check_traffic(self.found, configs)

    def parts(self, images: Mapping[str, str]) -> dict[str, NodeParts]:
        """What their containers have of their own; `images` by node, for those that name none in the topology."""
        parts = {}
        for name, template in self.found.items():
            manifest = template.manifest
            metrics = manifest.metrics
            scraped = None if metrics is None or metrics.port is None else (metrics.port, metrics.path)
            parts[name] = NodeParts(images.get(name, ""), manifest.command, manifest.environment, scraped, held=True)
        return parts

    def neighbour_of_ours(self, other: str, address: str, known: NeighbourConfig) -> NeighbourConfig | None:
        """How one of our nodes reaches its neighbour, where that runs a foreign daemon; else None."""
        if other not in self.found:
            return None
        spoken = protocol(self.spec.topology, self.found, other)
        port = self.found[other].manifest.convergence[spoken]
        return NeighbourConfig(address=address, port=port, convergence=spoken, mtu=known.mtu, ahead=known.ahead)

    def listening(self, name: str, address: str) -> dict[LayerName, Address]:
        """Where one of our nodes listens: for its like, and for the foreign daemons that it has links to."""
        topology = self.spec.topology
        others = {end for link in topology.links if name in link.between for end in link.between}
        spoken = {protocol(topology, self.found, other) for other in others if other in self.found}
        return {layer: Address(address, DEFAULT_PORTS[layer]) for layer in sorted({"ltp", *spoken})}

    def start(self, lab: Lab, configs: Mapping[str, NodeConfig], clock: MissionClock) -> None:
        """Render the configurations, start the daemons and wait until each works.

        Raises:
            InputError: a template is wrong.
            RunInvalidError: a daemon ended, or did not become ready in time.
        """
        for name in self.found:
            folder = self.spec.folder / "nodes" / name / "config"
            for file, content in self._renderer(name, lab, configs[name]).render(clock).items():
                (folder / file).write_text(content, encoding="utf-8")
            lab.start_node(name)
        for name, template in self.found.items():
            _await(lab, name, template.manifest.ready)

    def stop(self, lab: Lab) -> None:
        """End the daemons, to start them again on another clock."""
        for name in self.found:
            lab.kill_node(name)

    def bridges(self, lab: Lab) -> list[Target]:
        """Start the metrics bridges of those that need one; what Prometheus is to scrape."""
        return [
            start_bridge(lab, name, number, template.manifest.metrics)
            for number, (name, template) in enumerate(self.found.items())
            if template.manifest.metrics is not None and template.manifest.metrics.command is not None
        ]

    def _renderer(self, name: str, lab: Lab, config: NodeConfig) -> Renderer:
        topology = self.spec.topology
        spoken = protocol(topology, self.found, name)
        neighbours = []
        for link in topology.links:
            if name in link.between:
                other = (set(link.between) - {name}).pop()
                port = self.found[other].manifest.convergence[spoken] if other in self.found else DEFAULT_PORTS[spoken]
                number = topology.nodes[other].number
                neighbours.append(Neighbour(other, number, lab.address(other), spoken, port, link.mtu))
        return Renderer(
            self.found[name],
            name=name,
            topology=topology,
            plan=self.spec.plan,
            addresses={node: lab.address(node) for node in topology.nodes},
            management=lab.mgmt(name),
            neighbours=tuple(neighbours),
            convergence=spoken,
            flows=config.flows,
            seed=self.spec.seed,
        )


def _await(lab: Lab, name: str, ready: Ready) -> None:
    deadline = time.monotonic() + ready.timeout
    container = lab.containers.node(name)
    if ready.log is not None:
        pattern = re.compile(ready.log)
        for line in container.logs(stream=True, follow=True):
            if pattern.search(line.decode(errors="replace")):
                return
            if time.monotonic() > deadline:
                break
    while time.monotonic() < deadline and ready.log is None:
        container.reload()
        if container.status != "running":
            break
        if _answers(lab, name, ready):
            return
        time.sleep(_PROBE_PAUSE)
    raise RunInvalidError(
        f"the daemon of node {name!r} was not ready within {ready.timeout:g} s: "
        + " | ".join(lab.logs(name).splitlines()[-5:])
    )


def _answers(lab: Lab, name: str, ready: Ready) -> bool:
    if ready.command is not None:
        return lab.exec(name, ready.command)[0] == 0
    with namespace.inside(lab.namespace):
        try:
            socket.create_connection((lab.mgmt(name), ready.tcp or 0), timeout=1).close()
        except OSError:
            return False
    return True
