"""The bundle store: what survives, what is evicted, what is said when the disk or a bundle is broken."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marsnet.dtn.store import (
    BundleState,
    BundleStore,
    CorruptionError,
    EvictionPolicy,
    MemoryStore,
    StorageFullError,
    Store,
    StoreError,
    UnknownBundleError,
)

SMALL, MIDDLE, LARGE = b"s" * 100, b"m" * 5000, b"l" * 20_000
THRESHOLD = 10_000


@pytest.fixture(params=["memory", "disk"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "store" if request.param == "disk" else None


@pytest.fixture(params=["sqlite", "memory"])
def make(request: pytest.FixtureRequest) -> Callable[..., Store]:
    """Both stores obey the same rules."""
    if request.param == "memory":
        return MemoryStore
    return lambda **options: BundleStore(None, **options)


def add(store: Store, name: str, data: bytes = SMALL, **options: Any) -> int:
    settings: dict[str, Any] = {
        "bundle_id": name.encode(),
        "source": "ipn:1.1",
        "destination": "ipn:2.1",
        "service_class": 2,
        "expiry": 1000.0,
        "now": 0.0,
    }
    key = store.add(data, **(settings | options)).key
    assert key is not None
    return key


def names(store: Store, *states: BundleState) -> list[str]:
    return [record.id.decode() for record in store.iterate(*states)]


def reopen(store: BundleStore, path: Path, **options: Any) -> BundleStore:
    """Leave the store as kill -9 does (nothing is committed) and open it anew."""
    store._db.close()
    return BundleStore(path, payload_file_threshold=THRESHOLD, **options)


@pytest.mark.parametrize("data", [b"", SMALL, MIDDLE, LARGE], ids=len)
def test_what_is_stored_is_read_back(path: Path | None, data: bytes) -> None:
    store = BundleStore(path, payload_file_threshold=THRESHOLD)
    key = add(store, "a", data, tenant="esa", received_from="ipn:9.0", service_class=1, expiry=7.5, now=3.0)
    store.commit()
    assert store.load(key) == data
    record = store.record(key)
    assert (record.id, record.size, record.service_class, record.expiry) == (b"a", len(data), 1, 7.5)
    assert (record.tenant, record.received_from, record.added) == ("esa", "ipn:9.0", 3.0)
    assert store.tenant_usage("esa") == store.usage == (1, len(data))
    store.delete(key)
    store.commit()
    assert store.usage == (0, 0)
    with pytest.raises(UnknownBundleError):
        store.load(key)
    if path is not None:
        assert list((path / "payloads").iterdir()) == []


def test_a_crash_loses_what_was_not_committed_and_nothing_else(tmp_path: Path) -> None:
    store = BundleStore(tmp_path, payload_file_threshold=THRESHOLD)
    kept = [add(store, "a", SMALL), add(store, "b", LARGE), add(store, "c", MIDDLE)]
    store.commit()
    add(store, "d", LARGE)
    store.delete(kept[1])
    store = reopen(store, tmp_path)
    assert names(store, BundleState.QUEUED) == ["a", "b", "c"]
    assert [store.load(key) for key in kept] == [SMALL, LARGE, MIDDLE]
    assert store.counters.orphans == 1
    assert not store.seen(b"d")
    assert store.usage == (3, len(SMALL) + len(MIDDLE) + len(LARGE))
    assert add(store, "d", LARGE) > max(kept)


def test_order_after_a_restart_is_by_class_and_arrival(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    for name, service_class in (("b1", 3), ("n1", 2), ("c1", 0), ("n2", 2), ("c2", 0), ("e1", 1)):
        add(store, name, service_class=service_class)
    forwarding = add(store, "f", service_class=2)
    store.set_state(forwarding, BundleState.FORWARDING, "ipn:5.0")
    store.commit()
    store = reopen(store, tmp_path)
    assert names(store, BundleState.QUEUED) == ["c1", "c2", "e1", "n1", "n2", "b1"]
    assert [record.id for record in store.iterate(BundleState.QUEUED, page=2)] == [
        b"c1", b"c2", b"e1", b"n1", b"n2", b"b1"
    ]  # fmt: skip
    assert [record.handler for record in store.iterate(BundleState.FORWARDING)] == ["ipn:5.0"]


def test_the_store_may_change_while_it_is_iterated(make: Callable[..., Store]) -> None:
    store = make()
    for number in range(10):
        add(store, f"{number}")
    shown = []
    for record in store.iterate(BundleState.QUEUED, page=3):
        shown.append(record.id)
        store.delete(record.key)
    assert len(shown) == 10
    assert store.usage == (0, 0)


def test_duplicates_are_known_after_restart_until_they_expire(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    key = add(store, "a", expiry=50.0)
    store.delete(key)
    forgotten = add(store, "b", expiry=50.0)
    store.delete(forgotten, forget=True)
    store.commit()
    store = reopen(store, tmp_path)
    assert store.seen(b"a")
    assert not store.seen(b"b")
    again = store.add(
        SMALL, bundle_id=b"a", source="ipn:1.1", destination="ipn:2.1", service_class=2, expiry=50.0, now=1.0
    )
    assert again == (None, ())
    assert store.counters.duplicates == 1
    assert store.expire(50.0) == []
    assert not store.seen(b"a")


def test_expiry(make: Callable[..., Store]) -> None:
    store = make()
    add(store, "late", expiry=100.0, service_class=3)
    add(store, "soon", expiry=10.0, service_class=3)
    add(store, "sooner", expiry=5.0, service_class=0)
    held = add(store, "held", expiry=1.0)
    store.begin_delivery(held, "inbox")
    assert store.next_expiry() == 5.0
    assert [record.id for record in store.expire(10.0)] == [b"sooner", b"soon"]
    assert store.next_expiry() == 100.0
    assert store.counters.expired == 2
    store.release_delivery(held)
    assert [record.id for record in store.expire(10.0, limit=1)] == [b"held"]


def test_expiry_in_portions(make: Callable[..., Store]) -> None:
    store = make()
    for number in range(25):
        add(store, f"{number}", service_class=number % 4, expiry=float(number))
    portions = [len(store.expire(100.0, limit=10)) for _ in range(4)]
    assert portions == [10, 10, 5, 0]


def test_an_application_gets_a_bundle_once(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    first, second = add(store, "a"), add(store, "b")
    for key in (first, second):
        store.begin_delivery(key, "inbox")
    store.commit()
    assert store.confirm_delivery(first)
    store.commit()
    store = reopen(store, tmp_path)
    assert [(record.id, record.handler) for record in store.in_doubt()] == [(b"b", "inbox")]
    assert store.delivered(b"a")
    assert not store.delivered(b"b")
    assert not store.confirm_delivery(first)
    assert store.seen(b"a")


def test_protocol_state_joins_the_transaction(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    store.put("ltp", "session", b"\x05")
    assert [store.reserve("bp", "sequence", 100), store.reserve("bp", "sequence")] == [0, 100]
    add(store, "a")
    store.commit()
    store.put("ltp", "session", b"\x09")
    store.put("ltp", "other", b"")
    store.reserve("bp", "sequence", 50)
    store = reopen(store, tmp_path)
    assert store.items("ltp") == {"session": b"\x05"}
    assert store.reserve("bp", "sequence") == 101
    store.drop("ltp", "session")
    assert store.get("ltp", "session") is None


# Room


def test_a_full_store_refuses_what_is_not_more_urgent(make: Callable[..., Store]) -> None:
    store = make(quota_bytes=250)
    add(store, "a", service_class=2)
    add(store, "b", service_class=2)
    for service_class in (2, 3):
        with pytest.raises(StorageFullError, match="200 of 250 bytes of the store"):
            add(store, "c", service_class=service_class)
    assert store.usage == (2, 200)
    assert store.counters.refused == 2
    assert not store.seen(b"c")


def test_less_urgent_bundles_make_room_the_first_to_expire_first(make: Callable[..., Store]) -> None:
    store = make(quota_bytes=400)
    add(store, "normal", service_class=2, expiry=1.0e6)
    add(store, "bulk late", service_class=3, expiry=900.0)
    add(store, "bulk soon", service_class=3, expiry=800.0)
    flying = add(store, "bulk flying", service_class=3, expiry=100.0)
    store.set_state(flying, BundleState.FORWARDING, "ipn:5.0")

    def evicted_for(name: str, data: bytes) -> list[bytes]:
        result = store.add(
            data, bundle_id=name.encode(), source="s", destination="d", service_class=0, expiry=500.0, now=0.0
        )
        return [record.id for record in result.evicted]

    assert evicted_for("one", SMALL) == [b"bulk soon"]
    assert evicted_for("two", SMALL * 2) == [b"bulk late", b"normal"]
    with pytest.raises(StorageFullError):
        evicted_for("three", SMALL)
    assert store.counters.evicted == 3
    assert not store.seen(b"bulk soon")
    assert store.usage == (3, 400)


def test_what_has_expired_makes_room_for_anything(make: Callable[..., Store]) -> None:
    store = make(quota_bytes=100, policy=EvictionPolicy(evict=False))
    add(store, "old", service_class=0, expiry=10.0)
    with pytest.raises(StorageFullError):
        add(store, "new", service_class=0, now=9.0)
    result = store.add(SMALL, bundle_id=b"new", source="s", destination="d", service_class=3, expiry=99.0, now=10.0)
    assert [record.id for record in result.evicted] == [b"old"]


def test_a_policy_can_forbid_eviction(make: Callable[..., Store]) -> None:
    store = make(quota_bytes=100, policy=EvictionPolicy(evict=False))
    add(store, "bulk", service_class=3)
    with pytest.raises(StorageFullError):
        add(store, "critical", service_class=0)


def test_a_tenant_above_its_quota_gives_up_its_own(make: Callable[..., Store]) -> None:
    store = make(quota_bytes=10_000, policy=EvictionPolicy(tenant_quota={"a": 200}))
    add(store, "other", tenant="b", service_class=3, expiry=1.0)
    add(store, "own bulk", tenant="a", service_class=3)
    add(store, "own normal", tenant="a")
    result = store.add(
        SMALL, bundle_id=b"x", source="s", destination="d", service_class=2, expiry=9.0, now=0.0, tenant="a"
    )
    assert [record.id for record in result.evicted] == [b"own bulk"]
    with pytest.raises(StorageFullError, match="200 of 200 bytes of tenant 'a'"):
        add(store, "y", tenant="a")
    assert store.tenant_usage("b").bundles == 1


def test_eviction_among_many_pages(make: Callable[..., Store]) -> None:
    store = make(quota_bytes=100 * 200)
    for number in range(200):
        add(store, f"{number}", service_class=3, expiry=500.0)
    result = store.add(SMALL * 150, bundle_id=b"big", source="s", destination="d", service_class=1, expiry=1.0, now=0.0)
    assert len({record.key for record in result.evicted}) == 150
    assert store.usage == (51, 20_000)


# Broken disks


def fill_disk(store: BundleStore) -> None:
    """From now on the database file cannot grow."""
    pages = store._db._connection.execute("PRAGMA page_count").fetchone()[0]
    store._db._connection.execute(f"PRAGMA max_page_count = {pages}")


def test_disk_full_undoes_what_was_added_and_keeps_what_was_done(tmp_path: Path) -> None:
    store = BundleStore(tmp_path, payload_file_threshold=1 << 20)
    gone, stays = add(store, "gone", SMALL), add(store, "stays", SMALL, tenant="x")
    store.commit()
    fill_disk(store)
    store.delete(gone)
    store.set_state(stays, BundleState.FORWARDING, "ipn:3.0")
    store.put("ltp", "n", b"1")
    lost = add(store, "fits", SMALL)
    with pytest.raises(StorageFullError, match="free space") as caught:
        for number in range(1000):
            add(store, f"more {number}", MIDDLE)
    assert caught.value.lost[0] == lost
    assert store.usage == (1, len(SMALL))
    assert not store.seen(b"fits")
    assert store.dirty
    store.commit()
    store = reopen(store, tmp_path)
    assert names(store, *BundleState) == ["stays"]
    assert store.record(stays).handler == "ipn:3.0"
    assert store.get("ltp", "n") == b"1"
    assert store.tenant_usage("x") == store.usage == (1, len(SMALL))
    add(store, "fits", SMALL)
    store.commit()


def test_a_full_disk_is_emptied_with_the_space_kept_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BundleStore(tmp_path, payload_file_threshold=THRESHOLD, ballast_bytes=1 << 16)
    keys = [add(store, f"{number}", MIDDLE) for number in range(20)]
    store.commit()
    ballast = tmp_path / "ballast"
    assert ballast.stat().st_size == 1 << 16

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    fill_disk(store)
    with pytest.raises(StorageFullError):
        for number in range(1000):
            add(store, f"more {number}", MIDDLE)
    assert not ballast.exists()
    with pytest.raises(StorageFullError, match="file system is full"):
        add(store, "small", b"")
    for key in keys[:10]:
        store.delete(key)
    store.commit()
    assert store.usage == (10, 10 * len(MIDDLE))
    assert not ballast.exists()
    monkeypatch.undo()
    add(store, "small", b"")
    store.commit()
    assert ballast.stat().st_size == 1 << 16
    store = reopen(store, tmp_path)
    assert len(names(store, BundleState.QUEUED)) == 11


def test_a_failure_that_loses_no_bundle_is_mended_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BundleStore(tmp_path, payload_file_threshold=THRESHOLD)
    key = add(store, "a", LARGE)
    store.commit()
    commit, failures = store._db.commit, iter([True])

    def fail_once() -> None:
        if next(failures, False):
            store._db._connection.execute("ROLLBACK")
            raise sqlite3.OperationalError("disk I/O error")
        commit()

    monkeypatch.setattr(store._db, "commit", fail_once)
    store.delete(key)
    store.commit()
    assert store.counters.failed_commits == 1
    assert store.usage == (0, 0)
    assert list((tmp_path / "payloads").iterdir()) == []
    assert names(reopen(store, tmp_path), *BundleState) == []


def test_a_payload_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BundleStore(tmp_path, payload_file_threshold=THRESHOLD)
    first = add(store, "first", LARGE)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFullError, match="No space left") as caught:
        store.commit()
    assert caught.value.lost == (first,)
    assert store.usage == (0, 0)
    assert list((tmp_path / "payloads").iterdir()) == []
    monkeypatch.undo()
    add(store, "first", LARGE)
    store.commit()
    assert store.counters.failed_commits == 1
    assert len(names(reopen(store, tmp_path), BundleState.QUEUED)) == 1


@pytest.mark.parametrize("data", [SMALL, MIDDLE], ids=len)
def test_a_changed_bundle_is_noticed_when_read(tmp_path: Path, data: bytes) -> None:
    store = BundleStore(tmp_path)
    key = add(store, "a", data)
    store.close()
    with sqlite3.connect(tmp_path / "bundles.sqlite") as connection:
        connection.execute("UPDATE bundles SET data = ? WHERE data IS NOT NULL", (b"S" + data[1:],))
        connection.execute("UPDATE octets SET data = ?", (b"S" + data[1:],))
    connection.close()
    store = BundleStore(tmp_path)
    with pytest.raises(CorruptionError, match="checksum"):
        store.load(key)
    assert store.counters.corrupt_bundles == 1
    store.delete(key)
    store.commit()


def test_a_payload_file_that_is_gone_or_changed(tmp_path: Path) -> None:
    store = BundleStore(tmp_path, payload_file_threshold=THRESHOLD)
    keys = [add(store, "a", LARGE), add(store, "b", LARGE)]
    store.commit()
    first, second = (tmp_path / "payloads").iterdir()
    first.unlink()
    second.write_bytes(LARGE[:-1])
    for key in keys:
        with pytest.raises(CorruptionError):
            store.load(key)
    assert store.counters.corrupt_bundles == 2


def test_a_corrupt_database_is_refused_or_set_aside(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    for number in range(200):
        add(store, f"{number}")
    store.close()
    file = tmp_path / "bundles.sqlite"
    content = bytearray(file.read_bytes())
    content[16_384:49_152] = b"\xa5" * 32_768
    file.write_bytes(content)
    with pytest.raises(CorruptionError, match="set_aside"):
        BundleStore(tmp_path)
    store = BundleStore(tmp_path, on_corruption="set_aside")
    assert store.usage == (0, 0)
    assert store.counters.set_aside == 1
    assert (tmp_path / "bundles.sqlite.corrupt-1").read_bytes() == bytes(content)
    add(store, "a")
    store.close()
    file.write_bytes(b"no database at all" * 1000)
    with pytest.raises(CorruptionError):
        BundleStore(tmp_path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    add(store, "a")
    store.commit()
    with pytest.raises(StoreError, match="another process"):
        BundleStore(tmp_path)
    store.close()
    BundleStore(tmp_path).close()


def test_other_versions_and_unusable_folders_are_refused(tmp_path: Path) -> None:
    BundleStore(tmp_path / "a").close()
    with sqlite3.connect(tmp_path / "a" / "bundles.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="version 99"):
        BundleStore(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="write to"):
        BundleStore(tmp_path / "file")


def test_what_is_handed_out_is_not_evicted_until_it_is_taken_back(make: Callable[..., Store]) -> None:
    store = make(quota_bytes=2 * len(SMALL))
    first, second = add(store, "first", service_class=3), add(store, "second", service_class=3)
    store.hand_out(first)
    store.hand_out(second)
    with pytest.raises(StorageFullError):
        add(store, "urgent", service_class=0)
    assert not store.seen(b"urgent")
    store.take_back(second)
    assert add(store, "urgent", service_class=0) > second
    assert names(store, BundleState.QUEUED) == ["urgent", "first"]


def test_numbers_taken_ahead_are_not_given_out_again_after_a_restart(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    assert [store.reserve("bp", "sequence", ahead=9) for _ in range(3)] == [0, 1, 2]
    assert store.reserve("bp", "other") == 0
    store.commit()
    assert [store.reserve("bp", "sequence", 7), store.reserve("bp", "sequence")] == [3, 10]
    store.commit()
    store = reopen(store, tmp_path)
    assert store.reserve("bp", "sequence") == 11
