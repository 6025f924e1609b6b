"""When to try again: waits that double from one attempt to the next."""

from __future__ import annotations


class Backoff:
    """The attempts to reach one neighbour. Times are mission seconds.

    Attributes:
        at: of the next attempt; None when none is wanted.
    """

    __slots__ = ("_first", "_limit", "_wait", "at")

    def __init__(self, first: float, limit: float) -> None:
        """Wait `first` after the first failure, and at most `limit`."""
        self._first = self._wait = first
        self._limit = max(first, limit)
        self.at: float | None = None

    def begin(self, now: float) -> None:
        """Try at once."""
        self.at = now

    def failed(self, now: float) -> None:
        """The attempt failed: try again after a while."""
        self.at = now + self._wait
        self._wait = min(2 * self._wait, self._limit)

    def succeeded(self) -> None:
        """The next failure is a first one again."""
        self.at, self._wait = None, self._first

    def stop(self) -> None:
        """Do not try."""
        self.at = None

    def due(self, now: float) -> bool:
        """Whether to try now. It says so once."""
        if self.at is None or self.at > now:
            return False
        self.at = None
        return True
