"""Somebody else's bundle daemon as a node of the guest, and a Prometheus inside. `make test-warp` runs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from marsnet.clock import parse_utc
from marsnet.dtn.node.ledger import Step, read_ledgers

pytestmark = [pytest.mark.warp, pytest.mark.slow, pytest.mark.timeout(7200)]
SCENARIO = Path(__file__).with_name("daemon.yaml")
EPOCH = parse_utc("2026-10-01T00:00:00Z").timestamp()
DURATION, SCRAPE = 4800.0, 60.0


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


def samples(folder: Path, series: str) -> list[tuple[float, float]]:
    """Mission time and value of what Prometheus has of a series."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    told = subprocess.run(
        [promtool, "tsdb", "dump", f"--match={series}", str(folder / "prometheus" / "data")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = [re.fullmatch(r"\{.*\} (\S+) (\d+)", line) for line in told.splitlines()]
    return sorted((int(match[2]) / 1000 - EPOCH, float(match[1])) for match in found if match is not None)


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


def test_prometheus_has_scraped_all_of_it_on_mission_time(run: tuple[Path, Mapping[str, Any]]) -> None:
    folder, verdict = run
    # Three nodes, the delay line, two controllers.
    assert verdict["fidelity"]["targets_scraped"] == 6
    assert verdict["fidelity"]["targets_down"] == 0
    seen = samples(folder, '{__name__="marsnet_foreign_bundles_total",event="delivered"}')
    assert seen[-1][1] == 10
    assert DURATION - SCRAPE < seen[-1][0] <= DURATION + 1
    # The first bundle came one light time after mission time 0, and the count was none before.
    assert 1334.9 < min(time for time, count in seen if count) < 1335.5 + SCRAPE
    counts = Counter(round(count) for time, count in samples(folder, 'up{node="lander"}') if time > 0)
    assert counts == {1: pytest.approx(DURATION / SCRAPE, abs=1)}
