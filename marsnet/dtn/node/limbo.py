"""Bundles that have no way for now, and those whose way is to be decided again, so many at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from operator import attrgetter

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.queues import Held

_KEY = attrgetter("key")


class Limbo:
    """What the node's next look at its bundles begins with.

    News of a neighbour or of the plan may concern a million bundles. They are marked at once and taken in portions, so
    that what arrives meanwhile does not wait for all of them.
    """

    def __init__(self) -> None:
        self._without: dict[int, Held] = {}
        self._marked: set[int] = set()
        self._due: list[deque[Held]] = [deque() for _ in ServiceClass]

    def __contains__(self, key: int) -> bool:
        return key in self._without

    def __iter__(self) -> Iterator[Held]:
        return iter(self._without.values())

    def put(self, held: Held) -> None:
        """A bundle has no way."""
        self._without[held.key] = held

    def discard(self, held: Held) -> None:
        """It has one, or is here no more."""
        self._without.pop(held.key, None)

    def mark(self, helds: Iterable[Held]) -> None:
        """Look at these again, in the order in which they came; not twice at what is marked already."""
        fresh = {held.key: held for held in helds if held.key not in self._marked}
        self._marked.update(fresh)
        for held in sorted(fresh.values(), key=_KEY):
            self._due[held.priority].append(held)

    @property
    def marked(self) -> int:
        """How many are to be looked at."""
        return len(self._marked)

    def take(self, most: int) -> Iterator[Held]:
        """So many of those that are marked, the most urgent class first."""
        for _ in range(min(most, len(self._marked))):
            held = next(waiting for waiting in self._due if waiting).popleft()
            self._marked.discard(held.key)
            yield held
