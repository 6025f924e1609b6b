"""What a node asks of a convergence layer, and what a layer tells its node.

A layer is driven like the engines: mission time in, events and the next deadline out. Layers over datagrams are sans-IO
throughout; those over connections do their own reading and writing and call `wake` when there is something to take.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mypy_extensions import mypyc_attr

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.recipe import Rope


@dataclass(frozen=True, slots=True)
class Received:
    """Bundles have arrived. Answer a receipt with `confirm` when they are durable, or with `refuse`.

    Attributes:
        layer: that they came by.
        peer: name of the node that sent them; None where the layer does not know.
        parts: octets of one bundle, or of several one after another, each.
        receipt: for `confirm` and `refuse`; None where the layer has no acknowledgement.
        rest: of a fragment that is of use only with what an earlier transfer broke off after: the offset of that
            beginning in the whole payload. Answer it with `demand_whole` where the beginning is not kept.
    """

    layer: Layer
    peer: str | None
    parts: tuple[bytes | Rope, ...]
    receipt: Hashable = None
    rest: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """Every octet has left once.

    Attributes:
        tags: as given to `send`.
    """

    tags: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """The neighbour has it, as far as the layer can tell.

    Attributes:
        tags: as given to `send`.
    """

    tags: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Returned:
    """The neighbour has not got it, or has not said so.

    Attributes:
        tags: as given to `send`.
        reason: in words, for counters.
        refused: whether the neighbour declined this bundle: another one may still pass.
        kept: octets from the beginning of what was sent that it has acknowledged all the same; None when it has not
            kept what was left out either.
    """

    tags: tuple[object, ...]
    reason: str
    refused: bool = False
    kept: int | None = 0


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A transfer from a neighbour broke off.

    Attributes:
        peer: name of the node that sent it; None where the layer does not know.
        octets: the beginning of a bundle.
        rest: as in `Received`.
    """

    peer: str | None
    octets: bytes
    rest: int | None = None


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A node can be reached.

    Attributes:
        layer: by which.
        peer: its name; of a node whose name is not known, its node id.
    """

    layer: Layer
    peer: str


@dataclass(frozen=True, slots=True)
class PeerDown:
    """A node cannot be reached: it does not answer, or its connection is gone.

    Attributes:
        layer: by which.
        peer: its name, as in `PeerUp`.
        retries: whether `PeerUp` will tell when it can be reached again.
    """

    layer: Layer
    peer: str
    retries: bool


LayerEvent = Received | Interrupted | Sent | Taken | Returned | PeerUp | PeerDown


class Figure(NamedTuple):
    """A number for Prometheus.

    Attributes:
        name: without the prefix `marsnet_` and the suffix `_total`.
        text: what it is.
        kind: `counter` or `gauge`.
        labels: besides node, layer and neighbour.
        value: now.
    """

    name: str
    text: str
    kind: str
    labels: dict[str, str]
    value: float


class Waiting(NamedTuple):
    """A bundle that a layer has not begun to send.

    Attributes:
        handle: as returned by `send`.
        octets: what is to be sent.
        tag: as given to `send`.
        service_class: its class.
    """

    handle: int
    octets: bytes
    tag: Hashable
    service_class: ServiceClass


def withdraw(queues: Iterable[deque[Waiting]], handle: Hashable) -> list[LayerEvent]:
    """Take back what waits under a handle; what to tell the node of it."""
    for queue in queues:
        for each in queue:
            if each.handle == handle:
                queue.remove(each)
                return [Returned((each.tag,), "withdrawn")]
    return []


@mypyc_attr(allow_interpreted_subclasses=True)
class Layer:
    """One convergence layer of a node.

    Attributes:
        name: as in the configuration.
        one_way: whether `Taken` means no more than that the bundle has left.
        ahead: host seconds of a link's rate that may be handed over ahead of time.
        drops: what was not sent or not taken in, by reason.
        wake: called when there are events to take outside of a call of the node; the node sets it.
    """

    ahead: float = 0.05

    def __init__(self, name: str, *, one_way: bool = False) -> None:
        self.name, self.one_way = name, one_way
        self.drops: Counter[str] = Counter()
        self.wake: Callable[[], None] = lambda: None
        self._events: list[LayerEvent] = []

    def send(
        self, neighbour: str, octets: bytes | Rope, now: float, *, tag: object, service_class: ServiceClass
    ) -> Hashable:
        """Hand a bundle over; its tag comes back in `Taken` or `Returned`, once. Returns a handle for `cancel`."""
        raise NotImplementedError

    def cancel(self, handle: Hashable, now: float) -> None:
        """Take a bundle back where that is possible: `Returned` tells. Unknown handles are ignored."""

    def confirm(self, receipt: Hashable, now: float) -> None:
        """What was received is durable: acknowledge it."""

    def refuse(self, receipt: Hashable, now: float, *, unfit: bool = False) -> None:
        """What was received cannot be kept; `unfit` when that is no matter of room: it is no whole bundle."""

    def resumes(self, neighbour: str) -> bool:
        """Whether the neighbour keeps the beginning of a broken transfer, so that `send_rest` can go on there."""
        return False

    def send_rest(
        self, neighbour: str, octets: bytes, now: float, *, tag: object, service_class: ServiceClass, base: int
    ) -> Hashable:
        """Hand over a fragment that the neighbour has the beginning to, from `base` on in the whole payload, as `send`.

        `Returned` tells when it has not.
        """
        raise NotImplementedError

    def demand_whole(self, receipt: Hashable, now: float) -> None:
        """What was received is the rest of something whose beginning is not kept: ask for all of it."""

    def ready(self, neighbour: str) -> bool:
        """Whether bundles can be handed over now, as far as the layer knows."""
        return True

    def confirms(self, service_class: ServiceClass) -> bool:
        """Whether `Taken` says, of bundles of a class, that the neighbour has them."""
        return not self.one_way

    def room(self, neighbour: str) -> bool:
        """Whether one more bundle can be handed over: layers bound what is under way."""
        return True

    def max_bundle(self, neighbour: str) -> int | None:
        """Octets of the largest bundle that reaches the neighbour; None for no bound."""
        return None

    def contact(self, neighbour: str, rate: float, now: float) -> None:
        """The contact to a neighbour has opened or changed to a rate in bit/s, or closed (0), as planned."""

    def advance(self, now: float) -> None:
        """Do what is due."""

    def next_deadline(self, now: float) -> float | None:
        """When to call `advance` next; None when only input can matter."""
        return None

    def take_events(self) -> list[LayerEvent]:
        """What has happened since the last call, in order."""
        taken, self._events = self._events, []
        return taken

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """What it counts: neighbour (empty for all of them together) and figure."""
        for reason, count in self.drops.items():
            yield "", Figure("cl_drops", "What a convergence layer dropped.", "counter", {"reason": reason}, count)

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            EnvironmentLacksError: an address or a port is not to be had.
        """

    def close(self) -> None:
        """Release sockets and connections."""
