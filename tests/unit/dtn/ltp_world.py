"""Engines on a virtual clock, joined by links that delay, lose, repeat and reorder."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from marsnet.dtn.ltp import LtpEngine, LtpEvent, RedPartReceived


@dataclass
class Channel:
    """One direction: `lose(octets, when)` decides on each datagram, `delay` and `jitter` are seconds."""

    delay: float
    jitter: float = 0.0
    repeat: float = 0.0
    lose: Callable[[bytes, float], bool] = lambda octets, when: False


@dataclass
class World:
    engines: dict[int, LtpEngine]
    channels: dict[tuple[int, int], Channel]
    seed: int = 0
    confirm_after: float | None = 0.0
    damage: Callable[[bytes], bytes] = lambda octets: octets
    now: float = 0.0
    log: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    events: dict[int, list[tuple[float, LtpEvent]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._queue: list[tuple[float, int, int, int, object]] = []
        self._serial = 0
        self.events = {engine: [] for engine in self.engines}

    def at(self, when: float, action: Callable[[], object]) -> None:
        self._push(when, -1, -1, action)

    def _push(self, when: float, target: int, source: int, what: object) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (when, self._serial, target, source, what))

    def _settle(self) -> None:
        for name, engine in self.engines.items():
            engine.advance(self.now)
            for peer, octets, _ in engine.take_datagrams():
                self.log.append((self.now, name, peer, octets))
                channel = self.channels[name, peer]
                for _copy in range(1 + (self._rng.random() < channel.repeat)):
                    if not channel.lose(octets, self.now):
                        arrival = self.now + channel.delay + self._rng.random() * channel.jitter
                        self._push(arrival, peer, name, self.damage(octets))
            for event in engine.take_events():
                self.events[name].append((self.now, event))
                if isinstance(event, RedPartReceived) and self.confirm_after is not None:
                    self.at(
                        self.now + self.confirm_after,
                        lambda e=engine, s=event.session: e.confirm(s, self.now),  # type: ignore[misc]
                    )

    def run(self, until: float = float("inf"), steps: int = 2_000_000) -> None:
        for _ in range(steps):
            self._settle()
            deadlines = [d for e in self.engines.values() if (d := e.next_deadline(self.now)) is not None]
            if self._queue:
                deadlines.append(self._queue[0][0])
            if not deadlines or min(deadlines) > until:
                return
            self.now = max(self.now, min(deadlines))
            while self._queue and self._queue[0][0] <= self.now:
                _, _, target, source, what = heapq.heappop(self._queue)
                if callable(what):
                    what()
                else:
                    assert isinstance(what, bytes)
                    self.engines[target].receive(what, self.now, source)
        raise AssertionError(f"still busy after {steps} steps, at {self.now} s")

    def of(self, engine: int, kind: type) -> list[LtpEvent]:
        return [event for _, event in self.events[engine] if isinstance(event, kind)]
