"""What a direction of a link is configured with: traffic classes, their queues, the frame limit, the seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from marsnet.errors import InputError

MAX_CLASSES = 8
DEFAULT_LIMIT_BYTES = 64 * 2**20
"""Bytes that a class may hold before it drops: five seconds at 100 Mbit/s, or a ten-hour gap at 14 kbit/s."""
DEFAULT_LIMIT_FRAMES = 1_000_000
DEFAULT_MAX_FRAME = 9216 + 14 + 4
"""Largest frame carried: an MTU of 9216 bytes with Ethernet header and one VLAN tag."""
QUANTUM = 1600
"""Bytes that a class of weight 1 may send per round."""


def whole(value: object, what: str, least: int, most: int = 2**63 - 1) -> int:
    """A whole number within limits.

    Raises:
        InputError: naming the value when it is none.
    """
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{what} is {value!r}", remedy=f"write a whole number from {least} to {most}")
    return value


def number(value: object, what: str, least: float, most: float) -> float:
    """A finite number within limits.

    Raises:
        InputError: naming the value when it is none.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not least <= value <= most
    ):
        raise InputError(f"{what} is {value!r}", remedy=f"write a number from {least:g} to {most:g}")
    return float(value)


def listed(value: object, what: str) -> tuple[Any, ...]:
    """A list, as a tuple.

    Raises:
        InputError: naming the value when it is none.
    """
    if not isinstance(value, list | tuple):
        raise InputError(f"{what} is {value!r}", remedy="write a list")
    return tuple(value)


def only(data: Mapping[str, Any], what: str, *allowed: str) -> None:
    """Refuse keys that nobody reads.

    Raises:
        InputError: naming the first unknown key.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{what} is {data!r}", remedy="write an object")
    for key in data:
        if key not in allowed:
            raise InputError(f"{what} has an unknown key {key!r}", remedy=f"use {', '.join(allowed)}")


@dataclass(frozen=True, slots=True)
class ClassConfig:
    """One traffic class and its queue.

    Attributes:
        name: label in statistics and metrics.
        dscp: code points (0-63, RFC 2474) that belong to it.
        limit_bytes: bytes that may wait; a frame that would exceed it is dropped as `queue_full`.
        limit_frames: frames that may wait.
        weight: share of the rate when the scheduler is `weighted`.
    """

    name: str
    dscp: tuple[int, ...] = ()
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    limit_frames: int = DEFAULT_LIMIT_FRAMES
    weight: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"class name is {self.name!r}", remedy="give the class a name")
        for point in self.dscp:
            whole(point, f"class {self.name!r}: dscp", 0, 63)
        whole(self.limit_bytes, f"class {self.name!r}: limit_bytes", 1)
        whole(self.limit_frames, f"class {self.name!r}: limit_frames", 1)
        whole(self.weight, f"class {self.name!r}: weight", 1, 1_000_000)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClassConfig:
        """Read the JSON form, whose keys are the attributes."""
        only(data, "class", "name", "dscp", "limit_bytes", "limit_frames", "weight")
        known = dict(data)
        known["dscp"] = listed(known.get("dscp", ()), "class: dscp")
        return cls(**({"name": ""} | known))


@dataclass(frozen=True, slots=True)
class DirectionConfig:
    """One direction of a link.

    Attributes:
        classes: traffic classes, the most urgent first.
        scheduler: `strict` priority in the order of `classes`, or `weighted` (deficit round robin).
        default_class: class of frames without DSCP or with an unlisted one; the last class when empty.
        max_frame: largest frame in bytes; larger ones are dropped as `oversized`.
        seed: of the generator of losses and bit errors.
    """

    classes: tuple[ClassConfig, ...] = (ClassConfig("default"),)
    scheduler: Literal["strict", "weighted"] = "strict"
    default_class: str = ""
    max_frame: int = DEFAULT_MAX_FRAME
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise InputError(f"{len(self.classes)} classes", remedy=f"configure 1 to {MAX_CLASSES}")
        names = [c.name for c in self.classes]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"two classes are called {name!r}", remedy="name each class differently")
        if self.default_class and self.default_class not in names:
            raise InputError(f"default_class is {self.default_class!r}", remedy=f"use one of {', '.join(names)}")
        if self.scheduler not in ("strict", "weighted"):
            raise InputError(f"scheduler is {self.scheduler!r}", remedy="use strict or weighted")
        whole(self.max_frame, "max_frame", 64, 10_000)
        whole(self.seed, "seed", 0, 2**64 - 1)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DirectionConfig:
        """Read the JSON form, whose keys are the attributes."""
        only(data, "direction", "classes", "scheduler", "default_class", "max_frame", "seed")
        known = dict(data)
        if "classes" in known:
            known["classes"] = tuple(ClassConfig.from_json(c) for c in listed(known["classes"], "classes"))
        return cls(**known)

    @property
    def default_index(self) -> int:
        """Index of the default class."""
        names = [c.name for c in self.classes]
        return names.index(self.default_class) if self.default_class else len(names) - 1

    def class_of(self) -> list[int]:
        """Class index by DSCP, 64 entries.

        Raises:
            InputError: when a code point belongs to two classes.
        """
        table = [-1] * 64
        for index, item in enumerate(self.classes):
            for point in item.dscp:
                if table[point] >= 0:
                    raise InputError(f"dscp {point} belongs to two classes", remedy="list each code point once")
                table[point] = index
        return [self.default_index if index < 0 else index for index in table]
