"""Who wakes the guest: timers and wake-ups counted by the kernel itself, while the mission runs."""

from __future__ import annotations

import re
import time
from pathlib import Path

_TRACING = Path("/sys/kernel/tracing/events")
_COUNTED = {
    "timer/hrtimer_expire_entry": "function.sym",
    "timer/timer_expire_entry": "function.sym",
    "sched/sched_wakeup": "comm",
}
_LINE = re.compile(r"\{\s*(?:function|comm):\s*(?:\[[0-9a-fx]+\]\s*)?(.+?)\s*\}\s*hitcount:\s*(\d+)")


class Wakers:
    """Histograms of the kernel's tracing (Documentation/trace/histogram.rst): they cost a few instructions an event."""

    def __init__(self) -> None:
        self._began: float | None = None

    def begin(self) -> None:
        """Count from now on; without effect the second time."""
        if self._began is not None:
            return
        self._began = time.monotonic()
        for event, key in _COUNTED.items():
            (_TRACING / event / "trigger").write_text(f"hist:keys={key}:sort=hitcount.descending")

    def end(self) -> dict[str, object]:
        """Guest seconds, and for each kind of event who caused how many."""
        counts = {
            event: [(name, int(count)) for name, count in _LINE.findall((_TRACING / event / "hist").read_text())]
            for event in _COUNTED
        }
        return {"seconds": time.monotonic() - (self._began or 0.0), "counts": counts}
