"""An asyncio event loop on virtual time: when nothing is ready, time jumps to the next deadline.

One process, one thread, no real input or output: the order of events follows from their times and from the order in
which they were scheduled, so that a run is the same from machine to machine.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Mapping
from typing import Any

from marsnet.errors import MarsnetError

_RESOLUTION = 1e-9
"""Timers within a nanosecond of each other fire together: a sum of floats never misses its own deadline."""


class DeadlockError(MarsnetError):
    """Nothing is scheduled and something still waits: the virtual world cannot go on."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: hands the time that asyncio would wait to the loop. The loop's own wake-up pipe is all it holds."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.loop: VirtualLoop | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("the virtual world waits for something that nothing will bring about")
        if timeout > 0 and self.loop is not None:
            self.loop.jump(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """Event loop whose `time()` is virtual seconds from 0. Threads and sockets have no place in it."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        self._virtual = 0.0
        self._clock_resolution = _RESOLUTION

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual += seconds
        # asyncio fires what is due before now + resolution, which must not vanish beside a large now.
        self._clock_resolution = max(_RESOLUTION, 2 * math.ulp(self._virtual))
