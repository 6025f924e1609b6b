"""The SQLite file under a bundle store: one connection, one growing transaction, faults told apart."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from marsnet.dtn.store.types import BundleRecord, BundleState, CorruptionError, StorageFullError, StoreError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE bundles (
    key INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, source TEXT NOT NULL, destination TEXT NOT NULL,
    service_class INTEGER NOT NULL, size INTEGER NOT NULL, expiry REAL NOT NULL, tenant TEXT NOT NULL,
    state INTEGER NOT NULL, received_from TEXT NOT NULL, handler TEXT NOT NULL, added REAL NOT NULL,
    checksum INTEGER NOT NULL, file TEXT, data BLOB);
CREATE TABLE octets (key INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE INDEX by_state ON bundles (state, service_class, key);
CREATE INDEX by_expiry ON bundles (service_class, expiry);
CREATE INDEX by_file ON bundles (file) WHERE file IS NOT NULL;
CREATE TABLE seen (id BLOB PRIMARY KEY, expiry REAL NOT NULL, delivered INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX seen_by_expiry ON seen (expiry);
CREATE TABLE usage (tenant TEXT PRIMARY KEY, bundles INTEGER NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state (space TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (space, name))
    WITHOUT ROWID;
"""
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
COLUMNS = "key, id, source, destination, service_class, size, expiry, tenant, state, received_from, handler, added"
"""What `record_of` takes, of the table of bundles."""
_STATES = tuple(BundleState)
_PAGE = 1 << 13
"""Octets of a page of a new file. Where bundles of 1 to 20 kB have commits of their own, the store takes a quarter to a
third less CPU time than with 16 KiB; where eight of 100 kB share one, as much, and less than with 4 KiB."""
_LOG = 8 << 20
"""Octets of the log that go to the database file together."""
VERIFY_UP_TO = 64 << 20
"""Database files up to this size, bytes, are checked page by page whenever they are opened (about 0.1 s)."""


class Database:
    """Statements run inside a transaction that begins with the first change and ends with `commit`.

    When anything fails, the whole transaction is undone. What was run by `change` is then run again in a new one: it is
    not lost but becomes durable with the next commit that succeeds.

    Attributes:
        rows: what the last statement returned that was run again.
    """

    def __init__(self, path: Path | None, *, verify: bool, sync: bool = True) -> None:
        """Open or create.

        Args:
            path: of the file; None for memory.
            verify: check every page, however large the file.
            sync: wait for the disk at every commit; without, a commit outlives the process but not the machine.

        Raises:
            CorruptionError: the file is no intact database of this kind.
            StoreError: another process has it open, or it cannot be opened.
        """
        self.path = path
        self._kept: list[tuple[str, tuple[Any, ...]]] = []
        self._dirty = False
        self.rows: list[Any] = []
        try:
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path, timeout=0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}; give the node a folder that it can write to") from error
        try:
            self._prepare(verify, sync)
        except sqlite3.Error as error:
            self._connection.close()
            raise self._explain(error) from error
        except StoreError:
            self._connection.close()
            raise

    def _prepare(self, verify: bool, sync: bool) -> None:
        run = self._connection.execute
        if self.path is not None:
            run("PRAGMA locking_mode=EXCLUSIVE")
            if not run("PRAGMA page_count").fetchone()[0]:
                # Before anything is written, or it has no effect; the second lets `shrink` work.
                run(f"PRAGMA page_size={_PAGE}")
                run("PRAGMA auto_vacuum=INCREMENTAL")
            run("PRAGMA journal_mode=WAL")
            run(f"PRAGMA wal_autocheckpoint={_LOG // _PAGE}")
            run(f"PRAGMA synchronous={'FULL' if sync else 'OFF'}")
        # Some distributions overwrite what is deleted; that writes every large bundle once more.
        run("PRAGMA secure_delete=OFF")
        version = run("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: version {version} of the store, this program writes {SCHEMA_VERSION}; use another folder"
            )
        elif verify or (self.path is not None and self.path.stat().st_size <= VERIFY_UP_TO):
            problem = run("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise CorruptionError(f"{self.path}: {problem}; {_SALVAGE}")
        run("BEGIN IMMEDIATE").execute("ROLLBACK")

    @property
    def dirty(self) -> bool:
        """Whether there are changes that are not durable."""
        return self._dirty or bool(self._kept)

    def write(self, sql: str, parameters: tuple[Any, ...]) -> sqlite3.Cursor:
        """Run a statement that changes something, as part of the transaction.

        Raises:
            sqlite3.Error: it failed; the caller undoes the transaction.
        """
        self.begin()
        return self._connection.execute(sql, parameters)

    def change(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        """Run a statement that is run again when the transaction has to be undone; returns its rows (`RETURNING`).

        Raises:
            sqlite3.Error: it failed; the caller undoes the transaction, and `rows` has what it returned then.
        """
        self._kept.append((sql, parameters))
        if self._dirty:
            return self._connection.execute(sql, parameters).fetchall()
        self._begin()
        return self.rows

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._dirty = True
        for sql, parameters in self._kept:
            self.rows = self._connection.execute(sql, parameters).fetchall()

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """The rows of a query, which sees the changes of the transaction.

        Raises:
            StoreError: it failed.
        """
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def begin(self) -> None:
        """Begin a transaction, unless one is under way. Raises sqlite3.Error; the caller undoes it then."""
        if not self._dirty:
            self._begin()

    def commit(self) -> None:
        """Make the transaction durable. Raises sqlite3.Error; the caller undoes it then."""
        self._connection.execute("COMMIT")
        self._dirty = False
        self._kept.clear()

    def undo(self) -> bool:
        """Undo the transaction, then run again in a new one what is to be kept.

        Returns:
            False when even that fails; it is tried again with the next change.
        """
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._dirty = False
        try:
            self._begin()
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._dirty = False
            return False
        return True

    def shrink(self) -> None:
        """Give free pages and the log back to the file system, as far as that works without room to do it in."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def explain(self, error: sqlite3.Error | OSError, lost: Iterable[int]) -> StoreError:
        """What a failure of a change means for whoever asked for it."""
        if isinstance(error, OSError):
            return StorageFullError(
                f"{self.path}: a payload file cannot be written ({error.strerror}); free space on that file system",
                tuple(lost),
            )
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return StorageFullError(
                f"{self.path}: {error}; free space on that file system, the store goes on with the next commit",
                tuple(lost),
            )
        return self._explain(error)

    def _explain(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _CORRUPT:
            return CorruptionError(f"{self.path}: {error}; {_SALVAGE}")
        if code in _BUSY:
            return StoreError(f"{self.path}: another process has this store open; give each node a folder of its own")
        return StoreError(f"{self.path}: {error}")

    def close(self) -> None:
        """Close without committing."""
        self._connection.close()


_SALVAGE = "move the file away, or open the store with on_corruption='set_aside', to go on with an empty one"


def record_of(row: tuple[Any, ...]) -> BundleRecord:
    """The record in a row of `COLUMNS`."""
    key, bundle_id, source, destination, service_class, size, expiry, tenant, state, received_from, handler, added = row
    return BundleRecord(
        key,
        bundle_id,
        source,
        destination,
        service_class,
        size,
        expiry,
        tenant,
        _STATES[state],
        received_from,
        handler,
        added,
    )
