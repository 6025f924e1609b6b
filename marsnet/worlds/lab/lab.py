"""A lab: containers, switches, links, controllers and Prometheus in a network namespace of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from marsnet.clock import MissionClock
from marsnet.errors import InputError
from marsnet.links.client import DelayLineClient
from marsnet.worlds.lab import cleanup, delayline, namespace, network, prometheus, services, spec, state, switches
from marsnet.worlds.lab.containers import Containers
from marsnet.worlds.lab.control import ControllerProgram, Controllers
from marsnet.worlds.lab.prometheus import Target
from marsnet.worlds.lab.spec import LinkSpec, NodeSpec, Segment
from marsnet.worlds.lab.state import LabState
from marsnet.worlds.lab.switches import Datapath

Progress = Callable[[str], None]
"""Is told, before each step of building, what comes next."""


class Lab:
    """One emulated network.

    `up` moves the calling thread into the lab's network namespace, and threads and processes that it starts follow it
    there: call it in a process, or at least a thread, that is the lab's alone. Every other method works from any
    thread of any process on the machine, as long as the lab is up and was described by the same nodes and links.

    Args:
        name: lower-case letters, digits and hyphens; labels and names of everything derive from it.
        nodes: the nodes.
        links: the links.
        run_dir: directory for logs, settings and measurements.
        run: name of the run, as a label of the containers.
        delay_line: whether links obey a delay line; without, they are plain and immediate.
        datapath: of the switches; what the kernel has when None.
        controllers: what runs as controller; None for the plan-forwarding application on os-ken.
        quiet: whether switches are not to wake up without a frame or a change, nor ask whether a controller lives.

    Raises:
        InputError: when names, numbers or ends of links do not fit together.
    """

    def __init__(
        self,
        name: str,
        nodes: Sequence[NodeSpec],
        links: Sequence[LinkSpec],
        *,
        run_dir: Path,
        run: str = "",
        delay_line: bool = True,
        datapath: Datapath | None = None,
        controllers: ControllerProgram | None = None,
        quiet: bool = False,
    ) -> None:
        self.name = spec.check_lab_name(name)
        spec.check_topology(nodes, links)
        self.nodes = {node.name: node for node in nodes}
        self.links = {link.name: link for link in links}
        self.run_dir, self.run, self.delay_line = run_dir.resolve(), run, delay_line
        self.datapath, self.quiet = datapath, quiet
        self.network: Any = None
        self.containers = Containers(name, run)
        self.controllers = Controllers(self, controllers or ControllerProgram())
        self._home: int | None = None
        self._client: DelayLineClient | None = None

    @property
    def namespace(self) -> str:
        """Name of the lab's network namespace."""
        return spec.namespace_name(self.name)

    @property
    def runtime(self) -> Path:
        """Directory of sockets, pid files and state."""
        return spec.runtime_dir(self.name)

    @property
    def client(self) -> DelayLineClient:
        """A connection to the delay line, made at the first use: timelines, faults, statistics.

        Raises:
            EnvironmentLacksError: when the lab has no delay line.
        """
        if self._client is None:
            self._client = DelayLineClient(delayline.socket_path(self.runtime))
        return self._client

    @property
    def state(self) -> LabState:
        """What the lab remembers of itself.

        Raises:
            InputError: when it is not up.
        """
        found = state.load(self.name)
        if found is None:
            raise InputError(f"lab {self.name!r} is not up", remedy="start it with 'marsnet up'")
        return found

    # Life

    def up(self, progress: Progress = lambda step: None) -> bool:
        """Build the lab and enter its namespace.

        Returns:
            True when it was built; False when it was up already, with the same topology.

        Raises:
            EnvironmentLacksError: when a program, an image or a privilege is missing.
            InputError: when a lab of that name is up with another topology, or lies half-built.
        """
        namespace.require_root()
        if self._is_up():
            self.enter()
            return False
        try:
            namespace.create(self.namespace)
        except FileExistsError as error:
            raise self._left_over("its namespace exists") from error
        try:
            self._build(progress)
        except BaseException:
            self.down()
            raise
        return True

    def _is_up(self) -> bool:
        found = state.load(self.name)
        if found is None:
            return False
        if found.digest != spec.digest(list(self.nodes.values()), list(self.links.values())):
            raise InputError(
                f"lab {self.name!r} is up with another topology",
                remedy=f"take it down first: marsnet down {self.name}, or give this one another name",
            )
        holders = {node for (node, role), word in self.containers.status().items()
                   if role == spec.ROLE_HOLDER and word == "running"}  # fmt: skip
        if namespace.inode(self.namespace) is None or holders != set(self.nodes):
            raise self._left_over("parts of it are gone")
        return True

    def _left_over(self, why: str) -> InputError:
        return InputError(
            f"lab {self.name!r} is half there: {why}", remedy=f"clear it away first: marsnet down {self.name}"
        )

    def _build(self, progress: Progress) -> None:
        nodes, links = list(self.nodes.values()), list(self.links.values())
        self.enter()
        self.runtime.mkdir(parents=True)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        for node in nodes:
            if node.state_dir is not None:
                node.state_dir.mkdir(parents=True, exist_ok=True)
        progress("containers")
        hosts = {node.name: spec.data_address(node.number) for node in nodes}
        holder_pids = self.containers.start_holders(nodes, hosts)
        self.containers.create_nodes(nodes)
        progress("switches")
        switches.start_daemons(self.runtime, quiet=self.quiet)
        delay_line = delayline.start(self.runtime, self.run_dir) if self.delay_line else None
        datapath = switches.chosen_datapath(self.datapath)
        progress("links")
        self.network = network.build(
            nodes,
            links,
            holder_pids,
            runtime=self.runtime,
            datapath=datapath,
            make_link=network.plain_link if delay_line is None else partial(delayline.make_link, self.client),
        )
        network.build_management(nodes, holder_pids)
        progress("nodes")
        self.containers.start_nodes([node.name for node in nodes if not node.held])
        services_up = {} if delay_line is None else {"delay-line": delay_line}
        self._new_state(datapath, services_up).save()

    def _new_state(self, datapath: str, services_up: dict[str, dict[str, str | int]]) -> LabState:
        nodes, links = list(self.nodes.values()), list(self.links.values())
        ports = {(port.node, port.link): port for group in spec.ports_of(nodes, links).values() for port in group}
        return LabState(
            name=self.name,
            digest=spec.digest(nodes, links),
            run=self.run,
            run_dir=str(self.run_dir),
            datapath=datapath,
            delay_line=self.delay_line,
            numbers={node.name: node.number for node in nodes},
            segments={node.name: node.segment for node in nodes},
            links={
                link.name: {
                    "a": link.a,
                    "b": link.b,
                    "interface_a": ports[link.a, link.name].interface,
                    "interface_b": ports[link.b, link.name].interface,
                }
                for link in links
            },
            services=services_up,
        )

    def ends(self) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
        """Link name to its two ends, each a node and the interface of its switch."""
        groups = spec.ports_of(list(self.nodes.values()), list(self.links.values())).values()
        at = {(port.node, port.link): (port.node, port.interface) for group in groups for port in group}
        return {name: (at[link.a, name], at[link.b, name]) for name, link in self.links.items()}

    def enter(self) -> None:
        """Move the calling thread into the lab's namespace; `leave` brings it back."""
        if self._home is None:
            self._home = namespace.own_fd()
        target = os.open(namespace.path(self.namespace), os.O_RDONLY | os.O_CLOEXEC)
        namespace.enter_fd(target)
        os.close(target)

    def leave(self) -> None:
        """Move the calling thread back to where it was before `enter`."""
        if self._home is not None:
            namespace.enter_fd(self._home)
            os.close(self._home)
            self._home = None

    def down(self) -> None:
        """Take everything away that carries the lab's label, and leave its namespace."""
        self.leave()
        if self._client is not None:
            self._client.close()
            self._client = None
        if self.network is not None:
            for node in (*self.network.hosts, *self.network.switches):
                node.terminate()
            self.network = None
        found = state.load(self.name)
        cleanup.down_by_label(self.name)
        for facts in found.services.values() if found else ():
            services.reap(int(facts["pid"]))

    # Nodes

    def _node(self, name: str) -> NodeSpec:
        try:
            return self.nodes[name]
        except KeyError:
            raise InputError(
                f"no node {name!r} in lab {self.name!r}", remedy=f"use one of: {', '.join(self.nodes)}"
            ) from None

    def address(self, node: str) -> str:
        """IPv4 address of the node's `eth0`, where its traffic with other nodes goes."""
        return spec.data_address(self._node(node).number)

    def mgmt(self, node: str) -> str:
        """IPv4 address of the node's `mgmt0`, by which the lab reaches it."""
        return spec.management_address(self._node(node).number)

    def kill_node(self, node: str) -> None:
        """End the node's container at once (SIGKILL), as a power failure would. Its state directory stays."""
        self.containers.node(self._node(node).name).kill()

    def start_node(self, node: str) -> None:
        """Start the node's container again; interfaces, addresses and neighbours are as they were."""
        self.containers.start_nodes([self._node(node).name])

    def node_pid(self, node: str) -> int:
        """Process id of the node's first process; 0 while it does not run."""
        return int(self.containers.node(self._node(node).name).attrs["State"]["Pid"])

    def exec(self, node: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run a program inside the node's container.

        Returns:
            Exit code, and what it wrote to standard output and error.
        """
        code, output = self.containers.node(self._node(node).name).exec_run(list(argv))
        return int(code), (output or b"").decode(errors="replace")

    def tool(self, node: str, argv: Sequence[str], timeout: float = 60.0) -> tuple[int, str]:
        """Run one of this machine's programs inside the node's network (its file system is the machine's).

        The image need not have the program: `lab.tool("mcc", ["ping", "-c1", lab.address("dss")])`.

        Args:
            node: whose network.
            argv: program and arguments.
            timeout: host seconds.

        Returns:
            Exit code, and what it wrote to standard output and error.

        Raises:
            subprocess.TimeoutExpired: when it takes longer.
        """
        pid = self.containers.holder(self._node(node).name).attrs["State"]["Pid"]
        done = subprocess.run(
            ["nsenter", "-t", str(pid), "-n", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout

    def logs(self, node: str) -> str:
        """What the node's container has written to standard output and error so far."""
        output: bytes = self.containers.node(self._node(node).name).logs()
        return output.decode(errors="replace")

    # Services

    def start_controllers(self, plan: Path, clock: MissionClock, *, guard: float = 0.25) -> None:
        """Start both controllers, connect the switches and wait until all of them forward by the plan.

        Args:
            plan: file of the contact plan.
            clock: the mission clock.
            guard: host seconds by which flows come before, and go after, their contact.
        """
        self.controllers.start(plan, clock, guard)

    def stop_controller(self, segment: Segment) -> None:
        """End a segment's controller: its switches go on by the table they have."""
        self.controllers.stop(segment)

    def start_controller(self, segment: Segment) -> None:
        """Start a segment's controller again, with the plan and the clock it had."""
        self.controllers.start_one(segment)

    def settle_counters(self) -> None:
        """Wait until the controllers' frame counts include every frame that has passed a switch so far."""
        switches.settle_counters(self.runtime, quiet=self.quiet)

    def outside_contacts(self) -> dict[tuple[str, str], int]:
        """Frames that switches dropped for want of a contact, by the nodes that they came from and were for."""
        self.settle_counters()
        names = {spec.data_address(node.number): node.name for node in self.nodes.values()}
        return {
            (node.name, names[address]): frames
            for node in self.nodes.values()
            for address, frames in switches.dropped_towards(self.runtime, spec.switch_name(node.number)).items()
            if frames and address in names
        }

    def start_prometheus(
        self, *, scrape_interval: float = 2.0, targets: Sequence[Target] = (), archived: bool = False
    ) -> None:
        """Start a Prometheus that scrapes every node, both controllers and whatever else is given.

        Args:
            scrape_interval: host seconds between scrapes.
            targets: more to scrape, for example the delay line.
            archived: whether `prometheus.archive` is to find all that it has seen.
        """
        folder = self.run_dir / prometheus.FOLDER
        configuration = prometheus.write_configuration(
            folder, [*self._targets(), *targets], lab=self.name, run=self.run, scrape_interval=scrape_interval
        )
        with namespace.inside(self.namespace):
            pid, log = prometheus.start(folder, configuration, archived=archived)
        address = f"127.0.0.1:{spec.PROMETHEUS_PORT}"
        self.state.record("prometheus", {"pid": pid, "log": str(log), "http": address})

    def _targets(self) -> list[Target]:
        nodes = [
            Target(
                "nodes",
                f"{self.mgmt(node.name)}:{node.metrics[0]}",
                {"node": node.name, "segment": node.segment, "__metrics_path__": node.metrics[1]},
            )
            for node in self.nodes.values()
            if node.metrics is not None
        ]
        controllers = [
            Target("controllers", f"127.0.0.1:{spec.CONTROLLER_API_PORTS[segment]}", {"segment": segment})
            for segment in self.controllers.segments()
        ]
        line = [Target("links", delayline.METRICS_ADDRESS, {})] if self.delay_line else []
        return nodes + controllers + line

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector that a PromQL expression gives in the lab's Prometheus."""
        result: list[dict[str, Any]] = prometheus.ask(self.namespace, "query", query=expression)["result"]
        return result

    def forward(self, to: str, listen: str = "127.0.0.1:0") -> str:
        """Make an address inside the lab reachable from where the lab was entered.

        Args:
            to: host and port inside, as in `127.0.0.1:9090`.
            listen: host and port outside; port 0 takes a free one.

        Returns:
            Host and port outside.
        """
        home = namespace.own_fd() if self._home is None else self._home
        pid, match = services.start(
            [
                *(sys.executable, "-m", "marsnet.worlds.lab.forward", self.name),
                *("--to", to, "--listen", listen, "--home-fd", str(home)),
            ],
            self.run_dir / "logs" / f"forward-{to.rpartition(':')[2]}.log",
            r"forwarding (\S+)\n",
            pass_fds=[home],
        )
        if home != self._home:
            os.close(home)
        self.state.record(f"forward-{to}", {"pid": pid, "to": to, "listen": match[1]})
        return match[1]
