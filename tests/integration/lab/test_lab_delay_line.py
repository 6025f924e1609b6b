"""Containers whose links obey the contact plan: light time, outages, and what is in flight."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest
from conftest import LabMaker, always, clock_now, ping, write_plan

from marsnet.links.planned import Outage, timeline_for
from marsnet.plan import jsonplan
from marsnet.plan.types import Contact, Range
from marsnet.worlds.lab import Lab, down_by_label, inspect, namespace
from marsnet.worlds.lab.web import request

pytestmark = pytest.mark.root

OWLT = {"wan": 0.010, "x": 0.150, "uhf": 0.001}


def ranges() -> list[Range]:
    ends = {"wan": ("mcc", "dss"), "x": ("dss", "mro"), "uhf": ("mro", "rover")}
    return [Range(*pair, -1e6, 1e9, OWLT[name]) for name, (a, b) in ends.items() for pair in ((a, b), (b, a))]


def obey(lab: Lab, folder: Path, contacts: list[Contact], outages: tuple[Outage, ...] = ()) -> None:
    """Let both controllers and every link follow a plan from now on."""
    path = write_plan(folder / "plan.json", contacts, ranges())
    plan, clock = jsonplan.read(path.read_text(), path), clock_now()
    for link in lab.links.values():
        for direction, source, target in (("ab", link.a, link.b), ("ba", link.b, link.a)):
            segments = timeline_for(plan, source, target, clock, outages=outages)
            lab.client.load_timeline(link.name, direction, segments)
    lab.start_controllers(path, clock)


def round_trips(output: str) -> list[float]:
    return [float(found) / 1e3 for found in re.findall(r"time=([0-9.]+)", output)]


def test_a_round_trip_takes_twice_the_light_time_of_every_hop(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab(delay_line=True)
    assert ping(lab, "mcc", "dss", wait=0.2) == 0
    obey(lab, tmp_path, always())
    _, output = lab.tool("mcc", ["ping", "-n", "-c", "8", "-i", "0.1", lab.address("rover")])
    measured = round_trips(output)
    assert len(measured) == 8
    expected = 2 * sum(OWLT.values())
    assert min(measured) >= expected
    assert statistics.median(measured) < expected + 0.05
    directions = lab.client.stats()["links"]["x"]["directions"]
    for direction in ("ab", "ba"):
        assert directions[direction]["in"]["frames"] == directions[direction]["delivered"]["frames"] == 8


def test_every_frame_is_accounted_for_through_an_outage(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab(delay_line=True)
    obey(lab, tmp_path, always(), outages=(Outage(-1e5, 1e5),))
    assert ping(lab, "dss", "mro", count=5, wait=0.3) == 0
    x = lab.client.stats()["links"]["x"]["directions"]["ab"]
    assert x["in"]["frames"] == 5
    assert sum(dropped["frames"] for dropped in x["dropped"].values()) == 5
    assert x["delivered"]["frames"] == 0


def test_the_delay_line_is_a_service_of_the_lab_and_goes_with_it(make_lab: LabMaker) -> None:
    lab = make_lab(delay_line=True)
    status = inspect(lab.name)
    assert status.complete
    facts = status.services["delay-line"]
    assert lab.client.ping()["pid"] == facts["pid"]
    assert b"marsnet_link" in request(lab.namespace, f"http://{facts['http']}/metrics")
    inode = namespace.inode(lab.namespace)
    assert inode is not None
    down_by_label(lab.name)
    assert namespace.processes_in([inode]) == []
