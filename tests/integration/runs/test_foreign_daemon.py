"""A node on pyD3TN, in a container, exchanges bundles with ours over delayed links, and Prometheus sees it."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from run_harness import Finished, Runs, assert_sound, marsnet

from marsnet.dtn.node.ledger import Step, read_ledgers

HERE = Path(__file__).parent
pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def finished(runs: Runs) -> Finished:
    running = runs.start(scenario=HERE / "foreign_run.yaml")
    address = running.until(r"prometheus at (http://\S+)$", timeout=180)[1]
    running.until(r"8 min( 0\.0 s)? of", timeout=120)
    question = urllib.parse.urlencode({"query": 'marsnet_foreign_bundles_total{node="relay"}'})
    with urllib.request.urlopen(f"{address}/api/v1/query?{question}", timeout=10) as answer:  # noqa: S310
        series = json.load(answer)["data"]["result"]
    done = running.finish()
    done.facts["metrics"] = {s["metric"]["event"]: float(s["value"][1]) for s in series}
    return done


def test_bundles_cross_both_ways(finished: Finished) -> None:
    assert_sound(finished.verdict, finished.code)
    records = list(read_ledgers([finished.folder / "ledger.jsonl"]))
    flows = {r.bundle: r.details["flow"] for r in records if r.step == Step.ACCEPTED}
    delivered = [r for r in records if r.step == Step.DELIVERED]
    assert all(r.details["intact"] for r in delivered)
    assert Counter((flows[r.bundle], r.node) for r in delivered) == {
        ("to-it", "relay"): 24,
        ("from-it", "mcc"): 24,
        ("across", "mcc"): 8,
        ("back", "lander"): 8,
    }


def test_light_time_is_between_them(finished: Finished) -> None:
    lives = finished.lives().values()
    latencies = [life.delivered - life.created for life in lives if life.destination in ("relay", "mcc")]
    assert min(latencies) >= 4.0


def test_prometheus_sees_the_daemon(finished: Finished) -> None:
    assert finished.facts["metrics"]["delivered"] >= 20
    assert finished.facts["metrics"]["forwarded"] >= 20


def test_the_virtual_world_refuses_it(tmp_path: Path) -> None:
    refused = marsnet("run", HERE / "foreign_run.yaml", "--world", "virtual", "--output", tmp_path)
    assert refused.returncode == 2
    assert "node 'relay' runs the daemon 'pyd3tn'" in refused.stderr
