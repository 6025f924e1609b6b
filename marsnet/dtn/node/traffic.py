"""Traffic sources: bundles at times that follow from the flow and the seed alone, so that every world offers the same.

Payloads carry their own digest, so that a sink can tell whether they arrived intact.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.config import FlowConfig
from marsnet.dtn.recipe import DIGEST

_AT_ONCE, _OCTETS_AT_ONCE = 256, 1 << 20
"""Bundles, and octets in them, of a backlog that become durable together: the first leave while others are made."""
_BACK_OFF = 60.0
"""Mission seconds before a backlog tries again that the store had no room for."""


class Offered(NamedTuple):
    """A bundle that is to leave.

    Attributes:
        number: its running number in the flow.
        size: payload bytes.
        priority: class of service.
        destination: node.
    """

    number: int
    size: int
    priority: ServiceClass
    destination: str


def departures(flow: FlowConfig, seed: int) -> Iterator[float]:
    """Mission times, in order, at which a flow sends a burst."""
    if flow.arrivals == "trace":
        yield from (item.time for item in flow.trace if item.time < flow.stop)
        return
    generator = random.Random(f"{seed}/{flow.name}")
    time = flow.start
    if flow.arrivals == "poisson":
        time += _interval(generator, flow.every)
    while time < flow.stop:
        yield time
        time += _interval(generator, flow.every) if flow.arrivals == "poisson" else flow.every


def _interval(generator: random.Random, mean: float) -> float:
    """An exponential interval to the microsecond: the last digit of a logarithm depends on the machine's library."""
    return round(generator.expovariate(1 / mean), 6)


def sealed(body: bytes) -> bytes:
    """A payload around some octets: their digest, and they."""
    return hashlib.blake2b(body, digest_size=DIGEST).digest() + body


def is_intact(data: bytes) -> bool:
    """Whether a payload of a `Recipe` or of `sealed` is what it was. Those too short for a digest count as intact."""
    if len(data) <= DIGEST:
        return True
    return hashlib.blake2b(memoryview(data)[DIGEST:], digest_size=DIGEST).digest() == data[:DIGEST]


def file_part(path: Path, index: int, size: int) -> bytes:
    """The payload that carries a part of a file: digest, number of the part in 4 octets, content."""
    with path.open("rb") as file:
        file.seek(index * size)
        return sealed(index.to_bytes(4, "big") + file.read(size))


def opened(data: bytes) -> tuple[int, bytes]:
    """Number and content of what `file_part` made."""
    return int.from_bytes(data[DIGEST : DIGEST + 4], "big"), data[DIGEST + 4 :]


class Source(Protocol):
    """Where the bundles of a flow come from.

    Attributes:
        flow: what it sends.
        index: running number of the next bundle, which is kept durably.
    """

    flow: FlowConfig
    index: int

    @property
    def next_time(self) -> float | None:
        """Mission time of the next bundle; None while there is none."""

    def take(self, now: float) -> list[Offered]:
        """The bundles that are due by `now`, in order."""

    def stored(self, offered: Offered, key: int | None, now: float) -> bool:
        """A bundle has that key in the store, or found no room; whether the next one is to be tried."""


class TrafficSource:
    """The bundles of one flow, one burst at a time.

    Attributes:
        flow: what it sends.
        index: running number of the next bundle.
    """

    def __init__(self, flow: FlowConfig, seed: int, *, index: int = 0, after: float = -math.inf) -> None:
        """Start at bundle `index`; bursts before the mission time `after` were missed and are skipped."""
        self.flow, self.index = flow, 0
        self._times = departures(flow, seed)
        self._next = next(self._times, None)
        while self._next is not None and (self.index < index or self._next < after):
            self._step()

    @property
    def next_time(self) -> float | None:
        """Mission time of the next burst; None when the flow has ended."""
        return self._next

    def take(self, now: float) -> list[Offered]:
        """The bundles that are due by `now`, in order."""
        due: list[Offered] = []
        while self._next is not None and self._next <= now:
            due += [self._offered(index) for index in range(self.index, self.index + self.flow.burst)]
            self._step()
        return due

    def stored(self, offered: Offered, key: int | None, now: float) -> bool:
        """What found no room is refused, and gone; the next one is tried."""
        return True

    def _offered(self, index: int) -> Offered:
        flow = self.flow
        if flow.arrivals != "trace":
            return Offered(index, flow.size, flow.priority, flow.destination)
        item = flow.trace[index]
        return Offered(index, item.size, ServiceClass[item.service_class.upper()], item.destination)

    def _step(self) -> None:
        self.index += self.flow.burst
        self._next = next(self._times, None)


class BacklogSource:
    """A volume that is to go: as many of its bundles as the window allows wait in the store, the rest here.

    Attributes:
        flow: what it sends.
        index: running number of the next bundle.
    """

    def __init__(self, flow: FlowConfig, index: int, now: float, stored: Container[int]) -> None:
        """Start at bundle `index`; `stored` are the keys of the bundles that are still here, now and later."""
        self.flow, self.index = flow, index
        self._not_before = max(flow.start, now)
        self._here = stored
        self._batch = max(1, min(_AT_ONCE, _OCTETS_AT_ONCE // max(1, flow.size)))
        self._keys: set[int] = set()

    def adopt(self, key: int) -> None:
        """A bundle of this flow was in the store when the node started."""
        self._keys.add(key)

    @property
    def next_time(self) -> float | None:
        """When there is room, and something left."""
        return self._not_before if self.index < self.flow.count and self._room() else None

    def take(self, now: float) -> list[Offered]:
        """As many as there is room for, in batches."""
        flow = self.flow
        last = min(self.index + min(self._room(), self._batch), flow.count)
        return [
            Offered(i, flow.last if i == flow.count - 1 else flow.size, flow.priority, flow.destination)
            for i in range(self.index, last)
        ]

    def stored(self, offered: Offered, key: int | None, now: float) -> bool:
        """Go on behind what was stored; wait a while when the store is full."""
        if key is None:
            self._not_before = now + _BACK_OFF
            return False
        self._keys.add(key)
        self.index = offered.number + 1
        return True

    def _room(self) -> int:
        here = self._here
        self._keys = {key for key in self._keys if key in here}
        return max(0, self.flow.window - len(self._keys))
