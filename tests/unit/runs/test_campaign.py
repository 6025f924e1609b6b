"""Campaigns: what is varied, what is kept, and that a killed worker and a broken-off campaign lose nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.runs.campaign import Axis, Results, parse_axes, plan_for, points, run_point, workers
from marsnet.runs.campaign_results import rows, units, write_comparison_page, write_parquet
from marsnet.worlds.spec import Outcome, RunSpec
from marsnet.worlds.virtual import run_virtual
from marsnet.worlds.warp import world as warp_world

ROOT = Path(__file__).parents[3]
TINY = f"""
marsnet: scenario/1
name: tiny
parameters: {{size: 1 kB}}
topology: {ROOT / "topologies" / "first_light.yaml"}
start: 2026-10-01T10:00:00Z
duration: 10 min
traffic:
  - {{name: t, source: habitat, destination: areo, class: expedited, size: "${{size}}", every: 1 min,
     arrivals: poisson, lifetime: 2 h, stop: 9 min}}
requirements:
  - {{kind: delivery, at_least: 100 %}}
  - {{kind: latency, class: expedited, percentile: 95 %, beyond_light_time: 1 s}}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return file


def test_axes_are_ranges_and_lists() -> None:
    assert parse_axes(["seed=1..4", "n=1..9:3,20", "size=1 kB, 2 kB"]) == [
        Axis("seed", (1, 2, 3, 4)),
        Axis("n", (1, 4, 7, 20)),
        Axis("size", ("1 kB", "2 kB")),
    ]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["seed"], "'seed' varies nothing"),
        (["=1..3"], "varies nothing"),
        (["seed="], "varies nothing"),
        (["seed=4..1"], "'4..1' is no range; write it upwards"),
        (["seed=1..2:0"], "is no range"),
        (["seed=1..100000000"], "has more than [0-9]+ values; give a shorter range"),
        (["seed=1..3,2"], "has a value twice"),
        (["seed=1", "seed=2"], "--vary seed stands twice"),
    ],
)
def test_a_mistake_in_what_is_varied_is_told(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_axes(texts)


def test_every_combination_is_a_point_with_a_name_of_its_own(tiny: Path) -> None:
    found = points(tiny, parse_axes(["size=1 kB,2 kB", "seed=1..3"]))
    assert [tuple(point.values.values()) for point in found] == [
        ("1 kB", 1), ("1 kB", 2), ("1 kB", 3), ("2 kB", 1), ("2 kB", 2), ("2 kB", 3)
    ]  # fmt: skip
    assert len({point.key for point in found}) == 6
    assert len({point.plan_key for point in found}) == 1
    assert found[3].scenario.traffic[0].size == 2000
    # What does not change a run does not change its name.
    again = points(tiny, parse_axes(["seed=3,2,1"]))
    assert {point.key for point in again} == {point.key for point in found[:3]}


def test_runs_of_the_warp_world_have_names_and_folders_of_their_own(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_warp(spec: RunSpec, *rest: object) -> Outcome:
        assert (spec.folder / "plan.json").exists()
        return replace(run_virtual(spec), world="warp")

    monkeypatch.setattr(warp_world, "run_warp", run_warp)
    (virtual,) = points(tiny, parse_axes(["seed=3"]))
    (warp,) = points(tiny, parse_axes(["seed=3"]), "warp")
    assert virtual.key != warp.key
    plan = plan_for(warp.topology, warp.scenario.start, warp.scenario.duration, warp.base)
    assert (run_point(warp, plan)["world"], run_point(virtual, plan)["world"]) == ("warp", "virtual")


def test_what_cannot_be_varied_is_told(tiny: Path) -> None:
    with pytest.raises(InputError, match="there is no such parameter"):
        points(tiny, parse_axes(["orbiters=1..4"]))
    with pytest.raises(InputError, match="'x' is no seed"):
        points(tiny, parse_axes(["seed=x"]))
    with pytest.raises(InputError, match="-1 is no seed"):
        points(tiny, parse_axes(["seed=-1..3"]))


def test_results_are_kept_whole_or_not_at_all(tiny: Path, tmp_path: Path) -> None:
    (point,) = points(tiny, parse_axes(["seed=1"]))
    results = Results(tmp_path / "out")
    assert not results.has(point)
    results.put(point, {"values": {}, "passed": True, "ledger_hash": "0a"})
    assert results.has(point)
    assert Results(tmp_path / "out").get(point) == {"values": {"seed": 1}, "passed": True, "ledger_hash": "0a"}
    (file,) = (tmp_path / "out" / "runs").glob("*.json")
    for damaged in ("{", "{}", "5", ""):
        file.write_text(damaged)
        assert not results.has(point), "a damaged one is made again"
    (tmp_path / "taken").write_text("")
    with pytest.raises(EnvironmentLacksError, match="cannot write to"):
        Results(tmp_path / "taken")


def serial(everything: list[Any]) -> list[dict[str, Any]]:
    """The same runs one after another in this process."""
    first = everything[0]
    plan = plan_for(first.topology, first.scenario.start, first.scenario.duration, first.base)
    return rows(run_point(point, plan) for point in everything)


def without_wall(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "wall"} for record in records]


def test_the_table_and_the_page_say_what_the_runs_said(tiny: Path, tmp_path: Path) -> None:
    axes = parse_axes(["size=1 kB,90 kB", "seed=1..2"])
    everything = points(tiny, axes)
    first = everything[0]
    plan = plan_for(first.topology, first.scenario.start, first.scenario.duration, first.base)
    finished = [run_point(point, plan) for point in everything]
    records, of = rows(finished), units(finished)
    write_parquet(tmp_path / "results.parquet", records, of)
    read = pq.read_table(tmp_path / "results.parquet")
    back = read.to_pylist()
    assert back == records
    told = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in read.schema}
    assert {name for name, unit in told.items() if unit} == set(of) & set(told)
    assert told["latency of expedited, 95th percentile: value"] == told["expedited.beyond_p95"] == "s"
    assert (told["expedited.bytes"], told["delivery of all bundles: value"]) == ("B", "ratio")
    assert [record["passed"] for record in back] == [True, True, False, False]
    assert {record["expedited.bytes"] // record["expedited.delivered"] for record in back[2:]} == {90_000}
    write_comparison_page(tmp_path / "page.html", "tiny", axes, records, of, "told")
    page = (tmp_path / "page.html").read_text()
    assert "2 OF 4 PASSED" in page
    assert "Along size" in page
    assert "latency of expedited, 95th percentile</td></tr>" in page
    without = [record["latency of expedited, 95th percentile: value"] is None for record in records].count(True)
    row = page[page.index("<td>latency of expedited, 95th percentile</td>") :]
    assert row[: row.index("</tr>")].endswith(f"<td>{without}</td>")
    assert re.search(r"delivery of all bundles</td><td>4 of 4</td><td>[\d.]+ %</td>", page)
    assert re.search(r"latency of expedited, 95th percentile</td><td>2 of 4</td><td>[\d.]+ m?s</td>", page)
    assert len(page) < 8_000_000


class Campaign:
    """A `marsnet campaign` in a process of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "marsnet.cli", "campaign", *map(str, arguments), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    def until(self, text: str) -> None:
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if text in line:
                return
        raise AssertionError(f"it ended before {text!r}: {said}")

    def processes(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        return [p for p in self.processes()[1:] if "spawn_main" in " ".join(p.cmdline())]

    def finish(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=300)
        content: dict[str, Any] = json.loads(out)
        return content


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_with_a_killed_worker_is_complete_and_equals_the_serial_result(tiny: Path, tmp_path: Path) -> None:
    vary = ("--vary", "size=1 kB,90 kB", "--vary", "seed=1..100")
    running = Campaign(tiny, *vary, "--jobs", "2", "--output", tmp_path / "out")
    running.until("20 of 200 runs")
    listening = [
        connection.laddr.ip
        for process in running.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}
    running.until("100 of 200 runs")
    victims = running.workers()
    assert len(victims) == 2
    victims[0].kill()
    told = running.finish()
    assert running.process.returncode == 1, "those with 90 kB are too late"
    assert (told["runs"], told["made"], told["passed"]) == (200, 200, 100)
    found = pq.read_table(told["results"]).to_pylist()
    everything = points(tiny, parse_axes(["size=1 kB,90 kB", "seed=1..100"]))
    assert without_wall(found) == without_wall(serial(everything))
    assert len({record["ledger_hash"] for record in found}) == 200

    # A rerun makes only what lacks: five runs that were lost, and a value that is new.
    files = sorted((tmp_path / "out" / "runs").glob("*.json"))
    for file in files[::40]:
        file.unlink()
    again = Campaign(tiny, *vary[:2], "--vary", "seed=1..101", "--jobs", "1", "--output", tmp_path / "out").finish()
    assert (again["runs"], again["made"]) == (202, 5 + 2)
    repeated = {record["key"]: record for record in without_wall(pq.read_table(again["results"]).to_pylist())}
    assert [repeated[record["key"]] for record in without_wall(found)] == without_wall(found)


@pytest.mark.slow
def test_a_scheduler_that_runs_elsewhere_is_used_and_one_that_does_not_answer_is_told(
    tiny: Path, tmp_path: Path
) -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, host="tcp://127.0.0.1", dashboard_address=None,
        worker_dashboard_address=None,
    ) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        command = (tiny, "--vary", "seed=1..3", "--scheduler", address, "--output", tmp_path / "out")
        assert Campaign(*command).finish()["made"] == 3
    gone = Campaign(tiny, "--vary", "seed=4", "--scheduler", "tcp://127.0.0.1:9", "--output", tmp_path / "out")
    _, error = gone.process.communicate(timeout=100)
    assert gone.process.returncode == 4
    assert "no scheduler answers at 'tcp://127.0.0.1:9'" in error


@pytest.mark.parametrize("address", ["foo", "tcp://"])
def test_what_is_no_address_of_a_scheduler_is_told(address: str) -> None:
    with pytest.raises(InputError, match=r"is no address: .*; write it like tcp://host:8786"), workers(None, address):
        pass
