"""Full disks, damaged files, clocks that jump: what a node does then is clear, counted, and mends itself."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from chain_world import NAMES, ROOT, Fate, chain, wait_until
from test_node_agent import ALWAYS, Network, flow, plan_of

from marsnet.dtn.node.ledger import FileLedger, Record, Step, delivered_since, read_ledgers
from marsnet.dtn.store import BundleStore, CorruptionError


def record(bundle: str, step: Step = Step.DELIVERED) -> Record:
    return Record(1.0, "earth", step, bundle, {"intact": True})


def test_a_line_that_a_kill_cut_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(record("first").line() + "\n" + record("cut").line()[:20])
    ledger = FileLedger(path)
    ledger.record(record("second"))
    ledger.close()
    assert [r.bundle for r in read_ledgers([path])] == ["first", "second"]


@pytest.mark.parametrize(
    "damage",
    ['["delivered"]', '"delivered"', "5", '{"step": "delivered"}', '{"t": "x", "step": "delivered"}', "\0" * 9],
)
def test_a_damaged_line_spoils_no_other(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(f"{record('first').line()}\n{damage}\n{record('second').line()}\n")
    assert [r.bundle for r in read_ledgers([path])] == ["first", "second"]
    assert delivered_since(path, None) == {"first", "second"}


def test_a_ledger_waits_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = FileLedger(tmp_path / "ledger.jsonl")
    real = os.write
    room = [100]

    def write(descriptor: int, octets: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "no room")
        taken = min(room[0], len(octets))
        room[0] -= taken
        return real(descriptor, bytes(octets[:taken]))

    monkeypatch.setattr(os, "write", write)
    for number in range(5):
        ledger.record(record(f"b{number}"))
        ledger.flush()
    assert ledger.failures
    assert ledger.waiting_bytes
    room[0] = 1 << 20
    ledger.close()
    assert [r.bundle for r in read_ledgers([tmp_path / "ledger.jsonl"])] == [f"b{n}" for n in range(5)]
    monkeypatch.setattr("marsnet.dtn.node.ledger._MOST_WAITING", 1000)
    full = FileLedger(Path("/dev/full"))
    for number in range(100):
        full.record(record(f"b{number}"))
        full.flush()
    assert full.lost > 80
    assert full.waiting_bytes < 1200


def test_only_what_was_delivered_since_the_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = FileLedger(path)
    ledger.record(record("old"))
    ledger.flush()
    mark = ledger.mark
    ledger.record(record("new"))
    ledger.record(record("other", Step.RECEIVED))
    ledger.close()
    assert delivered_since(path, mark) == {"new"}
    assert delivered_since(path, None) == {"old", "new"}
    assert delivered_since(path, 10**9) == {"old", "new"}


@pytest.mark.slow
def test_a_relay_without_disk_space_takes_nothing_and_goes_on_when_it_has_some(tmp_path: Path) -> None:
    with chain(tmp_path, network=2) as made:
        for name in NAMES:
            made.start(name, limit=400_000 if name == "relay" else None)
        wait_until(lambda: len(Fate(made.records()).accepted) > 5, 20, lambda: made.log("rover"))
        refused = [r for r in made.records() if r.node == "relay" and r.step == Step.REFUSED]
        wait_until(
            lambda: any(r.node == "relay" and r.step == Step.REFUSED for r in made.records()),
            20,
            lambda: f"{refused} {made.log('relay')}",
        )
        assert not any(r.node == "relay" and r.step == Step.RECEIVED for r in made.records())
        made.stop("relay")
        made.start("relay")
        made.configure(stop=made.now())
        for name in ("rover", "earth"):
            made.stop(name)
            made.start(name)
        wait_until(lambda: not Fate(made.records()).missing, 40, lambda: made.whereabouts(Fate(made.records()).missing))
        Fate(made.records()).judge()


@pytest.mark.slow
def test_a_damaged_bundle_is_dropped_and_told_and_the_others_go_on(tmp_path: Path) -> None:
    with chain(tmp_path, network=3) as made:
        made.start("rover")
        wait_until(
            lambda: any(r.details.get("flow") == "images" for r in made.records()), 20, lambda: made.log("rover")
        )
        made.kill("rover")
        damaged = next((tmp_path / "rover/store/payloads").glob("*.bundle"))
        damaged.write_bytes(damaged.read_bytes()[:1000])
        store = BundleStore(tmp_path / "rover/store")
        names = {r.bundle for r in made.records() if r.step == Step.ACCEPTED}
        store.close()
        made.configure(stop=made.now())
        for name in NAMES:
            made.start(name)
        wait_until(
            lambda: len(Fate(made.records()).missing) == 1, 30, lambda: made.whereabouts(Fate(made.records()).missing)
        )
        fate = Fate(made.records())
        (lost,) = fate.missing
        assert lost in names
        assert fate.ended == {lost: Step.DROPPED}
        reasons = [r.details["reason"] for r in made.records() if r.step == Step.DROPPED]
        assert len(reasons) == 1
        assert "corrupt" in reasons[0]


def started(folder: Path) -> subprocess.CompletedProcess[str]:
    config = folder / "rover.json"
    return subprocess.run(
        [sys.executable, "-m", "marsnet.dtn.node", "--config", str(config)],
        capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.slow
def test_a_damaged_database_is_one_clear_error(tmp_path: Path) -> None:
    with chain(tmp_path, network=4) as made:
        made.start("rover")
        wait_until(lambda: len(Fate(made.records()).accepted) > 3, 20, lambda: made.log("rover"))
        made.stop("rover")
        database = tmp_path / "rover/store/bundles.sqlite"
        octets = bytearray(database.read_bytes())
        octets[16_384:32_768] = b"\xa5" * 16_384
        database.write_bytes(octets)
        for damage in (None, b"no database at all " * 300):
            if damage is not None:
                database.write_bytes(damage)
            done = started(tmp_path)
            assert done.returncode == CorruptionError.exit_code
            assert "bundles.sqlite" in done.stderr
            assert "move the file away" in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_log_that_is_gone_takes_the_last_commits_and_nothing_else(tmp_path: Path) -> None:
    with chain(tmp_path, network=5) as made:
        for name in NAMES:
            made.start(name)
        wait_until(lambda: len(Fate(made.records()).delivered) > 5, 30, lambda: made.log("earth"))
        made.kill("relay")
        (tmp_path / "relay/store/bundles.sqlite-wal").unlink()
        made.configure(stop=made.now())
        made.start("relay")
        for name in ("rover", "earth"):
            made.stop(name)
            made.start(name)
        # Bundles that only the lost log had are gone; whatever is delivered, is so once, and the node works.
        before = len(Fate(made.records()).delivered)
        assert before > 5
        logs = [tmp_path / f"{name}.log" for name in NAMES]
        wait_until(lambda: all(log.read_text().count(" ready") == 2 for log in logs), 20, lambda: made.log("relay"))
        for name in NAMES:
            made.stop(name)
        assert max(Fate(made.records()).delivered.values()) == 1


@pytest.mark.parametrize("jump", [-400.0, 3600.0])
def test_a_clock_that_jumps_loses_and_doubles_nothing(jump: float) -> None:
    network = Network(plan_of(*ALWAYS), {"rover": (flow("t", every=50.0),)})
    network.run(500.0)
    network.now += jump
    network.run(network.now + 50_000.0)
    accepted = {r.bundle for r in network.ledger.records if r.step == Step.ACCEPTED}
    delivered = [r.bundle for r in network.ledger.records if r.step == Step.DELIVERED]
    assert len(accepted) == 20
    assert sorted(delivered) == sorted(accepted)
    assert all(store.usage.bundles == 0 for store in network.stores.values())


@pytest.mark.slow
def test_the_wall_clock_of_the_machine_is_not_read(tmp_path: Path) -> None:
    """A step of it cannot matter to a node: its time is CLOCK_MONOTONIC, as bundles and ledger show."""
    with chain(tmp_path, network=6) as made:
        for name in NAMES:
            made.start(name)
        wait_until(lambda: bool(Fate(made.records()).delivered), 20, lambda: made.log("earth"))
        stamps = [r.bundle.split("/")[1].split("-")[0] for r in made.records() if r.step == Step.ACCEPTED]
    # Mission times of 2026-10-01, whatever the date of this machine.
    assert all(0 <= int(stamp) - 844_128_000_000 < 3_600_000_000 for stamp in stamps)
