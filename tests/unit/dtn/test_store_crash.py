"""kill -9 at random points: what was acknowledged is there, what was deleted is gone, nothing is half done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marsnet.dtn.store import BundleState, BundleStore

WRITER = """
import sys, random
from marsnet.dtn.store import BundleStore
folder, seed = sys.argv[1], int(sys.argv[2])
draw = random.Random(seed)
store = BundleStore(folder, payload_file_threshold=8000)
first = store.reserve("test", "number", 1_000_000)
store.commit()
held, number = [], first
print("ready", flush=True)
while True:
    pending = []
    for _ in range(draw.randint(1, 8)):
        if held and draw.random() < 0.4:
            name, key = held.pop(draw.randrange(len(held)))
            if draw.random() < 0.5:
                store.begin_delivery(key, "app")
                store.confirm_delivery(key)
            else:
                store.delete(key)
            pending.append(("gone", name))
        else:
            name = f"{number}"
            number += 1
            data = name.encode() * draw.choice((1, 100, 500, 2000))
            key = store.add(data, bundle_id=name.encode(), source="s", destination="d", service_class=2,
                            expiry=1e9, now=0.0).key
            held.append((name, key))
            pending.append(("have", name))
    for what, name in pending:
        if what == "gone":
            print("going", name)
    sys.stdout.flush()
    store.commit()
    for what, name in pending:
        print(what, name)
    print("done", flush=True)
"""


def crash_once(folder: Path, seed: int, acknowledged: dict[str, str]) -> None:
    """Run the writer, kill it after a random number of commits and compare the store with what it acknowledged."""
    draw = random.Random(seed)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(seed)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    commits = draw.randint(1, 30)
    lines: list[str] = []
    for line in writer.stdout:
        lines.append(line)
        if line == "done\n":
            commits -= 1
            if not commits:
                break
    os.kill(writer.pid, signal.SIGKILL)
    lines += writer.stdout.readlines()
    writer.stdout.close()
    assert writer.wait(20) == -signal.SIGKILL
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    told = [line.split() for line in lines if " " in line]
    going = {name for what, name in told if what == "going"}
    acknowledged.update({name: what for what, name in told if what != "going"})
    store = BundleStore(folder, payload_file_threshold=8000, verify=True)
    stored = {record.id.decode(): record for record in store.iterate(*BundleState)}
    for name, what in acknowledged.items():
        assert store.seen(name.encode())
        if what == "gone":
            assert name not in stored
        elif name not in stored:
            assert name in going, f"{name} was acknowledged and is lost"
            acknowledged[name] = "gone"
    for record in stored.values():
        data = store.load(record.key)
        assert data == record.id * (len(data) // len(record.id))
    files = {path.name for path in (folder / "payloads").iterdir()}
    assert len(files) == sum(record.size >= 8000 for record in stored.values())
    assert store.usage == (len(stored), sum(record.size for record in stored.values()))
    store.close()


def test_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    for seed in range(3):
        crash_once(tmp_path, seed, acknowledged)
    assert "have" in acknowledged.values()
    assert "gone" in acknowledged.values()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_many_times(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    for seed in range(100, 300):
        crash_once(tmp_path, seed, acknowledged)
    assert len(acknowledged) > 1000
