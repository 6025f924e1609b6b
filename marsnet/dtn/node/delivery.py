"""What happens to a whole bundle at its destination: security, administrative records, the report of its delivery."""

from __future__ import annotations

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import Bundle, BundleError, Eid, StatusAssertion, StatusReport, decode_admin_record
from marsnet.dtn.node.keeping import Keeper
from marsnet.dtn.node.ledger import Record, Step
from marsnet.dtn.node.lifetimes import age_block
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.queues import Held
from marsnet.dtn.node.reasons import DropReason


class Delivery:
    """The last steps of the bundles for one node (RFC 9171 section 5.7).

    Attributes:
        records: administrative records that are no status reports.
    """

    def __init__(self, node: str, keeper: Keeper, clock: MissionClock, metrics: NodeMetrics) -> None:
        """Work for a node."""
        self.records = 0
        self._node, self._keeper, self._clock, self._metrics = node, keeper, clock, metrics

    def open(self, key: int, now: float, *, first: bool = False) -> Bundle | None:
        """A bundle as its application gets it: decrypted, verified, stripped; `first` when it has just come.

        None when it cannot be read, or fails its security; its life has been ended then.
        """
        keeper = self._keeper
        held = keeper.forwarder.held.get(key)
        bundle = None if held is None else keeper.load(held, now)
        if bundle is None or not (keeper.security.active or bundle.encrypted):
            return bundle
        secured = keeper.security.accept(bundle)
        if first or secured.bundle is None:
            keeper.failures.update(secured.reasons)
        if secured.bundle is None:
            keeper.discard(key, secured.reasons[0], now, settled=True)
        return secured.bundle

    def is_record(self, held: Held, bundle: Bundle, now: float, *, wanted: bool = False) -> bool:
        """Take in an administrative record; False when the bundle carries none, or goes on to an application.

        Args:
            held: its entry.
            bundle: the bundle.
            now: mission seconds.
            wanted: whether an application is at the endpoint that it was sent to.
        """
        if not bundle.is_admin_record:
            return False
        try:
            record = decode_admin_record(bundle.payload)
        except BundleError:
            self._keeper.discard(held.key, DropReason.RECORD, now)
            return True
        if isinstance(record, StatusReport):
            self._reported(bundle.source, record, now)
        else:
            self.records += 1
        if wanted:
            return False
        self._keeper.custody.end(held, Step.DELIVERED, now, {"intact": True, "record": True})
        self._keeper.store.confirm_delivery(held.key)
        self._keeper.forwarder.release(held)
        return True

    def _reported(self, reporter: Eid, report: StatusReport, now: float) -> None:
        keeper = self._keeper
        keeper.reports.add(reporter, report, now)
        for assertion in report.assertions:
            details = {
                "by": keeper.endpoints.node(reporter) or str(reporter),
                "status": assertion.name.lower(),
                "code": report.reason,
                "at": report.items[assertion].time_ms,
            }
            keeper.custody.remark(Record(now, self._node, Step.REPORT, str(report.subject), details))

    def delivered(self, held: Held, bundle: Bundle, now: float) -> None:
        """An application has the bundle: report that, and count how long it took."""
        self._keeper.reporter.ask(held.subject, StatusAssertion.DELIVERED)
        if bundle.timestamp.time_ms:
            created = self._clock.from_dtn_time(bundle.timestamp.time_ms)
        else:
            created = held.since - age_block(bundle) / 1000
        self._metrics.latency(held.priority, max(0.0, now - created))
