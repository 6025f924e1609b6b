"""Which endpoints are this node's, and to which nodes a bundle for an endpoint has to go (RFC 9171 section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping

from marsnet.dtn.bpv7 import BundleError, Eid, Scheme
from marsnet.errors import InputError

_REMEMBERED = 4096
"""Endpoints whose nodes are remembered, at most."""


class Endpoints:
    """Names of nodes, their endpoints and the groups that they are in.

    Nodes are known by their ipn numbers (`ipn:12.1`) and by their names (`dtn://relay/inbox`).

    Attributes:
        admin: this node's administrative endpoint, `ipn:N.0`.
    """

    def __init__(self, name: str, numbers: Mapping[str, int], groups: Mapping[str, tuple[str, ...]]) -> None:
        """Read the groups.

        Args:
            name: of this node.
            numbers: ipn node numbers of all nodes by name.
            groups: names of the nodes in each group endpoint.

        Raises:
            InputError: a group that is no group endpoint, or a node in it that does not exist.
        """
        self.admin = Eid.ipn(numbers[name], 0)
        self._name, self._numbers = name, numbers
        self._names = {number: node for node, number in numbers.items()}
        self._ways: dict[Eid, tuple[tuple[str, ...], bool]] = {}
        """Where bundles for an endpoint have to go, and whether here: asked several times for each bundle."""
        self._groups = {_group(text): members for text, members in groups.items()}
        for text, members in groups.items():
            for member in members:
                if member not in numbers:
                    raise InputError(
                        f"group {text!r} has unknown node {member!r}", remedy=f"there are: {', '.join(numbers)}"
                    )

    def learn(self, numbers: Mapping[str, int]) -> None:
        """More nodes are known, of a new plan."""
        self._ways.clear()
        self._numbers = {**self._numbers, **numbers}
        self._names.update({number: node for node, number in numbers.items()})

    def node(self, endpoint: Eid) -> str | None:
        """The node that a singleton endpoint is at; None for groups, the null endpoint and unknown nodes."""
        if endpoint.is_null or not endpoint.is_singleton:
            return None
        if endpoint.scheme == Scheme.DTN:
            return endpoint.name if endpoint.name in self._numbers else None
        return None if endpoint.allocator else self._names.get(endpoint.node)

    def is_admin(self, endpoint: Eid) -> bool:
        """Whether it is this node's administrative endpoint, in either scheme."""
        return endpoint.is_node_id and self.node(endpoint) == self._name

    def is_local(self, endpoint: Eid) -> bool:
        """Whether bundles for it are delivered here, whatever else is done with them."""
        return self._way(endpoint)[1]

    def is_group(self, endpoint: Eid) -> bool:
        """Whether it is a group endpoint that this node knows the nodes of."""
        return endpoint in self._groups

    def destinations(self, endpoint: Eid) -> tuple[str, ...]:
        """The other nodes that a bundle for it has to reach; the node id as text where it is not known."""
        return self._way(endpoint)[0]

    def _way(self, endpoint: Eid) -> tuple[tuple[str, ...], bool]:
        way = self._ways.get(endpoint)
        if way is None:
            if len(self._ways) >= _REMEMBERED:
                self._ways.clear()
            here = self.node(endpoint) == self._name or self._name in self._groups.get(endpoint, ())
            way = self._ways[endpoint] = self._nodes(endpoint), here
        return way

    def _nodes(self, endpoint: Eid) -> tuple[str, ...]:
        members = self._groups.get(endpoint)
        if members is not None:
            return tuple(member for member in members if member != self._name)
        node = self.node(endpoint)
        if node == self._name:
            return ()
        return (str(endpoint.node_id) if node is None else node,)


def _group(text: str) -> Eid:
    remedy = "write it as dtn://team/~all: a group's service begins with ~"
    try:
        endpoint = Eid.parse(text)
    except BundleError as error:
        raise InputError(f"group {text!r}: {error}", remedy=remedy) from None
    if endpoint.is_singleton or endpoint.is_null:
        raise InputError(f"{text!r} is no group endpoint", remedy=remedy)
    return endpoint
