"""New records in ledger files as the nodes append them, told by the kernel (inotify(7)), without polling."""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from marsnet.dtn.node.ledger import Record, parse_record
from marsnet.errors import EnvironmentLacksError

_IN_MODIFY, _IN_CREATE = 0x2, 0x100
_NAME = "ledger.jsonl"


def changes(paths: Iterable[Path]) -> int:
    """A descriptor that is readable when one of these files, or a file in one of these folders, is written to or made.

    Raises:
        EnvironmentLacksError: the kernel gives no inotify instance.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise EnvironmentLacksError(
            f"cannot watch files: {os.strerror(ctypes.get_errno())}", fix="sysctl fs.inotify.max_user_instances=512"
        )
    for path in paths:
        libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY | _IN_CREATE)
    return descriptor


class LedgerWatch:
    """Follows the ledgers in the folders of nodes. Used as a context."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Begin with what the ledgers hold from now on.

        Raises:
            EnvironmentLacksError: the kernel gives no inotify instance.
        """
        self._files = {folder / _NAME: 0 for folder in folders}
        self._rest = dict.fromkeys(self._files, b"")
        self._descriptor = changes(file.parent for file in self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def wait(self, seconds: float) -> list[Record]:
        """What was appended; nothing after so many host seconds without any."""
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, seconds))
        if not ready:
            return []
        os.read(self._descriptor, 65536)
        return sorted((record for file in self._files for record in self._read(file)), key=lambda r: r.time)

    def _read(self, file: Path) -> list[Record]:
        if not file.exists():
            return []
        with file.open("rb") as lines:
            lines.seek(self._files[file])
            fresh = lines.read()
        self._files[file] += len(fresh)
        *whole, self._rest[file] = (self._rest[file] + fresh).split(b"\n")
        return [record for line in whole if (record := parse_record(line)) is not None]
