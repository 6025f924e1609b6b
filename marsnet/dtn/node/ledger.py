"""The ledger: one record for every step in the life of every bundle. Verdicts are read from it.

A record is written after what it states has become durable, so a ledger never claims more than the stores hold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

_MOST_WAITING = 16 << 20
"""Octets of lines that wait for a full disk."""


class Step(StrEnum):
    """What happened to a bundle."""

    ACCEPTED = "accepted"
    """An application's data became a bundle in the source's store."""
    REFUSED = "refused"
    """The source's store would not take it: it was never accepted."""
    RECEIVED = "received"
    """A node took responsibility for it."""
    FORWARDED = "forwarded"
    """A neighbour took responsibility for it."""
    COPIED = "copied"
    """A neighbour took a copy, and this node keeps its own."""
    DELIVERED = "delivered"
    """The destination handed it to the application."""
    FRAGMENTED = "fragmented"
    """A part of a bundle that was here became a bundle of its own, this fragment."""
    REASSEMBLED = "reassembled"
    """Its fragments became one bundle again."""
    ISSUED = "issued"
    """The node made it on its own account: an administrative record."""
    REPORT = "report"
    """A status report about it came to this node."""
    DUPLICATE = "duplicate"
    """It came a second time."""
    EXPIRED = "expired"
    """Its lifetime ended in this store."""
    DROPPED = "dropped"
    """It was deleted for the reason given."""


_to_json = json.JSONEncoder(separators=(",", ":")).encode


class Record(NamedTuple):
    """One step.

    Attributes:
        time: mission seconds.
        node: where.
        step: what.
        bundle: bundle id as text.
        details: `flow`, `class`, `source`, `destination`, `size`, `lifetime` with ACCEPTED, and `tenant` and `answers`
            (the id of the request) where they apply; `peer` with RECEIVED, COPIED and FORWARDED; `reason` with EXPIRED,
            DROPPED and REFUSED; `intact` with DELIVERED, and `file` with the part that completed one; `of` with
            FRAGMENTED, the bundle that was cut; `parts` with REASSEMBLED; `by`, `status`, `code` and `at` (DTN
            milliseconds or null) with REPORT.
    """

    time: float
    node: str
    step: Step
    bundle: str
    details: dict[str, Any]

    def line(self) -> str:
        """Its line of JSON."""
        return _to_json(
            {
                "t": round(self.time, 6),
                "node": self.node,
                "step": self.step.value,
                "bundle": self.bundle,
                **self.details,
            }
        )


class Ledger(Protocol):
    """Takes records."""

    def record(self, record: Record) -> None:
        """Add one."""

    def flush(self) -> None:
        """Hand what was added to the operating system."""

    @property
    def mark(self) -> int | None:
        """Where the next record will stand, for `delivered_since`; None where that is of no use."""

    @property
    def waiting_bytes(self) -> int:
        """Octets that could not be written yet."""


class MemoryLedger:
    """A ledger in memory, shared by the nodes of a virtual world.

    Attributes:
        records: in the order in which they came.
        added: called after each, if anybody wants to know.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.added: Callable[[], None] | None = None

    def record(self, record: Record) -> None:
        """Add one."""
        self.records.append(record)
        if self.added is not None:
            self.added()

    def flush(self) -> None:
        """Nothing waits."""

    @property
    def mark(self) -> int | None:
        """It ends with its process."""
        return None

    @property
    def waiting_bytes(self) -> int:
        """Memory takes all."""
        return 0


class FileLedger:
    """A ledger appended to a file of JSON lines. What was flushed survives the end of the process.

    While the file cannot be written (a full disk), lines wait in memory, up to a limit, and are written later.

    Attributes:
        failures: writes that failed.
        lost: lines given up because too many waited.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._waiting: list[str] = []
        self._octets = bytearray()
        self.failures = self.lost = 0
        self._size = os.fstat(self._descriptor).st_size
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            # A kill cut the last line off; what comes next must not be joined to it.
            self._octets += b"\n"

    def record(self, record: Record) -> None:
        """Add one."""
        self._waiting.append(record.line())

    @property
    def waiting_bytes(self) -> int:
        """Octets that could not be written yet."""
        return len(self._octets)

    @property
    def mark(self) -> int | None:
        """Size of the file."""
        return self._size

    def flush(self) -> None:
        """Append what was added, in one write where the disk has room."""
        if self._waiting:
            if len(self._octets) < _MOST_WAITING:
                self._octets += ("\n".join(self._waiting) + "\n").encode()
            else:
                self.lost += len(self._waiting)
            self._waiting.clear()
        while self._octets:
            try:
                written = os.write(self._descriptor, self._octets)
            except OSError:
                self.failures += 1
                return
            del self._octets[:written]
            self._size += written

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        os.close(self._descriptor)


def delivered_since(path: Path, mark: int | None) -> set[str]:
    """Names of the bundles that a ledger file says were delivered after a `mark`, and anywhere in it without one."""
    found = set()
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        # A file that is shorter is another one.
        file.seek(mark if mark is not None and mark <= file.tell() else 0)
        for line in file:
            if b'"delivered"' in line:
                record = parse_record(line)
                if record is not None and record.step == Step.DELIVERED:
                    found.add(record.bundle)
    return found


def read_ledgers(paths: Iterable[Path]) -> Iterator[Record]:
    """The records of several ledger files. A line that a kill cut off in the middle is skipped."""
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                record = parse_record(line)
                if record is not None:
                    yield record


def parse_record(line: str | bytes) -> Record | None:
    """The record of a line of JSON; None of what a kill cut off, or a disk has damaged."""
    try:
        fields = json.loads(line)
        return Record(
            float(fields.pop("t")), str(fields.pop("node")), Step(fields.pop("step")), str(fields.pop("bundle")), fields
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
