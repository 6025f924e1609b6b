"""Bundles that begin or end at this node: submissions of applications, mailboxes, the echo service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from marsnet.dtn.apps.registry import Applications, Parcel
from marsnet.dtn.apps.submission import Done, Submission, SubmissionError
from marsnet.dtn.bpsec import SecurityError
from marsnet.dtn.bpv7 import Bundle, BundleError, CreationTimestamp, Eid, encode
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.queues import Held
from marsnet.dtn.node.reasons import DropReason

if TYPE_CHECKING:
    from marsnet.dtn.node.agent import BundleAgent


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

    def __init__(self, agent: BundleAgent, echo: int | None, *, end: End) -> None:
        """Begin with empty mailboxes.

        Args:
            agent: the node.
            echo: service number of the echo service; None for none.
            end: ends a bundle's life delivered.
        """
        self.applications = Applications(agent.store, self)
        self.echoed = self.unechoed = 0
        self.echo = echo
        self._agent, self._end = agent, end
        self._waiting: dict[int, tuple[Done, Bundle]] = {}
        self._after: list[Callable[[], None]] = []

    # Bundles that begin here

    def submit(self, submission: Submission, now: float, done: Done) -> None:
        """Make a bundle; `done` is told when it is durable, or that it is not accepted.

        Raises:
            BundleError: the bundle would break a rule of RFC 9171.
            SecurityError: it cannot be protected as its rule demands.
        """
        agent = self._agent
        timestamp = None
        if submission.time_ms is not None:
            timestamp = CreationTimestamp(submission.time_ms, submission.sequence)
        bundle = agent.maker.make(
            submission.source,
            submission.destination,
            submission.payload,
            submission.lifetime,
            now,
            service_class=submission.priority,
            flags=submission.flags,
            report_to=submission.report_to or submission.source,
            timestamp=timestamp,
        )
        details: dict[str, object] = {
            "flow": f"application {submission.source}",
            "class": submission.priority.name.lower(),
            "source": agent.config.name,
            "destination": agent.keeper.destination(bundle),
            "size": len(submission.payload),
            "lifetime": submission.lifetime,
        }
        held = agent.keeper.keep(bundle, encode(bundle), None, Step.ACCEPTED, details, now)
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

    def serves(self, endpoint: Eid) -> bool:
        """Whether something of this node takes bundles for an endpoint."""
        return self.is_echo(endpoint) or self.applications.is_attached(str(endpoint))

    def is_echo(self, endpoint: Eid) -> bool:
        """Whether it is this node's echo service."""
        return endpoint.service == self.echo and not endpoint.name

    def arrived(self, held: Held, bundle: Bundle, now: float, *, doubtful: bool = False) -> None:
        """A bundle for an endpoint of this node is in its store, durably; `doubtful` when it was handed out before."""
        if self.is_echo(bundle.destination):
            # Answer and end are one transaction: it is answered once, whenever the node is killed.
            self.echo_back(bundle, now)
            self._end(held, bundle, now)
            return
        parcel = Parcel(held.key, held.bundle, str(bundle.destination), held.priority, held.since)
        self.applications.arrived(parcel, doubtful=doubtful)

    def echo_back(self, bundle: Bundle, now: float) -> None:
        """Send a bundle's payload back to its source."""
        source = bundle.source
        if source.is_null or source.service == self.echo or bundle.is_admin_record or bundle.is_fragment:
            self.unechoed += 1
        else:
            reply = Submission(
                source, bundle.payload, bundle.destination, bundle.lifetime_ms / 1000, bundle.service_class
            )
            try:
                self.submit(reply, now, self._echo_done)
            except (BundleError, SecurityError):
                self.unechoed += 1

    def _echo_done(self, outcome: Bundle | SubmissionError) -> None:
        if isinstance(outcome, Bundle):
            self.echoed += 1
        else:
            self.unechoed += 1

    def figures(self) -> Iterator[tuple[str, str, bool, float]]:
        """For Prometheus: name, text, whether it only grows, value."""
        mail = self.applications
        yield "application_waiting_bundles", "Bundles that wait for an application.", False, mail.waiting
        yield "application_unacknowledged_bundles", "Bundles in the hands of applications.", False, mail.in_hands
        yield "application_acknowledged", "Bundles that applications have acknowledged.", True, mail.confirmed
        yield "application_repeated", "Bundles handed over that an application may have seen.", True, mail.repeated
        yield "echoed_bundles", "Bundles that the echo service has sent back.", True, self.echoed
        yield "unechoed_bundles", "Bundles for the echo service that have no answer.", True, self.unechoed

    def reasons(self) -> dict[str, int]:
        """None."""
        return {}

    # What the mailboxes ask

    def content(self, parcel: Parcel, now: float) -> Bundle | None:
        """The bundle; None when it cannot be read and has been given up."""
        return self._agent.delivery.open(parcel.key, now)

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
        self._agent.keeper.discard(parcel.key, DropReason.LIFETIME, now)
        return True
