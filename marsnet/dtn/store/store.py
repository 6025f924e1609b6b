"""A bundle store that survives kill -9: metadata and small bundles in SQLite, large ones in files, group commit."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import google_crc32c

from marsnet.dtn.recipe import Rope
from marsnet.dtn.store.ballast import Ballast
from marsnet.dtn.store.base import Store
from marsnet.dtn.store.database import COLUMNS, Database, record_of
from marsnet.dtn.store.payloads import PayloadFiles
from marsnet.dtn.store.room import Room
from marsnet.dtn.store.types import (
    Added,
    BundleRecord,
    BundleState,
    CorruptionError,
    EvictionPolicy,
    StorageFullError,
    StoreError,
    UnknownBundleError,
    Usage,
)

_INLINE = 2048
"""Bundles up to this size, bytes, lie beside their metadata; changing the state of a larger one must not move it."""
_INSERT = (
    "INSERT INTO bundles (id, source, destination, service_class, size, expiry, tenant, state, received_from, handler,"
    " added, checksum, file, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, ?, ?)"
)


class BundleStore(Store):
    """A store in SQLite and files. It keeps no list of bundles in memory.

    A failing disk undoes the transaction as a whole: bundles added in it are not stored (`StorageFullError.lost`),
    while deletions, state changes and protocol state are remembered and become durable with the next commit that
    succeeds.

    Methods block for as long as SQLite takes (microseconds; `commit` as long as an fsync). `commit` may run in a worker
    thread while no other method is called.
    """

    def __init__(
        self,
        path: Path | str | None,
        *,
        quota_bytes: int = 1 << 40,
        payload_file_threshold: int = 1 << 18,
        policy: EvictionPolicy | None = None,
        ballast_bytes: int = 8 << 20,
        verify: bool = False,
        on_corruption: Literal["refuse", "set_aside"] = "refuse",
        sync: bool = True,
    ) -> None:
        """Open the store, or make a new one.

        Args:
            path: a folder of its own; None keeps everything in memory, with the same behaviour.
            quota_bytes: octets of bundles stored at most.
            payload_file_threshold: bundles of at least this many octets are kept in files.
            policy: what to evict when a quota is reached.
            ballast_bytes: disk space kept back, so that bundles can still be deleted when the disk is full; while the
                disk has less free than that, nothing is added.
            verify: check every page of a large database too (small ones are always checked).
            on_corruption: raise, or rename a corrupt database and begin anew.
            sync: a commit waits for the disk. Without, it outlives a kill of the process but not a power failure of
                the machine.

        Raises:
            CorruptionError: the database is corrupt and to be refused.
            StoreError: another process has it open, or the folder cannot be written.
        """
        super().__init__()
        self._threshold = payload_file_threshold
        self._files: PayloadFiles | None = None
        self._ballast: Ballast | None = None
        if path is None:
            self._db = Database(None, verify=False)
        else:
            folder = Path(path)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{folder}: {error.strerror}; give the node a folder that it can write to") from error
            self._db = self._open(folder / "bundles.sqlite", verify, on_corruption, sync)
            self._files = PayloadFiles(folder / "payloads", sync)
            self.counters.orphans = self._files.remove_orphans(
                {name for (name,) in self._db.read("SELECT file FROM bundles WHERE file IS NOT NULL")}
            )
            self._ballast = Ballast(folder / "ballast", ballast_bytes)
        self._uncommitted: list[int] = []
        self._room = Room(self._db, quota_bytes, policy or EvictionPolicy(), self._handed_out)

    def _open(self, file: Path, verify: bool, on_corruption: str, sync: bool) -> Database:
        try:
            return Database(file, verify=verify, sync=sync)
        except CorruptionError:
            if on_corruption != "set_aside":
                raise
            number = 1
            while (aside := file.with_name(f"{file.name}.corrupt-{number}")).exists():
                number += 1
            file.rename(aside)
            for suffix in ("-wal", "-shm"):
                file.with_name(file.name + suffix).unlink(missing_ok=True)
            self.counters.set_aside += 1
            return Database(file, verify=False, sync=sync)

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
        data = bytes(data)
        size = len(data)
        evicted: tuple[BundleRecord, ...] = ()
        try:
            unseen = self._db.write("INSERT OR IGNORE INTO seen VALUES (?, ?, 0)", (bundle_id, expiry)).rowcount
            if not unseen:
                self.counters.duplicates += 1
                return Added(None)
            evicted = self._make_room(bundle_id, size, tenant, service_class, now)
            file = None if self._files is None or size < self._threshold else self._files.write(data)
            row = (bundle_id, source, destination, int(service_class), size, expiry, tenant, state.value, received_from)
            stored = (now, google_crc32c.value(data), file, data if size <= _INLINE else None)
            key = self._db.write(_INSERT, row + stored).lastrowid
            if file is None and size > _INLINE:
                self._db.write("INSERT INTO octets VALUES (?, ?)", (key, data))
        except (sqlite3.Error, OSError) as error:
            failure = self._undo(error) or self._db.explain(error, ())
            if isinstance(failure, StorageFullError):
                failure.evicted = evicted
            raise failure from error
        if key is None:
            raise StoreError("SQLite gave no key to a new bundle")
        self._uncommitted.append(key)
        self._room.account(tenant, 1, size)
        self.counters.added += 1
        return Added(key, evicted)

    def _check_disk(self) -> None:
        if self._ballast is not None and not self._ballast.restore():
            raise StorageFullError(f"{self._db.path}: the file system is full; free space on it")

    def _make_room(
        self, bundle_id: bytes, size: int, tenant: str, service_class: int, now: float
    ) -> tuple[BundleRecord, ...]:
        """Evict what has to go for a bundle; one that finds no room has not been seen."""
        try:
            self._check_disk()
            victims = self._room.victims(size, tenant, service_class, now)
        except StorageFullError:
            self.counters.refused += 1
            self._db.write("DELETE FROM seen WHERE id = ?", (bundle_id,))
            raise
        for record, file in victims:
            self._remove(record.key, record.id, record.tenant, record.size, file, forget=True)
        self.counters.evicted += len(victims)
        return tuple(record for record, _ in victims)

    def set_quota(self, quota_bytes: int) -> None:
        self._room.set_quota(quota_bytes)

    def load(self, key: int) -> bytes:
        rows = self._db.read("SELECT checksum, file, data FROM bundles WHERE key = ?", (key,))
        if not rows:
            raise UnknownBundleError(f"no bundle {key} in the store")
        checksum, file, data = rows[0]
        if file is None and data is None:
            data = b"".join(octets for (octets,) in self._db.read("SELECT data FROM octets WHERE key = ?", (key,)))
        if file is not None and self._files is not None:
            try:
                data = self._files.read(file)
            except OSError as error:
                self.counters.corrupt_bundles += 1
                raise CorruptionError(f"payload file {file} of bundle {key}: {error.strerror}") from error
        if google_crc32c.value(data) != checksum:
            self.counters.corrupt_bundles += 1
            raise CorruptionError(f"bundle {key} does not fit its checksum")
        return bytes(data)

    def record(self, key: int) -> BundleRecord:
        rows = self._db.read(f"SELECT {COLUMNS} FROM bundles WHERE key = ?", (key,))  # noqa: S608
        if not rows:
            raise UnknownBundleError(f"no bundle {key} in the store")
        return record_of(rows[0])

    def set_state(self, key: int, state: BundleState, handler: str = "") -> None:
        self._change("UPDATE bundles SET state = ?, handler = ? WHERE key = ?", (state.value, handler, key))

    def delete(self, key: int, *, forget: bool = False) -> None:
        rows = self._change("DELETE FROM bundles WHERE key = ? RETURNING id, tenant, size, file", (key,))
        if rows:
            self._removed(key, *rows[0], forget=forget)

    def _remove(self, key: int, bundle_id: bytes, tenant: str, size: int, file: str | None, *, forget: bool) -> None:
        self._change("DELETE FROM bundles WHERE key = ?", (key,))
        self._removed(key, bundle_id, tenant, size, file, forget=forget)

    def _removed(self, key: int, bundle_id: bytes, tenant: str, size: int, file: str | None, *, forget: bool) -> None:
        self._handed_out.discard(key)
        if file is None and size > _INLINE:
            self._change("DELETE FROM octets WHERE key = ?", (key,))
        if forget:
            self._change("DELETE FROM seen WHERE id = ?", (bundle_id,))
        self._room.account(tenant, -1, -size)
        if file is not None and self._files is not None:
            self._files.doom(file)

    def expire(self, now: float, limit: int = 1000) -> list[BundleRecord]:
        expired: list[BundleRecord] = []
        for service_class in range(4):
            rows = self._db.read(
                f"SELECT {COLUMNS}, file FROM bundles WHERE service_class = ? AND expiry <= ? AND state != ?"  # noqa: S608
                " ORDER BY expiry LIMIT ?",
                (service_class, now, BundleState.DELIVERING.value, limit - len(expired)),
            )
            for row in rows:
                record = record_of(row[:12])
                self._remove(record.key, record.id, record.tenant, record.size, row[12], forget=False)
                expired.append(record)
        self.counters.expired += len(expired)
        old = "SELECT id FROM seen WHERE expiry <= ? ORDER BY expiry LIMIT ?"
        if self._db.read("SELECT 1 FROM seen WHERE expiry <= ? LIMIT 1", (now,)):
            self._change(f"DELETE FROM seen WHERE id IN ({old})", (now, limit))  # noqa: S608
        return expired

    def next_expiry(self) -> float | None:
        times = [
            self._db.read(
                "SELECT expiry FROM bundles WHERE service_class = ? AND state != ? ORDER BY expiry LIMIT 1",
                (service_class, BundleState.DELIVERING.value),
            )
            for service_class in range(4)
        ]
        return min((rows[0][0] for rows in times if rows), default=None)

    def iterate(self, *states: BundleState, page: int = 256) -> Iterator[BundleRecord]:
        for state in states:
            for service_class in range(4):
                after = 0
                while True:
                    rows = self._db.read(
                        f"SELECT {COLUMNS} FROM bundles"  # noqa: S608
                        " WHERE state = ? AND service_class = ? AND key > ? ORDER BY key LIMIT ?",
                        (state.value, service_class, after, page),
                    )
                    yield from map(record_of, rows)
                    if len(rows) < page:
                        break
                    after = rows[-1][0]

    @property
    def newest(self) -> int:
        rows = self._db.read("SELECT MAX(key) FROM bundles")
        return int(rows[0][0] or 0)

    def page(self, after: int, limit: int, states: Iterable[BundleState] = tuple(BundleState)) -> list[BundleRecord]:
        wanted = ", ".join(str(state.value) for state in states)
        rows = self._db.read(
            f"SELECT {COLUMNS} FROM bundles WHERE key > ? AND state IN ({wanted}) ORDER BY key LIMIT ?",  # noqa: S608
            (after, limit),
        )
        return [record_of(row) for row in rows]

    # Duplicates and delivery

    def seen(self, bundle_id: bytes) -> bool:
        return bool(self._db.read("SELECT 1 FROM seen WHERE id = ?", (bundle_id,)))

    def confirm_delivery(self, key: int) -> bool:
        rows = self._change("DELETE FROM bundles WHERE key = ? RETURNING id, tenant, size, file", (key,))
        if not rows:
            return False
        self._change("UPDATE seen SET delivered = 1 WHERE id = ?", (rows[0][0],))
        self._removed(key, *rows[0], forget=False)
        return True

    def delivered(self, bundle_id: bytes) -> bool:
        return bool(self._db.read("SELECT 1 FROM seen WHERE id = ? AND delivered = 1", (bundle_id,)))

    # Protocol state

    def put(self, space: str, name: str, value: bytes) -> None:
        self._change("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (space, name, value))

    def get(self, space: str, name: str) -> bytes | None:
        rows = self._db.read("SELECT value FROM state WHERE space = ? AND name = ?", (space, name))
        return bytes(rows[0][0]) if rows else None

    def drop(self, space: str, name: str) -> None:
        self._change("DELETE FROM state WHERE space = ? AND name = ?", (space, name))

    def items(self, space: str) -> dict[str, bytes]:
        rows = self._db.read("SELECT name, value FROM state WHERE space = ? ORDER BY name", (space,))
        return {name: bytes(value) for name, value in rows}

    # Transactions

    @property
    def dirty(self) -> bool:
        return self._db.dirty

    def commit(self) -> None:
        """Make all changes durable.

        Raises:
            StorageFullError: the disk is full or fails; its `lost` bundles are not stored.
            StoreError: the database failed.
        """
        if not self._db.dirty:
            return
        began = time.perf_counter()
        try:
            self._commit()
        except (sqlite3.Error, OSError) as error:
            self._undo_or_raise(error)
            try:
                self._commit()
            except (sqlite3.Error, OSError) as again:
                self._undo_or_raise(again)
                raise self._db.explain(again, ()) from again
        self.counters.commit_seconds += time.perf_counter() - began

    def _commit(self) -> None:
        self._db.begin()
        self._room.write()
        if self._files is not None:
            self._files.sync()
        self._db.commit()
        if self._files is not None:
            self._files.committed()
        self._uncommitted.clear()
        self._room.committed()
        self.counters.commits += 1
        if self._ballast is not None and not self._ballast.restore():
            self._db.shrink()
            self._ballast.restore()

    def close(self) -> None:
        """Commit and close. Raises as `commit`; the store is closed all the same."""
        try:
            self.commit()
        finally:
            self._db.close()

    def _change(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        try:
            return self._db.change(sql, parameters)
        except sqlite3.Error as error:
            self._undo_or_raise(error)
            return self._db.rows

    def _undo_or_raise(self, error: sqlite3.Error | OSError) -> None:
        failure = self._undo(error)
        if failure is not None:
            raise failure from error

    def _undo(self, error: sqlite3.Error | OSError) -> StoreError | None:
        """Undo the transaction, give up the ballast and run again, in a new transaction, what is to be kept.

        Returns:
            What the error means, when bundles are lost by it or when what is kept cannot be run either; else None.
        """
        self.counters.failed_commits += 1
        lost, self._uncommitted = self._uncommitted, []
        if self._ballast is not None:
            self._ballast.release()
        redone = self._db.undo()
        if self._files is not None:
            self._files.rolled_back()
        self._room.recount(final=redone)
        return self._db.explain(error, lost) if lost or not redone else None

    @property
    def usage(self) -> Usage:
        return self._room.usage

    @property
    def quota(self) -> int:
        """Octets that it may hold."""
        return self._room.quota

    def tenant_usage(self, tenant: str) -> Usage:
        return self._room.tenant(tenant)
