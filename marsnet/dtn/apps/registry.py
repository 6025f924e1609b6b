"""Bundles that wait for applications of this node, and which application has which of them in its hands.

A bundle that has come to its destination waits in the mailbox of its endpoint. It is handed to an application that is
attached to the endpoint and has credit; that is durable before the application sees it. It leaves the store when the
application has confirmed it, and goes back into the mailbox, marked as repeated, when the application has gone, has
released it, or when the node ended meanwhile. So nothing is lost, and what an application may have seen before is told
apart: an application that must not act twice keeps the bundle IDs that it has confirmed, and confirms them again.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from marsnet.dtn.bpv7 import Bundle, ServiceClass
from marsnet.dtn.store import BundleState, Store

SEEN = "seen"
"""In the store, in place of an application's name: the bundle waits, and one may have seen it."""


class Parcel(NamedTuple):
    """A bundle that waits for an application.

    Attributes:
        key: in the store.
        bundle: its id as text.
        endpoint: endpoint ID that it is for.
        priority: class of service.
        since: mission seconds at which it came to this node.
    """

    key: int
    bundle: str
    endpoint: str
    priority: ServiceClass
    since: float


class Delivery(NamedTuple):
    """What an application is handed.

    Attributes:
        parcel: which bundle.
        content: the bundle.
        repeated: whether an application may have been handed it before.
    """

    parcel: Parcel
    content: Bundle
    repeated: bool


@dataclass(eq=False)
class Attachment:
    """An application that is attached to an endpoint.

    Attributes:
        endpoint: endpoint ID.
        name: of the application, for the store and for people.
        take: is called with each delivery.
        credit: how many more it takes now.
        hands: bundles that it has and has not confirmed, by key.
        refused: keys that it has released as not wanted; another application may take them.
    """

    endpoint: str
    name: str
    take: Callable[[Delivery], None]
    credit: int = 0
    hands: dict[int, Parcel] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)


class Custodian(Protocol):
    """Who keeps the bundles."""

    def content(self, parcel: Parcel, now: float) -> Bundle | None:
        """The bundle; None when it cannot be read and has been given up."""

    def taken(self, parcel: Parcel, content: Bundle, now: float) -> None:
        """An application has confirmed a bundle: record its delivery and let it leave the store."""

    def overdue(self, parcel: Parcel, now: float) -> bool:
        """Whether the bundle has expired meanwhile; then its life has been ended."""


class _Mailbox:
    """What waits for one endpoint: by class, in order of arrival."""

    def __init__(self) -> None:
        self.waiting: dict[ServiceClass, OrderedDict[int, Parcel]] = {c: OrderedDict() for c in ServiceClass}
        self.attached: deque[Attachment] = deque()

    def __len__(self) -> int:
        return sum(map(len, self.waiting.values()))

    def pop(self, attachment: Attachment) -> Parcel | None:
        """The next bundle that an application takes."""
        for queue in self.waiting.values():
            for key in queue:
                if key not in attachment.refused:
                    return queue.pop(key)
        return None

    def put(self, parcel: Parcel, *, first: bool = False) -> None:
        """Add a bundle behind those of its class, or before them."""
        queue = self.waiting[parcel.priority]
        queue[parcel.key] = parcel
        if first:
            queue.move_to_end(parcel.key, last=False)

    def remove(self, parcel: Parcel) -> None:
        """Take a bundle out, wherever it stands."""
        self.waiting[parcel.priority].pop(parcel.key, None)


class Applications:
    """The mailboxes of a node and the applications at them. Times are mission seconds.

    Attributes:
        confirmed: bundles that applications have confirmed.
        repeated: deliveries that an application may have seen before.
    """

    def __init__(self, store: Store, custodian: Custodian) -> None:
        self.confirmed = self.repeated = 0
        self._store, self._custodian = store, custodian
        self._mailboxes: dict[str, _Mailbox] = {}
        self._parcels: dict[int, Parcel] = {}
        self._keys: dict[tuple[str, str], int] = {}
        self._doubtful: set[int] = set()
        """Bundles that an application may have seen."""
        self._handing: list[tuple[Attachment, Parcel]] = []
        """Handed over with the next commit."""
        self._holders: dict[int, Attachment] = {}

    @property
    def due(self) -> bool:
        """Whether something is handed over with the next commit."""
        return bool(self._handing)

    @property
    def waiting(self) -> int:
        """Bundles that no application has in its hands."""
        return len(self._parcels) - len(self._holders)

    @property
    def in_hands(self) -> int:
        """Bundles that an application has and has not confirmed."""
        return len(self._holders)

    def endpoints(self) -> Iterator[tuple[str, int, int]]:
        """Each endpoint with bundles or applications: its ID, bundles that wait, applications."""
        for endpoint, mailbox in self._mailboxes.items():
            if len(mailbox) or mailbox.attached:
                yield endpoint, len(mailbox), len(mailbox.attached)

    def is_attached(self, endpoint: str) -> bool:
        """Whether an application is attached to an endpoint."""
        mailbox = self._mailboxes.get(endpoint)
        return mailbox is not None and bool(mailbox.attached)

    # What the node says

    def arrived(self, parcel: Parcel, *, doubtful: bool = False) -> None:
        """A bundle has come to its destination, durably; `doubtful` when an application may have seen it."""
        self._parcels[parcel.key] = parcel
        self._keys[parcel.endpoint, parcel.bundle] = parcel.key
        if doubtful:
            self._doubtful.add(parcel.key)
        self._await(parcel)
        mailbox = self._mailboxes.setdefault(parcel.endpoint, _Mailbox())
        mailbox.put(parcel)
        self._match(mailbox)

    def in_application(self, key: int) -> bool:
        """Whether an application has the bundle in its hands: it does not expire before that is settled."""
        return key in self._holders

    def forget(self, key: int) -> None:
        """The bundle's life has ended otherwise."""
        parcel = self._parcels.get(key)
        if parcel is None:
            return
        holder = self._holders.get(key)
        if holder is not None:
            holder.hands.pop(key, None)
        elif (mailbox := self._mailboxes.get(parcel.endpoint)) is not None:
            mailbox.remove(parcel)
        self._drop(parcel)

    def committed(self, now: float) -> None:
        """What was to be handed over is durable: hand it over."""
        handing, self._handing = self._handing, []
        for attachment, parcel in handing:
            held = self._holders.get(parcel.key) is attachment
            content = self._custodian.content(parcel, now) if held else None
            if content is None:
                attachment.credit += 1
                if attachment in (mailbox := self._mailboxes.get(attachment.endpoint, _Mailbox())).attached:
                    self._match(mailbox)
                continue
            repeated = parcel.key in self._doubtful
            self.repeated += repeated
            self._doubtful.add(parcel.key)
            attachment.take(Delivery(parcel, content, repeated))

    # What applications say

    def attach(self, endpoint: str, name: str, take: Callable[[Delivery], None]) -> Attachment:
        """An application wants the bundles of an endpoint; `grant` lets them come."""
        attachment = Attachment(endpoint, name, take)
        self._mailboxes.setdefault(endpoint, _Mailbox()).attached.append(attachment)
        return attachment

    def grant(self, attachment: Attachment, count: int = 1) -> None:
        """The application takes so many more bundles; a negative number takes that back."""
        attachment.credit = max(0, attachment.credit + count)
        self._match(self._mailboxes[attachment.endpoint])

    def detach(self, attachment: Attachment, now: float) -> None:
        """The application has gone: what it had in its hands is for the next one."""
        mailbox = self._mailboxes[attachment.endpoint]
        attachment.credit = 0
        mailbox.attached.remove(attachment)
        for parcel in reversed(list(attachment.hands.values())):
            self.release(parcel, now)
        if not len(mailbox) and not mailbox.attached:
            del self._mailboxes[attachment.endpoint]

    def release(self, parcel: Parcel, now: float, *, refused: bool = False) -> None:
        """A bundle goes back into its mailbox; `refused` when this application is not to get it again."""
        holder = self._holders.pop(parcel.key, None)
        if holder is None:
            return
        holder.hands.pop(parcel.key, None)
        if refused:
            holder.refused.add(parcel.key)
        self._await(parcel)
        if self._custodian.overdue(parcel, now):
            return
        mailbox = self._mailboxes.setdefault(parcel.endpoint, _Mailbox())
        mailbox.put(parcel, first=True)
        self._match(mailbox)

    def find(self, endpoint: str, bundle: str) -> Parcel | None:
        """The bundle of an ID in a mailbox, or in the hands of an application; None when it is not there."""
        key = self._keys.get((endpoint, bundle))
        return None if key is None else self._parcels[key]

    def confirm(self, parcel: Parcel, now: float) -> bool:
        """An application has taken the bundle for good; False when none can have seen it."""
        if parcel.key not in self._doubtful:
            return False
        content = self._custodian.content(parcel, now)
        if content is None:
            return True
        holder = self._holders.get(parcel.key)
        if holder is not None:
            holder.hands.pop(parcel.key, None)
        else:
            self._mailboxes[parcel.endpoint].remove(parcel)
        self._drop(parcel)
        self.confirmed += 1
        self._custodian.taken(parcel, content, now)
        return True

    # Inside

    def _await(self, parcel: Parcel) -> None:
        """Note in the store that a bundle waits, and whether an application may have seen it."""
        seen = SEEN if parcel.key in self._doubtful else ""
        self._store.set_state(parcel.key, BundleState.AWAITING_DELIVERY, seen)

    def _drop(self, parcel: Parcel) -> None:
        self._holders.pop(parcel.key, None)
        self._doubtful.discard(parcel.key)
        self._parcels.pop(parcel.key, None)
        self._keys.pop((parcel.endpoint, parcel.bundle), None)

    def _match(self, mailbox: _Mailbox) -> None:
        """Give what waits to the applications that have credit, in turn."""
        idle = 0
        while idle < len(mailbox.attached):
            attachment = mailbox.attached[0]
            mailbox.attached.rotate(-1)
            parcel = mailbox.pop(attachment) if attachment.credit else None
            if parcel is None:
                idle += 1
                continue
            idle = 0
            attachment.credit -= 1
            attachment.hands[parcel.key] = parcel
            self._holders[parcel.key] = attachment
            self._store.begin_delivery(parcel.key, attachment.name)
            self._handing.append((attachment, parcel))
