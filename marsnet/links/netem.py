"""The kernel's netem as a second backend, for kernels that have it: `sch_netem` on the sending side of two interfaces.

It takes one constant segment per direction. What netem cannot do is refused: schedules, changing light time, holding,
receivers that are down, captures, pauses, ground truth; and a shorter delay while frames fly, which would reorder them.
Delays go through netlink as 64-bit nanoseconds (TCA_NETEM_LATENCY64, Linux 4.15), so 275 s and more work, which `tc`
before iproute2 6.9 refuses. The queue limit is computed from rate and delay, where `tc` would take 1000 frames.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.links.fidelity import LinkConfig
from marsnet.links.interfaces import Interface, claim
from marsnet.links.segment import Segment

SMALLEST_FRAME = 64
UNLIMITED_RATE = 10e9
"""bit/s that the queue limit reckons with when the rate is unlimited."""
_MAX_LIMIT = 2**32 - 1
# linux/rtnetlink.h, linux/pkt_sched.h
_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 36, 37, 38
_REQUEST, _ACK, _ECHO, _REPLACE, _CREATE = 0x1, 0x4, 0x8, 0x100, 0x400
_TCA_KIND, _TCA_OPTIONS = 1, 2
_NETEM_RATE, _NETEM_RATE64, _NETEM_LATENCY64 = 6, 8, 10
_ROOT = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class NetemParameters:
    """What netem is told for one direction.

    Attributes:
        latency_ns: light time.
        limit: frames that it may hold.
        rate: bytes per second, 0 for unlimited.
        loss: probability times 2^32.
    """

    latency_ns: int
    limit: int
    rate: int
    loss: int

    @classmethod
    def of(cls, segment: Segment, queue_frames: int) -> NetemParameters:
        """The parameters that do what a segment says.

        Args:
            segment: constant conditions.
            queue_frames: frames that may wait for the transmitter, beyond those in flight.

        Raises:
            InputError: when netem cannot do it.
        """
        for wrong, what in (
            (segment.slope != 0, f"slope {segment.slope:g}"),
            (not segment.up, "a transmitter that is down"),
            (segment.bursts is not None, "bursts"),
            (segment.ber != 0, f"bit error rate {segment.ber:g}"),
        ):
            if wrong:
                raise InputError(f"netem cannot do {what}", remedy="use the delay line")
        rate = UNLIMITED_RATE if segment.rate_bps is None else segment.rate_bps
        flying = math.ceil(rate * segment.delay_ns / 1e9 / 8 / SMALLEST_FRAME)
        limit = flying + queue_frames
        if limit > _MAX_LIMIT:
            raise InputError(
                f"{segment.delay_ns / 1e9:g} s at {rate:g} bit/s may hold {limit} frames, netem at most {_MAX_LIMIT}",
                remedy="state a lower rate, or use the delay line",
            )
        return cls(
            segment.delay_ns,
            limit,
            0 if segment.rate_bps is None else round(segment.rate_bps / 8),
            min(round(segment.loss * 2**32), 2**32 - 1),
        )


@dataclass
class _Link:
    ends: dict[str, Interface]
    claims: list[socket.socket]
    queue_frames: dict[str, int]
    loaded: dict[str, NetemParameters]


class NetemLine:
    """Links made of netem, with the methods of `DelayLineClient` that netem can do.

    The two interfaces of a link are the ends themselves, such as both ends of one veth pair: netem works where frames
    are sent.
    """

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}

    def add_link(self, name: str, if_a: str, if_b: str, config: dict[str, Any] | None = None) -> None:
        """Take two interfaces.

        Raises:
            InputError: unknown interface, a name or an interface that is taken, or more than one class.
        """
        if name in self._links:
            raise InputError(f"link name {name!r} is taken", remedy="give each link a name of its own")
        parsed = LinkConfig.from_json(config or {})
        for side in (parsed.ab, parsed.ba):
            if len(side.classes) > 1:
                raise InputError(f"netem has one queue, not {len(side.classes)} classes", remedy="use the delay line")
        ends = {"ab": Interface.find(if_a), "ba": Interface.find(if_b)}
        claims: list[socket.socket] = []
        try:
            claims.extend(claim(end) for end in ends.values())
        except InputError:
            for item in claims:
                item.close()
            raise
        frames = {"ab": parsed.ab.classes[0].limit_frames, "ba": parsed.ba.classes[0].limit_frames}
        self._links[name] = _Link(ends, claims, frames, {})

    def load_timeline(
        self, name: str, direction: str, segments: Iterable[Segment], replace_from_ns: int | None = None
    ) -> None:
        """Set constant conditions, now.

        Raises:
            InputError: when there is more than one segment, or netem cannot do what it says.
            EnvironmentLacksError: when the kernel has no netem, or does not permit it.
        """
        link, wanted = self._link(name), list(segments)
        if direction not in link.ends:
            raise InputError(f"direction is {direction!r}", remedy="use ab or ba")
        if len(wanted) != 1 or replace_from_ns is not None:
            raise InputError("netem has no schedule", remedy="load one segment, or use the delay line")
        parameters = NetemParameters.of(wanted[0], link.queue_frames[direction])
        before = link.loaded.get(direction)
        if before is not None and parameters.latency_ns < before.latency_ns:
            raise InputError(
                f"netem reorders frames when the delay shrinks from {before.latency_ns} to {parameters.latency_ns} ns",
                remedy="remove the link first, or use the delay line",
            )
        index = link.ends[direction].index
        _talk(_RTM_NEWQDISC, _REQUEST | _ACK | _CREATE | _REPLACE, index, _encode(parameters))
        found = read_back(link.ends[direction])
        if found != parameters:
            raise EnvironmentLacksError(
                f"netem took {found} instead of {parameters}", fix="use the delay line on this kernel"
            )
        link.loaded[direction] = parameters

    def remove_link(self, name: str) -> None:
        """Remove netem from both interfaces. What is in flight is lost."""
        link = self._link(name)
        for direction in link.loaded:
            _talk(_RTM_DELQDISC, _REQUEST | _ACK, link.ends[direction].index, b"")
        for item in link.claims:
            item.close()
        del self._links[name]

    def _link(self, name: str) -> _Link:
        if name not in self._links:
            raise InputError(f"there is no link {name!r}", remedy=f"links: {', '.join(self._links) or 'none'}")
        return self._links[name]


def read_back(interface: Interface) -> NetemParameters | None:
    """What netem on an interface is set to; None when another queueing discipline is there."""
    answer = _attributes(_talk(_RTM_GETQDISC, _REQUEST | _ECHO, interface.index, b"")[36:])
    if answer.get(_TCA_KIND, b"").rstrip(b"\0") != b"netem":
        return None
    options = answer[_TCA_OPTIONS]
    limit, loss = struct.unpack_from("<II", options, 4)
    nested = _attributes(options[24:])
    rate = struct.unpack_from("<I", nested.get(_NETEM_RATE, bytes(16)))[0]
    if _NETEM_RATE64 in nested:
        rate = struct.unpack("<Q", nested[_NETEM_RATE64])[0]
    return NetemParameters(struct.unpack("<q", nested[_NETEM_LATENCY64])[0], limit, rate, loss)


def _encode(parameters: NetemParameters) -> bytes:
    options = struct.pack("<6I", 0, parameters.limit, parameters.loss, 0, 0, 0)
    options += _attribute(_NETEM_LATENCY64, struct.pack("<q", parameters.latency_ns))
    if parameters.rate:
        short = min(parameters.rate, 2**32 - 1)
        options += _attribute(_NETEM_RATE64, struct.pack("<Q", parameters.rate)) if parameters.rate >= 2**32 else b""
        options += _attribute(_NETEM_RATE, struct.pack("<IiIi", short, 0, 0, 0))
    return _attribute(_TCA_KIND, b"netem\0") + _attribute(_TCA_OPTIONS, options)


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    result = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("<HH", data)
        result[kind & 0x3FFF] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return result


def _talk(kind: int, flags: int, index: int, attributes: bytes) -> bytes:
    """One rtnetlink exchange about the root queueing discipline; returns the answer."""
    body = struct.pack("<BxxxiIII", 0, index, 0, _ROOT, 0) + attributes
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        link.bind((0, 0))
        link.send(struct.pack("<IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        answer = link.recv(65536)
    code = -struct.unpack_from("<i", answer, 16)[0] if struct.unpack_from("<H", answer, 4)[0] == 2 else 0
    if code == errno.ENOENT and kind == _RTM_NEWQDISC:
        raise EnvironmentLacksError("this kernel has no netem", fix="modprobe sch_netem, or use the delay line")
    if code == errno.EPERM:
        raise EnvironmentLacksError("queueing disciplines may not be changed", fix="run with CAP_NET_ADMIN")
    if code:
        raise InputError(f"netem on interface {index}: {os.strerror(code)}", remedy="see: tc qdisc show")
    return answer
