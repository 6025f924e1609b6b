"""Bundles that begin at a node: those of its applications, and its status reports."""

from __future__ import annotations

from marsnet.dtn.bpsec import SecurityError
from marsnet.dtn.bpv7 import Bundle, BundleFlags, CreationTimestamp, Eid, ServiceClass, encode
from marsnet.dtn.node.keeping import Keeper
from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.reasons import security_reason

_LONGEST = 1 << 63
"""Milliseconds of the longest lifetime. That of a foreign bundle may reach 64 bits, which seconds do not hold."""
_NUMBERS = 255
"""Sequence numbers that are taken from the store at a time, besides the one that is needed."""


class Maker:
    """Makes the bundles of one node."""

    def __init__(self, keeper: Keeper) -> None:
        """Work for a node."""
        self._keeper = keeper

    def make(
        self,
        source: Eid,
        destination: Eid,
        data: bytes,
        lifetime: float,
        now: float,
        *,
        service_class: ServiceClass = ServiceClass.NORMAL,
        flags: int = 0,
        report_to: Eid | None = None,
        timestamp: CreationTimestamp | None = None,
    ) -> Bundle:
        """A bundle of this node, protected as its rule says.

        Args:
            source: an endpoint of this node, or the null endpoint.
            destination: where to.
            data: the payload.
            lifetime: mission seconds.
            now: mission seconds.
            service_class: its class.
            flags: bits of `BundleFlags`.
            report_to: endpoint of status reports; this node's administrative endpoint by default.
            timestamp: default: now and a number that was not used before; time 0 on a node without a clock.

        Raises:
            BundleError: flags that do not go together.
            SecurityError: it cannot be protected as its rule demands.
        """
        keeper = self._keeper
        if timestamp is None:
            number = keeper.store.reserve("bundles", "sequence", ahead=_NUMBERS)
            timestamp = CreationTimestamp(keeper.lifetimes.stamp(now), number)
        bundle = Bundle.create(
            source,
            destination,
            data,
            timestamp,
            min(round(lifetime * 1000), _LONGEST),
            report_to=report_to or keeper.endpoints.admin,
            flags=flags,
            service_class=service_class,
        )
        return keeper.security.protect(bundle) if keeper.security.active else bundle

    def issue_reports(self, now: float) -> None:
        """Make the status reports that became due.

        Raises:
            StorageFullError: the disk is full, and what came since the last commit is lost.
        """
        keeper = self._keeper
        for out in keeper.reporter.due(keeper.lifetimes.stamp(now), now):
            try:
                bundle = self.make(
                    keeper.endpoints.admin,
                    out.destination,
                    out.payload,
                    out.lifetime_ms / 1000,
                    now,
                    service_class=out.service_class,
                    flags=BundleFlags.ADMIN_RECORD.value,
                    report_to=Eid.parse("dtn:none"),
                )
            except SecurityError as error:
                keeper.failures[security_reason(error.reason)] += 1
                continue
            keeper.keep(bundle, encode(bundle), None, Step.ISSUED, {"subject": str(out.subject)}, now)
