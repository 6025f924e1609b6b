"""A lab that stays up: asked for twice, looked at, disturbed, and taken away beside a run that goes on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from run_harness import NOTHING, Finished, StandingLab, assert_sound, container, marsnet

from marsnet.worlds.lab import spec

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]


def answer(*arguments: str) -> Any:
    done = marsnet(*arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ping(lab: str, source: str, target: str) -> bool:
    """Whether an ICMP echo from one node's data plane comes back from its neighbour within a second."""
    nodes = {n["name"]: n for n in answer("inspect", lab, "--json")["labs"][0]["nodes"]}
    holder = container(lab, source).client.containers.get(spec.holder_name(lab, source))
    argv = ["nsenter", "-t", str(holder.attrs["State"]["Pid"]), "-n", "ping", "-nqc1", "-W1", nodes[target]["address"]]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_up_is_idempotent(standing: StandingLab) -> None:
    assert standing.first.returncode == 0, standing.first.stderr
    assert standing.again.returncode == 0, standing.again.stderr
    first, again = json.loads(standing.first.stdout), json.loads(standing.again.stdout)
    assert (first.pop("built"), again.pop("built")) == (True, False)
    assert first["complete"]
    assert {key: first[key] for key in ("name", "nodes", "links")} == {
        key: again[key] for key in ("name", "nodes", "links")
    }
    assert first["services"] == again["services"]


def test_up_with_another_rate_is_refused(standing: StandingLab) -> None:
    other = marsnet("up", *standing.arguments, "--rate", "30")
    assert other.returncode == 2
    assert f"marsnet down {standing.name}" in other.stderr


def test_inspect_shows_the_lab(standing: StandingLab) -> None:
    (lab,) = answer("inspect", standing.name, "--json")["labs"]
    assert lab["complete"]
    assert {node["name"]: node["container"] for node in lab["nodes"]} == dict.fromkeys(
        ("mcc", "dss14", "dss43", "dss63", "mro", "areo", "rover", "habitat"), "running"
    )
    assert len(lab["links"]) == 13
    assert standing.name in {entry["name"] for entry in answer("inspect", "--json")["labs"]}


def test_exec_runs_in_the_container_and_ends_in_its_exit_code(standing: StandingLab) -> None:
    shown = marsnet("exec", "--lab", standing.name, "rover", "cat", "/etc/marsnet/node.json")
    assert json.loads(shown.stdout)["number"] == 200
    assert marsnet("exec", "--lab", standing.name, "rover", "sh", "-c", "exit 7").returncode == 7
    unknown = marsnet("exec", "--lab", standing.name, "rovr", "true")
    assert unknown.returncode == 2
    assert "rover" in unknown.stderr


def test_nodes_are_pinged_and_traced_by_their_names(standing: StandingLab) -> None:
    """From the habitat to the areostationary relay and on: contacts that are open all day."""
    pinged = answer("ping", "habitat", "areo", "--lab", standing.name, "-c", "2", "--json")
    assert (pinged["in_time"], pinged["missing"]) == (2, 0)
    (out,) = pinged["forecast"]["out"]["hops"]
    assert 0.05 < out["light_time"] < 0.1
    assert all(p["round_trip"] >= 2 * out["light_time"] for p in pinged["probes"])
    traced = answer("trace", "habitat", "areo", "--lab", standing.name, "--json")
    assert traced["delivered"]
    assert {(r["node"], r["assertion"]) for r in traced["reports"]} >= {("habitat", "forwarded"), ("areo", "delivered")}
    sent = answer("send", "habitat", "areo.20", __file__, "--lab", standing.name, "--json")
    got = marsnet("recv", "areo", "20", "--lab", standing.name, "--timeout", "1 h")
    assert got.stdout.encode() == Path(__file__).read_bytes()
    assert sent["size"] == len(got.stdout.encode())
    unknown = marsnet("ping", "rovr", "areo", "--lab", standing.name)
    assert (unknown.returncode, "use one of: mcc" in unknown.stderr) == (2, True)


def test_a_link_taken_down_carries_nothing_and_says_where_frames_went(standing: StandingLab) -> None:
    before = answer("link", "--lab", standing.name, "--json")["directions"]
    assert len(before) == 26
    assert ping(standing.name, "habitat", "areo")
    down = answer("link", "areo--habitat", "--lab", standing.name, "--down", "6 h", "--json")
    assert down["link"] == "areo--habitat"
    assert "2026-10-01T16" <= down["down_until"] < "2026-10-01T18"
    assert not ping(standing.name, "habitat", "areo")
    after = answer("link", "areo--habitat", "--lab", standing.name, "--json")["directions"]
    assert sum(sum(direction["dropped"].values()) for direction in after) >= 1
    assert all(direction["unaccounted"] == 0 for direction in after)
    wrong = marsnet("link", "areo--habitatt", "--lab", standing.name, "--down", "1 min")
    assert wrong.returncode == 2
    assert "areo--habitat" in wrong.stderr


def test_taking_one_lab_down_does_not_disturb_another(standing: StandingLab, without_faults: Finished) -> None:
    assert json.loads(without_faults.facts["down"].stdout) == {"labs": {standing.name: True}}
    assert without_faults.facts["left of the other"] == NOTHING
    assert_sound(without_faults.verdict, without_faults.code)
    again = marsnet("down", standing.name)
    assert again.returncode == 0
    assert "was not there" in again.stdout
