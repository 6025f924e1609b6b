"""Disk space kept back, so that a store can still delete when the disk is full."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Ballast:
    """A file that holds nothing. Deleting from a database needs room for the log of the deletion: this is that room.

    Attributes:
        present: whether the room is kept; while it is not, a store should not take anything in.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Keep room.

        Args:
            path: of the file; may be there already.
            size: bytes; 0 keeps none and is always present.
        """
        self._path, self._size = path, size
        self.present = True
        if size:
            self.present = path.exists() and path.stat().st_size == size
        self.restore()

    def release(self) -> None:
        """Give the room up."""
        if self._size:
            self._path.unlink(missing_ok=True)
            self.present = False

    def restore(self) -> bool:
        """Keep the room again, where the file system has it; returns whether it is kept."""
        if self.present:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            return False
        self.present = True
        return True
