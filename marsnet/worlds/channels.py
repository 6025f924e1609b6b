"""The directions of all links as a delay line takes them: configuration, timeline and deafness, faults included."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import ServiceClass
from marsnet.links.config import DEFAULT_LIMIT_BYTES, DEFAULT_LIMIT_FRAMES, ClassConfig, DirectionConfig
from marsnet.links.planned import Outage, line_ns, timeline_for
from marsnet.links.timeline import Fault, Segment, faulted
from marsnet.model.topology import ClassLimit, Link
from marsnet.worlds.availability import is_at
from marsnet.worlds.spec import Fade, Incident, RunSpec

_NS = 1_000_000_000


@dataclass(frozen=True)
class Channel:
    """One direction of a link.

    Attributes:
        link: title of the link.
        source: transmitting node.
        target: receiving node.
        config: classes, queues and seed.
        segments: its timeline, in line time; read once.
        deaf: intervals of line time in which the receiver is down.
    """

    link: str
    source: str
    target: str
    config: DirectionConfig
    segments: Iterator[Segment]
    deaf: tuple[tuple[int, int], ...]


def channels(
    spec: RunSpec, clock: MissionClock, happened: Iterable[Incident] | None = None, only: Collection[str] | None = None
) -> list[Channel]:
    """Both directions of every link of a run, on a mission clock.

    Args:
        spec: of the run.
        clock: its mission clock.
        happened: the incidents, in place of those that were known ahead.
        only: titles of the links that are wanted; all by default.
    """
    found = []
    incidents = list(spec.incidents if happened is None else happened)
    for link in spec.topology.links:
        if only is not None and link.title not in only:
            continue
        # What is planned is in the plan: its transmitters wait, as at the end of any contact.
        down = [i for i in incidents if link.title in i.links and not i.planned]
        fades = [fade for i in incidents for fade in i.fades if fade.link == link.title]
        for source, target in (link.between, link.between[::-1]):
            # A silent node's own transmitter and receiver are down: what had left it still arrives elsewhere, and what
            # is on its way to it arrives if it hears again by then. An outage of the link is at both ends.
            outages = [Outage(i.start, i.end) for i in down if is_at(i, source)]
            deaf = _deaf([i for i in incidents if i.down == target or (i in down and is_at(i, target))], clock)
            found.append(
                Channel(
                    link.title,
                    source,
                    target,
                    direction_config(link, f"{spec.seed}/{link.title}/{source}"),
                    faulted(
                        timeline_for(
                            spec.plan,
                            source,
                            target,
                            clock,
                            link=link.title,
                            hold=link.queue.outage == "hold",
                            outages=outages,
                        ),
                        _faults((fade for fade in fades if fade.source in ("", source)), clock),
                    ),
                    deaf,
                )
            )
    return found


def _faults(fades: Iterable[Fade], clock: MissionClock) -> list[Fault]:
    """Fades in line time; one shorter than its nanosecond is none."""
    times = ((line_ns(clock, fade.start), line_ns(clock, fade.end), fade) for fade in fades)
    return [
        Fault(start, end, rate_factor=fade.rate, ber=fade.ber, loss=fade.loss)
        for start, end, fade in times
        if start < end
    ]


def starting(segments: Iterable[Segment], now_ns: int) -> Iterator[Segment]:
    """A timeline from an instant on: what holds then, and all that follows."""
    held: Segment | None = None
    for segment in segments:
        if segment.t0_ns > now_ns:
            if held is not None:
                yield held if held.t0_ns == now_ns else held.moved(now_ns)
                held = None
            yield segment
        else:
            held = segment
    if held is not None:
        yield held if held.t0_ns == now_ns else held.moved(now_ns)


def direction_config(link: Link, seed: str) -> DirectionConfig:
    """Queues of a link's transmitter, by the four classes of service."""
    limits = link.queue.limits
    classes = []
    for service_class in ServiceClass:
        limit = limits.get(service_class.name.lower(), ClassLimit())  # type: ignore[call-overload]
        classes.append(
            ClassConfig(
                service_class.name.lower(),
                (service_class.dscp,),
                DEFAULT_LIMIT_BYTES if limit.size is None else round(limit.size),
                limit.frames or DEFAULT_LIMIT_FRAMES,
                limit.weight,
            )
        )
    return DirectionConfig(
        classes=tuple(classes),
        scheduler=link.queue.policy,
        default_class="normal",
        seed=int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest(), "big"),
    )


def link_config(link: Link, seed: int, rate: float) -> dict[str, Any]:
    """A link as the delay line's process is told of it.

    Args:
        link: of the topology.
        seed: of the run.
        rate: mission seconds per host second.
    """
    a, b = link.between
    return {
        "ab": asdict(direction_config(link, f"{seed}/{link.title}/{a}")),
        "ba": asdict(direction_config(link, f"{seed}/{link.title}/{b}")),
        "clock_rate": rate,
    }


def _deaf(incidents: list[Incident], clock: MissionClock) -> tuple[tuple[int, int], ...]:
    """The union of incidents, which come in order of their starts, as disjoint intervals of line time."""
    union: list[tuple[int, int]] = []
    for incident in incidents:
        start, end = (round(clock.to_monotonic(t) * _NS) for t in (incident.start, incident.end))
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return tuple(union)
