"""A lab comes up, is found again by its label, and leaves nothing behind, whatever happened to who built it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LINKS, LabMaker, always, clock_now, ping, write_plan

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.worlds import images
from marsnet.worlds.lab import Lab, LinkSpec, NodeSpec, down_by_label, inspect, labs, namespace, spec, switches

pytestmark = pytest.mark.root


def interfaces(*where: str) -> set[str]:
    return {link["ifname"] for link in json.loads(namespace.run("ip", *where, "-json", "link"))}


def marks_of(lab: str) -> dict[str, object]:
    """Everything on this machine that carries the lab's label or lives in its namespaces."""
    client = images.connect()
    containers = client.containers.list(all=True, filters={"label": f"marsnet.lab={lab}"})
    inode = namespace.inode(spec.namespace_name(lab))
    return {
        "containers": sorted(c.name for c in containers),
        "namespace": inode is not None,
        "processes": [] if inode is None else namespace.processes_in([inode]),
        "runtime": spec.runtime_dir(lab).exists(),
    }


NOTHING = {"containers": [], "namespace": False, "processes": [], "runtime": False}


def network_inodes(lab: Lab) -> list[int]:
    pids = [lab.containers.holder(node).attrs["State"]["Pid"] for node in lab.nodes]
    own = namespace.inode(lab.namespace)
    assert own is not None
    return [own, *(Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in pids)]


def test_down_leaves_nothing_and_up_touches_nothing_outside(make_lab: LabMaker, tmp_path: Path) -> None:
    before = interfaces()
    lab = make_lab()
    lab.start_controllers(write_plan(tmp_path / "plan.json", always()), clock_now())
    inodes = network_inodes(lab)
    # Other programs may make interfaces meanwhile, so only those that the lab has inside count.
    inside = interfaces("-n", lab.namespace)
    assert {"mgmt", "s1-eth1", "s300-eth2", "m300"} <= inside
    assert not (interfaces() - before) & inside
    assert len(namespace.processes_in(inodes)) > len(lab.nodes)
    assert down_by_label(lab.name)
    assert marks_of(lab.name) == NOTHING
    assert namespace.processes_in(inodes) == []
    assert not (interfaces() - before) & inside
    assert not down_by_label(lab.name)


def test_two_labs_side_by_side_know_nothing_of_each_other(make_lab: LabMaker, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.json", always())
    first, second = make_lab(), make_lab()
    for lab in (first, second):
        lab.start_controllers(plan, clock_now())
    assert {first.name, second.name} <= {found.name for found in labs()}
    assert down_by_label(first.name)
    assert marks_of(first.name) == NOTHING
    assert ping(second, "mcc", "rover") == 1
    assert inspect(second.name).complete


RUNNER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import always, clock_now, write_plan
from marsnet.worlds.lab import Lab, LinkSpec, NodeSpec
name, image, folder = sys.argv[1], sys.argv[3], Path(sys.argv[4])
nodes = [NodeSpec(n, i, s, image, ("sleep", "infinity")) for n, i, s in (("mcc", 1, "earth"), ("dss", 2, "earth"))]
lab = Lab(name, nodes, [LinkSpec("wan", "mcc", "dss")], run_dir=folder, delay_line=False)
lab.up(lambda step: print(step, flush=True))
print("up", flush=True)
lab.start_prometheus()
print("prometheus", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("moment", ["links", "up", "prometheus"])
def test_after_kill_9_of_the_runner_the_label_is_enough(moment: str, image: str, tmp_path: Path) -> None:
    name = f"killed-{moment}-{os.getpid()}"
    before = interfaces()
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, name, str(Path(__file__).parent), image, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as runner:
        assert runner.stdout is not None
        try:
            assert any(line.strip() == moment for line in runner.stdout)
        finally:
            runner.send_signal(signal.SIGKILL)
            runner.wait()
            found = inspect(name)
            down_by_label(name)
    assert found.processes > 0
    assert found.complete == (moment != "links")
    assert marks_of(name) == NOTHING
    assert not (interfaces() - before) & {"mgmt", "s1", "s1-eth1", "s2-eth1", "m1", "m2"}


def test_up_again_with_the_same_topology_does_nothing(
    make_lab: LabMaker, nodes: list[NodeSpec], tmp_path: Path
) -> None:
    lab = make_lab()
    before = {c.id: c.status for c in lab.containers.all()}
    again = Lab(lab.name, nodes, LINKS, run_dir=tmp_path / lab.name, delay_line=False)
    try:
        assert not again.up()
    finally:
        again.leave()
    assert {c.id: c.status for c in lab.containers.all()} == before


def test_up_with_another_topology_says_what_to_do(make_lab: LabMaker, nodes: list[NodeSpec], tmp_path: Path) -> None:
    lab = make_lab()
    other = Lab(lab.name, nodes, LINKS[:2], run_dir=tmp_path, delay_line=False)
    with pytest.raises(InputError, match=f"up with another topology; take it down first: marsnet down {lab.name}"):
        other.up()
    assert inspect(lab.name).complete


def test_a_lab_that_lost_a_holder_says_so_and_can_be_taken_down(
    make_lab: LabMaker, nodes: list[NodeSpec], tmp_path: Path
) -> None:
    lab = make_lab()
    holder = lab.containers.holder("mro")
    holder.kill()
    holder.wait()
    status = inspect(lab.name)
    assert not status.complete
    assert {node.name: node.network for node in status.nodes}["mro"] == "exited"
    again = Lab(lab.name, nodes, LINKS, run_dir=tmp_path, delay_line=False)
    with pytest.raises(
        InputError, match=f"half there: parts of it are gone; clear it away first: marsnet down {lab.name}"
    ):
        again.up()
    assert down_by_label(lab.name)
    assert marks_of(lab.name) == NOTHING


def test_a_port_that_open_vswitch_did_not_make_is_noticed(make_lab: LabMaker) -> None:
    lab = make_lab()
    switches.verify_ports(lab.runtime, {"s1-eth1": 1, "s2-eth3": 3})
    with pytest.raises(EnvironmentLacksError, match="s2-eth3 as port 3 instead of 4"):
        switches.verify_ports(lab.runtime, {"s2-eth3": 4})
    with pytest.raises(EnvironmentLacksError, match="s9-eth1 as port None instead of 1: it is not there"):
        switches.verify_ports(lab.runtime, {"s9-eth1": 1})


def test_an_image_that_does_not_exist_leaves_nothing(tmp_path: Path) -> None:
    name = f"no-image-{os.getpid()}"
    nodes = [NodeSpec("mcc", 1, "earth", "marsnet/no-such-image")]
    lab = Lab(name, nodes, [], run_dir=tmp_path, delay_line=False)
    with pytest.raises(
        EnvironmentLacksError, match="'marsnet/no-such-image' does not exist here; to fix it: make images"
    ):
        lab.up()
    assert marks_of(name) == NOTHING


def test_a_command_that_cannot_start_leaves_nothing(image: str, tmp_path: Path) -> None:
    name = f"no-command-{os.getpid()}"
    nodes = [
        NodeSpec("mcc", 1, "earth", image, ("/no/such/program",)),
        NodeSpec("dss", 2, "earth", image, ("sleep", "9")),
    ]
    lab = Lab(name, nodes, [LinkSpec("wan", "mcc", "dss")], run_dir=tmp_path, delay_line=False)
    with pytest.raises(InputError, match="container of node 'mcc' does not start"):
        lab.up()
    assert marks_of(name) == NOTHING


def test_a_process_outside_is_never_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as outside:
        try:
            own = Path("/proc/self/ns/net").stat().st_ino
            assert outside.pid in namespace.processes_in([own])
            assert namespace.end_processes([own + 10**9], only=outside.pid) == 0
            assert outside.poll() is None
        finally:
            outside.kill()
