"""Bundles that begin or end at this node: submissions of applications, mailboxes, the echo service."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from marsnet.dtn.apps.registry import Applications, Parcel
from marsnet.dtn.apps.submission import Done, Submission, SubmissionError
from marsnet.dtn.bpv7 import Bundle, BundleError, CreationTimestamp, decode_from, encode
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.queues import Held
from marsnet.dtn.store import StorageFullError, StoreError

if TYPE_CHECKING:
    from marsnet.dtn.node.agent import BundleAgent


class Keep(Protocol):
    """Puts a bundle into the store."""

    def __call__(
        self, bundle: Bundle, octets: bytes, peer: str | None, step: Step, details: dict[str, object], now: float
    ) -> Held | StorageFullError | None:
        """Its entry, the error when there is no room, None when it is there already."""


class Discard(Protocol):
    """Ends a bundle's life undelivered."""

    def __call__(self, key: int, step: Step, now: float, reason: str) -> None:
        """Say how and why."""


class End(Protocol):
    """Ends a bundle's life delivered."""

    def __call__(self, held: Held, bundle: Bundle, now: float) -> None:
        """Record it, then let it leave the store."""


class LocalTraffic:
    """The applications' side of a bundle agent.

    Attributes:
        applications: mailboxes, and who is at them.
        echoed: bundles that the echo service has sent back.
        unechoed: bundles for it that have no answer: their source has no endpoint, is an echo service itself, or the
            store had no room.
        echo: service number of the echo service; None for none.
    """

    def __init__(self, agent: BundleAgent, echo: int | None, *, keep: Keep, discard: Discard, end: End) -> None:
        """Begin with empty mailboxes.

        Args:
            agent: the node.
            echo: service number of the echo service; None for none.
            keep: puts a bundle into the store: its entry, the error when there is no room, None when it is there.
            discard: ends a bundle's life undelivered.
            end: ends a bundle's life delivered.
        """
        self.applications = Applications(agent.store, self)
        self.echoed = self.unechoed = 0
        self.echo = echo
        self._agent, self._keep, self._discard, self._end = agent, keep, discard, end
        self._waiting: dict[int, tuple[Done, Bundle]] = {}
        self._after: list[Callable[[], None]] = []

    # Bundles that begin here

    def submit(self, submission: Submission, now: float, done: Done) -> None:
        """Make a bundle; `done` is told when it is durable, or that it is not accepted.

        Raises:
            BundleError: the bundle would break a rule of RFC 9171.
        """
        agent = self._agent
        stamp = agent.clock.dtn_time(now) if submission.time_ms is None else submission.time_ms
        sequence = submission.sequence
        if submission.time_ms is None:
            sequence = agent.store.reserve("bundles", "sequence")
        bundle = Bundle.create(
            submission.source,
            submission.destination,
            submission.payload,
            CreationTimestamp(stamp, sequence),
            round(submission.lifetime * 1000),
            report_to=submission.report_to,
            flags=submission.flags,
            service_class=submission.priority,
        )
        details: dict[str, object] = {
            "flow": f"application {submission.source}",
            "class": submission.priority.name.lower(),
            "source": agent.config.name,
            "destination": agent.destination(bundle),
            "size": len(submission.payload),
            "lifetime": submission.lifetime,
        }
        held = self._keep(bundle, encode(bundle), None, Step.ACCEPTED, details, now)
        if isinstance(held, Held):
            self._waiting[held.key] = done, bundle
        elif held is None:
            done(SubmissionError(f"bundle {bundle.id} was sent before; give it another sequence number"))
        else:
            done(SubmissionError(str(held)))

    def durable(self, held: Held) -> None:
        """A bundle that came in is durable."""
        if (waiting := self._waiting.pop(held.key, None)) is not None:
            done, bundle = waiting
            done(bundle)

    def lost(self, held: Held) -> None:
        """A bundle that came in was lost before it was durable."""
        if (waiting := self._waiting.pop(held.key, None)) is not None:
            waiting[0](SubmissionError("the disk is full; free space on it"))

    def committed(self, now: float) -> None:
        """What was done is durable: hand over what is due, and tell who waits for that."""
        self.applications.committed(now)
        after, self._after = self._after, []
        for tell in after:
            tell()

    def when_durable(self, tell: Callable[[], None]) -> None:
        """Call something after the next commit."""
        self._after.append(tell)

    # Bundles that end here

    def arrived(self, held: Held, bundle: Bundle, now: float, *, doubtful: bool = False) -> None:
        """A bundle for an endpoint of this node is in its store, durably; `doubtful` when it was handed out before."""
        if bundle.destination.service == self.echo and not bundle.destination.name:
            self._echo(held, bundle, now)
            return
        parcel = Parcel(held.key, held.bundle, str(bundle.destination), held.priority, held.since)
        self.applications.arrived(parcel, doubtful=doubtful)

    def _echo(self, held: Held, bundle: Bundle, now: float) -> None:
        source = bundle.source
        if source.is_null or source.service == self.echo or bundle.is_admin_record or bundle.is_fragment:
            self.unechoed += 1
        else:
            reply = Submission(
                source, bundle.payload, bundle.destination, bundle.lifetime_ms / 1000, bundle.service_class
            )
            self.submit(reply, now, self._echo_done)
        # The answer and the end of the bundle are one transaction: it is answered once, whenever the node is killed.
        self._end(held, bundle, now)

    def _echo_done(self, outcome: Bundle | SubmissionError) -> None:
        if isinstance(outcome, Bundle):
            self.echoed += 1
        else:
            self.unechoed += 1

    # What the mailboxes ask

    def content(self, parcel: Parcel, now: float) -> Bundle | None:
        """The bundle; None when it cannot be read and has been given up."""
        try:
            return decode_from(self._agent.store.load(parcel.key), 0)[0]
        except (StoreError, BundleError) as error:
            self.applications.forget(parcel.key)
            self._discard(parcel.key, Step.DROPPED, now, str(error))
            return None

    def taken(self, parcel: Parcel, content: Bundle, now: float) -> None:
        """An application has confirmed a bundle."""
        held = self._agent.forwarder.held.get(parcel.key)
        if held is not None:
            self._end(held, content, now)

    def overdue(self, parcel: Parcel, now: float) -> bool:
        """Whether the bundle has expired meanwhile; then its life has been ended."""
        held = self._agent.forwarder.held.get(parcel.key)
        if held is None or held.expires > now:
            return held is None
        self._discard(parcel.key, Step.EXPIRED, now, "lifetime")
        return True
