"""Who wakes the guest and who keeps it busy, counted by its kernel."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_TRACING = Path("/sys/kernel/tracing/events")
_STAT = Path("/proc/stat")
_TICK = 0.01
"""Seconds, of the idle time in /proc/stat (USER_HZ)."""
_COUNTED = {
    "timer/hrtimer_expire_entry": "keys=function.sym:sort=hitcount.descending:size=8192",
    "timer/timer_expire_entry": "keys=function.sym:sort=hitcount.descending:size=8192",
    "workqueue/workqueue_execute_start": "keys=function.sym:sort=hitcount.descending:size=8192",
    "sched/sched_wakeup": "keys=comm,pid:sort=hitcount.descending:size=8192",
    "sched/sched_stat_runtime": "keys=comm,pid:vals=runtime:sort=runtime.descending:size=8192",
}
_LINE = re.compile(
    r"\{\s*(?:function|comm):\s*(?:\[[0-9a-fx]+\]\s*)?(.+?)\s*(?:,\s*pid:\s*(\d+)\s*)?\}"
    r"\s*hitcount:\s*(\d+)(?:\s+runtime:\s*(\d+))?"
)


class Wakers:
    """Histograms of the kernel's tracing (Documentation/trace/histogram.rst): they cost a few instructions an event."""

    def __init__(self) -> None:
        self._began = self._idle = 0.0
        self._programs: dict[int, str] = {}

    def begin(self) -> None:
        """Count from now on."""
        self._programs |= python_programs()
        self._began, self._idle = time.monotonic(), idle_seconds(_STAT.read_text())
        for event, histogram in _COUNTED.items():
            (_TRACING / event / "trigger").write_text(f"hist:{histogram}")

    def end(self) -> dict[str, object]:
        """Stop counting.

        Returns:
            `seconds` of the guest, how many of them it was `busy`, and in `counts`, for each kind of event, who caused
            how many; for `sched_stat_runtime`, who computed for how many nanoseconds.
        """
        seconds = time.monotonic() - self._began
        busy = seconds - (idle_seconds(_STAT.read_text()) - self._idle)
        self._programs |= python_programs()
        counts = {}
        for event, histogram in _COUNTED.items():
            counts[event] = read_histogram((_TRACING / event / "hist").read_text(), self._programs)
            (_TRACING / event / "trigger").write_text(f"!hist:{histogram}")
        return {"seconds": seconds, "busy": busy, "counts": counts}


def idle_seconds(stat: str) -> float:
    """Seconds that the guest's only processor has idled, from /proc/stat (proc(5))."""
    return int(stat.split(maxsplit=5)[4]) * _TICK


def python_programs(proc: Path = Path("/proc")) -> dict[int, str]:
    """What each thread of a Python process runs: the name that the kernel has for all of them says nothing."""
    found = {}
    for task in proc.glob("[0-9]*/task/[0-9]*"):
        with suppress(OSError):  # It may have ended just now.
            words = (task / "cmdline").read_text().split("\0")
            if Path(words[0]).name.startswith("python"):
                found[int(task.name)] = f"python3 {words[2] if words[1] == '-m' else Path(words[1]).name}"
    return found


def read_histogram(text: str, programs: Mapping[int, str]) -> list[tuple[str, int]]:
    """Who, and how often or, where the kernel has summed up run times, how long; most first.

    Args:
        text: the kernel's.
        programs: better names, by process id.
    """
    counts: Counter[str] = Counter()
    for name, pid, count, runtime in _LINE.findall(text):
        counts[programs.get(int(pid or 0), name)] += int(runtime or count)
    return counts.most_common()
