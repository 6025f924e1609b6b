"""What a node asks of a bundle store, and what all stores do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from marsnet.dtn.recipe import Recipes, Rope
from marsnet.dtn.store.types import (
    Added,
    BundleRecord,
    BundleState,
    StoreCounters,
    Usage,
)


class Store(ABC):
    """Bundles, what has been seen and delivered, and the protocols' own state, in one transaction at a time.

    Every change joins a transaction that `commit` makes durable: **acknowledge a bundle only after the commit that
    follows its `add`**. Reads see uncommitted changes.

    Attributes:
        counters: events since opening.
        recipes: what payloads are made by, in a store that need not keep those; None in others.
    """

    recipes: Recipes | None = None

    def __init__(self) -> None:
        self.counters = StoreCounters()
        self._handed_out: set[int] = set()
        self._numbers: dict[tuple[str, str], range] = {}

    # Bundles

    @abstractmethod
    def add(
        self,
        data: bytes | Rope,
        *,
        bundle_id: bytes,
        source: str,
        destination: str,
        service_class: int,
        expiry: float,
        now: float,
        tenant: str = "",
        state: BundleState = BundleState.QUEUED,
        received_from: str = "",
    ) -> Added:
        """Store a bundle, unless its ID has been seen; durable after the next `commit`.

        Args:
            data: the encoded bundle.
            bundle_id: `BundleId.key`.
            source: endpoint ID.
            destination: endpoint ID.
            service_class: 0 (critical) to 3 (bulk).
            expiry: mission time, seconds, when it expires; its ID is remembered until then.
            now: mission time, seconds.
            tenant: whose quota it counts against.
            state: where it stands.
            received_from: node ID of the previous node.

        Returns:
            Its key, or None for a duplicate, and what was evicted for it.

        Raises:
            StorageFullError: no room within the quotas, or the disk is full.
            StoreError: the database failed.
        """

    @abstractmethod
    def set_quota(self, quota_bytes: int) -> None:
        """Let the store hold so many octets of bundles from now on. What is more stays until it leaves by itself."""

    @abstractmethod
    def load(self, key: int) -> bytes | Rope:
        """The encoded bundle.

        Raises:
            UnknownBundleError: no bundle has this key.
            CorruptionError: its octets are not those that were stored; delete it.
        """

    @abstractmethod
    def record(self, key: int) -> BundleRecord:
        """What is known of a bundle. Raises UnknownBundleError."""

    @abstractmethod
    def set_state(self, key: int, state: BundleState, handler: str = "") -> None:
        """Note where a bundle stands, and with which neighbour or application. A key that is gone is ignored."""

    @abstractmethod
    def delete(self, key: int, *, forget: bool = False) -> None:
        """Delete a bundle that has been forwarded, delivered or given up. A key that is gone is ignored.

        Args:
            key: of the bundle.
            forget: accept it again when it comes again.
        """

    @abstractmethod
    def expire(self, now: float, limit: int = 1000) -> list[BundleRecord]:
        """Delete bundles that expire at or before `now` (mission time, seconds), and forget as many old IDs.

        Bundles in the hands of an application stay, until it confirms or releases them.

        Args:
            now: mission time, seconds.
            limit: bundles at a time; call again while it returns so many.
        """

    @abstractmethod
    def next_expiry(self) -> float | None:
        """Mission time, seconds, when `expire` next has a bundle to delete; None in an empty store."""

    @abstractmethod
    def iterate(self, *states: BundleState, page: int = 256) -> Iterator[BundleRecord]:
        """Bundles in any of the states, each state by class, the most urgent first, and in order of arrival.

        The store may be changed meanwhile: a bundle that leaves the state is not shown, one that enters it may be.

        Args:
            states: which; a node that restarts asks for QUEUED and FORWARDING.
            page: records in memory at a time.
        """

    @property
    @abstractmethod
    def newest(self) -> int:
        """Key of the bundle that was stored last; 0 in an empty store."""

    @abstractmethod
    def page(self, after: int, limit: int, states: Iterable[BundleState] = tuple(BundleState)) -> list[BundleRecord]:
        """Bundles in some states by key, from the first one beyond `after`."""

    def hand_out(self, key: int) -> None:
        """A convergence layer has the bundle in hand: it is not evicted. Forgotten at the end of the process."""
        self._handed_out.add(key)

    def take_back(self, key: int) -> None:
        """No convergence layer has the bundle in hand any more."""
        self._handed_out.discard(key)

    # Duplicates and delivery

    @abstractmethod
    def seen(self, bundle_id: bytes) -> bool:
        """Whether a bundle with this ID was accepted, also before a restart, and has not expired."""

    @abstractmethod
    def confirm_delivery(self, key: int) -> bool:
        """The application has taken the bundle: delete it and remember that, in one transaction.

        Returns:
            False when that had been confirmed before (or the bundle is gone).
        """

    @abstractmethod
    def delivered(self, bundle_id: bytes) -> bool:
        """Whether an application of this node has confirmed the bundle with this ID."""

    def begin_delivery(self, key: int, application: str) -> None:
        """Note that the bundle is about to be handed to an application; commit before handing it over."""
        self.set_state(key, BundleState.DELIVERING, application)

    def release_delivery(self, key: int) -> None:
        """The application did not take the bundle: it awaits delivery again."""
        self.set_state(key, BundleState.AWAITING_DELIVERY)

    def in_doubt(self) -> list[BundleRecord]:
        """After a restart: bundles that an application was handed and may have taken.

        Ask the application by bundle ID, or hand it over again marked as a possible repetition.
        """
        return list(self.iterate(BundleState.DELIVERING))

    # Protocol state

    @abstractmethod
    def put(self, space: str, name: str, value: bytes) -> None:
        """Keep a value of a protocol's own, in the same transaction as the bundles."""

    @abstractmethod
    def get(self, space: str, name: str) -> bytes | None:
        """A value of a protocol, or None."""

    @abstractmethod
    def drop(self, space: str, name: str) -> None:
        """Forget a value of a protocol."""

    @abstractmethod
    def items(self, space: str) -> dict[str, bytes]:
        """All values of a protocol."""

    def reserve(self, space: str, name: str, count: int = 1, *, ahead: int = 0) -> int:
        """The first of `count` successive numbers that nobody has had, from 0; use them after the next commit.

        Session and sequence numbers are taken so and are not reused after a restart.

        Args:
            space: as for `put`.
            name: as for `put`.
            count: how many.
            ahead: take so many more, which later calls hand out without a change to the database.
        """
        spare = self._numbers.get((space, name), range(0))
        if len(spare) >= count:
            self._numbers[space, name] = spare[count:]
            return spare[0]
        value = self.get(space, name)
        first = 0 if value is None else int.from_bytes(value, "big")
        end = first + count + ahead
        self.put(space, name, end.to_bytes(8, "big"))
        self._numbers[space, name] = range(first + count, end)
        return first

    # Transactions

    @property
    @abstractmethod
    def dirty(self) -> bool:
        """Whether `commit` has something to make durable."""

    @abstractmethod
    def commit(self) -> None:
        """Make all changes durable.

        Raises:
            StorageFullError: the disk is full or fails; its `lost` bundles are not stored.
            StoreError: the database failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Commit and close. Raises as `commit`; the store is closed all the same."""

    @property
    @abstractmethod
    def quota(self) -> int:
        """Octets that it may hold."""

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """Bundles and octets stored."""

    @abstractmethod
    def tenant_usage(self, tenant: str) -> Usage:
        """Bundles and octets that a tenant has stored."""
