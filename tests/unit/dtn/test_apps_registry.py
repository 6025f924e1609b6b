"""Mailboxes: order, credit, acknowledgement, what comes again and what does not."""

from __future__ import annotations

import pytest

from marsnet.dtn.apps.registry import Applications, Attachment, Delivery, Parcel
from marsnet.dtn.bpv7 import Bundle, CreationTimestamp, Eid, ServiceClass, encode
from marsnet.dtn.store import BundleState, BundleStore

SERVICE = "ipn:4.5"


class Node:
    """What a bundle agent is to the mailboxes."""

    def __init__(self) -> None:
        self.store = BundleStore(None)
        self.applications = Applications(self.store, self)
        self.ended: list[str] = []
        self.expired: set[int] = set()
        self.unreadable: set[int] = set()

    def content(self, parcel: Parcel, now: float) -> Bundle | None:
        if parcel.key in self.unreadable:
            self.applications.forget(parcel.key)
            return None
        return Bundle.create(Eid.ipn(1, 1), Eid.parse(parcel.endpoint), b"x", CreationTimestamp(1, 1), 1000)

    def taken(self, parcel: Parcel, content: Bundle, now: float) -> None:
        self.ended.append(parcel.bundle)
        self.store.confirm_delivery(parcel.key)

    def overdue(self, parcel: Parcel, now: float) -> bool:
        if parcel.key in self.expired:
            self.applications.forget(parcel.key)
        return parcel.key in self.expired

    def put(self, number: int, priority: ServiceClass = ServiceClass.NORMAL) -> Parcel:
        bundle = Bundle.create(Eid.ipn(1, 1), Eid.parse(SERVICE), b"x", CreationTimestamp(1, number), 1000)
        added = self.store.add(
            encode(bundle), bundle_id=bundle.id.key, source="ipn:1.1", destination=SERVICE,
            service_class=int(priority), expiry=1e9, now=0.0,
        )  # fmt: skip
        assert added.key is not None
        parcel = Parcel(added.key, f"b{number}", SERVICE, priority, 0.0)
        self.applications.arrived(parcel)
        self.applications.committed(0.0)
        return parcel

    def attach(self, credit: int, name: str = "app") -> tuple[Attachment, list[Delivery]]:
        got: list[Delivery] = []
        attachment = self.applications.attach(SERVICE, name, got.append)
        self.grant(attachment, credit)
        return attachment, got

    def grant(self, attachment: Attachment, credit: int) -> None:
        self.applications.grant(attachment, credit)
        self.applications.committed(0.0)


def names(deliveries: list[Delivery]) -> list[str]:
    return [delivery.parcel.bundle for delivery in deliveries]


def test_the_urgent_come_first_and_credit_bounds_what_is_handed_over() -> None:
    node = Node()
    for number, priority in enumerate((ServiceClass.BULK, ServiceClass.NORMAL, ServiceClass.CRITICAL)):
        node.put(number, priority)
    app, got = node.attach(2)
    assert names(got) == ["b2", "b1"]
    assert (node.applications.waiting, node.applications.in_hands) == (1, 2)
    node.grant(app, 1)
    assert names(got) == ["b2", "b1", "b0"]


def test_nothing_is_handed_over_before_the_commit_that_says_so() -> None:
    node = Node()
    parcel = node.put(1)
    got: list[Delivery] = []
    node.applications.grant(node.applications.attach(SERVICE, "app", got.append))
    assert node.applications.due
    assert not got
    assert node.store.record(parcel.key).state == BundleState.DELIVERING
    node.applications.committed(0.0)
    assert names(got) == ["b1"]


def test_a_bundle_leaves_the_store_when_it_is_confirmed_and_only_once() -> None:
    node = Node()
    parcel = node.put(1)
    node.attach(1)
    assert node.store.usage.bundles == 1
    assert node.applications.confirm(parcel, 0.0)
    assert (node.ended, node.store.usage.bundles) == (["b1"], 0)
    assert node.applications.find(SERVICE, "b1") is None


def test_what_no_application_has_seen_cannot_be_confirmed() -> None:
    node = Node()
    assert not node.applications.confirm(node.put(1), 0.0)
    assert node.ended == []


def test_an_application_that_goes_leaves_its_bundles_in_order_and_marked() -> None:
    node = Node()
    parcels = [node.put(number) for number in range(3)]
    app, _ = node.attach(2)
    node.applications.detach(app, 0.0)
    assert node.store.record(parcels[0].key).state == BundleState.AWAITING_DELIVERY
    assert node.store.record(parcels[0].key).handler == "seen"
    _, again = node.attach(3)
    assert [(d.parcel.bundle, d.repeated) for d in again] == [("b0", True), ("b1", True), ("b2", False)]


def test_a_confirmation_counts_from_the_mailbox_too() -> None:
    node = Node()
    parcel = node.put(1)
    app, _ = node.attach(1)
    node.applications.detach(app, 0.0)
    assert node.applications.confirm(parcel, 0.0)
    assert names(node.attach(1)[1]) == []


def test_a_bundle_that_is_refused_goes_to_another_application() -> None:
    node = Node()
    parcel = node.put(1)
    app, got = node.attach(5)
    node.applications.release(parcel, 0.0, refused=True)
    node.applications.committed(0.0)
    assert names(got) == ["b1"]
    assert names(node.attach(1, "other")[1]) == ["b1"]
    assert app.hands == {}


def test_applications_at_one_endpoint_take_turns() -> None:
    node = Node()
    _, first = node.attach(2)
    _, second = node.attach(2)
    for number in range(4):
        node.put(number)
    assert (names(first), names(second)) == (["b0", "b2"], ["b1", "b3"])


def test_a_bundle_that_expired_in_the_hands_of_an_application_does_not_go_back() -> None:
    node = Node()
    parcel = node.put(1)
    app, _ = node.attach(1)
    node.expired.add(parcel.key)
    node.applications.detach(app, 0.0)
    assert list(node.applications.endpoints()) == []
    assert node.applications.find(SERVICE, "b1") is None


def test_credit_survives_a_bundle_that_cannot_be_read() -> None:
    node = Node()
    broken, good = node.put(1), node.put(2)
    node.unreadable.add(broken.key)
    app, got = node.attach(1)
    node.applications.committed(0.0)
    assert names(got) == ["b2"]
    assert good.key in app.hands


@pytest.mark.parametrize("handed", [False, True])
def test_a_bundle_that_is_evicted_is_forgotten(handed: bool) -> None:
    node = Node()
    parcel = node.put(1)
    if handed:
        node.attach(1)
    node.applications.forget(parcel.key)
    assert (node.applications.waiting, node.applications.in_hands) == (0, 0)


def test_doubt_about_a_delivery_outlives_a_restart() -> None:
    node = Node()
    parcel = node.put(1)
    app, _ = node.attach(1)
    node.applications.detach(app, 0.0)
    after = Applications(node.store, node)
    after.arrived(parcel, doubtful=bool(node.store.record(parcel.key).handler))
    assert node.store.record(parcel.key).handler == "seen"
    got: list[Delivery] = []
    after.grant(after.attach(SERVICE, "app", got.append))
    after.committed(0.0)
    assert [delivery.repeated for delivery in got] == [True]
