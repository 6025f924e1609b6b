"""Take a lab down, or look at it, from nothing but its name."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from marsnet.worlds.images import connect
from marsnet.worlds.lab import namespace, services, spec, state
from marsnet.worlds.lab.containers import Containers, labs_with_containers


@dataclass(frozen=True)
class NodeStatus:
    """One node of a lab as it is now.

    Attributes:
        name: the node.
        container: Docker's word for its container's state; empty when there is none.
        network: Docker's word for the container that holds its network.
        address: IPv4 address on the data plane; empty when unknown.
        management: IPv4 address on the management network; empty when unknown.
    """

    name: str
    container: str
    network: str
    address: str
    management: str


@dataclass(frozen=True)
class LabStatus:
    """One lab as it is now.

    Attributes:
        name: the lab.
        complete: False when it was broken off while it was built, or parts of it are gone.
        run: the run it belongs to; empty for none.
        run_dir: where its services write; None when unknown.
        datapath: `system`, `netdev`, or empty when unknown.
        nodes: its nodes.
        links: link name to its ends and interfaces.
        services: name to process id and addresses, of those that run.
        processes: how many processes live in its namespace.
    """

    name: str
    complete: bool
    run: str = ""
    run_dir: Path | None = None
    datapath: str = ""
    nodes: tuple[NodeStatus, ...] = ()
    links: dict[str, dict[str, str]] = field(default_factory=dict)
    services: dict[str, dict[str, str | int]] = field(default_factory=dict)
    processes: int = 0


def down_by_label(name: str) -> bool:
    """Take away every container, process, interface and file of a lab, and nothing else.

    It needs no record of how the lab was built, so it also clears what a killed run has left.

    Returns:
        Whether there was anything to take away.

    Raises:
        EnvironmentLacksError: without root or Docker.
        InputError: when the name is none.
    """
    spec.check_lab_name(name)
    namespace.require_root()
    containers = Containers(name)
    own = namespace.inode(spec.namespace_name(name))
    inodes = set() if own is None else {own}
    # Mininet's shells and the like sit in the namespaces of the holders, outside of any container.
    for container in containers.all():
        pid = int(container.attrs["State"]["Pid"])
        if pid and container.labels.get(spec.LABEL_ROLE) == spec.ROLE_HOLDER:
            inodes |= {inode for inode in [_inode_of(pid)] if inode is not None}
    removed = containers.remove()
    ended = namespace.end_processes(inodes)
    namespace.delete(spec.namespace_name(name))
    runtime = spec.runtime_dir(name)
    existed = runtime.exists()
    shutil.rmtree(runtime, ignore_errors=True)
    return bool(removed or ended or existed or own is not None)


def _inode_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def labs() -> list[LabStatus]:
    """Every lab on this machine, complete or not, by name."""
    by_lab = labs_with_containers(connect())
    namespaces = namespace.NETNS_DIR.glob("marsnet-*") if namespace.NETNS_DIR.is_dir() else []
    known = {*by_lab, *state.names(), *(entry.name.removeprefix("marsnet-") for entry in namespaces)}
    return [inspect(name) for name in sorted(known)]


def inspect(name: str) -> LabStatus:
    """One lab as it is now."""
    containers = Containers(name).status()
    inode = namespace.inode(spec.namespace_name(name))
    found = state.load(name)
    names = list(found.numbers) if found else sorted({node for node, _ in containers})
    nodes = tuple(
        NodeStatus(
            node,
            containers.get((node, spec.ROLE_NODE), ""),
            containers.get((node, spec.ROLE_HOLDER), ""),
            spec.data_address(found.numbers[node]) if found else "",
            spec.management_address(found.numbers[node]) if found else "",
        )
        for node in names
    )
    processes = 0 if inode is None else len(namespace.processes_in([inode]))
    if found is None or inode is None:
        return LabStatus(name, complete=False, nodes=nodes, processes=processes)
    return LabStatus(
        name,
        complete=all(node.network == "running" and node.container for node in nodes),
        run=found.run,
        run_dir=Path(found.run_dir),
        datapath=found.datapath,
        nodes=nodes,
        links=found.links,
        services={key: facts for key, facts in found.services.items() if services.is_running(int(facts["pid"]), inode)},
        processes=processes,
    )
