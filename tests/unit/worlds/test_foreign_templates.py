"""Configurations of foreign daemons: rendered from a topology and a plan, equal to what was committed, readable."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from marsnet.clock import MissionClock
from marsnet.dtn.node.config import FlowConfig
from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.model.topology import Topology, load_topology
from marsnet.plan import hdtn, ion
from marsnet.plan.types import Contact, ContactPlan, Range
from marsnet.worlds import foreign, images
from marsnet.worlds.foreign import (
    Neighbour,
    Renderer,
    faketime,
    next_hops,
    read_template,
    refuse_foreign,
    templates,
)
from marsnet.worlds.lab.bridge import Bridge

GOLDEN = Path(__file__).with_name("foreign_golden")
DAEMONS = sorted(path.parent.name for path in foreign.shipped().glob("*/daemon.yaml"))
PROTOCOLS = [(name, protocol) for name in DAEMONS for protocol in read_template(name).manifest.convergence]
TEXT = """
marsnet: topology/1
name: ring
nodes:
  mcc: {{kind: hub, number: 1}}
  relay: {{kind: hub, number: 2, daemon: {{template: {template}, convergence: {convergence}}}}}
  lander: {{kind: hub, number: 3}}
  rover: {{kind: hub, number: 4}}
links:
  - {{between: [mcc, relay], wired: {{delay: 3 s, rate: 1 Mbit/s}}}}
  - {{between: [relay, lander], wired: {{delay: 20 ms, rate: 2 Mbit/s}}}}
  - {{between: [lander, rover], wired: {{delay: 20 ms, rate: 2 Mbit/s}}}}
"""
ADDRESSES = {"mcc": "10.77.0.1", "relay": "10.77.0.2", "lander": "10.77.0.3", "rover": "10.77.0.4"}
PORTS = {"ltp": 1113, "tcpcl": 4556, "mtcp": 16162, "stcp": 4556, "udpcl": 4556}


def topology_of(folder: Path, template: str = "pyd3tn", convergence: str = "mtcp") -> Topology:
    path = folder / "ring.yaml"
    path.write_text(TEXT.format(template=template, convergence=convergence))
    return load_topology(path)


def plan_of() -> ContactPlan:
    pairs = [("mcc", "relay", 3.0, 1e6), ("relay", "lander", 0.02, 2e6), ("lander", "rover", 0.02, 2e6)]
    contacts = []
    for a, b, _, rate in pairs:
        for x, y in ((a, b), (b, a)):
            contacts += [
                Contact(f"{a}--{b}", x, y, 60.0, 600.0, rate),
                Contact(f"{a}--{b}", x, y, 1200.0, 3600.0, rate),
            ]
    ranges = [Range(x, y, 0.0, 3600.0, light) for a, b, light, _ in pairs for x, y in ((a, b), (b, a))]
    numbers = {"mcc": 1, "relay": 2, "lander": 3, "rover": 4}
    ordered = tuple(sorted(contacts, key=lambda contact: contact.start))
    return ContactPlan("2026-10-01T00:00:00.000Z", 0.0, 3600.0, numbers, ordered, tuple(ranges))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MissionClock:
    """A mission clock that stands at 0."""
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    return MissionClock("2026-10-01T00:00:00.000Z", 1.0, 1000.0)


def rendered(name: str, protocol: str, folder: Path, clock: MissionClock) -> dict[str, str]:
    numbers = plan_of().nodes
    neighbours = tuple(
        Neighbour(n, numbers[n], ADDRESSES[n], protocol, PORTS[protocol], 1500) for n in ("mcc", "lander")
    )
    flow = FlowConfig(
        name="hello", destination="rover", service_class="normal", size=500, every=10.0, lifetime=600.0, stop=60.0
    )
    return Renderer(
        read_template(name),
        name="relay",
        topology=topology_of(folder, name, protocol),
        plan=plan_of(),
        addresses=ADDRESSES,
        management="172.30.0.2",
        neighbours=neighbours,
        convergence=protocol,
        flows=(flow,),
    ).render(clock)


@pytest.mark.parametrize(("name", "protocol"), PROTOCOLS)
def test_what_is_rendered_is_what_was_committed(name: str, protocol: str, tmp_path: Path, clock: MissionClock) -> None:
    """MARSNET_GOLDEN=write makes the files anew, for a person to look at."""
    files = rendered(name, protocol, tmp_path, clock)
    folder = GOLDEN / f"{name}-{protocol}"
    if os.environ.get("MARSNET_GOLDEN") == "write":
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_text(content)
    assert files == {path.name: path.read_text() for path in folder.iterdir()}


def test_ion_gets_its_plan_and_its_neighbours(tmp_path: Path, clock: MissionClock) -> None:
    text = rendered("ion", "ltp", tmp_path, clock)["node.rc"]
    sections = {part.split()[0]: part for part in text.split("## begin ")[1:]}
    plan = ion.read(sections["ionadmin"].split("\n", 1)[1].split("## end")[0], "node.rc")
    names = {number: name for name, number in plan_of().nodes.items()}
    read = {(names[plan.nodes[c.source]], names[plan.nodes[c.target]], c.start, c.end, c.rate) for c in plan.contacts}
    assert read == {(c.source, c.target, c.start, c.end, c.rate) for c in plan_of().contacts}
    assert "a span 1 100 100 1472 1 1 'udplso 10.77.0.1:1113'" in sections["ltpadmin"]
    assert "a plan 3 ltp/3" in sections["ipnadmin"]
    assert "a endpoint ipn:2.1 q" in sections["bpadmin"]


@pytest.mark.parametrize("protocol", ["ltp", "tcpcl", "stcp"])
def test_hdtn_gets_json_with_every_neighbour(protocol: str, tmp_path: Path, clock: MissionClock) -> None:
    files = rendered("hdtn", protocol, tmp_path, clock)
    config = json.loads(files["hdtn.json"])
    outducts = config["outductsConfig"]["outductVector"]
    assert [duct["nextHopNodeId"] for duct in outducts] == [1, 3]
    assert config["myNodeId"] == 2
    if protocol == "ltp":
        assert [duct["oneWayLightTimeMs"] for duct in outducts] == [3000, 20]
        assert {duct["clientServiceId"] for duct in config["inductsConfig"]["inductVector"]} == {1}
    assert len(hdtn.read(files["contacts.json"], "contacts.json").contacts) == len(plan_of().contacts)


@pytest.mark.parametrize("protocol", ["tcpcl", "mtcp"])
def test_dtn7_gets_toml(protocol: str, tmp_path: Path, clock: MissionClock) -> None:
    config = tomllib.loads(rendered("dtn7", protocol, tmp_path, clock)["dtnd.toml"])
    assert config["core"]["node-id"] == "ipn:2.0"
    assert [peer["endpoint"].split(":")[0] for peer in config["peer"]] == ["10.77.0.1", "10.77.0.3"]


def test_ud3tn_is_told_contacts_and_what_lies_behind(tmp_path: Path, clock: MissionClock) -> None:
    script = rendered("ud3tn", "mtcp", tmp_path, clock)["start.sh"]
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    commands = [part for part in script.replace("\\\n", " ").splitlines() if part.startswith("aap2-config")]
    assert len(commands) == 4
    assert commands[0].split() == [
        *("aap2-config", "--socket", "/run/ud3tn.aap2.socket", "--schedule", "60", "540", "125000"),
        *("ipn:1.0", "mtcp:10.77.0.1:16162", "||", "exit", "1"),
    ]
    assert "--reaches ipn:4.0" in commands[2]


@pytest.mark.parametrize("name", ["ion", "hdtn", "ud3tn", "dtn7"])
def test_start_scripts_and_probes_are_shell(name: str, tmp_path: Path, clock: MissionClock) -> None:
    manifest = read_template(name).manifest
    scripts = [rendered(name, next(iter(manifest.convergence)), tmp_path, clock).get("start.sh", "")]
    for command in (manifest.command, manifest.ready.command or (), manifest.metrics and manifest.metrics.command):
        scripts += [command[2]] if command and command[1] == "-c" else []
    for script in scripts:
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_libfaketime_runs_at_the_missions_rate() -> None:
    assert faketime(MissionClock("2026-10-01T00:00:00Z", 60.0, 0.0), 30.0) == "@2026-10-01 00:00:30 x60\n"
    assert faketime(MissionClock("2026-10-01T00:00:00Z", 1.0, 0.0), 0.0) == "@2026-10-01 00:00:00\n"


def test_routes_lead_by_the_fewest_links(tmp_path: Path) -> None:
    assert next_hops(topology_of(tmp_path), "mcc") == {"relay": "relay", "lander": "relay", "rover": "relay"}
    assert next_hops(topology_of(tmp_path), "lander") == {"relay": "relay", "rover": "rover", "mcc": "relay"}


def test_the_virtual_world_refuses_a_foreign_daemon(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"node 'relay' runs the daemon 'pyd3tn'.*run with --world emulated or"):
        refuse_foreign(topology_of(tmp_path))


def test_mistakes_are_told_with_their_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no daemon template 'dtn8'.*dtn7, hdtn, ion, pyd3tn, ud3tn"):
        read_template("dtn8")
    with pytest.raises(InputError, match=r"'ud3tn' does not speak ltp.*choose one of mtcp"):
        templates(topology_of(tmp_path, "ud3tn", "ltp"))
    two = topology_of(tmp_path, "ion", "stcp")
    lander = two.nodes["lander"].model_copy(update={"daemon": two.nodes["relay"].daemon.model_copy(
        update={"convergence": "ltp"})})  # type: ignore[union-attr]  # fmt: skip
    both = two.model_copy(update={"nodes": {**two.nodes, "lander": lander}})
    with pytest.raises(InputError, match="'relay--lander' speak ltp and stcp"):
        templates(both)


def test_a_template_of_ones_own_beside_the_topology(tmp_path: Path, clock: MissionClock) -> None:
    own = tmp_path / "own"
    own.mkdir()
    manifest = (
        "marsnet: daemon/1\nimage: x\nfiles: {a: a.j2}\nconvergence: {mtcp: 1}\nready: {tcp: 1}\nclock: mission\n"
    )
    (own / "daemon.yaml").write_text(manifest)
    (own / "a.j2").write_text("{{ settings.missing }}\n")
    daemon = topology_of(tmp_path, "./own").nodes["relay"].daemon
    assert daemon is not None
    assert daemon.template == str(own)
    with pytest.raises(InputError, match=r"'missing'.*under 'settings'"):
        Renderer(
            read_template(str(own)), name="relay", topology=topology_of(tmp_path, "./own"), plan=plan_of(),
            addresses=ADDRESSES, management="172.30.0.2", neighbours=(), convergence="mtcp",
        ).render(clock)  # fmt: skip
    (own / "daemon.yaml").write_text(manifest.replace("a.j2", "b.j2"))
    with pytest.raises(InputError, match=r"daemon.yaml:3: there is no file 'b.j2'"):
        read_template(str(own))
    (own / "daemon.yaml").write_text(manifest.replace("ready: {tcp: 1}", "ready: {}"))
    with pytest.raises(InputError, match="a probe needs one way"):
        read_template(str(own))


def test_an_image_that_nobody_built_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_exists", lambda client, tag: False)
    with pytest.raises(EnvironmentLacksError, match=r"'marsnet/foreign-ion' of the daemon 'ion' does not exist here"):
        images.ensure_foreign_image(foreign.shipped() / "ion", "marsnet/foreign-ion", client=object())


def test_the_bridge_reads_what_a_command_prints() -> None:
    metrics = read_template("ion").manifest.metrics
    assert metrics is not None
    log = (
        "[x] src from 2026/10/01-00:00:00 to 2026/10/01-00:01:00: (0) 0 0 (1) 3 900 (2) 0 0 (+) 3 900\n"
        "[x] rcv from 2026/10/01-00:00:00 to 2026/10/01-00:01:00: (0) 0 0 (1) 7 70 (2) 0 0 (+) 7 70\n"
    )
    outputs = iter([(0, log), (0, ""), (1, "bpstats: not found")])
    registry = CollectorRegistry()
    registry.register(Bridge("relay", metrics.model_dump(), lambda: next(outputs)))
    text = generate_latest(registry).decode()
    assert 'marsnet_foreign_bundles_total{event="rcv",node="relay"} 7.0' in text
    assert 'marsnet_foreign_bridge_up{node="relay"} 1.0' in text
    for _ in range(2):
        assert 'marsnet_foreign_bridge_up{node="relay"} 0.0' in generate_latest(registry).decode()
