"""What a bundle store holds and says: records, states, policy, errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from marsnet.errors import MarsnetError


class BundleState(IntEnum):
    """Where a stored bundle stands. What is none of these is not in the store."""

    QUEUED = 0
    """To be forwarded."""
    FORWARDING = 1
    """Handed to a convergence layer; after a restart to be forwarded again."""
    AWAITING_DELIVERY = 2
    """For an application of this node that has not taken it yet."""
    DELIVERING = 3
    """Handed to the application, which has not confirmed it; after a restart in doubt."""
    REASSEMBLY = 4
    """A fragment that waits for the others."""


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """What is known of a stored bundle without reading it.

    Attributes:
        key: in this store; a later one is larger.
        id: the bundle's ID as octets (`BundleId.key`).
        source: endpoint ID.
        destination: endpoint ID.
        service_class: 0 (critical) to 3 (bulk).
        size: octets of the encoded bundle.
        expiry: mission time, seconds, when it expires.
        tenant: whose quota it counts against.
        state: where it stands.
        received_from: node ID of the previous node; empty when it was made here.
        handler: the neighbour it is being forwarded to, or the application that it was handed to; else empty.
        added: mission time, seconds, when it came in.
    """

    key: int
    id: bytes
    source: str
    destination: str
    service_class: int
    size: int
    expiry: float
    tenant: str
    state: BundleState
    received_from: str
    handler: str
    added: float


class Added(NamedTuple):
    """What became of a bundle that was to be added.

    Attributes:
        key: of the stored bundle; None for a duplicate.
        evicted: bundles that were deleted to make room.
    """

    key: int | None
    evicted: tuple[BundleRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class EvictionPolicy:
    """What is deleted to make room for a bundle.

    Expired bundles go first, then those of less urgent classes than the new one's, the least urgent class first and
    in a class the one that expires first. Bundles in the hands of a convergence layer or an application stay, and
    nothing is ever evicted for a bundle of its own or a less urgent class.

    Attributes:
        evict: False refuses the new bundle instead (expired ones still go).
        tenant_quota: bytes that a tenant may hold; only its own bundles make room for its own above that.
    """

    evict: bool = True
    tenant_quota: Mapping[str, int] = field(default_factory=dict)


class Usage(NamedTuple):
    """How much is stored.

    Attributes:
        bundles: number of bundles.
        size: their octets.
    """

    bundles: int
    size: int


@dataclass(slots=True)
class StoreCounters:
    """Events since the store was opened.

    Attributes:
        added: bundles accepted.
        duplicates: bundles refused because they had been accepted before.
        refused: bundles refused for lack of room.
        evicted: bundles deleted to make room.
        expired: bundles deleted after their lifetime.
        commits: transactions made durable.
        commit_seconds: host seconds that this took.
        failed_commits: transactions undone (disk full, I/O error).
        corrupt_bundles: bundles whose octets did not fit their checksum when read.
        orphans: payload files without a bundle, removed when the store was opened.
        set_aside: corrupt databases renamed when the store was opened.
    """

    added: int = 0
    duplicates: int = 0
    refused: int = 0
    evicted: int = 0
    expired: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    failed_commits: int = 0
    corrupt_bundles: int = 0
    orphans: int = 0
    set_aside: int = 0


class StoreError(MarsnetError):
    """The store cannot do what was asked. The message names the place and the remedy."""


class UnknownBundleError(StoreError):
    """No bundle has the key."""


class CorruptionError(StoreError):
    """The database or a stored bundle is not what was written."""


class StorageFullError(StoreError):
    """No room: the quota is reached, or the disk is full.

    Attributes:
        lost: keys of added bundles that were not durable yet and are not stored; none when only a quota is reached.
        evicted: bundles that had been deleted already to make room for one that the disk then had no room for.
    """

    def __init__(self, message: str, lost: tuple[int, ...] = ()) -> None:
        self.lost = lost
        self.evicted: tuple[BundleRecord, ...] = ()
        super().__init__(message)
