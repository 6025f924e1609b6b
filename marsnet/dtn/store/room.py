"""How much a bundle store holds, and what it gives up for what is more urgent."""

from __future__ import annotations

from collections.abc import Set

from marsnet.dtn.store.database import COLUMNS, Database, record_of
from marsnet.dtn.store.types import BundleRecord, BundleState, EvictionPolicy, StorageFullError, Usage

_EVICTABLE = (BundleState.QUEUED.value, BundleState.AWAITING_DELIVERY.value, BundleState.REASSEMBLY.value)
_PAGE = 64


class Room:
    """The account of what is stored, by tenant, and the choice of victims under an `EvictionPolicy`.

    The account is kept in the database too, so that opening a store need not count.
    """

    def __init__(self, database: Database, quota: int, policy: EvictionPolicy, handed_out: Set[int]) -> None:
        self._db, self._quota, self._policy, self._handed_out = database, quota, policy, handed_out
        self._usage: dict[str, list[int]] = {
            tenant: [bundles, size] for tenant, bundles, size in database.read("SELECT * FROM usage")
        }
        self._size = sum(size for _, size in self._usage.values())
        self._changed: set[str] = set()
        self._final = True

    def set_quota(self, quota: int) -> None:
        """Let the store hold so many bytes from now on. What is more stays until it leaves by itself."""
        self._quota = quota

    @property
    def quota(self) -> int:
        """Octets that may be stored."""
        return self._quota

    @property
    def usage(self) -> Usage:
        """Bundles and octets stored."""
        return Usage(sum(bundles for bundles, _ in self._usage.values()), self._size)

    def tenant(self, tenant: str) -> Usage:
        """Bundles and octets that a tenant has stored."""
        return Usage(*self._usage.get(tenant, (0, 0)))

    def account(self, tenant: str, bundles: int, size: int) -> None:
        """Note bundles and octets that were added (or, negative, deleted)."""
        usage = self._usage.setdefault(tenant, [0, 0])
        usage[0] += bundles
        usage[1] += size
        self._size += size
        self._changed.add(tenant)

    def recount(self, *, final: bool) -> None:
        """Count anew, after a transaction was undone.

        Args:
            final: False when deletions are still to be run again, so that `write` has to count once more.
        """
        old = set(self._usage)
        rows = self._db.read("SELECT tenant, COUNT(*), SUM(size) FROM bundles GROUP BY tenant")
        self._usage = {tenant: [bundles, size] for tenant, bundles, size in rows}
        self._size = sum(size for _, _, size in rows)
        self._changed |= old | set(self._usage)
        self._final = final

    def write(self) -> None:
        """Put the account into the transaction. Raises sqlite3.Error."""
        if not self._final:
            self.recount(final=True)
        for tenant in self._changed:
            bundles, size = self._usage.get(tenant, (0, 0))
            self._db.write("INSERT OR REPLACE INTO usage VALUES (?, ?, ?)", (tenant, bundles, size))

    def committed(self) -> None:
        """The transaction is durable."""
        self._changed.clear()

    def victims(
        self, size: int, tenant: str, service_class: int, now: float
    ) -> tuple[tuple[BundleRecord, str | None], ...]:
        """What has to go for a bundle: records, and the files that they lie in.

        Args:
            size: of the bundle, octets.
            tenant: whose it is.
            service_class: 0 to 3.
            now: mission time, seconds.

        Raises:
            StorageFullError: the policy gives up too little.
        """
        quota = self._policy.tenant_quota.get(tenant)
        own = 0 if quota is None else max(0, self.tenant(tenant).size + size - quota)
        everyone = max(0, self._size + size - self._quota)
        if not own and not everyone:
            return ()
        chosen: dict[int, tuple[BundleRecord, str | None]] = {}
        freed = self._choose(chosen, own, service_class, now, tenant)
        held = f"{self.tenant(tenant).size} of {quota} bytes of tenant {tenant!r}"
        if freed >= own:
            freed += self._choose(chosen, everyone - freed, service_class, now, None)
            if freed >= everyone:
                return tuple(chosen.values())
            held = f"{self._size} of {self._quota} bytes of the store"
        raise StorageFullError(
            f"no room for {size} bytes of class {service_class}: {held} are taken, by bundles as urgent; "
            "raise the quota, or send less"
        )

    def _choose(
        self,
        chosen: dict[int, tuple[BundleRecord, str | None]],
        needed: int,
        service_class: int,
        now: float,
        tenant: str | None,
    ) -> int:
        """Choose more until `needed` bytes are freed; returns the bytes that these free."""
        freed = 0
        lowest = service_class if self._policy.evict else 3
        choices = [(held, now) for held in range(4)] + [(held, float("inf")) for held in range(3, lowest, -1)]
        for held, expiry in choices:
            after = (float("-inf"), 0)
            while freed < needed:
                rows = self._db.read(
                    f"SELECT {COLUMNS}, file FROM bundles WHERE service_class = ? AND expiry <= ?"  # noqa: S608
                    " AND (expiry, key) > (?, ?) AND state IN (?, ?, ?) AND (? IS NULL OR tenant = ?)"
                    " ORDER BY expiry, key LIMIT ?",
                    (held, expiry, *after, *_EVICTABLE, tenant, tenant, _PAGE),
                )
                for row in rows:
                    record = record_of(row[:12])
                    after = (record.expiry, record.key)
                    if record.key not in chosen and record.key not in self._handed_out and freed < needed:
                        chosen[record.key] = (record, row[12])
                        freed += record.size
                if len(rows) < _PAGE:
                    break
        return freed
