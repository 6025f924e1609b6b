"""The order of things that makes custody hold: store, ledger, then the sender, then onward.

A bundle is committed to the store first, then the ledger says so, then the convergence layer tells the sender, and only
then is it routed on. What ends a bundle's life here goes to the ledger before the store forgets it, so that a kill at
any instant leaves either the bundle or the record of its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.node.layer import Layer
from marsnet.dtn.node.ledger import Ledger, Record, Step
from marsnet.dtn.node.metrics import NodeMetrics
from marsnet.dtn.node.queues import Held
from marsnet.dtn.store import StorageFullError, Store


@dataclass(frozen=True, slots=True)
class _Begun:
    """A step that becomes true with the next commit; `fresh` bundles are dispatched then."""

    record: Record
    held: Held
    fresh: bool


log = logging.getLogger(__name__)
_MARK_EVERY = 1 << 16
"""Octets of the ledger that a node which starts may have to read once more: each note of where it ends costs a page."""


class Custody:
    """What waits for the next commit of a node's store."""

    def __init__(
        self,
        node: str,
        store: Store,
        ledger: Ledger,
        metrics: NodeMetrics,
        forget: Callable[[Held], None],
    ) -> None:
        """Begin with nothing.

        Args:
            node: name of this node.
            store: of its bundles.
            ledger: what happens is recorded in.
            metrics: what happens is counted in.
            forget: called with a bundle that the store lost before it was durable.
        """
        self._node, self._store, self._ledger, self._metrics, self._forget = node, store, ledger, metrics, forget
        self._begun: list[_Begun] = []
        self._owed: list[tuple[Layer, Hashable]] = []
        self._ended = False
        self._marked = 0

    def begin(self, record: Record, held: Held, *, fresh: bool) -> None:
        """A step was taken that the next commit makes durable; a `fresh` bundle is to be dispatched then."""
        self._begun.append(_Begun(record, held, fresh))

    def owe(self, layer: Layer, receipt: Hashable) -> None:
        """What came with a receipt is in the store: confirm it after the next commit."""
        self._owed.append((layer, receipt))

    def end(self, held: Held, step: Step, now: float, details: dict[str, object]) -> None:
        """Record the end of a bundle's life here, before the store forgets it."""
        self.note(Record(now, self._node, step, held.bundle, details), held.priority)
        self._ended = True

    def touch(self) -> None:
        """The store has changed otherwise: make that durable with the next commit."""
        self._ended = True

    def remark(self, record: Record) -> None:
        """Record what others say: no step of a bundle here, so it is not counted as one."""
        self._ledger.record(record)
        self._ended = True

    def note(self, record: Record, service_class: ServiceClass) -> None:
        """Record and count a step that is true already."""
        self._ledger.record(record)
        if log.isEnabledFor(logging.DEBUG):
            told = {"bundle": record.bundle, "mission_time": record.time, "class": service_class.name.lower()}
            log.debug(str(record.step), extra={**told, "details": record.details})
        self._metrics.steps[record.step, service_class] += 1

    def commit(self, now: float) -> list[Held] | None:
        """Make durable what was begun, and tell. Returns the fresh bundles; None when there was nothing to commit."""
        if not (self._begun or self._owed or self._ended):
            # What was refused changes no store, and is told all the same.
            self._ledger.flush()
            return None
        begun, self._begun = self._begun, []
        owed, self._owed = self._owed, []
        self._ended = False
        self._ledger.flush()
        mark = self._ledger.mark
        if mark is not None and mark - self._marked >= _MARK_EVERY:
            # All deliveries before it are in this commit: a node that starts need not read them again.
            self._store.put("node", "ledger", mark.to_bytes(8, "big"))
            self._marked = mark
        try:
            self._store.commit()
        except StorageFullError as error:
            self._begun, self._owed = begun, owed
            self.lose(error, now)
            begun, self._begun = self._begun, []
            owed, self._owed = self._owed, []
        for each in begun:
            self.note(each.record, each.held.priority)
        self._ledger.flush()
        for layer, receipt in owed:
            layer.confirm(receipt, now)
        return [each.held for each in begun if each.fresh]

    def lose(self, error: StorageFullError, now: float) -> None:
        """The disk is full: what came in and was not durable yet is not kept, and its senders are told."""
        lost, reason = set(error.lost), {"reason": str(error)}
        begun, self._begun = self._begun, []
        for each in begun:
            if each.held.key in lost:
                self._forget(each.held)
                self.note(Record(now, self._node, Step.REFUSED, each.record.bundle, reason), each.held.priority)
            else:
                self._begun.append(each)
        if lost:
            for layer, receipt in self._owed:
                layer.refuse(receipt, now)
            self._owed.clear()
