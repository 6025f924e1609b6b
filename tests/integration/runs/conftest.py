"""Runs and labs on real containers, shared by the tests that look at them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from run_harness import FIRST_LIGHT, Finished, Runs, StandingLab, container, inodes_of, left_of, marsnet


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(tmp_path_factory.mktemp("runs"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def standing(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> StandingLab:
    """A lab that stays up, asked for twice."""
    name, folder = runs.new_lab(), tmp_path_factory.mktemp("labs")
    arguments = (str(FIRST_LIGHT), "--start", "2026-10-01T10:00:00Z", "--duration", "8 h", "--lab", name,
                 "--output", str(folder), "--json")  # fmt: skip
    first, again = (marsnet("up", *arguments, "--rate", "60") for _ in range(2))
    return StandingLab(name, arguments, first, again)


@pytest.fixture(scope="session")
def with_faults(runs: Runs) -> Finished:
    """The whole scenario, with what its Prometheus answered near the end."""
    running = runs.start()
    address = running.until(r"prometheus at (http://\S+)$")[1]
    running.reached("2.00 h")
    with urllib.request.urlopen(f"{address}/api/v1/query?query=up", timeout=10) as answer:  # noqa: S310
        series = json.load(answer)["data"]["result"]
    finished = running.finish()
    finished.facts["up"] = {(s["metric"]["job"], s["metric"]["instance"]): s["value"][1] for s in series}
    finished.facts["nodes"] = {s["metric"].get("node") for s in series if s["metric"]["job"] == "nodes"}
    finished.facts["left"] = left_of(finished.lab, finished.inodes)
    return finished


@pytest.fixture(scope="session")
def without_faults(runs: Runs, standing: StandingLab) -> Finished:
    """The same without faults, beside another lab that is taken down in the middle."""
    running = runs.start("--no-faults")
    running.reached("45 min")
    inodes = inodes_of(standing.name)
    gone = marsnet("down", standing.name, "--json")
    finished = running.finish()
    finished.facts["down"] = gone
    finished.facts["left of the other"] = left_of(standing.name, inodes)
    return finished


@pytest.fixture(scope="session")
def killed(runs: Runs) -> dict[str, Any]:
    """A runner that was killed, and what `marsnet down` made of its lab, twice."""
    running = runs.start()
    running.reached("15 min")
    running.process.kill()
    running.process.wait()
    before = left_of(running.lab, running.inodes)
    downs = [marsnet("down", running.lab, "--json") for _ in range(2)]
    return {"lab": running.lab, "before": before, "downs": downs, "after": left_of(running.lab, running.inodes)}


@pytest.fixture(scope="session")
def with_killed_nodes(runs: Runs, killed: dict[str, Any]) -> Finished:
    """A run in the lab of the killed one, in which a relay and a source are killed by Docker and started again."""
    running = runs.start("--no-faults", lab=killed["lab"])
    for node, kill_at, start_at in (("areo", "30 min", "45 min"), ("habitat", "60 min", "75 min")):
        running.reached(kill_at)
        container(running.lab, node).kill()
        running.reached(start_at)
        container(running.lab, node).start()
    return running.finish()
