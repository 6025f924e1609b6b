"""A run on real containers ends in a verdict that its ledger, links and Prometheus bear out, and leaves no lab."""

from __future__ import annotations

import json
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from run_harness import NOTHING, SHORT, Finished, Runs, assert_sound, left_of, marsnet

from marsnet.plan.files import read_plan

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_scenario_passes_and_can_be_trusted(with_faults: Finished) -> None:
    verdict = with_faults.verdict
    assert_sound(verdict, with_faults.code)
    assert verdict["world"] == "emulated"
    assert (verdict["rate"], verdict["seed"]) == (600.0, 1)
    assert with_faults.facts["left"] == NOTHING


def test_json_is_one_object_and_nothing_else(with_faults: Finished) -> None:
    printed = json.loads(with_faults.out)
    assert printed == with_faults.verdict
    assert {"passed", "valid", "world", "rate", "seed", "requirements", "report"} <= set(printed)
    assert all({"name", "passed", "measured", "required"} <= set(entry) for entry in printed["requirements"])
    assert printed["report"] == str(with_faults.folder / "report.html")


class _Loads(HTMLParser):
    """Collects what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""
        self._skipped = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipped = tag in {"script", "style"}
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]

    def handle_endtag(self, tag: str) -> None:
        self._skipped = False

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.text += data


def test_the_folder_is_complete_and_the_report_stands_alone(with_faults: Finished) -> None:
    folder = with_faults.folder
    assert folder.parent.joinpath("latest").resolve() == folder
    page = _Loads()
    page.feed((folder / "report.html").read_text())
    assert page.addresses == []
    assert ("PASSED" if with_faults.code == 0 else "INVALID") in page.text
    for requirement in with_faults.verdict["requirements"]:
        assert requirement["name"] in page.text
    suite = ET.parse(folder / "junit.xml").getroot()  # noqa: S314  (just written)
    assert suite.get("tests") == str(len(with_faults.verdict["requirements"]))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    plan = read_plan(folder / "plan.json")
    assert plan.owlt("dss63", "areo", 0.0) > 13 * 60
    assert any((folder / "prometheus" / "data").iterdir())
    for node in plan.nodes:
        assert (folder / "nodes" / node / "state" / "ledger.jsonl").exists()


def test_every_class_was_offered_and_every_bundle_has_a_life(with_faults: Finished) -> None:
    everyone = with_faults.lives()
    assert Counter(life.flow for life in everyone.values()) == {
        "commands": 9, "telemetry": 45, "images": 6,
        "science": sum(life.flow == "science" for life in everyone.values()),
    }  # fmt: skip
    assert {life.service_class for life in everyone.values()} == {"critical", "expedited", "normal", "bulk"}
    assert all(life.fate == "delivered" and life.intact and life.deliveries == 1 for life in everyone.values())
    # Nothing overtakes light, and what the silent relay held up is late.
    waits = [(life.delivered or 0.0) - life.created for life in everyone.values()]
    assert min(waits) > 13 * 60
    assert max(waits) > 13 * 60 + 20 * 60


def test_prometheus_scraped_every_node_the_links_and_both_controllers(with_faults: Finished) -> None:
    up = with_faults.facts["up"]
    assert Counter(job for job, _ in up) == {"nodes": 8, "links": 1, "controllers": 2}
    assert set(up.values()) == {"1"}, up
    assert with_faults.facts["nodes"] == {"mcc", "dss14", "dss43", "dss63", "mro", "areo", "rover", "habitat"}


def test_faults_were_felt_and_without_them_the_same_bundles_come_sooner(
    with_faults: Finished, without_faults: Finished
) -> None:
    assert_sound(without_faults.verdict, without_faults.code)
    late, soon = with_faults.lives(), without_faults.lives()
    assert Counter(life.flow for life in late.values()) == Counter(life.flow for life in soon.values())
    hit, calm = (sum((life.delivered or 1e9) - life.created for life in each.values()) for each in (late, soon))
    assert calm < hit - 3600
    dropped = [frames["dropped"] for frames in with_faults.verdict["frames"] if "areo" in frames["link"]]
    undisturbed = [frames["dropped"] for frames in without_faults.verdict["frames"] if "areo" in frames["link"]]
    assert sum(sum(d.values()) for d in dropped) > sum(sum(d.values()) for d in undisturbed)


def test_a_killed_container_loses_no_accepted_bundle(with_killed_nodes: Finished) -> None:
    assert_sound(with_killed_nodes.verdict, with_killed_nodes.code)
    everyone = with_killed_nodes.lives()
    assert len(everyone) > 50
    assert all(life.fate == "delivered" and life.intact and life.deliveries == 1 for life in everyone.values())


def test_a_rate_beyond_the_machine_is_refused_or_makes_the_run_invalid(runs: Runs) -> None:
    refused = marsnet("run", SHORT, "--world", "emulated", "--rate", "100000000")
    assert refused.returncode == 4
    assert "cannot hold 'short' at rate 1e+08: the largest that it can is" in refused.stderr
    finished = runs.start("--rate", "100000", "--force-rate").finish()
    assert finished.code == 3
    verdict = finished.verdict
    assert not verdict["valid"]
    assert not verdict["passed"]
    assert any("of mission time, the budget 5 min 0.0 s; try a lower rate" in reason for reason in verdict["invalid"])
    assert left_of(finished.lab, []) == NOTHING
