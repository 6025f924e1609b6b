"""The nodes' share of the processors: what else runs on the machine waits when a node has something to do.

Docker puts all containers together on a par with any single process of the machine. A node that waits for its turn is
late by mission seconds, so the nodes of a lab have a control group of their own with a larger weight (cgroups(7),
`cpu.shares` of version 1, `cpu.weight` of version 2).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_ROOT, _PROC = Path("/sys/fs/cgroup"), Path("/proc")
_WEIGHTS = {"cpu.shares": 16_384, "cpu.weight": 1_600}
"""Sixteen times that of an ordinary process, all nodes together."""
_SWITCH = 10
"""Priority of the switches' daemon under SCHED_RR; the delay line has more."""


def switch_command() -> tuple[str, ...]:
    """What to begin the command of the switches' daemon with, which carries all that the nodes send.

    Were it to wait for the nodes, its sockets would overflow. Under SCHED_RR it goes before them; where the system does
    not allow that, it is at least nice to nobody (sched(7)).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_SWITCH))
    except OSError:
        return "nice", "-n", "-20"
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return "chrt", "--rr", str(_SWITCH)


def parent_of(lab: str, driver: str) -> str:
    """The control group of a lab's nodes as Docker takes it, for its cgroup driver (`cgroupfs` or `systemd`)."""
    name = f"marsnet_{lab.replace('-', '_')}"
    return f"{name}.slice" if driver == "systemd" else f"/{name}"


def prefer(pid: int, parent: str) -> bool:
    """Give the control group `parent`, which a process is in, its weight; returns whether the kernel took it."""
    for folder in filter(Path.is_dir, _folders(pid, parent)):
        name = "cpu.weight" if folder.parent == _ROOT else "cpu.shares"
        with suppress(OSError):
            (folder / name).write_text(str(_WEIGHTS[name]))
            return True
    return False


def forget(parent: str) -> None:
    """Remove the control group of a lab whose containers are gone, where Docker leaves it."""
    for folder in (_ROOT / parent.strip("/"), *_ROOT.glob(f"*/{parent.strip('/')}")):
        with suppress(OSError):
            folder.rmdir()


def _folders(pid: int, parent: str) -> list[Path]:
    """Where the group lies in the hierarchies that know processors."""
    wanted, found = parent.strip("/"), []
    for line in (_PROC / str(pid) / "cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        parts = Path(path).parts[1:]
        if wanted in parts:
            inside = Path(*parts[: parts.index(wanted) + 1])
            found += [base / inside for base in (_ROOT, _ROOT / controllers, _ROOT / "cpu", _ROOT / "unified")]
    return found
