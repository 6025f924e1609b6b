"""The store in memory does what the store in SQLite does, whatever is asked of them in whatever order."""

from __future__ import annotations

import random
from typing import Any

import pytest

from marsnet.dtn.store import BundleState, BundleStore, EvictionPolicy, MemoryStore, StorageFullError, Store

POLICY = EvictionPolicy(tenant_quota={"b": 900})


def act(store: Store, chance: random.Random, now: float) -> Any:
    """Do something at random and say what came of it."""
    keys = [record.key for record in store.iterate(*BundleState)]
    key = chance.choice(keys) if keys else 1
    name = str(chance.randrange(60)).encode()
    kind = chance.randrange(12)
    if kind < 4:
        try:
            return store.add(
                bytes(chance.randrange(1, 400)),
                bundle_id=name,
                source="ipn:1.1",
                destination="ipn:2.1",
                service_class=chance.randrange(4),
                expiry=now + chance.randrange(1, 300),
                now=now,
                tenant=chance.choice(["", "a", "b"]),
                state=chance.choice(list(BundleState)),
            )
        except StorageFullError as error:
            return str(error)
    if kind == 4:
        return store.delete(key, forget=chance.random() < 0.5)
    if kind == 5:
        return store.set_state(key, chance.choice(list(BundleState)), "x")
    if kind == 6:
        return store.confirm_delivery(key), store.confirm_delivery(key)
    if kind == 7:
        return store.expire(now, limit=chance.randrange(1, 5))
    if kind == 8:
        (store.hand_out if chance.random() < 0.6 else store.take_back)(key)
    if kind == 9:
        store.put("space", name.decode(), name)
        return store.items("space"), store.reserve("n", "m", ahead=3)
    if kind == 10:
        store.drop("space", name.decode())
    store.commit()
    return store.get("space", name.decode()), store.dirty


def look(store: Store) -> Any:
    """All that can be seen."""
    records = list(store.iterate(*BundleState))
    names = [str(n).encode() for n in range(60)]
    return (
        sorted(records, key=lambda r: r.key) == store.page(0, 1000),
        records,
        [store.load(r.key) for r in records],
        store.page(2, 3, [BundleState.QUEUED, BundleState.DELIVERING]),
        (store.usage, [store.tenant_usage(t) for t in ("", "a", "b", "c")]),
        [store.seen(n) for n in names],
        [store.delivered(n) for n in names],
        store.next_expiry(),
        (store.newest if records else 0, store.in_doubt()),
    )


@pytest.mark.parametrize("seed", range(5))
def test_both_stores_do_the_same(seed: int) -> None:
    stores: list[Store] = [
        BundleStore(None, quota_bytes=4000, policy=POLICY),
        MemoryStore(quota_bytes=4000, policy=POLICY),
    ]
    chances = [random.Random(seed), random.Random(seed)]
    now = 0.0
    for _ in range(250):
        now += 2
        did = [act(store, chance, now) for store, chance in zip(stores, chances, strict=True)]
        assert did[0] == did[1]
        seen = [look(store) for store in stores]
        assert seen[0] == seen[1]
        assert seen[0][0]
