"""Segments: the parameters of one direction of a link from an instant on, and files of them.

All times are nanoseconds of CLOCK_MONOTONIC (line time); whoever builds a timeline has already scaled mission time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from marsnet.errors import InputError
from marsnet.links.config import number, only, whole

NEVER = 2**63 - 1
ALWAYS = -(2**63)
_SLOPE_ONE = 2**62
_BYTE_TIME_ONE = 2**30
_MAX_DELAY = 10 * 365 * 86400 * 10**9
_MAGIC = b"MNTL0001"
_RECORD = struct.Struct("<qqqqQQQQQQQ")

UP, HOLD, CORRUPT, BURSTS = 1, 2, 4, 8


class RawSegment(NamedTuple):
    """A segment in the integers that both pipelines compute with (`seg_t` of core/pipeline.h)."""

    t0: int
    ref: int
    delay: int
    slope: int
    byte_time: int
    loss: int
    ber: int
    to_bad: int
    to_good: int
    bad_loss: int
    flags: int


@dataclass(frozen=True, slots=True)
class Bursts:
    """Losses in bursts after Gilbert (1960) and Elliott (1963); the state may change before each frame.

    Attributes:
        to_bad: probability to go from the good state to the bad one.
        to_good: probability to go back.
        bad_loss: probability that a frame is lost in the bad state; in the good one it is the segment's `loss`.
    """

    to_bad: float
    to_good: float
    bad_loss: float = 1.0

    def __post_init__(self) -> None:
        for name in ("to_bad", "to_good", "bad_loss"):
            number(getattr(self, name), f"bursts: {name}", 0, 1)


def _probability(value: float) -> int:
    return min(round(value * 2**64), 2**64 - 1)


@dataclass(frozen=True)
class Segment:
    """Parameters of one direction from `t0_ns` until the next segment.

    Attributes:
        t0_ns: from when on, line time.
        delay_ns: light time of what leaves at `ref_ns`.
        slope: change of the light time per second of transmission time, -1 to 1.
        rate_bps: bit/s of the transmitter; None is unlimited.
        loss: probability that a frame is lost.
        ber: bit error rate.
        up: whether the transmitter sends.
        hold: while it does not: frames wait (True) or are dropped as `down` (False).
        corrupt: frames with bit errors are delivered corrupted instead of being dropped as `bit_error`.
        bursts: losses in bursts.
        ref_ns: origin of the slope; `t0_ns` when None.
    """

    t0_ns: int
    delay_ns: int = 0
    slope: float = 0.0
    rate_bps: float | None = None
    loss: float = 0.0
    ber: float = 0.0
    up: bool = True
    hold: bool = True
    corrupt: bool = False
    bursts: Bursts | None = None
    ref_ns: int | None = None

    def __post_init__(self) -> None:
        whole(self.t0_ns, "segment: t0_ns", ALWAYS, NEVER - 1)
        whole(self.delay_ns, "segment: delay_ns", 0, _MAX_DELAY)
        number(self.slope, "segment: slope", -1, 1)
        if self.rate_bps is not None:
            number(self.rate_bps, "segment: rate_bps", 1, 1e13)
        number(self.loss, "segment: loss", 0, 1)
        number(self.ber, "segment: ber", 0, 0.5)
        if self.ref_ns is not None:
            whole(self.ref_ns, "segment: ref_ns", ALWAYS, NEVER)
        for name in ("up", "hold", "corrupt"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"segment: {name} is {getattr(self, name)!r}", remedy="write true or false")

    @cached_property
    def raw(self) -> RawSegment:
        """The segment in integers."""
        bursts = self.bursts
        flags = UP * self.up | HOLD * self.hold | CORRUPT * self.corrupt | BURSTS * (bursts is not None)
        return RawSegment(
            int(self.t0_ns),
            int(self.t0_ns if self.ref_ns is None else self.ref_ns),
            int(self.delay_ns),
            round(self.slope * _SLOPE_ONE),
            0 if self.rate_bps is None else round(8e9 * _BYTE_TIME_ONE / self.rate_bps),
            _probability(self.loss),
            _probability(self.ber),
            _probability(bursts.to_bad) if bursts else 0,
            _probability(bursts.to_good) if bursts else 0,
            _probability(bursts.bad_loss) if bursts else 0,
            flags,
        )

    def moved(self, t0_ns: int) -> Segment:
        """The same parameters from another instant on; the delay stays the same function of time."""
        return replace(self, t0_ns=t0_ns, ref_ns=self.t0_ns if self.ref_ns is None else self.ref_ns)

    def delay_at(self, t_ns: int) -> int:
        """Light time in ns of what leaves at `t_ns`."""
        return raw_delay(self.raw, t_ns)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, whose keys are the attributes."""
        bursts = self.bursts
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "bursts"} | (
            {"bursts": {"to_bad": bursts.to_bad, "to_good": bursts.to_good, "bad_loss": bursts.bad_loss}}
            if bursts
            else {}
        )

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Segment:
        """Read the JSON form.

        Raises:
            InputError: when a key is unknown or a value is out of range.
        """
        only(data, "segment", *cls.__dataclass_fields__)
        if "t0_ns" not in data:
            raise InputError("segment has no t0_ns", remedy="say from when on it holds")
        known = dict(data)
        if known.get("bursts") is not None:
            only(known["bursts"], "bursts", "to_bad", "to_good", "bad_loss")
            known["bursts"] = Bursts(**({"to_bad": None, "to_good": None} | known["bursts"]))
        return cls(**known)


def raw_delay(segment: RawSegment, t_ns: int) -> int:
    """Light time in ns of what leaves at `t_ns`, never negative."""
    return max((segment.slope * (t_ns - segment.ref) >> 62) + segment.delay, 0)


def in_order(segments: Iterable[RawSegment]) -> Iterator[RawSegment]:
    """The segments, as long as their start times rise.

    Raises:
        InputError: at the first that does not.
    """
    last = None
    for index, segment in enumerate(segments):
        if last is not None and segment.t0 <= last:
            raise InputError(
                f"segment {index} of the timeline starts at {segment.t0} ns, not after its predecessor at {last} ns",
                remedy="order the segments by t0_ns",
            )
        last = segment.t0
        yield segment


def write_timeline(path: Path, segments: Iterable[Segment]) -> int:
    """Write a packed timeline: 8 bytes of magic, then one `seg_t` of 88 bytes per segment, little-endian.

    Returns:
        How many segments were written.
    """
    count = 0
    with path.open("wb") as file:
        file.write(_MAGIC)
        for raw in in_order(s.raw for s in segments):
            file.write(_RECORD.pack(*raw))
            count += 1
    return count


def read_timeline(path: Path, at_once: int = 512) -> Iterator[RawSegment]:
    """Read a packed timeline piece by piece. The file is opened now and may be unlinked afterwards.

    Raises:
        InputError: when it is no timeline, or is truncated.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"timeline {path}: {error.strerror}", remedy="give the path of a packed timeline") from error
    if file.read(len(_MAGIC)) != _MAGIC:
        file.close()
        raise InputError("it is no packed timeline", remedy="write it with write_timeline", file=path)

    def pieces() -> Iterator[RawSegment]:
        with file:
            while piece := file.read(at_once * _RECORD.size):
                if len(piece) % _RECORD.size:
                    raise InputError("the timeline ends within a segment", remedy="write it again", file=path)
                yield from map(RawSegment._make, _RECORD.iter_unpack(piece))

    return pieces()
