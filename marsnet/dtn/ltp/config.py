"""What an LTP engine is told: its limits and margins, and the plan as seen from one neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from marsnet.errors import InputError

SERVICE_BUNDLES = 1
"""Client service id of the bundle protocol: a block is one bundle or several, one after another."""
SERVICE_AGGREGATED = 2
"""Client service id of LTP service data aggregation (CCSDS 734.1-B-1 section 7)."""


class PeerModel(Protocol):
    """What the contact plan says about a neighbour. Every method is a function of mission time, also of the future.

    Intervals are half-open. `next_change` and `peer_next_change` return the first instant after `now` at which
    the answer of `can_send` or `rate`, respectively `peer_can_send`, changes; None when the plan knows of none.
    """

    @property
    def mtu(self) -> int:
        """Octets of the largest LTP segment that a datagram to the peer carries."""

    def owlt(self, now: float) -> float:
        """One-way light time in seconds of what leaves at `now`."""

    def rate(self, now: float) -> float:
        """bit/s that may be sent; `math.inf` for no limit."""

    def can_send(self, now: float) -> bool:
        """Whether our contact to the peer is open."""

    def next_change(self, now: float) -> float | None:
        """When that changes."""

    def peer_can_send(self, now: float) -> bool:
        """Whether the peer's contact to us is open, at its transmitter."""

    def peer_next_change(self, now: float) -> float | None:
        """When that changes."""


@dataclass(frozen=True, slots=True)
class LtpConfig:
    """Limits and margins of an engine. Times are mission seconds, sizes octets.

    Attributes:
        timer_margin: added to each expected instant of an answer. A clock that runs k times faster than the host's
            needs k times the host's hiccups here.
        peer_latency: what the peer takes from receiving to answering.
        checkpoint_limit: transmissions of one checkpoint before the session is cancelled (RLEXC).
        report_limit: transmissions of one report before the import is cancelled (RLEXC), or, when its red part was
            delivered, closed.
        cancel_limit: transmissions of a cancellation.
        round_limit: rounds of retransmission before the session is cancelled (RXMTCYCEXC).
        control_copies: copies of each new checkpoint and report that are sent at once. Two make the loss of a round
            trip to a lost control segment rare, for the price of one segment each.
        checkpoint_every: octets of red part between discretionary checkpoints; 0 for none but the last.
        max_exports: open export sessions for each peer, of about 2 kB besides their data. A block occupies one for a
            round trip, so many small blocks at a great distance want aggregation.
        max_imports: open import sessions for each peer.
        max_import_bytes: octets of memory for unfinished imports of all peers together: data, reports, and about half a
            kB for each piece and report, so that a peer that sends single octets gets no further.
        max_block: octets of the largest red part accepted.
        closed_memory: closed sessions of each direction that are remembered, to answer what comes late.
        import_idle_limit: an import without a segment for so long is given up.
        require_confirm: whether a red part's last report waits for `confirm`.
        services: client service ids that are accepted.
        datagram_overhead: octets that lower layers add to each datagram, for pacing.
        pacing_burst: how late a wake-up may be and still be caught up with, seconds. It bounds every burst.
        pacing_ahead: what may leave within so many seconds is handed out at once, for a layer below that sends it in
            order of priority at the link's rate. It saves wake-ups; a surprise outage or a cancellation finds so much
            more on its way.
        segments_ahead: what is handed out ahead may always take the time of so many full segments, also on slow links.
        trains: red data is handed out as `Train`, for a layer below that hands it over as such.
        starvation_bound: so many segments of more urgent blocks may leave while another waits, then one of the
            other's leaves; 0 for no bound.
        control_priority: priority with which reports and acknowledgements are handed out.
        aggregate_size: several service data share a block until it has so many octets; 0 for one each.
        aggregate_time: a block waits at most so long for more. It never waits for an idle open link.
        aggregate_service: `SERVICE_BUNDLES` or `SERVICE_AGGREGATED`.
        session_base: number of the first session; None for a random one of 31 bits (RFC 5326 section 3.1.2 wants
            numbers that are hard to guess), so that a restarted engine does not repeat one that a peer remembers.
    """

    timer_margin: float = 2.0
    peer_latency: float = 0.0
    checkpoint_limit: int = 10
    report_limit: int = 10
    cancel_limit: int = 5
    round_limit: int = 30
    control_copies: int = 1
    checkpoint_every: int = 0
    max_exports: int = 16384
    max_imports: int = 16384
    max_import_bytes: int = 1 << 30
    max_block: int = 1 << 28
    closed_memory: int = 65536
    import_idle_limit: float = 7 * 86400.0
    require_confirm: bool = True
    services: frozenset[int] = frozenset((SERVICE_BUNDLES, SERVICE_AGGREGATED))
    datagram_overhead: int = 28
    pacing_burst: float = 0.05
    pacing_ahead: float = 0.0
    segments_ahead: int = 0
    trains: bool = False
    starvation_bound: int = 64
    control_priority: int = 3
    aggregate_size: int = 0
    aggregate_time: float = 1.0
    aggregate_service: int = SERVICE_BUNDLES
    session_base: int | None = None

    def __post_init__(self) -> None:
        for name in ("checkpoint_limit", "report_limit", "cancel_limit", "round_limit", "control_copies"):
            if getattr(self, name) < 1:
                raise InputError(f"LTP {name} is {getattr(self, name)}", remedy="write 1 or more")
        for name in (
            "timer_margin",
            "peer_latency",
            "pacing_burst",
            "pacing_ahead",
            "aggregate_time",
            "import_idle_limit",
        ):
            if not getattr(self, name) >= 0:
                raise InputError(f"LTP {name} is {getattr(self, name)} s", remedy="write 0 s or more")
        if self.aggregate_service not in (SERVICE_BUNDLES, SERVICE_AGGREGATED):
            raise InputError(f"LTP aggregate_service is {self.aggregate_service}", remedy="write 1 or 2")
