"""Fragments that wait in the store for the others of their bundle: which parts are here, within bounds (RFC 9171 5.9).

Only offsets and lengths are in memory; the octets stay in the store until the last missing part has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from marsnet.dtn.bpv7 import Bundle, BundleError, BundleId, Malformation, Reassembler
from marsnet.model.bundles import FragmentsConfig


class Offer(Enum):
    """What a fragment is worth to the node that puts its bundle together."""

    NEW = auto()
    """It brings octets that are missing."""
    KNOWN = auto()
    """All of its octets are here."""
    CONTRADICTORY = auto()
    """It states another length of the original than the fragments that are here."""
    TOO_MUCH = auto()
    """A bound would be exceeded."""


@dataclass(slots=True)
class _Partial:
    total: int
    parts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Begin and end of the payload of each fragment, by key."""


class Reassembly:
    """The bundles that are incomplete.

    Attributes:
        held_bytes: payload bytes of all fragments that wait.
        fragments: how many wait.
    """

    def __init__(self, config: FragmentsConfig) -> None:
        """Begin with nothing; fragments that a store holds after a restart are added again."""
        self.held_bytes = self.fragments = 0
        self._config = config
        self._partial: dict[BundleId, _Partial] = {}
        self._of: dict[int, BundleId] = {}

    def __len__(self) -> int:
        """Bundles that are incomplete."""
        return len(self._partial)

    def __contains__(self, key: int) -> bool:
        """Whether a fragment in the store waits for others."""
        return key in self._of

    def offer(self, fragment: Bundle) -> Offer:
        """What a fragment is worth, before it is stored."""
        begin, end, total = _span(fragment)
        partial = self._partial.get(whole_id(fragment))
        size = end - begin
        if total > self._config.bytes or self.held_bytes + size > self._config.bytes:
            return Offer.TOO_MUCH
        if partial is None:
            return Offer.TOO_MUCH if len(self._partial) >= self._config.bundles else Offer.NEW
        if partial.total != total:
            return Offer.CONTRADICTORY
        if covers(partial.parts.values(), begin, end):
            return Offer.KNOWN
        return Offer.TOO_MUCH if len(partial.parts) >= self._config.parts else Offer.NEW

    def add(self, key: int, fragment: Bundle) -> tuple[int, ...] | None:
        """Count a stored fragment in.

        Args:
            key: in the store.
            fragment: worth `Offer.NEW`.

        Returns:
            The keys of all fragments of its bundle, when they make it whole.
        """
        begin, end, total = _span(fragment)
        whole = whole_id(fragment)
        partial = self._partial.setdefault(whole, _Partial(total))
        partial.parts[key] = (begin, end)
        self._of[key] = whole
        self.held_bytes += end - begin
        self.fragments += 1
        return tuple(partial.parts) if covers(partial.parts.values(), 0, total) else None

    def parts(self, whole: BundleId) -> tuple[int, ...]:
        """The keys of the fragments of a bundle that wait for others."""
        partial = self._partial.get(whole)
        return () if partial is None else tuple(partial.parts)

    def remove(self, key: int) -> None:
        """A fragment has left the store. Without effect when it did not wait."""
        whole = self._of.pop(key, None)
        if whole is None:
            return
        partial = self._partial[whole]
        begin, end = partial.parts.pop(key)
        self.held_bytes -= end - begin
        self.fragments -= 1
        if not partial.parts:
            del self._partial[whole]

    def join(self, keys: Iterable[int], load: Callable[[int], Bundle]) -> Bundle:
        """The bundle that fragments make.

        Args:
            keys: as `add` returned them.
            load: reads a fragment.

        Raises:
            BundleError: they do not fit together after all; what `load` raises passes.
        """
        joiner = Reassembler(max_bytes=self._config.bytes, max_bundles=1, max_fragments=self._config.parts)
        for key in keys:
            done = joiner.add(load(key), expiry=0.0)
            if done is not None:
                return done.bundle
        raise BundleError(Malformation.FRAGMENT, "the fragments do not make a whole bundle")


def whole_id(fragment: Bundle) -> BundleId:
    """The ID of the bundle that a fragment is of."""
    return BundleId(fragment.source, fragment.timestamp)


def covers(spans: Iterable[tuple[int, int]], begin: int, end: int) -> bool:
    """Whether spans together cover all from `begin` to before `end`."""
    at = begin
    for first, last in sorted(spans):
        if first > at:
            break
        at = max(at, last)
    return at >= end


def _span(fragment: Bundle) -> tuple[int, int, int]:
    begin = fragment.fragment_offset or 0
    return begin, begin + len(fragment.payload), fragment.total_length or 0
