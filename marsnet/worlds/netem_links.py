"""Links on the kernel's netem in place of the delay line, for kernels that have it and links that never change.

Each link is a pair of interfaces with netem on both, so it has the light time, the rate and the loss that hold at
mission time 0, and one queue in order of arrival: netem has neither a schedule nor classes (`marsnet.links.netem`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from marsnet.clock import MissionClock
from marsnet.errors import InputError
from marsnet.links.netem import NetemLine
from marsnet.links.planned import line_ns
from marsnet.links.segment import Segment
from marsnet.worlds.channels import Channel, channels
from marsnet.worlds.lab.namespace import run
from marsnet.worlds.spec import Frames, RunSpec

_REMEDY = "use --links line"


def constants(spec: RunSpec, clock: MissionClock) -> dict[tuple[str, str], Segment]:
    """What holds on each direction during the whole run, by link and transmitting node.

    Raises:
        InputError: a link changes during the run, or a fault would change it.
    """
    found = {}
    for channel in channels(spec, clock):
        segment = _constant(channel, line_ns(clock, 0.0), line_ns(clock, spec.scenario.duration))
        found[channel.link, channel.source] = segment
    if any(fault.when is not None for fault in spec.scenario.faults):
        raise InputError("netem has no schedule, and a fault of the scenario waits for a condition", remedy=_REMEDY)
    return found


def _constant(channel: Channel, start: int, end: int) -> Segment:
    current: Segment | None = None
    for segment in channel.segments:
        if segment.t0_ns >= end:
            break
        if segment.t0_ns > start and current is not None and _conditions(segment) != _conditions(current):
            raise InputError(
                f"link {channel.link!r} changes {(segment.t0_ns - start) / 1e9:,.0f} s after the start, and netem has "
                "no schedule",
                remedy=_REMEDY,
            )
        if segment.t0_ns <= start:
            current = segment
    if current is None or channel.deaf:
        raise InputError(f"link {channel.link!r} is down for a while, and netem has no schedule", remedy=_REMEDY)
    return current


def _conditions(segment: Segment) -> tuple[object, ...]:
    up = (segment.rate_bps, segment.loss, segment.ber, segment.bursts) if segment.up else None
    return segment.delay_ns, segment.slope, segment.up, up


def load(line: NetemLine, links: Mapping[str, Any], found: Mapping[tuple[str, str], Segment]) -> None:
    """Set both directions of every link.

    Args:
        line: that holds them.
        links: of the lab, by title.
        found: as `constants` gives it.

    Raises:
        InputError: netem cannot do what a link needs.
        EnvironmentLacksError: the kernel has no netem.
    """
    for title, link in links.items():
        for direction, source in (("ab", link.a), ("ba", link.b)):
            line.load_timeline(title, direction, [found[title, source]])


def frames(ends: Mapping[str, tuple[tuple[str, str], tuple[str, str]]]) -> list[Frames]:
    """What netem says became of the frames of every direction; it tells loss from overflow as little as `tc` does.

    Args:
        ends: link title to its ends, each a node and its interface.
    """
    found = []
    for title, (a, b) in ends.items():
        for (source, interface), (target, _) in ((a, b), (b, a)):
            (figures,) = (
                entry
                for entry in json.loads(run("tc", "-s", "-j", "qdisc", "show", "dev", interface))
                if entry["kind"] == "netem"
            )
            sent, dropped, held = figures["packets"], figures["drops"], figures["qlen"]
            reasons = {"netem": dropped} if dropped else {}
            found.append(Frames(title, source, target, sent + dropped + held, sent, 0, held, reasons))
    return found
