"""Deadlines by time, and the rule for how long an answer may take.

RFC 5326 sections 6.5 and 6.6 let timers run only while the answer can come. With a plan at hand that instant is
computed instead: the answer leaves at the first moment after the arrival at which the peer's contact is open, and a
segment whose answer no planned contact can carry has no deadline until the plan changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from marsnet.dtn.ltp.config import PeerModel


def answer_departure(model: PeerModel, arrival: float) -> float | None:
    """When an answer to what arrives at the peer at `arrival` can leave it; None when no contact is planned."""
    instant: float | None = arrival
    while instant is not None and not model.peer_can_send(instant):
        instant = model.peer_next_change(instant)
    return instant


class Timer:
    """One deadline; None while it does not run.

    Attributes:
        name: what it is for.
    """

    __slots__ = ("deadline",)
    name = "housekeeping"

    def __init__(self) -> None:
        self.deadline: float | None = None

    def waits_for(self) -> int | None:
        """The engine that it waits for, where it waits for one."""
        return None

    def expire(self, now: float) -> None:
        """What happens at the deadline."""
        raise NotImplementedError


class CallTimer(Timer):
    """Calls a function with the time at the deadline."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[float], None]) -> None:
        super().__init__()
        self.action = action

    def expire(self, now: float) -> None:
        """Call it."""
        self.action(now)


class TimerQueue:
    """Timers by deadline. Stopping is O(1); stopped entries are swept out when they are the majority."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = 0
        self._stale = 0

    def __len__(self) -> int:
        return len(self._heap) - self._stale

    def running(self) -> Iterator[Timer]:
        """Those that have a deadline, in no order."""
        return iter({id(timer): timer for deadline, _, timer in self._heap if timer.deadline == deadline}.values())

    def start(self, timer: Timer, deadline: float | None) -> None:
        """Let the timer end at `deadline`; None suspends it."""
        if timer.deadline is not None:
            self._stale += 1
        timer.deadline = deadline
        if deadline is not None:
            self._serial += 1
            heappush(self._heap, (deadline, self._serial, timer))
        if self._stale > 512 and 2 * self._stale > len(self._heap):
            self._heap = list({id(e[2]): e for e in self._heap if e[2].deadline == e[0]}.values())
            heapify(self._heap)
            self._stale = 0

    def stop(self, timer: Timer) -> None:
        """The timer will not end."""
        if timer.deadline is not None:
            timer.deadline = None
            self._stale += 1

    def next(self) -> float | None:
        """The earliest deadline."""
        heap = self._heap
        while heap:
            deadline, _, timer = heap[0]
            if timer.deadline == deadline:
                return deadline
            heappop(heap)
            self._stale -= 1
        return None

    def fire(self, now: float) -> None:
        """Run what has ended by `now`, in order of deadlines. What is started meanwhile waits for the next call."""
        if not self._heap or self._heap[0][0] > now:
            return
        ended = []
        while (deadline := self.next()) is not None and deadline <= now:
            timer = heappop(self._heap)[2]
            timer.deadline = None
            ended.append(timer)
        for timer in ended:
            timer.expire(now)
