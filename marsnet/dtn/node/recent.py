"""Bundles that came lately, decoded: most leave soon, and need not be read from the store and decoded again."""

from __future__ import annotations

from marsnet.dtn.bpv7 import Bundle


class Recent:
    """Bundles by their keys in the store, each until it is taken, the oldest given up first."""

    def __init__(self, octets: int) -> None:
        """Keep bundles of so many octets together at most."""
        self._limit = octets
        self._held = 0
        self._bundles: dict[int, tuple[Bundle, int]] = {}

    def __len__(self) -> int:
        return len(self._bundles)

    def put(self, key: int, bundle: Bundle, size: int) -> None:
        """A bundle of `size` octets came into the store."""
        self._bundles[key] = bundle, size
        self._held += size
        while self._held > self._limit:
            _, oldest = self._bundles.pop(next(iter(self._bundles)))
            self._held -= oldest

    def take(self, key: int) -> Bundle | None:
        """The bundle, which is not kept any longer; None where it is not here."""
        found = self._bundles.pop(key, None)
        if found is None:
            return None
        self._held -= found[1]
        return found[0]
