"""Every kind of traffic, from the file to the verdict, in the virtual world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from marsnet.dtn.node.ledger import Step
from marsnet.model.topology import ClassLimit, Queue
from marsnet.runs.judge import Judgement, judge
from marsnet.runs.prepare import prepare
from marsnet.worlds.nodes import node_configs
from marsnet.worlds.spec import Outcome
from marsnet.worlds.virtual import run_virtual

ROOT = Path(__file__).resolve().parents[3]
COMMON = {"lifetime": "24 h", "class": "normal"}
FLOWS: list[dict[str, Any]] = [
    {**COMMON, "name": "backlog", "source": "habitat", "destination": "mcc", "volume": "2.05 MB", "size": "100 kB",
     "window": 4, "start": "10 min", "class": "bulk"},
    {**COMMON, "name": "panorama", "source": "habitat", "destination": "mcc", "file": "panorama.bin", "size": "64 kB"},
    {**COMMON, "name": "listed", "source": "habitat", "destination": "mcc", "trace": "listed.csv", "start": "1 h"},
    {**COMMON, "name": "commands", "source": "mcc", "destination": "habitat", "size": "500 B", "every": "30 min",
     "stop": "3 h", "class": "critical", "tenant": "crew", "reply": {"size": "200 B", "class": "expedited"}},
]  # fmt: skip
MORNING: dict[str, Any] = {
    "marsnet": "scenario/1", "name": "kinds", "topology": str(ROOT / "topologies" / "first_light.yaml"),
    "start": "2026-10-01T10:00:00Z", "duration": "6 h", "traffic": FLOWS,
    "requirements": [
        {"kind": "nothing_lost"},
        {"kind": "delivery", "at_least": "100 %"},
        {"kind": "completion", "flow": "backlog", "within": "3 h"},
        {"kind": "completion", "flow": "panorama", "within": "3 h"},
        {"kind": "round_trip", "flow": "commands", "percentile": "100 %", "beyond_light_time": "5 min"},
        {"kind": "delivery", "tenant": "crew", "at_least": "100 %"},
        {"kind": "delivery", "flow": "commands.reply", "at_least": "100 %"},
        {"kind": "storage", "node": "habitat", "at_most": "800 kB"},
    ],
}  # fmt: skip


def play(folder: Path, **changes: Any) -> tuple[Outcome, Judgement]:
    (folder / "panorama.bin").write_bytes(bytes(i * i % 251 for i in range(300_001)))
    (folder / "listed.csv").write_text(
        "time,size,class,destination\n0 s,3 kB,,\n20 min,5 kB,critical,rover\n20 min,7 kB,bulk,mcc\n"
    )
    with (folder / "scenario.yaml").open("w") as stream:
        YAML().dump(MORNING | changes, stream)
    spec = prepare(folder / "scenario.yaml", folder)
    outcome = run_virtual(spec)
    return outcome, judge(spec, outcome)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Judgement, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return *play(folder), folder


def test_everything_arrives(played: tuple[Outcome, Judgement, Path]) -> None:
    _, verdict, _ = played
    assert verdict.passed, [f for f in verdict.findings if not f.passed]
    counts = {name: sum(life.flow == name for life in verdict.lives.values()) for name in ("backlog", "commands")}
    assert counts == {"backlog": 21, "commands": 6}


def test_a_delivered_file_is_the_one_that_was_sent(played: tuple[Outcome, Judgement, Path]) -> None:
    _, verdict, folder = played
    delivered = folder / "nodes" / "mcc" / "delivered" / "panorama" / "panorama.bin"
    assert delivered.read_bytes() == (folder / "panorama.bin").read_bytes()
    assert [life.file for life in verdict.lives.values() if life.file] == ["panorama.bin"]
    assert {p.name for p in delivered.parent.iterdir()} == {"panorama.bin"}


def test_a_backlog_waits_outside_of_the_store(played: tuple[Outcome, Judgement, Path]) -> None:
    outcome, verdict, _ = played
    inside = most = 0
    for record in sorted(outcome.records, key=lambda r: r.time):
        life = verdict.lives.get(record.bundle)
        if life is not None and life.flow == "backlog" and record.node == "habitat":
            inside += (record.step == Step.ACCEPTED) - (record.step == Step.FORWARDED)
            most = max(most, inside)
    assert most == 4
    assert sum(life.size for life in verdict.lives.values() if life.flow == "backlog") == 2_050_000


def test_a_trace_says_time_size_class_and_destination(played: tuple[Outcome, Judgement, Path]) -> None:
    lives = [life for life in played[1].lives.values() if life.flow == "listed"]
    assert [(life.created, life.size, life.service_class, life.destination) for life in lives] == [
        (3600.0, 3000, "normal", "mcc"),
        (4800.0, 5000, "critical", "rover"),
        (4800.0, 7000, "bulk", "mcc"),
    ]


def test_a_reply_names_what_it_answers_and_whose_it_is(played: tuple[Outcome, Judgement, Path]) -> None:
    lives = played[1].lives
    replies = [life for life in lives.values() if life.flow == "commands.reply"]
    assert {life.answers for life in replies} == {b for b, life in lives.items() if life.flow == "commands"}
    assert {(life.source, life.destination, life.service_class, life.size, life.tenant) for life in replies} == {
        ("habitat", "mcc", "expedited", 200, "crew")
    }
    assert all(life.created == lives[life.answers].delivered for life in replies)


@pytest.mark.parametrize("node", ["habitat", "mcc"])
def test_no_kind_of_traffic_minds_a_crash(tmp_path: Path, node: str) -> None:
    times = ("1 min", "42 min", "79 min", "2 h")
    crashes = [{"kind": "node_crash", "node": node, "at": at, "duration": "3 min"} for at in times]
    _, verdict = play(tmp_path, faults=crashes)
    named = {f.name: f for f in verdict.findings}
    assert named["nothing accepted is lost"].passed, named
    assert named["completion of backlog"].passed
    assert named["completion of panorama"].passed
    requests = {b for b, life in verdict.lives.items() if life.flow == "commands"}
    assert {life.answers for life in verdict.lives.values() if life.answers} == requests
    assert sum(life.flow == "backlog" for life in verdict.lives.values()) == 21


def failed_with(folder: Path, fault: dict[str, str]) -> set[str]:
    folder.mkdir()
    soon = [r | ({"within": "1 h"} if r["kind"] == "completion" else {}) for r in MORNING["requirements"]]
    _, verdict = play(folder, faults=[{"kind": "node_silent"} | fault], requirements=soon)
    return {f.name for f in verdict.findings if not f.passed}


def test_requirements_on_traffic_can_fail(tmp_path: Path) -> None:
    relay = failed_with(tmp_path / "relay", {"node": "areo", "at": "5 min", "duration": "5 h"})
    assert {"completion of backlog", "round trip of commands, 100th percentile"} <= relay
    control = failed_with(tmp_path / "control", {"node": "mcc", "at": "15 min", "duration": "6 h"})
    assert {"delivery of commands.reply", "delivery of crew"} <= control


def test_a_tenant_of_the_scenario_has_the_quota_of_the_topology_at_every_node(tmp_path: Path) -> None:
    burst = {**COMMON, "source": "habitat", "destination": "mcc", "size": "10 kB", "every": "1 h", "stop": "1 min",
             "burst": 10, "class": "bulk"}  # fmt: skip
    flows = [burst | {"name": "pictures", "tenant": "science"}, burst | {"name": "logs", "tenant": "crew"}]
    with (tmp_path / "topology.yaml").open("w") as stream:
        shares = {"tenants": {"science": {"quota": 25_000}}}
        YAML().dump({"include": str(ROOT / "topologies" / "first_light.yaml"), "bundles": shares}, stream)
    outcome, verdict = play(tmp_path, topology="topology.yaml", traffic=flows, requirements=[{"kind": "nothing_lost"}])
    refused = [r for r in outcome.records if r.step == Step.REFUSED]
    assert {r.details["flow"] for r in refused} == {"pictures"}
    assert all("of tenant 'science'" in str(r.details["reason"]) for r in refused)
    kept = {flow: sum(life.flow == flow for life in verdict.lives.values()) for flow in ("pictures", "logs")}
    assert kept == {"pictures": 2, "logs": 10}
    configs = node_configs(prepare(tmp_path / "scenario.yaml", tmp_path), None, hiccup=0.1)
    assert {frozenset(config.tenants) for config in configs.values()} == {frozenset({"science", "crew"})}


def test_a_small_queue_of_a_transmitter_is_not_overrun(tmp_path: Path) -> None:
    """A node hands out a second of a link's rate at once, but no more than half of what its queues hold."""
    flow = {**COMMON, "name": "images", "source": "habitat", "destination": "mcc", "size": "200 kB", "every": "1 h",
            "stop": "30 min"}  # fmt: skip
    with (tmp_path / "scenario.yaml").open("w") as stream:
        YAML().dump(MORNING | {"traffic": [flow], "requirements": [{"kind": "nothing_lost"}]}, stream)
    spec = prepare(tmp_path / "scenario.yaml", tmp_path)
    small = Queue(limits={"normal": ClassLimit.model_validate({"size": "20 kB"}), "bulk": ClassLimit(frames=4)})
    links = [
        link.model_copy(update={"queue": small}) if "habitat" in link.between else link for link in spec.topology.links
    ]
    spec = replace(spec, topology=spec.topology.model_copy(update={"links": links}))
    neighbours = node_configs(spec, None, hiccup=0.0, burst=8000)["habitat"].neighbours
    assert {neighbour.ahead for neighbour in neighbours.values()} == {3000}
    assert {n.ahead for n in node_configs(spec, None, hiccup=0.0, burst=8000)["dss14"].neighbours.values()} == {8000}
    outcome = run_virtual(spec)
    assert sum(frames.delivered for frames in outcome.frames if "habitat" in frames.link) > 100
    assert not any(reason for frames in outcome.frames for reason, count in frames.dropped.items() if count)
