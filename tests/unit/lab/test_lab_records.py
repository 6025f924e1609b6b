"""What a lab writes down: its state, and the configuration of its Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from marsnet.worlds.lab import Target, prometheus, spec, state
from marsnet.worlds.lab.state import LabState


@pytest.fixture
def lab_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabState:
    monkeypatch.setattr(spec, "RUNTIME_ROOT", tmp_path)
    (tmp_path / "demo").mkdir()
    return LabState("demo", "abc", "", "/runs/demo", "netdev", True, {"mcc": 1}, {"mcc": "earth"}, {})


def test_a_state_is_read_as_it_was_written(lab_state: LabState) -> None:
    assert state.load("demo") is None
    lab_state.record("prometheus", {"pid": 7, "http": "127.0.0.1:9090"})
    found = state.load("demo")
    assert found == lab_state
    assert found is not None
    assert found.services == {"prometheus": {"pid": 7, "http": "127.0.0.1:9090"}}
    found.forget("prometheus")
    assert state.load("demo") != lab_state
    assert state.names() == ["demo"]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"name": "demo", "colour": "red"}', "[]"])
def test_a_state_of_another_version_counts_as_none_but_is_not_overlooked(lab_state: LabState, text: str) -> None:
    (spec.runtime_dir("demo") / "lab.json").write_text(text)
    assert state.load("demo") is None
    assert state.names() == [lab_state.name]


def test_prometheus_is_told_every_target_under_its_job(tmp_path: Path) -> None:
    targets = [
        Target("nodes", "172.30.0.1:9100", {"node": "mcc"}),
        Target("nodes", "172.30.0.2:9100", {"node": "dss"}),
        Target("controllers", "127.0.0.1:8653", {"segment": "earth"}),
    ]
    written = prometheus.write_configuration(tmp_path, targets, lab="demo", run="", scrape_interval=0.25)
    document = YAML(typ="safe").load(written.read_text())
    assert document["global"]["scrape_interval"] == "250ms"
    assert document["global"]["external_labels"] == {"lab": "demo", "run": "demo"}
    files = {job["job_name"]: job["file_sd_configs"][0]["files"] for job in document["scrape_configs"]}
    assert set(files) == set(prometheus.JOBS)
    told = {
        job: [(group["targets"], group["labels"]) for group in json.loads((tmp_path / paths[0]).read_text())]
        for job, paths in files.items()
    }
    assert told == {
        "nodes": [(["172.30.0.1:9100"], {"node": "mcc"}), (["172.30.0.2:9100"], {"node": "dss"})],
        "controllers": [(["127.0.0.1:8653"], {"segment": "earth"})],
        "links": [],
    }
    assert (tmp_path / document["rule_files"][0]).exists()
