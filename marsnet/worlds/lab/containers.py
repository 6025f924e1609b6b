"""The containers of a lab: two per node, found again by their labels.

A node's network namespace belongs to a *holder*, a container that only sleeps; the node's own container joins it
(`network_mode=container:<holder>`), as the containers of a Kubernetes pod do. So `docker kill` and `docker start` of
the node leave its interfaces, addresses and neighbour entries as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar

from docker.errors import APIError, ImageNotFound, NotFound

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.worlds.images import connect
from marsnet.worlds.lab import priority, spec
from marsnet.worlds.lab.spec import NodeSpec

STATE_MOUNT, CONFIG_MOUNT = "/var/lib/marsnet", "/etc/marsnet"
_WORKERS = 8
_LOG = {"type": "json-file", "config": {"max-size": "10m", "max-file": "2"}}
T = TypeVar("T")
R = TypeVar("R")


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The results of a function over items, several at once; the first exception, after all have ended."""
    if not items:
        return []
    with ThreadPoolExecutor(min(_WORKERS, len(items))) as pool:
        return list(pool.map(function, items))


class Containers:
    """The containers of one lab.

    Attributes:
        lab: name of the lab.
        run: name of the run that the containers are labelled with; empty for none.
    """

    def __init__(self, lab: str, run: str = "", client: Any = None) -> None:
        self.lab, self.run = lab, run
        self._client = connect() if client is None else client

    @cached_property
    def _parent(self) -> str:
        """The control group of the nodes."""
        return priority.parent_of(self.lab, str(self._client.info().get("CgroupDriver", "")))

    def start_holders(self, nodes: Sequence[NodeSpec], hosts: Mapping[str, str]) -> dict[str, int]:
        """Create and start the holder of every node.

        Args:
            nodes: the nodes.
            hosts: name to address, for `/etc/hosts`.

        Returns:
            Process id of every node's holder.

        Raises:
            EnvironmentLacksError: when an image does not exist.
            InputError: when Docker refuses a container.
        """

        def start(node: NodeSpec) -> int:
            holder = self._create(
                node,
                name=spec.holder_name(self.lab, node.name),
                role=spec.ROLE_HOLDER,
                entrypoint=["sleep", "infinity"],
                network_mode="none",
                hostname=node.name,
                extra_hosts=dict(hosts),
                pids_limit=8,
            )
            holder.start()
            holder.reload()
            return int(holder.attrs["State"]["Pid"])

        return dict(zip((node.name for node in nodes), in_parallel(start, nodes), strict=True))

    def create_nodes(self, nodes: Sequence[NodeSpec]) -> None:
        """Create, but do not start, the container of every node. Raises as `start_holders` does."""

        def create(node: NodeSpec) -> None:
            volumes = {source: {"bind": target, "mode": "ro"} for source, target in node.mounts.items()}
            for directory, target, mode in ((node.config_dir, CONFIG_MOUNT, "ro"), (node.state_dir, STATE_MOUNT, "rw")):
                if directory is not None:
                    volumes[str(directory.resolve())] = {"bind": target, "mode": mode}
            limits = node.limits
            self._create(
                node,
                name=spec.container_name(self.lab, node.name),
                role=spec.ROLE_NODE,
                entrypoint=list(node.command) or None,
                cgroup_parent=self._parent,
                network_mode=f"container:{spec.holder_name(self.lab, node.name)}",
                environment=dict(node.env),
                volumes=volumes,
                tmpfs={"/tmp": "", "/run": ""},  # noqa: S108
                nano_cpus=None if limits.cpus is None else round(limits.cpus * 1e9),
                mem_limit=limits.memory,
                pids_limit=limits.pids,
            )

        in_parallel(create, nodes)

    def start_nodes(self, names: Sequence[str]) -> None:
        """Start the containers of these nodes; those that run stay as they are."""

        def start(name: str) -> None:
            try:
                container = self.node(name)
                container.start()
            except APIError as error:
                raise InputError(
                    f"the container of node {name!r} does not start: {error.explanation}",
                    remedy="check its command, image and mounts",
                ) from error
            container.reload()
            priority.prefer(int(container.attrs["State"]["Pid"]), self._parent)

        in_parallel(start, names)

    def _create(self, node: NodeSpec, *, name: str, role: str, **options: Any) -> Any:
        labels = {spec.LABEL_LAB: self.lab, spec.LABEL_NODE: node.name, spec.LABEL_RUN: self.run, spec.LABEL_ROLE: role}
        try:
            return self._client.containers.create(
                node.image,
                name=name,
                detach=True,
                labels=labels,
                read_only=True,
                security_opt=["no-new-privileges"],
                log_config=_LOG,
                **options,
            )
        except ImageNotFound as error:
            raise EnvironmentLacksError(f"the image {node.image!r} does not exist here", fix="make images") from error
        except APIError as error:
            raise InputError(
                f"Docker refuses the container of node {node.name!r}: {error.explanation}",
                remedy=f"check its specification, or remove a leftover lab by 'marsnet down {self.lab}'",
            ) from error

    def node(self, name: str) -> Any:
        """The container of a node, as the Docker SDK sees it.

        Raises:
            InputError: when the lab has no such node.
        """
        return self._container(spec.container_name(self.lab, name), name)

    def holder(self, name: str) -> Any:
        """The holder of a node's network namespace. Raises as `node` does."""
        return self._container(spec.holder_name(self.lab, name), name)

    def _container(self, container: str, node: str) -> Any:
        try:
            return self._client.containers.get(container)
        except NotFound as error:
            known = sorted({c.labels[spec.LABEL_NODE] for c in self.all()})
            raise InputError(
                f"lab {self.lab!r} has no node {node!r}",
                remedy=f"use one of: {', '.join(known) or '(the lab is down)'}",
            ) from error

    def all(self) -> list[Any]:
        """Every container that carries the lab's label, running or not."""
        filters = {"label": f"{spec.LABEL_LAB}={self.lab}"}
        return list(self._client.containers.list(all=True, filters=filters, ignore_removed=True))

    def status(self) -> dict[tuple[str, str], str]:
        """Docker's word for the state of each container (`running`, `exited`, ...), by node and role."""
        return {(c.labels[spec.LABEL_NODE], c.labels[spec.LABEL_ROLE]): str(c.status) for c in self.all()}

    def remove(self) -> int:
        """Remove every container that carries the lab's label, nodes before the holders they depend on.

        Returns:
            How many there were.
        """

        def force(container: Any) -> None:
            with suppress(NotFound):
                try:
                    container.remove(force=True, v=True)
                except APIError as error:
                    # 409: somebody else is removing it at this moment.
                    if error.status_code != 409:
                        raise
                    container.wait(condition="removed")

        containers = self.all()
        nodes = [c for c in containers if c.labels.get(spec.LABEL_ROLE) != spec.ROLE_HOLDER]
        in_parallel(force, nodes)
        in_parallel(force, [c for c in containers if c not in nodes])
        if nodes:
            priority.forget(self._parent)
        return len(containers)


def labs_with_containers(client: Any) -> dict[str, list[Any]]:
    """Every container of every lab on this machine, by lab."""
    found: dict[str, list[Any]] = {}
    containers: Iterable[Any] = client.containers.list(all=True, filters={"label": spec.LABEL_LAB}, ignore_removed=True)
    for container in containers:
        found.setdefault(container.labels[spec.LABEL_LAB], []).append(container)
    return found
