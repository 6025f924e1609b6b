"""`from marsnet import Scenario`, and the pytest fixtures that come with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from marsnet import Run, Scenario
from marsnet.errors import InputError
from marsnet.runs import pytest_plugin
from marsnet.runs.finished import read_run

ROOT = Path(__file__).parents[3]
SHORT = ROOT / "tests" / "integration" / "runs" / "short.yaml"
HOUR: dict[str, Any] = {
    "marsnet": "scenario/1",
    "name": "hour",
    "parameters": {"size": "1 kB"},
    "topology": "topologies/first_light.yaml",
    "start": "2026-10-01T10:00:00Z",
    "duration": "1 h",
    "seed": 4,
    "traffic": [
        {
            "name": "telemetry", "source": "habitat", "destination": "mcc", "class": "expedited", "size": "${size}",
            "every": "5 min", "arrivals": "poisson", "lifetime": "2 h", "stop": "30 min",
        },
        {
            "name": "commands", "source": "mcc", "destination": "habitat", "class": "critical", "size": "500 B",
            "every": "10 min", "lifetime": "2 h", "stop": "30 min",
        },
    ],
    "requirements": [{"kind": "delivery", "at_least": "100 %"}, {"kind": "nothing_lost"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def hour() -> Scenario:
    return Scenario.of(HOUR, ROOT)


@pytest.fixture(scope="module")
def usual(hour: Scenario) -> Run:
    return hour.run()


def test_a_run_tells_what_a_script_wants(usual: Run) -> None:
    assert usual.passed
    assert usual.valid
    assert repr(usual) == "<Run of hour, virtual, seed 4: PASSED>"
    usual.assert_passed()
    assert set(usual.requirements) == {"delivery of all bundles", "nothing accepted is lost"}
    assert usual.requirements["delivery of all bundles"].value == 1.0
    commands = usual.bundles("critical")
    assert [record["created"] for record in commands] == [0.0, 600.0, 1200.0]
    assert usual.latencies("critical") == [record["latency"] for record in commands]
    assert usual.latencies(flow="commands") == usual.latencies("critical")
    for record in usual.bundles():
        assert record["fate"] == "delivered"
        assert record["latency"] == pytest.approx(record["light_time"] + record["beyond_light_time"])
        assert record["beyond_light_time"] > 0
        assert record["way"][0] == record["source"]
        assert record["way"][-1] == record["destination"]
    assert len(usual.lives) == len(usual.bundles())


def test_the_same_seed_is_the_same_run_and_another_is_another(hour: Scenario, usual: Run) -> None:
    again, other = hour.run(), hour.with_(seed=5).run()
    assert again.ledger_hash == usual.ledger_hash
    assert other.ledger_hash != usual.ledger_hash
    assert (usual.spec.seed, other.spec.seed) == (4, 5)
    assert (hour.seed, hour.with_(seed=5).with_(size="2 kB").seed) == (4, 5)


def test_parameters_are_overridden(hour: Scenario) -> None:
    larger = hour.with_(size="3 kB")
    assert {record["size"] for record in larger.run().bundles(flow="telemetry")} == {3000}
    assert hour.content.traffic[0].size == 1000
    with pytest.raises(InputError, match="there is no such parameter"):
        hour.with_(orbitres=3)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_told(seed: int) -> None:
    with pytest.raises(InputError, match="is no seed; give a whole number from 0 to"):
        Scenario.load(SHORT).with_(seed=seed)


def test_faults_can_be_left_out_and_files_kept(tmp_path: Path) -> None:
    scenario = Scenario.load(SHORT)
    disturbed, calm = scenario.run(), scenario.without_faults().run(output=tmp_path)
    assert max(disturbed.latencies("bulk")) > max(calm.latencies("bulk")) + 60
    kept = read_run(tmp_path / "latest").lives
    assert {name: life.fate for name, life in kept.items()} == {name: life.fate for name, life in calm.lives.items()}
    assert not disturbed.spec.folder.exists()


def test_a_run_that_fails_says_why(hour: Scenario) -> None:
    hopeless = Scenario.of({**HOUR, "requirements": [{"kind": "delivery", "class": "bulk", "at_least": "50 %"}]}, ROOT)
    finished = hopeless.run()
    assert not finished.passed
    assert finished.exit_code == 1
    with pytest.raises(AssertionError, match=r"hour, seed 4:\nFAIL delivery of bulk: 0\.00 % .*\nFAILED"):
        finished.assert_passed()


def test_a_mistake_in_what_is_constructed_is_told() -> None:
    with pytest.raises(InputError, match="unknown node 'phobos'"):
        Scenario.of({**HOUR, "traffic": [{**HOUR["traffic"][0], "destination": "phobos"}]}, ROOT)
    with pytest.raises(InputError, match="names no topology"):
        Scenario.of({"name": "x"})


def test_the_package_itself_stays_light() -> None:
    code = (
        "import sys, marsnet; print(sorted(m for m in sys.modules if m.startswith(('marsnet.', 'numpy', 'pydantic'))))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout == "['marsnet.compiled']\n"
    with pytest.raises(AttributeError, match="has no attribute 'Scenery'"):
        __import__("marsnet").Scenery  # noqa: B018


TEST = """
import pytest


@pytest.mark.parametrize("seed", [1, 2])
def test_commands_arrive(marsnet_run, seed):
    run = marsnet_run("hour.yaml", seed=seed, size="2 kB")
    run.assert_passed()
    assert max(run.latencies("critical")) < LIMIT
"""


def pytest_in(folder: Path, limit: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a user's test in a folder of its own."""
    from ruamel.yaml import YAML

    with (folder / "hour.yaml").open("w") as file:
        YAML(typ="safe").dump({**HOUR, "topology": str(ROOT / "topologies" / "first_light.yaml")}, file)
    (folder / "test_mine.py").write_text(TEST.replace("LIMIT", str(limit)))
    # The plugin is named because a checkout that is not installed has no entry points.
    arguments = ["-m", "pytest", "-q", "-p", pytest_plugin.__name__, "-p", "no:cacheprovider", *options]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_scenario_test_of_ten_lines(tmp_path: Path) -> None:
    assert len(TEST.strip().splitlines()) <= 10
    passed = pytest_in(tmp_path, 1000, "--marsnet-output", "kept")
    assert passed.returncode == 0, passed.stdout
    assert "2 passed" in passed.stdout
    assert len(list((tmp_path / "kept").glob("hour-*/report.html"))) == 2
    failed = pytest_in(tmp_path, 10)
    assert failed.returncode == 1
    assert "marsnet: hour, seed 2" in failed.stdout
    assert "pass nothing accepted is lost" in failed.stdout


def test_pytest_finds_the_plugin_where_marsnet_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"marsnet": pytest_plugin.__name__}


def test_a_planned_outage_is_no_part_of_the_plan_that_seeds_share(hour: Scenario) -> None:
    outage = {"kind": "link_outage", "link": "areo--habitat", "at": "2 min", "duration": "10 min", "planned": True}
    disturbed = Scenario.of({**HOUR, "faults": [outage]}, ROOT)
    runs = [disturbed.run(), disturbed.without_faults().run(), hour.run()]
    assert [len(run.spec.incidents) for run in runs] == [1, 0, 0]
    assert runs[0].ledger_hash != runs[1].ledger_hash == runs[2].ledger_hash
