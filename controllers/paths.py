"""Which port leads where, and until when: forwarding tables computed from the contact plan.

Nothing is stored on the way (that is the bundle layer's business), so a path serves a packet only if every hop's
contact is open at the moment when the packet gets there, light times included.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from marsnet.plan.types import ContactPlan

MIN_STEP = 1e-3
"""Seconds of mission time; no table is computed anew sooner than this after the one before."""


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a link at a switch.

    Attributes:
        number: OpenFlow port number.
        link: name of the link, as in the plan.
        peer: node at the other end.
    """

    number: int
    link: str
    peer: str


@dataclass(frozen=True, slots=True)
class Table:
    """Forwarding of one switch while no contact changes.

    Attributes:
        since: mission time from which it holds.
        until: mission time at which it has to be computed again; infinite when the plan has no further change.
        ports: destination node to port number; a destination without an open path is absent.
    """

    since: float
    until: float
    ports: dict[str, int]


class Windows:
    """When one direction of a link is open: ordered, disjoint intervals."""

    def __init__(self, intervals: Iterable[tuple[float, float]]) -> None:
        merged: list[list[float]] = []
        for start, end in sorted(intervals):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        self._edges = [edge for interval in merged for edge in interval]

    def at(self, time: float) -> tuple[bool, float]:
        """Whether the direction is open at a time, and when that changes next (infinite: never)."""
        index = bisect_right(self._edges, time)
        return index % 2 == 1, self._edges[index] if index < len(self._edges) else math.inf


@dataclass(frozen=True, slots=True)
class _Hop:
    port: Port
    windows: Windows


class PathFinder:
    """Forwarding tables of any switch at any time.

    A neighbour is reached by a link that joins the two nodes, or not at all: what is addressed to a neighbour waits for
    its own contact. Any other destination is reached by the path of earliest arrival. Of parallel links the one that
    the topology names first is used.

    Args:
        plan: the contact plan.
        ports: link ports of every switch, by node.
        guard: seconds of mission time by which a window opens early and closes late. The exact edge is the link's own
            business; the switch must not be the one that is late.
    """

    def __init__(self, plan: ContactPlan, ports: Mapping[str, Sequence[Port]], guard: float = 0.0) -> None:
        intervals: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for contact in plan.contacts:
            intervals.setdefault((contact.link, contact.source), []).append(
                (contact.start - guard, contact.end + guard)
            )
        self._plan = plan
        self._hops = {
            node: [_Hop(port, Windows(intervals.get((port.link, node), ()))) for port in group]
            for node, group in ports.items()
        }
        self._neighbours = {node: {port.peer for port in group} for node, group in ports.items()}

    def table(self, node: str, time: float) -> Table:
        """The forwarding table of a node's switch at a mission time."""
        until = math.inf
        ports: dict[str, int] = {}
        for destination in self._hops:
            if destination != node:
                port, change = self._first_hop(node, destination, time)
                until = min(until, change)
                if port is not None:
                    ports[destination] = port
        return Table(time, max(until, time + MIN_STEP), ports)

    def _first_hop(self, source: str, destination: str, time: float) -> tuple[int | None, float]:
        """The port towards a destination, and the departure time at which the answer may differ next.

        Dijkstra's algorithm with arrival times as labels. Every contact edge that the search looks at bounds how long
        the answer holds, less the time that a packet needs to get there.
        """
        until = math.inf
        labels = {source: time}
        first: dict[str, int] = {}
        settled: set[str] = set()
        queue: list[tuple[float, int, str]] = [(time, 0, source)]
        pushed = 0
        while queue:
            arrival, _, node = heapq.heappop(queue)
            if node in settled:
                continue
            settled.add(node)
            if node == destination:
                break
            adjacent = destination in self._neighbours[node]
            for hop in self._hops[node]:
                peer = hop.port.peer
                if peer in settled or (adjacent and peer != destination):
                    continue
                is_open, change = hop.windows.at(arrival)
                until = min(until, time + change - arrival)
                if not is_open:
                    continue
                reached = arrival + self._light_time(node, peer, arrival)
                if reached < labels.get(peer, math.inf):
                    labels[peer] = reached
                    first[peer] = hop.port.number if node == source else first[node]
                    pushed += 1
                    heapq.heappush(queue, (reached, pushed, peer))
        return first.get(destination), until

    def _light_time(self, source: str, target: str, time: float) -> float:
        try:
            return max(self._plan.owlt(source, target, time), 0.0)
        except KeyError:
            return 0.0
