"""Everything an LTP engine counts, for each peer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from marsnet.dtn.ltp.segments import KIND_NAMES, CancelReason


@dataclass(slots=True)
class LtpCounters:
    """Monotonic counts since the engine started; octets are those of whole segments unless named otherwise.

    Attributes:
        sent_segments: transmissions by segment type (index 0 to 15).
        received_segments: receptions by segment type.
        sent_bytes: octets of segments handed out.
        received_bytes: octets of well-formed segments.
        retransmitted_bytes: octets of block data sent again.
        retransmitted_checkpoints: checkpoints sent again after their timer.
        retransmitted_reports: reports sent again after their timer or on a repeated checkpoint.
        retransmitted_cancels: cancellations sent again.
        checkpoint_expiries: timers that ended without a report.
        report_expiries: timers that ended without an acknowledgement.
        cancel_expiries: timers that ended without an acknowledgement.
        stalls: times that a peer owed a report and stayed silent.
        duplicate_bytes: block data received again.
        duplicate_checkpoints: checkpoints received again.
        duplicate_reports: reports received again.
        late_segments: segments for a closed or unknown session.
        misdirected_segments: segments that do not come from the session's peer.
        inconsistent_segments: well-formed segments that contradict their session.
        exports_opened, exports_completed, imports_opened, imports_completed: sessions.
        exported_bytes, imported_bytes: block data acknowledged, respectively delivered.
        exports_cancelled, imports_cancelled: sessions by reason.
        refused_imports: blocks not begun for lack of room or service.
        dropped_answers: acknowledgements and refusals not sent, because too many waited for the link.
    """

    sent_segments: list[int] = field(default_factory=lambda: [0] * 16)
    received_segments: list[int] = field(default_factory=lambda: [0] * 16)
    sent_bytes: int = 0
    received_bytes: int = 0
    retransmitted_bytes: int = 0
    retransmitted_checkpoints: int = 0
    retransmitted_reports: int = 0
    retransmitted_cancels: int = 0
    checkpoint_expiries: int = 0
    report_expiries: int = 0
    cancel_expiries: int = 0
    stalls: int = 0
    duplicate_bytes: int = 0
    duplicate_checkpoints: int = 0
    duplicate_reports: int = 0
    late_segments: int = 0
    misdirected_segments: int = 0
    inconsistent_segments: int = 0
    exports_opened: int = 0
    exports_completed: int = 0
    imports_opened: int = 0
    imports_completed: int = 0
    exported_bytes: int = 0
    imported_bytes: int = 0
    exports_cancelled: Counter[int] = field(default_factory=Counter)
    imports_cancelled: Counter[int] = field(default_factory=Counter)
    refused_imports: int = 0
    dropped_answers: int = 0

    def as_dict(self) -> dict[str, int]:
        """Flat names to values: `sent_segments.report`, `exports_cancelled.miscolored`, `sent_bytes`."""
        flat: dict[str, int] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, list):
                flat |= {f"{each.name}.{name}": value[kind] for kind, name in KIND_NAMES.items()}
            elif isinstance(value, Counter):
                flat |= {f"{each.name}.{reason.name.lower()}": value[reason] for reason in CancelReason}
                flat[f"{each.name}.other"] = sum(n for r, n in value.items() if r not in iter(CancelReason))
            else:
                flat[each.name] = value
        return flat
