"""Labs that stay up after the command that made them has ended."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marsnet.clock import MissionClock
from marsnet.errors import InputError
from marsnet.links.client import DelayLineClient
from marsnet.links.planned import Outage, timeline_for
from marsnet.model.scenario import Scenario
from marsnet.model.topology import load_topology
from marsnet.plan.files import read_plan, write_plan
from marsnet.sky.planner import plan_contacts
from marsnet.worlds.deploy import Say, deploy, direction_name, frames_of
from marsnet.worlds.lab import inspect as inspect_lab
from marsnet.worlds.lab import namespace
from marsnet.worlds.lab import spec as lab_spec
from marsnet.worlds.lab.containers import Containers
from marsnet.worlds.lab.delayline import socket_path
from marsnet.worlds.ownership import let_stay, owned
from marsnet.worlds.spec import EmulatedOptions, Frames, RunSpec, check_rate

_FACTS = "standing.json"


def bring_up(
    topology_file: Path,
    start: str,
    duration: float,
    rate: float,
    lab: str | None,
    parent: Path,
    say: Say,
    prometheus: str | None = None,
) -> tuple[str, bool]:
    """Bring a topology up on its contact plan, without traffic.

    Args:
        topology_file: the topology.
        start: UTC instant of mission time 0.
        duration: seconds that the plan reaches.
        rate: mission seconds per host second.
        lab: name of the lab; the topology's when None.
        parent: folder for configurations, stores and logs of labs.
        say: told each step.
        prometheus: as for `deploy`.

    Returns:
        Name of the lab, and whether it was built now; False when it was up already, just so.

    Raises:
        InputError: a mistake in the file, or another lab of that name is up.
        EnvironmentLacksError: the machine lacks something.
    """
    check_rate(rate)
    topology = load_topology(topology_file)
    name = lab_spec.check_lab_name(lab or topology.name.replace("_", "-"))
    wish = {"topology": _digest(topology_file), "start": start, "duration": duration, "rate": rate}
    folder = (parent / name).resolve()
    facts = folder / _FACTS
    status = inspect_lab(name)
    if status.complete and facts.exists():
        if {key: json.loads(facts.read_text())[key] for key in wish} == wish:
            return name, False
        raise InputError(
            f"lab {name!r} is up with another topology, start, duration or rate",
            remedy=f"take it down first: marsnet down {name}, or give this one another name with --lab",
        )
    plan = plan_contacts(topology, start, duration, base_dir=topology_file.parent)
    scenario = Scenario.model_construct(
        name=topology.name, start=plan.epoch, duration=duration, traffic=(), faults=(), requirements=()
    )
    with owned(name, say):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_plan(plan, folder / "plan.json")
        run = RunSpec(scenario, topology, plan, (), 1, rate, folder)
        deployment = deploy(run, name, say, EmulatedOptions(prometheus=prometheus), reports=True)
        deployment.lab.leave()
        facts.write_text(json.dumps(wish | {"clock": asdict(deployment.clock)}))
        let_stay(name)
    return name, True


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Standing:
    """A lab that is up, found by its name.

    Attributes:
        name: of the lab.
        links: link title to its two nodes.
        folder: where it was configured.
        management: address of each node's management interface.
    """

    name: str
    links: dict[str, tuple[str, str]]
    folder: Path
    management: dict[str, str]

    def api(self, node: str) -> str:
        """URL of a node's HTTP interface, as seen from `inside`.

        Raises:
            InputError: the lab has no such node.
        """
        if node not in self.management:
            raise InputError(
                f"no node {node!r} in lab {self.name!r}", remedy=f"use one of: {', '.join(self.management)}"
            )
        return f"http://{self.management[node]}:{lab_spec.NODE_METRICS_PORT}"

    def inside(self) -> AbstractContextManager[None]:
        """A block in which the calling thread is in the lab's network.

        Raises:
            EnvironmentLacksError: without root.
        """
        namespace.require_root()
        return namespace.inside(lab_spec.namespace_name(self.name))

    def client(self) -> DelayLineClient:
        """A connection to its delay line."""
        return DelayLineClient(socket_path(lab_spec.runtime_dir(self.name)))

    def exec(self, node: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run a program inside a node's container; exit code and output.

        Raises:
            InputError: the lab has no such node, or its container does not run.
        """
        container = Containers(self.name).node(node)
        if container.status != "running":
            raise InputError(
                f"the container of node {node!r} is {container.status}", remedy=f"docker start {container.name}"
            )
        code, output = container.exec_run(list(argv))
        return int(code), (output or b"").decode(errors="replace")

    def frames(self) -> list[Frames]:
        """What became of the frames of every direction."""
        with self.client() as client:
            return frames_of(client.stats(), self.links)


def attach(name: str) -> Standing:
    """Find a lab that is up.

    Raises:
        InputError: it is not up, or not whole.
    """
    status = inspect_lab(name)
    if not status.complete or status.run_dir is None:
        raise InputError(f"lab {name!r} is not whole", remedy=f"take it down and up again: marsnet down {name}")
    links = {title: (ends["a"], ends["b"]) for title, ends in status.links.items()}
    return Standing(name, links, status.run_dir, {node.name: node.management for node in status.nodes})


def take_link_down(name: str, link: str, duration: float) -> str:
    """Take a link down without notice, from now on for some mission time; what is in flight then is lost at its end.

    Returns:
        The UTC instant when it is up again.

    Raises:
        InputError: the lab has no such link, or is not one that `bring_up` made.
    """
    standing = attach(name)
    if link not in standing.links:
        raise InputError(f"lab {name!r} has no link {link!r}", remedy=f"there are {', '.join(standing.links)}")
    facts = standing.folder / _FACTS
    if not facts.exists():
        raise InputError(f"lab {name!r} belongs to a run", remedy="write the outage into the scenario's faults")
    clock = MissionClock(**json.loads(facts.read_text())["clock"])
    plan = read_plan(standing.folder / "plan.json")
    now = clock.now()
    window = [round(clock.to_monotonic(t) * 1e9) for t in (now, now + duration)]
    with standing.client() as client:
        for source, target in (standing.links[link], standing.links[link][::-1]):
            direction = direction_name(standing.links[link], source)
            segments = timeline_for(plan, source, target, clock, link=link, outages=(Outage(now, now + duration),))
            later: Any = (s for s in segments if s.t0_ns >= window[0])
            client.load_timeline(link, direction, later, replace_from_ns=window[0])
            client.receiver_down(link, direction, [(window[0], window[1])], replace_from_ns=window[0])
    return clock.utc(now + duration)
