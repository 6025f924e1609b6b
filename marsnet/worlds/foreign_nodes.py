"""Foreign daemons in a lab: their part of the specification, their start on the mission clock, and their probes."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from marsnet.clock import MissionClock, parse_utc
from marsnet.dtn.node.config import DEFAULT_PORTS, NeighbourConfig, NodeConfig
from marsnet.errors import InputError, RunInvalidError
from marsnet.worlds.foreign import Neighbour, Ready, Renderer, Template, protocol, templates
from marsnet.worlds.lab import Lab, Target, namespace
from marsnet.worlds.lab.bridge import start_bridge
from marsnet.worlds.spec import RunSpec

_HOST_CLOCK_SLACK = 600.0
"""Seconds that the mission's UTC may be away from this machine's where a daemon knows no other clock."""
_PROBE_PAUSE = 0.2
"""Host seconds between two tries of a probe that cannot be waited for."""


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
            InputError: a template or a protocol is wrong, traffic begins or ends at a daemon that writes no ledger, or
                a daemon lives on this machine's clock and the mission does not.
        """
        found = templates(spec.topology)
        for name, template in found.items():
            for flow in spec.scenario.traffic if not template.manifest.ledger else ():
                if name in (flow.source, flow.destination):
                    raise InputError(
                        f"flow {flow.name!r} has an end at {name!r}, whose daemon {template.name!r} writes no ledger",
                        remedy="let it run between nodes that do, across that daemon if you like",
                    )
            if template.manifest.clock == "host":
                _check_host_clock(name, spec)
        return ForeignNodes(spec, found)

    def neighbour_of_ours(self, other: str, address: str, known: NeighbourConfig) -> NeighbourConfig | None:
        """How one of our nodes reaches its neighbour, where that runs a foreign daemon; else None."""
        if other not in self.found:
            return None
        spoken = protocol(self.spec.topology, self.found, other)
        port = self.found[other].manifest.convergence[spoken]
        return NeighbourConfig(address=address, port=port, convergence=spoken, mtu=known.mtu)

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


def _check_host_clock(name: str, spec: RunSpec) -> None:
    away = abs((parse_utc(spec.scenario.start) - datetime.now(UTC)).total_seconds())
    if spec.rate != 1 or away > _HOST_CLOCK_SLACK:
        raise InputError(
            f"node {name!r} runs a daemon that knows only this machine's clock, and the mission starts at "
            f"{spec.scenario.start} at {spec.rate:g} seconds a second",
            remedy=f"start it at {datetime.now(UTC):%Y-%m-%dT%H:%M}Z with 'rate: 1'",
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


def image_folder(template: Template) -> Path | None:
    """The folder that a template's image is built from, None where it has no Dockerfile."""
    return template.folder if (template.folder / "Dockerfile").is_file() else None
