"""Traffic sources: bundles at times that follow from the flow and the seed alone, so that every world offers the same.

Payloads carry their own digest, so that a sink can tell whether they arrived intact.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator

from marsnet.dtn.node.config import FlowConfig

_DIGEST = 16


def departures(flow: FlowConfig, seed: int) -> Iterator[float]:
    """Mission times, in order, at which a flow sends a burst."""
    generator = random.Random(f"{seed}/{flow.name}")
    time = flow.start
    if flow.arrivals == "poisson":
        time += generator.expovariate(1 / flow.every)
    while time < flow.stop:
        yield time
        time += generator.expovariate(1 / flow.every) if flow.arrivals == "poisson" else flow.every


def payload(flow: str, index: int, size: int) -> bytes:
    """The payload of a flow's bundle with a running number: a digest and the octets it is made over."""
    if size <= _DIGEST:
        return hashlib.shake_128(f"{flow}/{index}".encode()).digest(size)
    block = hashlib.shake_128(f"{flow}/{index}".encode()).digest(min(size - _DIGEST, 1024))
    body = (block * math.ceil((size - _DIGEST) / len(block)))[: size - _DIGEST]
    return hashlib.blake2b(body, digest_size=_DIGEST).digest() + body


def is_intact(data: bytes) -> bool:
    """Whether a payload made by `payload` is what it was. Payloads too short for a digest count as intact."""
    if len(data) <= _DIGEST:
        return True
    return hashlib.blake2b(data[_DIGEST:], digest_size=_DIGEST).digest() == data[:_DIGEST]


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

    def take(self, now: float) -> list[int]:
        """The running numbers of the bundles that are due by `now`, in order."""
        due: list[int] = []
        while self._next is not None and self._next <= now:
            due.extend(range(self.index, self.index + self.flow.burst))
            self._step()
        return due

    def _step(self) -> None:
        self.index += self.flow.burst
        self._next = next(self._times, None)
