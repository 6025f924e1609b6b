"""Large bundles as files beside the database: written at once, made durable with the transaction, never orphaned."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from pathlib import Path

_SUFFIX = ".bundle"


class PayloadFiles:
    """A folder of files, one a bundle. Names are random; the database says which belong to bundles."""

    def __init__(self, folder: Path, sync: bool = True) -> None:
        self._folder, self._sync = folder, sync
        folder.mkdir(exist_ok=True)
        self._unsynced: list[str] = []
        self._doomed: list[str] = []

    def write(self, data: bytes) -> str:
        """Write a new file, not durable before `sync`; returns its name.

        Raises:
            OSError: it could not be written; nothing is left of it then.
        """
        name = secrets.token_hex(12) + _SUFFIX
        path = self._folder / name
        try:
            with path.open("xb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) or 0 :]
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._unsynced.append(name)
        return name

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OSError."""
        return (self._folder / name).read_bytes()

    def doom(self, name: str) -> None:
        """Remove a file as soon as the transaction that deletes its bundle is durable."""
        self._doomed.append(name)

    def sync(self) -> None:
        """Make the files written since the last time durable, and their names. Raises OSError."""
        if not self._unsynced or not self._sync:
            return
        for name in self._unsynced:
            _fsync(self._folder / name, os.O_RDWR)
        _fsync(self._folder, os.O_RDONLY | os.O_DIRECTORY)

    def committed(self) -> None:
        """The transaction is durable: remove the files of deleted bundles."""
        for name in self._doomed:
            (self._folder / name).unlink(missing_ok=True)
        self._unsynced.clear()
        self._doomed.clear()

    def rolled_back(self) -> None:
        """The transaction was undone: remove what was written for it. What is doomed goes with the next one."""
        for name in self._unsynced:
            (self._folder / name).unlink(missing_ok=True)
        self._unsynced.clear()

    def remove_orphans(self, known: Collection[str]) -> int:
        """Remove files that a crash left without a bundle; returns how many."""
        removed = 0
        for path in self._folder.glob("*" + _SUFFIX):
            if path.name not in known:
                path.unlink()
                removed += 1
        return removed


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
