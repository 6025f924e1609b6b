"""How faithful a link has been: lateness percentiles, and the budget beyond which its figures are invalid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from marsnet.links.config import DirectionConfig, number, only, whole
from marsnet.links.native import late_bound


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may cost in fidelity before it is invalid.

    Attributes:
        lateness_p99_ns: 99th percentile of the time between a frame's deadline and its delivery.
        lateness_max_ns: the latest frame.
        ring_drops: frames that the kernel could not hand over.
        clock_steps: steps of the wall clock, which spoil arrival stamps.
        steal: fraction of processor time that the hypervisor took.
        stalls: times the timeline was not loaded in time.
    """

    lateness_p99_ns: int = 1_000_000
    lateness_max_ns: int = 100_000_000
    ring_drops: int = 0
    clock_steps: int = 0
    steal: float = 0.1
    stalls: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name == "steal":
                number(self.steal, "budget: steal", 0, 1)
            else:
                whole(getattr(self, item.name), f"budget: {item.name}", 0)

    def exceeded(self, figures: Mapping[str, Any]) -> list[str]:
        """What exceeds the budget, in words; empty when the figures are valid."""
        problems = [
            f"{name} is {figures[name]}, the budget {limit}"
            for name, limit in ((f.name, getattr(self, f.name)) for f in fields(self))
            if figures[name] is not None and figures[name] > limit
        ]
        return problems + [f"{name} is {figures[name]}" for name in ("broken", "early", "gone") if figures[name]]


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """A link of the daemon: two directions between two interfaces.

    Attributes:
        ab: from the first interface to the second.
        ba: back.
        ring_slots: frames that the kernel may hold for the worker, per direction; 2 KiB each at an MTU of 1500.
        clock_rate: mission seconds per second of line time, for ranges in metres.
        budget: of fidelity.
    """

    ab: DirectionConfig = field(default_factory=DirectionConfig)
    ba: DirectionConfig = field(default_factory=lambda: DirectionConfig(seed=2))
    ring_slots: int = 2048
    clock_rate: float = 1.0
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        whole(self.ring_slots, "ring_slots", 64, 2**18)
        number(self.clock_rate, "clock_rate", 1e-9, 1e9)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LinkConfig:
        """Read the JSON form, whose keys are the attributes.

        Raises:
            InputError: when a key is unknown or a value is out of range.
        """
        only(data, "link", "ab", "ba", "ring_slots", "clock_rate", "budget")
        known: dict[str, Any] = dict(data)
        for side in ("ab", "ba"):
            if side in known:
                known[side] = DirectionConfig.from_json(known[side])
        if "budget" in known:
            only(known["budget"], "budget", *(f.name for f in fields(Budget)))
            known["budget"] = Budget(**known["budget"])
        return cls(**known)


def percentile(buckets: Sequence[int], fraction: float) -> int | None:
    """Upper bound in ns of the bucket in which a percentile of the lateness lies; None without frames."""
    total, passed = sum(buckets), 0
    for index, count in enumerate(buckets):
        passed += count
        if total and passed >= fraction * total and count:
            return late_bound(index)
    return None


class StealMeter:
    """Fraction of processor time stolen by the hypervisor since the meter was made."""

    def __init__(self) -> None:
        self._start = _processor_times()

    def fraction(self) -> float | None:
        """The fraction, None when the kernel does not tell."""
        now = _processor_times()
        if now is None or self._start is None or now[1] <= self._start[1]:
            return None
        return (now[0] - self._start[0]) / (now[1] - self._start[1])


def _processor_times() -> tuple[int, int] | None:
    try:
        line = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    times = [int(field) for field in line[1:9]]  # user nice system idle iowait irq softirq steal, proc(5)
    return (times[7], sum(times)) if len(times) == 8 else None
