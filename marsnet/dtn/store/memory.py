"""A bundle store for a world in one process: it ends with the process, and asks no database."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from marsnet.dtn.recipe import Recipes, Rope
from marsnet.dtn.store.base import Store
from marsnet.dtn.store.types import (
    Added,
    BundleRecord,
    BundleState,
    EvictionPolicy,
    StorageFullError,
    UnknownBundleError,
    Usage,
)

_EVICTABLE = frozenset((BundleState.QUEUED, BundleState.AWAITING_DELIVERY, BundleState.REASSEMBLY))


class _Kept(NamedTuple):
    """A bundle: what is known of it but for where it stands, and its octets."""

    id: bytes
    source: str
    destination: str
    service_class: int
    size: int
    expiry: float
    tenant: str
    received_from: str
    added: float
    data: bytes | Rope


class MemoryStore(Store):
    """A store that outlives the node but not the process."""

    def __init__(
        self, *, quota_bytes: int = 1 << 40, policy: EvictionPolicy | None = None, recipes: Recipes | None = None
    ) -> None:
        """Begin with nothing.

        Args:
            quota_bytes: octets of bundles stored at most.
            policy: what to evict when a quota is reached.
            recipes: what payloads are made by; None keeps them.
        """
        super().__init__()
        self.recipes = recipes
        self._quota, self._policy = quota_bytes, policy or EvictionPolicy()
        self._bundles: dict[int, _Kept] = {}
        self._states: dict[int, tuple[BundleState, str]] = {}
        self._seen: dict[bytes, float] = {}
        self._old: list[tuple[float, bytes]] = []
        self._delivered: set[bytes] = set()
        self._by_expiry: list[list[tuple[float, int]]] = [[] for _ in range(4)]
        """By class: when bundles expire, and their keys, in order."""
        self._usage: dict[str, tuple[int, int]] = {}
        self._size = 0
        self._newest = 0
        self._protocols: dict[str, dict[str, bytes]] = {}
        self._dirty = False

    # Bundles

    def add(
        self,
        data: bytes | Rope,
        *,
        bundle_id: bytes,
        source: str,
        destination: str,
        service_class: int,
        expiry: float,
        now: float,
        tenant: str = "",
        state: BundleState = BundleState.QUEUED,
        received_from: str = "",
    ) -> Added:
        if bundle_id in self._seen:
            self.counters.duplicates += 1
            return Added(None)
        size = len(data)
        evicted = self._make_room(size, tenant, int(service_class), now)
        self._dirty = True
        self._seen[bundle_id] = expiry
        insort(self._old, (expiry, bundle_id))
        self._newest = key = self._newest + 1
        self._bundles[key] = _Kept(
            bundle_id, source, destination, int(service_class), size, expiry, tenant, received_from, now, data
        )
        self._states[key] = (state, "")
        insort(self._by_expiry[service_class], (expiry, key))
        self._account(tenant, 1, size)
        self.counters.added += 1
        return Added(key, evicted)

    def _account(self, tenant: str, bundles: int, size: int) -> None:
        held = self._usage.get(tenant, (0, 0))
        self._usage[tenant] = (held[0] + bundles, held[1] + size)
        self._size += size

    def _make_room(self, size: int, tenant: str, service_class: int, now: float) -> tuple[BundleRecord, ...]:
        quota = self._policy.tenant_quota.get(tenant)
        own = 0 if quota is None else max(0, self.tenant_usage(tenant).size + size - quota)
        everyone = max(0, self._size + size - self._quota)
        if not own and not everyone:
            return ()
        chosen: dict[int, _Kept] = {}
        freed = self._choose(chosen, own, service_class, now, tenant)
        held = f"{self.tenant_usage(tenant).size} of {quota} bytes of tenant {tenant!r}"
        if freed >= own:
            freed += self._choose(chosen, everyone - freed, service_class, now, None)
            held = f"{self._size} of {self._quota} bytes of the store"
        if freed < max(own, everyone):
            self.counters.refused += 1
            raise StorageFullError(
                f"no room for {size} bytes of class {service_class}: {held} are taken, by bundles as urgent; "
                "raise the quota, or send less"
            )
        records = tuple(self.record(key) for key in chosen)
        for key in chosen:
            self._remove(key, forget=True)
        self.counters.evicted += len(records)
        return records

    def _choose(self, chosen: dict[int, _Kept], needed: int, service_class: int, now: float, tenant: str | None) -> int:
        """Choose more until `needed` octets are freed; returns the octets that these free. See `EvictionPolicy`."""
        freed = 0
        lowest = service_class if self._policy.evict else 3
        choices = [(held, now) for held in range(4)] + [(held, float("inf")) for held in range(3, lowest, -1)]
        for held, limit in choices:
            for expiry, key in self._by_expiry[held]:
                if freed >= needed:
                    return freed
                if expiry > limit:
                    break
                kept = self._bundles[key]
                free = key not in chosen and key not in self._handed_out and self._states[key][0] in _EVICTABLE
                if free and tenant in (None, kept.tenant):
                    chosen[key] = kept
                    freed += kept.size
        return freed

    def set_quota(self, quota_bytes: int) -> None:
        self._quota = quota_bytes

    def load(self, key: int) -> bytes | Rope:
        return self._kept(key).data

    def record(self, key: int) -> BundleRecord:
        kept = self._kept(key)
        state, handler = self._states[key]
        return BundleRecord(
            key,
            kept.id,
            kept.source,
            kept.destination,
            kept.service_class,
            kept.size,
            kept.expiry,
            kept.tenant,
            state,
            kept.received_from,
            handler,
            kept.added,
        )

    def _kept(self, key: int) -> _Kept:
        kept = self._bundles.get(key)
        if kept is None:
            raise UnknownBundleError(f"no bundle {key} in the store")
        return kept

    def set_state(self, key: int, state: BundleState, handler: str = "") -> None:
        self._dirty = True
        if key in self._states:
            self._states[key] = (state, handler)

    def delete(self, key: int, *, forget: bool = False) -> None:
        self._dirty = True
        if key in self._bundles:
            self._remove(key, forget=forget)

    def _remove(self, key: int, *, forget: bool) -> None:
        kept = self._bundles.pop(key)
        del self._states[key]
        self._handed_out.discard(key)
        _drop(self._by_expiry[kept.service_class], (kept.expiry, key))
        self._account(kept.tenant, -1, -kept.size)
        if forget:
            self._forget(kept.id)

    def _forget(self, bundle_id: bytes) -> None:
        expiry = self._seen.pop(bundle_id, None)
        if expiry is not None:
            _drop(self._old, (expiry, bundle_id))
            self._delivered.discard(bundle_id)

    def expire(self, now: float, limit: int = 1000) -> list[BundleRecord]:
        expired: list[BundleRecord] = []
        for keys in self._by_expiry:
            due = keys[: bisect_right(keys, (now, self._newest))]
            free = [key for _, key in due if self._states[key][0] is not BundleState.DELIVERING]
            for key in free[: limit - len(expired)]:
                expired.append(self.record(key))
                self._remove(key, forget=False)
                self._dirty = True
        self.counters.expired += len(expired)
        old = [bundle_id for expiry, bundle_id in self._old[:limit] if expiry <= now]
        for bundle_id in old:
            self._forget(bundle_id)
            self._dirty = True
        return expired

    def next_expiry(self) -> float | None:
        waiting = BundleState.DELIVERING
        times = [
            next((expiry for expiry, key in keys if self._states[key][0] is not waiting), None)
            for keys in self._by_expiry
        ]
        return min((time for time in times if time is not None), default=None)

    def iterate(self, *states: BundleState, page: int = 256) -> Iterator[BundleRecord]:
        for state in states:
            for service_class in range(4):
                keys = [key for key, kept in self._bundles.items() if kept.service_class == service_class]
                for key in keys:
                    if key in self._bundles and self._states[key][0] is state:
                        yield self.record(key)

    @property
    def newest(self) -> int:
        return max(self._bundles, default=0)

    def page(self, after: int, limit: int, states: Iterable[BundleState] = tuple(BundleState)) -> list[BundleRecord]:
        wanted = frozenset(states)
        keys = list(self._bundles)
        found = (key for key in keys[bisect_right(keys, after) :] if self._states[key][0] in wanted)
        return [self.record(key) for key, _ in zip(found, range(limit), strict=False)]

    # Duplicates and delivery

    def seen(self, bundle_id: bytes) -> bool:
        return bundle_id in self._seen

    def confirm_delivery(self, key: int) -> bool:
        self._dirty = True
        kept = self._bundles.get(key)
        if kept is None:
            return False
        if kept.id in self._seen:
            self._delivered.add(kept.id)
        self._remove(key, forget=False)
        return True

    def delivered(self, bundle_id: bytes) -> bool:
        return bundle_id in self._delivered

    # Protocol state

    def put(self, space: str, name: str, value: bytes) -> None:
        self._dirty = True
        self._protocols.setdefault(space, {})[name] = value

    def get(self, space: str, name: str) -> bytes | None:
        return self._protocols.get(space, {}).get(name)

    def drop(self, space: str, name: str) -> None:
        self._dirty = True
        self._protocols.get(space, {}).pop(name, None)

    def items(self, space: str) -> dict[str, bytes]:
        return dict(sorted(self._protocols.get(space, {}).items()))

    # Transactions

    @property
    def dirty(self) -> bool:
        return self._dirty

    def commit(self) -> None:
        """Count a transaction: memory takes all, at once."""
        if self._dirty:
            self._dirty = False
            self.counters.commits += 1

    def close(self) -> None:
        """Nothing waits."""
        self.commit()

    @property
    def quota(self) -> int:
        """Octets that it may hold."""
        return self._quota

    @property
    def usage(self) -> Usage:
        return Usage(len(self._bundles), self._size)

    def tenant_usage(self, tenant: str) -> Usage:
        return Usage(*self._usage.get(tenant, (0, 0)))


def _drop(ordered: list[tuple[float, int]] | list[tuple[float, bytes]], item: tuple[float, int | bytes]) -> None:
    """Take an item out of a list in order."""
    del ordered[bisect_left(ordered, item)]
