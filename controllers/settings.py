"""What a controller is told when it starts: who it commands, where the plan is, what time it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controllers.paths import Port
from marsnet.clock import MissionClock
from marsnet.errors import InputError


@dataclass(frozen=True, slots=True)
class Switch:
    """One node's switch.

    Attributes:
        node: name of the node.
        number: number of the node and datapath id of its switch.
        segment: segment whose controller commands it.
        address: IPv4 address of the node's container.
        host_port: port of the container.
        ports: the link ports.
    """

    node: str
    number: int
    segment: str
    address: str
    host_port: int
    ports: tuple[Port, ...]


@dataclass(frozen=True)
class Settings:
    """Settings of one controller.

    Attributes:
        segment: the segment that it commands.
        openflow_port: TCP port on the loopback for the switches.
        api_port: TCP port on the loopback for the HTTP interface.
        plan: file of the contact plan.
        clock: the mission clock.
        guard: seconds of host time by which flows come early and go late.
        switches: every switch of the network, of either segment.
    """

    segment: str
    openflow_port: int
    api_port: int
    plan: Path
    clock: MissionClock
    guard: float
    switches: tuple[Switch, ...]

    def own(self) -> tuple[Switch, ...]:
        """The switches that this controller commands."""
        return tuple(switch for switch in self.switches if switch.segment == self.segment)

    def numbers(self) -> dict[str, int]:
        """Node name to number, of every node."""
        return {switch.node: switch.number for switch in self.switches}


def clock_of(document: dict[str, Any]) -> MissionClock:
    """The mission clock that `{"epoch", "rate", "origin"}` describes.

    Raises:
        InputError: when a field is missing or is no number.
    """
    try:
        clock = MissionClock(str(document["epoch"]), float(document["rate"]), float(document["origin"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"no mission clock: {error!r}", remedy='give {"epoch", "rate", "origin"}') from error
    if not clock.rate > 0:
        raise InputError(f"the clock's rate is {clock.rate}", remedy="give a rate above 0")
    return clock


def read(path: Path) -> Settings:
    """Settings from a JSON file.

    Raises:
        InputError: when it cannot be read or a field is missing.
    """
    try:
        document = json.loads(path.read_text())
        switches = tuple(
            Switch(**{**entry, "ports": tuple(Port(**port) for port in entry["ports"])})
            for entry in document["switches"]
        )
        return Settings(
            document["segment"],
            int(document["openflow_port"]),
            int(document["api_port"]),
            Path(document["plan"]),
            clock_of(document["clock"]),
            float(document["guard"]),
            switches,
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"no controller settings: {error!r}", file=path, remedy="let the lab write them") from error
