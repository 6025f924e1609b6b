"""Somebody else's bundle daemon as a node of the guest, and a Prometheus inside. `make test-warp` runs it."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from stored_metrics import served

from marsnet.clock import parse_utc
from marsnet.dtn.node.ledger import Step, read_ledgers

pytestmark = [pytest.mark.warp, pytest.mark.slow, pytest.mark.timeout(7200)]
SCENARIO = Path(__file__).with_name("daemon.yaml")
EPOCH = parse_utc("2026-10-01T00:00:00Z").timestamp()
DURATION, SCRAPE = 4800.0, 15.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    output = tmp_path_factory.mktemp("daemon")
    options = ["--prometheus", "127.0.0.1:9090", "--scrape", f"{SCRAPE:g} s", "--output", str(output), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "marsnet.cli", "run", str(SCENARIO), "--world", "warp", *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return output / "latest", json.loads(done.stdout)


@pytest.fixture(scope="module")
def prometheus(run: tuple[Path, Mapping[str, Any]]) -> Iterator[str]:
    """A Prometheus over what came out of the guest, as docs/warp.md starts it."""
    server = shutil.which("prometheus")
    if server is None:
        pytest.skip("Prometheus is not installed")
    with served(server, run[0] / "prometheus" / "data") as address:
        yield address


def samples(prometheus: str, series: str) -> list[tuple[float, float]]:
    """Mission time and value of all that Prometheus has of the only series that is meant, from mission time 0 on."""
    query = urllib.parse.urlencode({"query": f"{series}[{DURATION:.0f}s]", "time": EPOCH + DURATION})
    with urllib.request.urlopen(f"http://{prometheus}/api/v1/query?{query}", timeout=20) as response:
        (found,) = json.load(response)["data"]["result"]
    return [(time - EPOCH, float(value)) for time, value in found["values"]]


def test_bundles_reach_it_and_come_from_it_at_true_light_time(run: tuple[Path, Mapping[str, Any]]) -> None:
    folder, verdict = run
    assert (verdict["world"], verdict["valid"]) == ("warp", True)
    records = list(read_ledgers([folder / "ledger.jsonl"]))
    accepted = {r.bundle: r for r in records if r.step == Step.ACCEPTED}
    delivered = [r for r in records if r.step == Step.DELIVERED]
    ends = Counter((accepted[r.bundle].details["flow"], accepted[r.bundle].node, r.node) for r in delivered)
    assert ends == {("to-it", "mcc", "lander"): 10, ("from-it", "lander", "mcc"): 10}
    assert all(r.details["intact"] for r in delivered)
    latencies = [r.time - accepted[r.bundle].time for r in delivered]
    assert 1334.92 < min(latencies) < max(latencies) < 1335.5


def test_prometheus_has_scraped_all_of_it_on_mission_time(run: tuple[Path, Mapping[str, Any]], prometheus: str) -> None:
    fidelity = run[1]["fidelity"]
    # Three nodes, the delay line, and the controller of the only segment.
    assert (fidelity["targets_scraped"], fidelity["targets_down"]) == (5, 0)
    ups = samples(prometheus, 'up{node="lander"}')
    assert len(ups) == pytest.approx(DURATION / SCRAPE, abs=1)
    assert {value for _, value in ups} == {1}
    assert {round(b - a, 1) for (a, _), (b, _) in itertools.pairwise(ups)} == {SCRAPE}
    # What pyD3TN's node itself tells: a count begins with its first bundle, one light time after mission time 0.
    seen = samples(prometheus, 'marsnet_foreign_bundles_total{node="lander",event="delivered"}')
    assert 1334.9 < seen[0][0] < 1335.5 + SCRAPE
    assert seen[-1][1] == 10
