"""LTP as a convergence layer of a node: one engine for all neighbours, datagrams in and out."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.ltp import (
    SERVICE_BUNDLES,
    BlockSent,
    CancelReason,
    ExportCancelled,
    ExportCompleted,
    GreenSegmentReceived,
    ImportCancelled,
    LtpConfig,
    LtpEngine,
    PeerModel,
    RedPartReceived,
    SegmentError,
    SessionId,
    Train,
    split_block,
)
from marsnet.dtn.ltp.segments import KIND_NAMES
from marsnet.dtn.node.green import GreenBlocks
from marsnet.dtn.node.layer import Figure, Layer, LayerEvent, PeerDown, Received, Returned, Sent, Taken
from marsnet.dtn.recipe import Rope

_CLASSES = tuple(reversed(ServiceClass))
"""Classes by the priority that their blocks have in LTP."""


class LtpLayer(Layer):
    """Bundles in LTP blocks.

    Attributes:
        engine: the protocol engine.
        cancelled: blocks given up, by reason code and whether the peer did.
    """

    def __init__(
        self,
        engine_id: int,
        config: LtpConfig,
        models: Mapping[str, PeerModel],
        numbers: Mapping[str, int],
        rng: random.Random,
        green: Collection[ServiceClass] = (),
        most_ahead: Mapping[str, int] | None = None,
    ) -> None:
        """Prepare the engine.

        Args:
            engine_id: of this node.
            config: of the engine.
            models: what the plan says of each neighbour.
            numbers: engine ids by node name.
            rng: for session and serial numbers.
            green: classes of service that are sent once.
            most_ahead: octets that may be handed out ahead of time, by node name, where that is bounded.
        """
        super().__init__("ltp")
        self.engine = LtpEngine(engine_id, config, rng)
        self.cancelled: Counter[tuple[int, bool]] = Counter()
        self._green, self._green_blocks = frozenset(green), GreenBlocks()
        self._numbers = {name: numbers[name] for name in models}
        self._names = {number: name for name, number in self._numbers.items()}
        for name, model in models.items():
            self.engine.add_peer(self._numbers[name], model, most_ahead=(most_ahead or {}).get(name, math.inf))

    def receive_all(self, peer: str | None, datagrams: Iterable[bytes], now: float) -> None:
        """Datagrams arrived; `peer` is the neighbour they came from, where that is known."""
        self.engine.receive_all(datagrams, now, None if peer is None else self._numbers.get(peer))

    def receive_trains(self, peer: str, arrivals: Sequence[tuple[Train, int, int]], now: float) -> None:
        """Segments of trains arrived from a neighbour; see `LtpEngine.receive_trains`."""
        self.engine.receive_trains(arrivals, now, self._numbers.get(peer))

    def take_datagrams(self) -> list[tuple[str, bytes | Train, ServiceClass]]:
        """What is to be sent now: neighbour, octets, class."""
        taken = self.engine.take_datagrams()
        return [(self._names[peer], octets, _CLASSES[priority]) for peer, octets, priority in taken] if taken else []

    def send(
        self, neighbour: str, octets: bytes | Rope, now: float, *, tag: object, service_class: ServiceClass
    ) -> Hashable:
        """Send a bundle in a block of its own, or with others; returns the session's number."""
        red = 0 if service_class in self._green else None
        priority = 3 - int(service_class)
        return self.engine.send(self._numbers[neighbour], octets, now, red_length=red, tag=tag, priority=priority)

    def cancel(self, handle: Hashable, now: float) -> None:
        """Cancel the block."""
        if isinstance(handle, int):
            self.engine.cancel(handle, now)

    def confirm(self, receipt: Hashable, now: float) -> None:
        """Send the last report."""
        if isinstance(receipt, SessionId):
            self.engine.confirm(receipt, now)

    def refuse(self, receipt: Hashable, now: float, *, unfit: bool = False) -> None:
        """Cancel the import, with the reason of RFC 5326 section 3.2.4."""
        if isinstance(receipt, SessionId):
            self.engine.refuse(receipt, now, CancelReason.USER if unfit else CancelReason.SYSTEM)

    def confirms(self, service_class: ServiceClass) -> bool:
        """All but green classes."""
        return service_class not in self._green

    def room(self, neighbour: str) -> bool:
        """Whether another session may be opened."""
        return self.engine.room(self._numbers[neighbour]) > 0

    def max_bundle(self, neighbour: str) -> int | None:
        """What peers of this kind accept in a block."""
        return self.engine.config.max_block

    def advance(self, now: float) -> None:
        """Timers and pacing."""
        self.engine.advance(now)

    def next_deadline(self, now: float) -> float | None:
        """The engine's."""
        return self.engine.next_deadline(now)

    @property
    def tells(self) -> bool:
        """Whether `take_events` has something."""
        return bool(self._events) or self.engine.tells

    def take_events(self) -> list[LayerEvent]:
        """What the engine says, in the node's words."""
        events, self._events = self._events, []
        for event in self.engine.take_events():
            match event:
                case RedPartReceived():
                    self._red(event, events)
                case BlockSent():
                    events.append(Sent(event.tags))
                case ExportCompleted():
                    events.append(Taken(event.tags))
                case ExportCancelled():
                    self.cancelled[int(event.reason), event.by_peer] += 1
                    if event.reason != CancelReason.USER and not event.by_peer:
                        events.append(PeerDown(self, self._names[event.peer], retries=False))
                    events.append(Returned(event.tags, f"cancelled, reason {int(event.reason)}", refused=event.by_peer))
                case GreenSegmentReceived():
                    self._on_green(event, events)
                case ImportCancelled():
                    self.drops["import cancelled"] += 1
        return events

    def _on_green(self, event: GreenSegmentReceived, events: list[LayerEvent]) -> None:
        """Data that nobody acknowledges: a bundle when all of its block has come."""
        whole = self._green_blocks.add(event)
        self.drops["green block not whole"] = self._green_blocks.lost
        if whole is not None and event.service == SERVICE_BUNDLES:
            events.append(Received(self, self._names.get(event.peer), (whole,)))
        elif whole is not None:
            self.drops["green data of another service"] += 1

    def _red(self, event: RedPartReceived, events: list[LayerEvent]) -> None:
        parts: tuple[bytes | Rope, ...] = (event.data,)
        if event.service != SERVICE_BUNDLES:
            try:
                parts = tuple(bytes(part) for part in split_block(event.service, bytes(event.data)))
            except SegmentError:
                self.drops["malformed block"] += 1
                parts = ()
        events.append(Received(self, self._names.get(event.peer), parts, event.session))

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Segments, octets, sessions, timers, and what was given up."""
        yield from super().figures()
        for number, name in self._names.items():
            counters = self.engine.counters(number)
            for kind, label in KIND_NAMES.items():
                for way, counts in (("sent", counters.sent_segments), ("received", counters.received_segments)):
                    labels = {"direction": way, "type": label}
                    yield name, Figure("ltp_segments", "LTP segments by type.", "counter", labels, counts[kind])
            for kind_name, count in (
                ("checkpoint", counters.retransmitted_checkpoints),
                ("report", counters.retransmitted_reports),
                ("cancel", counters.retransmitted_cancels),
            ):
                yield (
                    name,
                    Figure("ltp_retransmitted_segments", "Segments sent again.", "counter", {"type": kind_name}, count),
                )
            for way, count in (("sent", counters.sent_bytes), ("received", counters.received_bytes)):
                yield name, Figure("ltp_bytes", "Octets of LTP segments.", "counter", {"direction": way}, count)
            again = counters.retransmitted_bytes
            yield name, Figure("ltp_retransmitted_bytes", "Octets of block data sent again.", "counter", {}, again)
            for kind_name, count in (
                ("late", counters.late_segments),
                ("misdirected", counters.misdirected_segments),
                ("inconsistent", counters.inconsistent_segments),
            ):
                text = "Segments that fit no session."
                yield name, Figure("ltp_unfit_segments", text, "counter", {"reason": kind_name}, count)
            for kind_name, count in (
                ("checkpoint", counters.checkpoint_expiries),
                ("report", counters.report_expiries),
                ("cancel", counters.cancel_expiries),
                ("stall", counters.stalls),
            ):
                text = "Answers that were overdue."
                yield name, Figure("ltp_expired_timers", text, "counter", {"type": kind_name}, count)
            for what, text, count in (
                ("duplicate_bytes", "Octets of block data that came again.", counters.duplicate_bytes),
                ("refused_imports", "Blocks not begun for lack of room or service.", counters.refused_imports),
                ("unsent_answers", "Answers not sent, as too many waited for the link.", counters.dropped_answers),
            ):
                yield name, Figure(f"ltp_{what}", text, "counter", {}, count)
            exports, imports = self.engine.open_sessions(number)
            for way, count in (("export", exports), ("import", imports)):
                yield name, Figure("ltp_sessions", "Open LTP sessions.", "gauge", {"direction": way}, count)
        running = self.engine.timers()
        text = "Timers that run; those of a closed contact have no deadline."
        for number, name in self._names.items():
            for what in ("checkpoint", "report", "cancel", "stall", "aggregate"):
                yield name, Figure("ltp_timers", text, "gauge", {"type": what}, running[number, what])
        yield "", Figure("ltp_timers", text, "gauge", {"type": "housekeeping"}, running[None, "housekeeping"])
        yield "", Figure("ltp_held_bytes", "Octets of unfinished imports.", "gauge", {}, self.engine.held_bytes)
        for reason, count in (
            ("malformed", self.engine.malformed),
            ("unknown engine", self.engine.unknown_peers),
        ):
            text = "Datagrams that no session takes."
            yield "", Figure("ltp_ignored_datagrams", text, "counter", {"reason": reason}, count)
        for (code, by_peer), count in self.cancelled.items():
            labels = {"reason": str(code), "by": "peer" if by_peer else "self"}
            yield "", Figure("ltp_cancelled_sessions", "LTP blocks given up.", "counter", labels, count)
