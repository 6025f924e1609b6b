"""Whoever breaks a run off, and however: the machine is clean, or `marsnet down` makes it so."""

from __future__ import annotations

import json
import os
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from run_harness import NOTHING, SHORT, Finished, Runs, assert_sound, left_of, marsnet

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]


def check_partial(finished: Finished) -> None:
    assert finished.code == 3
    verdict = finished.verdict
    assert json.loads(finished.out) == verdict
    assert verdict["interrupted"]
    assert not verdict["valid"]
    assert not verdict["passed"]
    assert any("broken off" in reason for reason in verdict["invalid"])
    assert "INVALID" in (finished.folder / "report.html").read_text()
    suite = ET.parse(finished.folder / "junit.xml").getroot()  # noqa: S314  (just written)
    assert suite.get("errors") == str(len(verdict["requirements"]))
    assert left_of(finished.lab, finished.inodes) == NOTHING


def test_ctrl_c_leaves_a_clean_machine_and_a_partial_report(runs: Runs) -> None:
    running = runs.start()
    running.reached("15 min")
    assert len(left_of(running.lab, running.inodes)["processes"]) > 8
    running.interrupt()
    finished = running.finish()
    check_partial(finished)
    assert 900.0 <= finished.verdict["elapsed"] < 9000.0
    assert finished.lives()
    with pytest.raises(ProcessLookupError):
        os.killpg(running.process.pid, 0)


def test_a_termination_during_set_up_does_the_same(runs: Runs) -> None:
    running = runs.start()
    running.until(r"prometheus at http://")
    running.process.terminate()
    finished = running.finish()
    check_partial(finished)
    assert finished.verdict["elapsed"] == 0.0


def test_down_clears_what_a_killed_runner_left(killed: dict[str, Any]) -> None:
    assert len(killed["before"]["containers"]) == 16
    assert killed["before"]["namespace"]
    assert killed["before"]["processes"]
    first, second = killed["downs"]
    assert (first.returncode, json.loads(first.stdout)) == (0, {"labs": {killed["lab"]: True}})
    assert (second.returncode, json.loads(second.stdout)) == (0, {"labs": {killed["lab"]: False}})
    assert killed["after"] == NOTHING


def test_a_run_after_that_works_under_the_same_name(killed: dict[str, Any], with_killed_nodes: Finished) -> None:
    assert with_killed_nodes.lab == killed["lab"]
    assert_sound(with_killed_nodes.verdict, with_killed_nodes.code)


def test_nobody_disturbs_a_run_and_the_next_clears_what_a_killed_one_left(runs: Runs) -> None:
    running = runs.start()
    running.reached("15 min")
    beside = marsnet("run", SHORT, "--world", "emulated", "--lab", running.lab, "--output", running.output)
    assert beside.returncode == 2
    assert f"lab '{running.lab}' is in use by another run" in beside.stderr
    running.process.kill()
    running.process.wait()
    orphans = set(left_of(running.lab, running.inodes)["processes"])
    assert orphans
    following = runs.start(lab=running.lab)
    following.reached("15 min")
    # The kernel gives numbers of namespaces out again, so the processes themselves are looked for.
    assert not orphans & set(left_of(running.lab, running.inodes)["processes"]), "what the killed run left is gone"
    following.interrupt()
    check_partial(following.finish())
