"""What an application asks of its node: a bundle to be made, and word when it is in the store durably."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from marsnet.dtn.bpv7 import Bundle, Eid, ServiceClass
from marsnet.errors import MarsnetError

DEFAULT_LIFETIME = 86400.0
"""Mission seconds of a bundle whose application gives no lifetime."""


class SubmissionError(MarsnetError):
    """The node cannot take the bundle: its store has no room. Nothing was accepted."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A bundle to be made.

    Attributes:
        destination: endpoint.
        payload: application data unit.
        source: endpoint of this node.
        lifetime: mission seconds.
        priority: class of service.
        report_to: endpoint of status reports; None for the source.
        flags: bits of `BundleFlags`.
        time_ms: creation time, DTN milliseconds; None for now.
        sequence: sequence number that goes with `time_ms`.
    """

    destination: Eid
    payload: bytes
    source: Eid
    lifetime: float = DEFAULT_LIFETIME
    priority: ServiceClass = ServiceClass.NORMAL
    report_to: Eid | None = None
    flags: int = 0
    time_ms: int | None = None
    sequence: int = 0


Done = Callable[[Bundle | SubmissionError], None]
"""Called once: with the bundle when it is durable, or with why it was not accepted."""
