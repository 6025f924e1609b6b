"""`metrics.om` is OpenMetrics, Prometheus makes blocks of it, and queries return what the ledger says."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from stored_metrics import served

from marsnet.clock import parse_utc
from marsnet.runs.execute import execute
from marsnet.runs.finished import FinishedRun, read_run
from marsnet.runs.openmetrics import grid
from marsnet.worlds.machine_programs import find

SHORT = Path(__file__).parents[2] / "integration" / "runs" / "short.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("run")
    execute(SHORT, folder, "virtual")
    return read_run(folder)


def parsed(run: FinishedRun, instant: float) -> list[Metric]:
    """All families; histograms only at one instant, because the parser takes a second one for a repetition."""
    stamp = f"{parse_utc(run.plan.epoch).timestamp() + instant:.3f}"
    lines = (run.folder / "metrics.om").read_text().splitlines(keepends=True)
    chosen = "".join(x for x in lines if "bundle_latency" not in x or x[0] == "#" or x.endswith(f" {stamp}\n"))
    return list(text_string_to_metric_families(chosen))


def test_the_grid_ends_with_the_run_and_stays_short() -> None:
    assert grid(100.0) == (0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0, 100.0)
    assert grid(0.0) == (0.0,)
    for days in (0.1, 1, 2, 30, 365):
        assert len(grid(86400.0 * days)) <= 402


def test_it_is_openmetrics_in_which_nothing_goes_back(run: FinishedRun) -> None:
    assert len(parsed(run, 4500.0)) == 10
    families = {family.name: family for family in parsed(run, 9000.0)}
    assert {name: family.type for name, family in families.items()} == {
        "marsnet_bundles": "counter",
        "marsnet_store_bundles": "gauge",
        "marsnet_store_bytes": "gauge",
        "marsnet_queue_bundles": "gauge",
        "marsnet_carried_bundles": "counter",
        "marsnet_carried_bytes": "counter",
        "marsnet_contact_open": "gauge",
        "marsnet_link_rate_bits_per_second": "gauge",
        "marsnet_bundle_latency_seconds": "histogram",
        "marsnet_bundle_light_time_seconds": "counter",
    }
    start = parse_utc(run.plan.epoch).timestamp()
    for family in families.values():
        latest: dict[tuple[object, ...], tuple[float, float]] = {}
        for sample in family.samples:
            series = (sample.name, *sorted(sample.labels.items()))
            stamp, value = float(sample.timestamp), sample.value
            assert start <= stamp <= start + 9000.0
            if series in latest:
                assert stamp > latest[series][0]
                assert stamp - latest[series][0] <= 300, "Prometheus forgets a series after five minutes"
                assert family.type == "gauge" or value >= latest[series][1]
            assert value >= 0
            latest[series] = stamp, value
        assert {stamp for stamp, _ in latest.values()} == {start + 9000.0}


def test_stores_and_queues_are_empty_when_all_is_delivered(run: FinishedRun) -> None:
    last: dict[tuple[str, ...], float] = {}
    most: Counter[str] = Counter()
    for family in parsed(run, 9000.0):
        if family.name in {"marsnet_store_bundles", "marsnet_store_bytes", "marsnet_queue_bundles"}:
            for sample in family.samples:
                last[sample.name, *sample.labels.values()] = sample.value
                most[sample.name] = max(most[sample.name], int(sample.value))
    assert set(last.values()) == {0.0}
    assert most["marsnet_store_bytes"] >= 400_000
    assert most["marsnet_store_bundles"] >= most["marsnet_queue_bundles"] > 5


@pytest.fixture(scope="module")
def prometheus(run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus over the blocks of the run."""
    promtool, server = find("promtool"), find("prometheus")
    if not (promtool and server):
        pytest.skip("Prometheus is not installed")
    folder = tmp_path_factory.mktemp("blocks")
    made = subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", run.folder / "metrics.om", folder / "data"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with served(server, folder / "data") as address:
        yield address


@pytest.mark.slow
def test_queries_on_mission_time_return_what_the_ledger_says(run: FinishedRun, prometheus: str) -> None:
    epoch = parse_utc(run.plan.epoch).timestamp()

    def ask(expression: str, time: float) -> dict[tuple[str, ...], float]:
        query = urllib.parse.urlencode({"query": expression, "time": epoch + time})
        with urllib.request.urlopen(f"http://{prometheus}/api/v1/query?{query}", timeout=20) as response:
            answer = json.load(response)
        return {tuple(one["metric"].values()): float(one["value"][1]) for one in answer["data"]["result"]}

    everyone = list(run.lives.values())
    # Both instants are on the grid of 30 s.
    for time in (4500.0, 9000.0):
        steps = Counter((str(r.step), r.node) for r in run.records if r.time <= time)
        assert ask("sum by (event, node) (marsnet_bundles_total) > 0", time) == {k: float(n) for k, n in steps.items()}
        done = [x for x in everyone if x.delivered is not None and x.delivered <= time]
        held = Counter(x.service_class for x in done)
        assert ask("sum by (class) (marsnet_bundle_latency_seconds_count) > 0", time) == {
            (name,): float(n) for name, n in held.items()
        }
        quick = sum((x.delivered or 0) - x.created <= 900 for x in done)
        assert ask('sum(marsnet_bundle_latency_seconds_bucket{le="900.0"})', time) == {(): float(quick)}
        beyond = "sum(marsnet_bundle_latency_seconds_sum) - sum(marsnet_bundle_light_time_seconds_total)"
        expected = sum(
            (x.delivered or 0) - x.created - run.light.between(x.source, x.destination, x.created) for x in done
        )
        assert ask(beyond, time)[()] == pytest.approx(expected, rel=1e-6)
        size = sum(x.size for x in everyone if any(n == "mcc" and t <= time for n, t in x.hops) and x.source != "mcc")
        assert ask('sum(marsnet_carried_bytes_total{target="mcc"})', time) == {(): float(size)}
    # In the middle of the run what was accepted and not delivered is in some store (the relays hand on at once).
    open_ = sum(x.created <= 4500.0 < (x.delivered or 1e9) for x in everyone)
    assert ask("sum(marsnet_store_bundles)", 4500.0)[()] >= open_ > 0
    # The silent relay hears nobody from minute 30 to minute 50: nothing from Mars that leaves meanwhile, nothing from
    # Earth that leaves a light time earlier.
    light = run.light.between("dss14", "areo", 2400.0)
    assert 600 < light < 1200
    for neighbours, deaf in (("dss.*", 2400.0 - 30 * round(light / 30)), ("habitat|rover", 2400.0)):
        heard = f'sum(marsnet_contact_open{{neighbour="areo",node=~"{neighbours}"}})'
        assert ask(heard, deaf) == {(): 0.0}
        assert ask(heard, 3300.0)[()] >= 1
