"""What a node does with a bundle between its arrival and the store (RFC 9171 section 5.6)."""

from __future__ import annotations

from dataclasses import dataclass, field

from marsnet.dtn.bpv7 import BlockFlags, BlockType, Bundle, BundleError, ReasonCode, StatusAssertion
from marsnet.dtn.node.reasons import DropReason, report_code
from marsnet.dtn.node.security import NodeSecurity

_KNOWN = frozenset(block_type.value for block_type in BlockType)


@dataclass(slots=True)
class Intake:
    """What became of a bundle that arrived.

    Attributes:
        bundle: as it is to be kept.
        drop: why it is deleted instead; empty when it is kept.
        failures: words for failures of security, for counters.
        removed: type codes of the blocks that were removed, for counters.
        reports: status reports that this asks for: assertion, reason, and whether a block asks whatever the bundle's
            own flags say.
    """

    bundle: Bundle
    drop: str = ""
    failures: tuple[str, ...] = ()
    removed: list[int] = field(default_factory=list)
    reports: list[tuple[StatusAssertion, ReasonCode, bool]] = field(default_factory=list)

    def delete(self, reason: str) -> None:
        """The bundle ends here."""
        self.drop = reason
        self.reports.append((StatusAssertion.DELETED, report_code(reason), False))


def take_in(bundle: Bundle, security: NodeSecurity, *, passes: bool, expired: bool) -> Intake:
    """Decide about a bundle that was received.

    Args:
        bundle: as it came.
        security: of the node.
        passes: whether it is for other nodes (too). What is for this node alone is checked on delivery, when whole.
        expired: whether its lifetime is over.
    """
    taken = Intake(bundle)
    taken.reports.append((StatusAssertion.RECEIVED, ReasonCode.NO_INFORMATION, False))
    _unknown_blocks(taken)
    if taken.drop:
        return taken
    if expired:
        taken.delete(DropReason.LIFETIME)
        return taken
    try:
        hops = taken.bundle.hop_count
    except BundleError:
        # Encrypted: whoever can read it counts.
        hops = None
    if hops is not None and hops.exceeded:
        taken.delete(DropReason.HOP_LIMIT)
        return taken
    if passes and security.active:
        secured = security.pass_on(taken.bundle)
        taken.failures = secured.reasons
        if secured.bundle is None:
            taken.delete(secured.reasons[0])
        else:
            taken.bundle = secured.bundle
    return taken


def _unknown_blocks(taken: Intake) -> None:
    """Step 4: blocks that cannot be processed, by their flags; they stay as they came where no flag says otherwise."""
    for block in taken.bundle.blocks:
        if block.type in _KNOWN:
            continue
        if block.flags & BlockFlags.REPORT_UNPROCESSED.value:
            taken.reports.append((StatusAssertion.RECEIVED, ReasonCode.BLOCK_UNSUPPORTED, True))
        if block.flags & BlockFlags.DELETE_BUNDLE_UNPROCESSED.value:
            taken.delete(DropReason.UNSUPPORTED_BLOCK)
            return
        if block.flags & BlockFlags.REMOVE_UNPROCESSED.value:
            taken.bundle = taken.bundle.without_block(block.number)
            taken.removed.append(block.type)
