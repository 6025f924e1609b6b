"""Processors, memory and disk."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from marsnet.worlds.machine_finding import Finding, judge

GIB = 1024**3
MEMORY_FLOOR, SPILL_FLOOR = 2 * GIB, 5 * GIB
"""Bytes below which a scenario of the size of first light is likely to run short."""


def findings(spill: Path) -> Iterator[Finding]:
    """What there is to compute with.

    Args:
        spill: the folder for frames in flight that do not fit in memory; it need not exist yet.
    """
    yield judge("python", True, platform.python_version(), required=True)
    cores = len(os.sched_getaffinity(0))
    yield judge("cores", cores >= 2, str(cores))
    memory = available_memory()
    yield judge("memory", memory >= MEMORY_FLOOR, f"{memory / GIB:.1f} GiB available")
    folder = nearest_existing(spill)
    free, direct = shutil.disk_usage(folder).free, writes_directly(folder)
    way = "direct writes" if direct else "no direct writes (O_DIRECT)"
    yield judge("disk for spill", free >= SPILL_FLOOR and direct, f"{free / GIB:.1f} GiB free at {folder}, {way}")


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a new process can have: MemAvailable (proc(5)), or what the control group leaves if that is less."""
    fields = (line.split() for line in meminfo.read_text().splitlines())
    available = next((int(field[1]) * 1024 for field in fields if field and field[0] == "MemAvailable:"), 0)
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return available
    return available if limit == "max" else min(available, int(limit) - int(used))


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def writes_directly(folder: Path) -> bool:
    """Whether a file there can be written past the page cache; the try leaves no file behind (O_TMPFILE)."""
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_DIRECT | os.O_RDWR, 0o600))
    except OSError:
        return False
    return True
