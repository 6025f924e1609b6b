"""Bundles for groups: one copy goes to each neighbour, and says for which nodes that neighbour is responsible.

RFC 9171 leaves to the nodes how a bundle reaches all nodes of a group endpoint. Here each copy carries an extension
block of the private range with the ipn numbers of the nodes that it is still to reach, so that no node gets it twice
and none is left out. A bundle without the block, from a node of another make, is for all nodes of the group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from marsnet.dtn.bpv7 import BlockFlags, BlockType, Bundle, BundleError, cbor
from marsnet.dtn.node.endpoints import Endpoints

_MOST = 4096
"""Nodes in a block at most."""


class Audience(NamedTuple):
    """For whom a bundle is.

    Attributes:
        nodes: other nodes that it has to reach: one for a singleton endpoint, also one that no plan knows.
        local: whether this node delivers it, too.
        group: whether it is for a group that this node knows.
    """

    nodes: tuple[str, ...]
    local: bool
    group: bool


def audience(bundle: Bundle, endpoints: Endpoints, numbers: Mapping[str, int]) -> Audience:
    """For whom a bundle is, as seen from this node."""
    destination = bundle.destination
    nodes, local = endpoints.destinations(destination), endpoints.is_local(destination)
    if not endpoints.is_group(destination):
        return Audience(nodes, local, group=False)
    told = _told(bundle)
    source = endpoints.node(bundle.source)
    wanted = (node for node in nodes if node != source and (told is None or numbers[node] in told))
    return Audience(tuple(wanted), local, group=True)


def addressed(bundle: Bundle, numbers: Iterable[int]) -> Bundle:
    """The copy of a group's bundle for a neighbour that is to reach these nodes."""
    ordered = sorted(numbers)
    data = cbor.head(cbor.ARRAY, len(ordered)) + b"".join(map(cbor.uint, ordered))
    return bundle.with_extension(BlockType.AUDIENCE.value, data, BlockFlags.REPLICATE.value)


def _told(bundle: Bundle) -> frozenset[int] | None:
    block = bundle.block(BlockType.AUDIENCE)
    if block is None:
        return None
    try:
        count, position = cbor.array_length(block.data, 0, 0, _MOST)
        found: set[int] = set()
        for _ in range(count):
            number, position = cbor.read_uint(block.data, position)
            found.add(number)
        cbor.expect_end(block.data, position)
    except BundleError:
        return None
    return frozenset(found)
