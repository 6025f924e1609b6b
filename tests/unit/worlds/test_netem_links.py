"""Links on netem: what a plan of constant links comes to, and which plans are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marsnet import cli
from marsnet.clock import MissionClock
from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.runs.prepare import prepare
from marsnet.worlds import netem_links
from marsnet.worlds.lab import switches
from marsnet.worlds.spec import RunSpec

ROOT = Path(__file__).parents[3]
SCENARIO = """\
marsnet: scenario/1
name: constant
topology: topology.yaml
start: 2026-10-01T00:00:00Z
duration: 1 h
traffic:
  - {name: t, source: earth, destination: mars, class: normal, size: 1 kB, every: 1 min, lifetime: 1 h}
requirements: [{kind: nothing_lost}]
"""
TOPOLOGY = """\
marsnet: topology/1
name: pair
nodes:
  earth: {kind: hub, number: 1}
  mars: {kind: hub, number: 2}
links:
  - {between: [earth, mars], wired: {delay: 1334.9 s, rate: 1 Mbit/s}}
"""


def spec(folder: Path, extra: str = "") -> RunSpec:
    (folder / "topology.yaml").write_text(TOPOLOGY)
    (folder / "scenario.yaml").write_text(SCENARIO + extra)
    return prepare(folder / "scenario.yaml", folder)


def constants(run: RunSpec) -> dict[tuple[str, str], tuple[int, float | None]]:
    found = netem_links.constants(run, MissionClock(run.plan.epoch, 1.0, 50.0))
    return {key: (segment.delay_ns, segment.rate_bps) for key, segment in found.items()}


def test_constant_links_have_one_segment_each(tmp_path: Path) -> None:
    wanted = (1_334_900_000_000, 1e6)
    assert constants(spec(tmp_path)) == {("earth--mars", "earth"): wanted, ("earth--mars", "mars"): wanted}


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("{kind: link_outage, link: earth--mars, at: 10 min, duration: 1 min}", "changes 600 s after the start"),
        ("{kind: node_silent, node: mars, at: 10 min, duration: 1 min}", "changes 600 s|down for a while"),
        ("{kind: node_silent, node: mars, when: {delivered: {flow: t, count: 1}}, duration: 1 min}", "a condition"),
    ],
)
def test_what_changes_is_refused(fault: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        constants(spec(tmp_path, f"faults: [{fault}]\n"))
    assert "--links line" in str(caught.value)


def test_a_plan_of_contacts_is_refused(tmp_path: Path) -> None:
    run = prepare(ROOT / "tests" / "integration" / "warp" / "hour.yaml", tmp_path)
    with pytest.raises(InputError, match="netem has no schedule; use --links line"):
        constants(run)


def test_what_netem_counts_is_told_as_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"s1-eth2": (10, 1, 3), "s2-eth2": (4, 0, 0)}

    def tc(*words: str) -> str:
        packets, drops, qlen = figures[words[-1]]
        netem = {"kind": "netem", "packets": packets, "drops": drops, "qlen": qlen}
        return json.dumps([netem, {"kind": "noqueue", "packets": 99}])

    monkeypatch.setattr(netem_links, "run", tc)
    there, back = netem_links.frames({"l": (("earth", "s1-eth2"), ("mars", "s2-eth2"))})
    assert (there.source, there.target, there.entered, there.delivered, there.in_flight) == ("earth", "mars", 14, 10, 3)
    assert there.dropped == {"netem": 1}
    assert (back.source, back.entered, back.dropped, back.unaccounted) == ("mars", 4, {}, 0)


def test_a_datapath_that_is_not_there_is_an_error_and_not_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "detect_datapath", lambda: "netdev")
    assert switches.chosen_datapath(None) == "netdev"
    with pytest.raises(EnvironmentLacksError, match=r"no Open vSwitch datapath.*--world warp"):
        switches.chosen_datapath("system")
    monkeypatch.setattr(switches, "detect_datapath", lambda: "system")
    assert [switches.chosen_datapath(wanted) for wanted in (None, "system", "netdev")] == ["system", "system", "netdev"]


@pytest.mark.parametrize("option", [("--links", "wire"), ("--datapath", "none"), ("--links", "netem")])
def test_choices_are_checked(option: tuple[str, str], tmp_path: Path) -> None:
    file = str(ROOT / "tests" / "integration" / "warp" / "hour.yaml")
    done = CliRunner().invoke(cli.app, ["run", file, "--world", "virtual", "--output", str(tmp_path / "r"), *option])
    assert isinstance(done.exception, InputError)
    assert not (tmp_path / "r").exists()
