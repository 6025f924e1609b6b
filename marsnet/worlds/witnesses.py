"""Whether what nodes say of themselves at the end of a run lets their ledgers be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from marsnet.worlds.spec import Incident


def doubts(statuses: Mapping[str, Mapping[str, Any] | None], happened: Iterable[Incident], now: float) -> Iterator[str]:
    """Reasons to mistrust a run: a node that is gone without a fault, or that went on after a defect of its own.

    Args:
        statuses: what each node answered; None where it did not.
        happened: the faults of the run.
        now: mission seconds at which they were asked.
    """
    down = {incident.down for incident in happened if incident.start <= now <= incident.end}
    for node, status in statuses.items():
        if status is None:
            if node not in down:
                yield f"node {node!r} did not answer at the end of the run, and no fault keeps it down; see its log"
        elif defects := status.get("defects", 0):
            yield f"node {node!r} went on after {defects} errors that it did not expect; see its log"
