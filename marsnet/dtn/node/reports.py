"""Bundle status reports: what a node says about bundles, within a rate, and what others said (RFC 9171 section 6)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

from marsnet.dtn.bpv7 import (
    Bundle,
    BundleFlags,
    BundleId,
    Eid,
    ReasonCode,
    ServiceClass,
    StatusAssertion,
    StatusReport,
    encode_status_report,
)
from marsnet.model.bundles import ReportsConfig

_DAY_MS = 86_400_000


class TokenBucket:
    """So many at once, and so many a second in the long run."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate, self._burst = rate, float(burst)
        self._level, self._at = float(burst), now

    def take(self, now: float) -> bool:
        """Use one up; False when there is none."""
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


class Subject(NamedTuple):
    """What a report needs to know of a bundle: kept in memory for bundles that ask for reports.

    Attributes:
        id: of the bundle.
        flags: its `BundleFlags`.
        report_to: where reports go.
        lifetime_ms: its lifetime.
        service_class: its class.
    """

    id: BundleId
    flags: int
    report_to: Eid
    lifetime_ms: int
    service_class: ServiceClass

    @staticmethod
    def of(bundle: Bundle) -> Subject | None:
        """The subject, where there can be reports on it.

        Nothing is ever reported about administrative records, about anonymous bundles, or to nobody (RFC 9171 sections
        4.2.3 and 5.1).
        """
        if bundle.is_admin_record or bundle.source.is_null or bundle.report_to.is_null:
            return None
        return Subject(bundle.id, bundle.flags, bundle.report_to, bundle.lifetime_ms, bundle.service_class)


class Outgoing(NamedTuple):
    """A report to send as an administrative record.

    Attributes:
        subject: the bundle that it is about.
        destination: the subject's report-to endpoint.
        payload: the record.
        lifetime_ms: the subject's, and a day at least: news of its end has to arrive after it.
        service_class: the subject's, though never critical.
    """

    subject: BundleId
    destination: Eid
    payload: bytes
    lifetime_ms: int
    service_class: ServiceClass


class ReceivedReport(NamedTuple):
    """A report that came to this node.

    Attributes:
        number: ascending in the order in which reports came, from 1.
        time: mission seconds when it came.
        reporter: node that made it.
        report: what it says.
    """

    number: int
    time: float
    reporter: Eid
    report: StatusReport


class StatusReporter:
    """Makes the reports that bundles ask for, as far as the node is allowed to.

    Attributes:
        sent: reports made, by assertion and reason.
        suppressed: reports asked for and not made: `disabled`, or `rate`.
    """

    def __init__(self, config: ReportsConfig, now: float) -> None:
        self.sent: Counter[tuple[StatusAssertion, ReasonCode]] = Counter()
        self.suppressed: Counter[str] = Counter()
        self._enabled = config.enabled
        self._bucket = TokenBucket(config.rate, config.burst, now)
        self._asked: list[tuple[Subject, StatusAssertion, ReasonCode]] = []

    def ask(
        self,
        subject: Subject | None,
        assertion: StatusAssertion,
        reason: ReasonCode = ReasonCode.NO_INFORMATION,
        *,
        asked: bool = False,
    ) -> None:
        """Something became of a bundle: report it where it asks for that.

        Args:
            subject: the bundle; None where nothing is ever reported about it.
            assertion: what became of it.
            reason: why.
            asked: whether one of its blocks asks, whatever its own flags say.
        """
        if subject is not None and (asked or subject.flags & assertion.request_flag):
            self._asked.append((subject, assertion, reason))

    @property
    def asked(self) -> bool:
        """Whether `due` has something to look at."""
        return bool(self._asked)

    def due(self, time_ms: int, now: float) -> list[Outgoing]:
        """The reports that were asked for since the last call, as far as they are allowed.

        Args:
            time_ms: DTN time of what they assert; told where the subject's flags ask for times.
            now: mission seconds.
        """
        asked, self._asked = self._asked, []
        return [out for each in asked if (out := self._outgoing(*each, time_ms, now)) is not None]

    def _outgoing(
        self, subject: Subject, assertion: StatusAssertion, reason: ReasonCode, time_ms: int, now: float
    ) -> Outgoing | None:
        if not self._enabled:
            self.suppressed["disabled"] += 1
            return None
        if not self._bucket.take(now):
            self.suppressed["rate"] += 1
            return None
        self.sent[assertion, reason] += 1
        told = time_ms if subject.flags & BundleFlags.STATUS_TIME.value else None
        payload = encode_status_report(StatusReport.of(assertion, subject.id, reason, told))
        urgency = max(subject.service_class, ServiceClass.EXPEDITED)
        return Outgoing(subject.id, subject.report_to, payload, max(subject.lifetime_ms, _DAY_MS), urgency)


class ReportLog:
    """Reports that came to this node, the last ones.

    Attributes:
        received: how many came, by assertion and reason.
    """

    def __init__(self, keep: int) -> None:
        self.received: Counter[tuple[StatusAssertion, int]] = Counter()
        self._last: deque[ReceivedReport] = deque(maxlen=keep)
        self._count = 0

    @property
    def count(self) -> int:
        """Reports that came so far; the number of the last one."""
        return self._count

    def add(self, reporter: Eid, report: StatusReport, now: float) -> None:
        """Note one."""
        self._count += 1
        self._last.append(ReceivedReport(self._count, now, reporter, report))
        for assertion in report.assertions:
            self.received[assertion, report.reason] += 1

    def __iter__(self) -> Iterator[ReceivedReport]:
        return iter(self._last)

    def about(self, subject: BundleId) -> list[ReceivedReport]:
        """Reports about a bundle, and about fragments of it, in the order in which they came."""
        return [r for r in self._last if r.report.subject[:2] == (subject.source, subject.timestamp)]
