"""What a node keeps: every bundle from its arrival or creation to the end of its life here."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase

from marsnet.clock import MissionClock
from marsnet.dtn.apps.registry import Applications
from marsnet.dtn.bpv7 import (
    BlockType,
    Bundle,
    BundleError,
    ServiceClass,
    StatusAssertion,
    decode,
)
from marsnet.dtn.bpv7.blocks import REPORT_FLAGS, BundleId
from marsnet.dtn.bpv7.codec import with_rope
from marsnet.dtn.bpv7.extension import decode_copies
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.custody import Custody
from marsnet.dtn.node.endpoints import Endpoints
from marsnet.dtn.node.forwarding import Forwarder
from marsnet.dtn.node.fragmenting import Fragmenter
from marsnet.dtn.node.groups import Audience, audience
from marsnet.dtn.node.identity import delivery_key, key_of, name_from_key, name_of
from marsnet.dtn.node.ledger import Record, Step
from marsnet.dtn.node.lifetimes import Lifetimes
from marsnet.dtn.node.queues import Held
from marsnet.dtn.node.reasons import DropReason, report_code
from marsnet.dtn.node.reassembly import Reassembly
from marsnet.dtn.node.recent import Recent
from marsnet.dtn.node.reports import ReportLog, StatusReporter, Subject
from marsnet.dtn.node.security import NodeSecurity
from marsnet.dtn.recipe import Rope
from marsnet.dtn.routing import Reason
from marsnet.dtn.store import Added, BundleRecord, BundleState, StorageFullError, Store, StoreError

_FEW = 1024
"""Expiries of bundles that are gone may be remembered besides as many as there are bundles."""
_TAIL = (1, 4, 6)
"""Octets after a payload's data, by the type of its checksum: the checksum, and the end of the bundle."""
_RECENT = 16 << 20
"""Octets of bundles that came lately and are not read from the store again."""
_UNREACHABLE = (Reason.UNKNOWN, Reason.UNREACHABLE)

_EXPIRE_AT_ONCE = 500
"""Bundles that end between two looks at what came in."""


class Keeper:
    """The bundles of one node.

    Attributes:
        lifetimes: how old bundles are, and when they expire.
        endpoints: which are this node's.
        security: BPSec.
        reporter: status reports that this node makes.
        reports: status reports that came to this node.
        reassembly: fragments that wait for others.
        drops: bundles deleted, by reason and class.
        failures: operations of security that failed, by reason.
        evicted: bundles that made room for others, by tenant and reason.
        removed_blocks: blocks that were removed because they are unknown here, by type code.
        fragmenter: cuts bundles and puts them together.
        store: of the bundles.
        custody: what the next commit makes true.
        forwarder: ways and queues.
        mailboxes: what waits for applications; the node sets it.
    """

    def __init__(
        self,
        config: NodeConfig,
        clock: MissionClock,
        store: Store,
        custody: Custody,
        forwarder: Forwarder,
        now: float,
        boots: int,
    ) -> None:
        """Begin with nothing; `recover` takes up what the store holds. Raises InputError for a bad configuration."""
        self.lifetimes = Lifetimes(clock, has_clock=config.has_clock)
        self.endpoints = Endpoints(config.name, config.numbers, config.groups)
        self.security = NodeSecurity(
            config.security, self.endpoints.admin, f"{config.seed}/{config.name}/bpsec/{boots}"
        )
        self.reporter = StatusReporter(config.reports, now)
        self.reports = ReportLog(config.reports.keep)
        self.reassembly = Reassembly(config.fragments)
        self.drops: Counter[tuple[str, ServiceClass]] = Counter()
        self.evicted: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[str] = Counter()
        self.removed_blocks: Counter[int] = Counter()
        self.store, self.custody, self.forwarder = store, custody, forwarder
        self._config = config
        self._expiries: list[tuple[float, int]] = []
        self.mailboxes: Applications | None = None
        self._recent = Recent(_RECENT)
        self.fragmenter = Fragmenter(config, self)
        forwarder.cut, forwarder.give_up = self.fragmenter.cut, self._give_up

    # The store

    def duplicate(self, bundle: Bundle, peer: str | None, now: float) -> None:
        """A bundle came that is here already, or was."""
        name = name_of(bundle)
        self.forwarder.came_back(name, peer)
        record = Record(now, self._config.name, Step.DUPLICATE, name, {"peer": peer or ""})
        self.custody.note(record, bundle.service_class)

    def keep(
        self, bundle: Bundle, octets: bytes | Rope, peer: str | None, step: Step, details: dict[str, object], now: float
    ) -> Held | StorageFullError | None:
        """Put a bundle into the store; it is dispatched after the next commit.

        Returns:
            Its entry, the error when one of this node's finds no room, None when it is there already.

        Raises:
            StorageFullError: no room for a bundle that came from a neighbour.
        """
        try:
            helds = self.insert(bundle, octets, peer, now)
        except StorageFullError as error:
            self.custody.lose(error, now)
            refusal = Record(now, self._config.name, Step.REFUSED, name_of(bundle), {**details, "reason": str(error)})
            self.custody.note(refusal, bundle.service_class)
            if peer is not None:
                raise
            return error
        if not helds:
            self.duplicate(bundle, peer, now)
            return None
        for held in helds:
            record = Record(now, self._config.name, step, held.bundle, details)
            if held is not helds[0]:
                record = Record(now, self._config.name, Step.COPIED, held.bundle, {"peer": self._config.name})
            self.custody.begin(record, held, fresh=True)
        for held in helds:
            if held.destination != self._config.name:
                continue
            if bundle.is_fragment:
                self.fragmenter.collect(held.key, bundle, peer, now)
            else:
                # It comes whole after all: what came of it before is of no use when this is durable.
                held.replaces = self.reassembly.parts(bundle.id)
        return helds[0]

    def insert(self, bundle: Bundle, octets: bytes | Rope, peer: str | None, now: float) -> list[Held]:
        """Put a bundle into the store and into the node's memory, without a word about it; empty for a duplicate.

        A group's bundle for this node and for others is stored twice: what waits for the application does not hold up
        what goes on.

        Raises:
            StorageFullError: no room.
        """
        whom = self.audience(bundle)
        waits = BundleState.REASSEMBLY if bundle.is_fragment else BundleState.QUEUED
        if not whom.group:
            state = BundleState.QUEUED if whom.nodes else waits
            return self._stored(self.add(bundle, octets, peer, now, state), bundle, octets, peer, now)
        helds: list[Held] = []
        if whom.nodes:
            added = self.add(bundle, octets, peer, now, BundleState.QUEUED)
            helds += self._stored(added, bundle, octets, peer, now)
        if whom.local:
            added = self.add(bundle, octets, peer, now, waits, delivery_key(bundle))
            helds += self._stored(added, bundle, octets, peer, now, local=True)
        return helds

    def _stored(
        self, added: Added, bundle: Bundle, octets: bytes | Rope, peer: str | None, now: float, *, local: bool = False
    ) -> list[Held]:
        if added.key is None:
            return []
        size = len(octets)
        if self.store.recipes is not None and isinstance(kept := self.store.load(added.key), Rope):
            bundle, size = with_rope(bundle, kept), len(kept.head)
        self._recent.put(added.key, bundle, size)
        return [self.hold(added.key, bundle, len(octets), now, peer, local=local)]

    def add(
        self,
        bundle: Bundle,
        octets: bytes | Rope,
        peer: str | None,
        now: float,
        state: BundleState,
        key: bytes | None = None,
    ) -> Added:
        """Put a bundle into the store, and no more. Raises StorageFullError when there is no room."""
        tenant = self._tenant(bundle)
        quota = self._config.tenants[tenant].quota if tenant else None
        over = tenant if quota is not None and self.store.tenant_usage(tenant).size + len(octets) > quota else None
        try:
            added = self.store.add(
                self.thin(bundle, octets),
                bundle_id=key or key_of(bundle),
                source=str(bundle.source),
                destination=str(bundle.destination),
                service_class=int(bundle.service_class),
                expiry=self.lifetimes.expiry(bundle, now),
                received_from=peer or "",
                tenant=tenant,
                state=state,
                now=now,
            )
        except StorageFullError as error:
            self._evicted(error.evicted, over, now)
            raise
        self._evicted(added.evicted, over, now)
        return added

    def thin(self, bundle: Bundle, octets: bytes | Rope) -> bytes | Rope:
        """An encoded bundle without a payload that a recipe makes, in a world that knows recipes."""
        if self.store.recipes is None or isinstance(octets, Rope):
            return octets
        whole = BundleId(bundle.source, bundle.timestamp).key if bundle.is_fragment else bundle.key
        return self.store.recipes.rope(whole, octets, *payload_place(bundle, octets), bundle.fragment_offset or 0)

    def _evicted(self, victims: Iterable[BundleRecord], over: str | None, now: float) -> None:
        for victim in victims:
            reason = DropReason.PARED if victim.tenant == over else DropReason.EVICTED
            if victim.expiry <= now:
                reason = DropReason.LIFETIME
            self.evicted[victim.tenant, reason] += 1
            if victim.key in self.forwarder.held:
                self.discard(victim.key, reason, now)
            else:
                self.lose(victim, reason, now)

    def audience(self, bundle: Bundle) -> Audience:
        """For whom a bundle is."""
        return audience(bundle, self.endpoints, self._config.numbers)

    def destination(self, bundle: Bundle) -> str:
        """The node that a bundle goes to, or its node id as text where the network has no such node."""
        return self.endpoints.node(bundle.destination) or str(bundle.destination.node_id)

    def hold(self, key: int, bundle: Bundle, size: int, now: float, peer: str | None, *, local: bool = False) -> Held:
        """Have a stored bundle in the node's memory; `local` when it is a group's for an application of this node."""
        whom = self.audience(bundle)
        nodes = () if local else whom.nodes
        held = Held(
            key,
            name_of(bundle),
            nodes[0] if nodes else self._config.name,
            size,
            bundle.service_class,
            self.lifetimes.expiry(bundle, now),
            now,
            peer,
        )
        if whom.group:
            held.members = frozenset(nodes)
        elif held.priority == ServiceClass.CRITICAL:
            held.copies = self._copies(bundle, peer)
        settings = self._config.fragments
        held.whole = (
            not settings.proactive or bundle.must_not_fragment or bundle.blocks[-1].size < 2 * settings.smallest
        )
        if bundle.flags & REPORT_FLAGS:
            held.subject = Subject.of(bundle)
        self.forwarder.hold(held)
        heapq.heappush(self._expiries, (held.expires, key))
        here = self.forwarder.held
        if len(self._expiries) > 2 * len(here) + _FEW:
            # Bundles that left long before their time would be remembered until then.
            self._expiries = [(each.expires, each.key) for each in here.values()]
            heapq.heapify(self._expiries)
        return held

    def _copies(self, bundle: Bundle, peer: str | None) -> int:
        most = self._config.critical_copies
        block = bundle.block(BlockType.COPIES)
        if block is not None:
            return min(most, decode_copies(block.data))
        return most if peer is None else 1

    def _tenant(self, bundle: Bundle) -> str:
        if not self._config.tenants:
            return ""
        source = str(bundle.source)
        return next(
            (
                name
                for name, tenant in self._config.tenants.items()
                if any(fnmatchcase(source, pattern) for pattern in tenant.sources)
            ),
            "",
        )

    # After a commit

    def settle(self, held: Held) -> None:
        """A bundle is durable: what it was made of leaves the store."""
        for key in held.replaces:
            part = self.forwarder.held.get(key)
            if part is not None:
                self.forwarder.release(part)
            self.reassembly.remove(key)
            self.store.delete(key, forget=held.parent is not None)
            self.custody.touch()
        held.replaces, held.parent = (), None

    def forget(self, held: Held) -> None:
        """The store lost a bundle before it was durable."""
        self._recent.take(held.key)
        self.forwarder.release(held)
        self.reassembly.remove(held.key)
        if held.parent is not None and held.parent.key not in self.forwarder.held:
            self.forwarder.park(held.parent)

    # The end

    def expire(self, now: float) -> None:
        """End the lives of bundles whose time is over: so many at a time that others wait for milliseconds only."""
        for _ in range(_EXPIRE_AT_ONCE):
            if not self._expiries or self._expiries[0][0] > now:
                return
            _, key = heapq.heappop(self._expiries)
            self.discard(key, DropReason.LIFETIME, now)

    @property
    def lifetimes_running(self) -> int:
        """Bundles whose lifetime ends here unless they leave before."""
        return len(self._expiries)

    @property
    def next_expiry(self) -> float | None:
        """Mission time when `expire` next has something to do."""
        return self._expiries[0][0] if self._expiries else None

    def discard(self, key: int, reason: str, now: float, *, settled: bool = False) -> None:
        """End a bundle's life undelivered. Without effect when it is not here any more.

        What an application has in its hands stays until that is settled.
        """
        held = self.forwarder.held.get(key)
        if held is None or (self.mailboxes is not None and self.mailboxes.in_application(key) and not settled):
            return
        if self.mailboxes is not None:
            self.mailboxes.forget(key)
        self.forwarder.remove(held, now)
        self.reassembly.remove(key)
        self.drops[reason, held.priority] += 1
        step = Step.EXPIRED if reason == DropReason.LIFETIME else Step.DROPPED
        self.custody.end(held, step, now, {"reason": str(reason)})
        self.reporter.ask(held.subject, StatusAssertion.DELETED, report_code(reason))
        self._recent.take(key)
        self.store.delete(key)

    def lose(self, record: BundleRecord, reason: str, now: float) -> None:
        """The life of a stored bundle ends that this node has not taken up since it began, or cannot read any more."""
        try:
            name = name_from_key(record.id)
        except BundleError:
            name = f"{record.source}/{record.id.hex()}"
        service_class = ServiceClass(record.service_class)
        self.drops[reason, service_class] += 1
        step = Step.EXPIRED if reason == DropReason.LIFETIME else Step.DROPPED
        self.custody.note(Record(now, self._config.name, step, name, {"reason": str(reason)}), service_class)
        self.custody.touch()

    def _give_up(self, held: Held, reason: Reason | None, now: float) -> bool:
        if self._config.unroutable == "hold" or held.legs or (held.refused and not held.too_large):
            return False
        if held.too_large:
            self.discard(held.key, DropReason.CANCELLED, now)
        else:
            self.discard(held.key, DropReason.NO_ROUTE if reason in _UNREACHABLE else DropReason.NO_CONTACT, now)
        return True

    # Reading

    def load(self, held: Held, now: float) -> Bundle | None:
        """A stored bundle; None when it cannot be read, and has been given up."""
        recent = self._recent.take(held.key)
        if recent is not None:
            return recent
        try:
            octets = self.store.load(held.key)
            bundle = decode(bytes(octets))
            return with_rope(bundle, octets) if isinstance(octets, Rope) else bundle
        except (StoreError, BundleError):
            self.discard(held.key, DropReason.CORRUPTED, now, settled=True)
            return None


def payload_place(bundle: Bundle, octets: bytes | Rope) -> tuple[int, int]:
    """Where a bundle's payload begins and ends in its encoding."""
    payload = bundle.blocks[-1]
    end = len(octets) - _TAIL[payload.crc_type]
    return end - payload.size, end
