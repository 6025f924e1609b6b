"""An asyncio event loop on virtual time: when nothing is ready, time jumps to the next deadline.

One process, one thread, no real input or output: the order of events follows from their times and from the order in
which they were scheduled, so that a run is the same from machine to machine.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import selectors
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, TypeVarTuple

from marsnet.errors import MarsnetError

_Ts = TypeVarTuple("_Ts")
_RESOLUTION = 1e-9
"""Timers within a nanosecond of each other fire together: a sum of floats never misses its own deadline."""


class DeadlockError(MarsnetError):
    """Nothing is scheduled and something still waits: the virtual world cannot go on."""


class _NoSelector(selectors.BaseSelector):
    """Selects nothing: the loop's own wake-up pipe is all that it is ever told of."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class _Timer(asyncio.TimerHandle):
    """A timer that is made and cancelled by fewer calls than asyncio's, of which a run makes a hundred thousand."""

    __slots__ = ()
    _callback: Callable[..., object] | None

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Sequence[object],
        loop: VirtualLoop,
        context: contextvars.Context,
    ) -> None:
        self._when, self._callback, self._args = when, callback, args
        self._loop, self._context = loop, context
        self._cancelled, self._scheduled = False, True
        self._source_traceback = self._repr = None

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = None, ()


class VirtualLoop(asyncio.SelectorEventLoop):
    """Event loop whose `time()` is virtual seconds from 0. Threads and sockets have no place in it.

    It keeps its timers itself: asyncio compares their objects in Python, and lets those of one instant fire in any
    order. Callbacks that name no context share one.
    """

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__(_NoSelector())
        self._virtual = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._serial = 0
        self._shared = contextvars.copy_context()
        self._broken: BaseException | None = None

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at a virtual instant, after what was to be called at the same instant before."""
        handle = _Timer(when, callback, args, self, self._shared if context is None else context)
        self._serial += 1
        heappush(self._timers, (when, self._serial, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call after so many virtual seconds."""
        return self.call_at(self._virtual + delay, callback, *args, context=context)

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call at this instant, after what is to be called already."""
        handle = asyncio.Handle(callback, args, self, self._shared if context is None else context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """One turn, in place of asyncio's: jump where nothing is ready, and call what is due then."""
        timers, ready = self._timers, self._ready
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if not (ready or self._stopping):
            if not timers:
                raise DeadlockError("the virtual world waits for something that nothing will bring about")
            self._virtual = max(self._virtual, timers[0][0])
        due = self._virtual + max(_RESOLUTION, 2 * math.ulp(self._virtual))
        while timers and timers[0][0] < due:
            ready.append(heappop(timers)[2])
        # What these callbacks schedule is called in the next turn.
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What goes wrong in a callback ends the run: a verdict would be about another network."""
        error = context.get("exception")
        if not isinstance(error, BaseException):
            super().call_exception_handler(context)
            return
        self._broken = self._broken or error
        self.stop()

    def run_forever(self) -> None:
        """Go on until the loop is stopped.

        Raises:
            Exception: what went wrong in a callback.
        """
        super().run_forever()
        if self._broken is not None:
            raise self._broken
