"""Traffic between containers through Open vSwitch, links and the plan-forwarding controllers."""

from __future__ import annotations

import http.client
import http.server
import threading
import time
import urllib.error
from pathlib import Path
from typing import Any

import docker
import pytest
from conftest import LabMaker, always, clock_now, ping, write_plan
from prometheus_client.parser import text_string_to_metric_families

from marsnet.plan.types import Contact
from marsnet.worlds.lab import Lab, Segment, Target, namespace, spec

pytestmark = pytest.mark.root


def metric(lab: Lab, segment: Segment, name: str, **labels: str) -> float:
    """Sum of a controller's series that carry these labels."""
    lab.settle_counters()
    total = 0.0
    for family in text_string_to_metric_families(lab.controllers.metrics(segment)):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                total += sample.value
    return total


@pytest.mark.parametrize("quiet", [False, True])
def test_containers_reach_each_other_over_every_hop(quiet: bool, make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab(quiet=quiet)
    assert ping(lab, "mcc", "rover", wait=0.2) == 0
    lab.start_controllers(write_plan(tmp_path / "plan.json", always()), clock_now())
    assert ping(lab, "mcc", "rover", count=5) == 5
    assert metric(lab, "earth", "marsnet_sdn_forwarded_frames_total", link="x", destination="rover") == 5
    assert metric(lab, "mars", "marsnet_sdn_delivered_frames_total", node="rover") == 5
    for segment in lab.controllers.segments():
        assert metric(lab, segment, "marsnet_sdn_switch_connected") == 2
        assert metric(lab, segment, "marsnet_sdn_flows_installed") == 2 * 8
        assert metric(lab, segment, "marsnet_sdn_errors_total") == 0
        assert metric(lab, segment, "marsnet_sdn_packet_ins_total") == 0
    code, hosts = lab.exec("rover", ["cat", "/etc/hosts"])
    assert code == 0
    assert f"{lab.address('mcc')}\tmcc" in hosts


SERVER = """
import socket
listener = socket.create_server(("", 5000))
print("open", flush=True)
connection, _ = listener.accept()
total = 0
while data := connection.recv(65536):
    total += len(data)
print(total)
"""
CAPTURE = """
import socket
IPV4 = 0x0800
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV4))
raw.bind(("eth0", 0))
print("listening", flush=True)
while (frame := raw.recv(2000))[23] != socket.IPPROTO_TCP:
    pass
print(frame[15])
"""
CLIENT = """
import socket
client = socket.socket()
client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 46 << 2)
client.connect(("{}", 5000))
client.sendall(bytes(4_000_000))
"""


def test_a_large_tcp_transfer_and_the_code_points_get_through(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab()
    lab.start_controllers(write_plan(tmp_path / "plan.json", always()), clock_now())
    stream = lab.containers.node("rover").exec_run(["python3", "-c", SERVER], stream=True).output
    assert next(stream) == b"open\n"
    watched = lab.containers.node("rover").exec_run(["python3", "-c", CAPTURE], stream=True).output
    assert next(watched) == b"listening\n"
    client = CLIENT.format(lab.address("rover"))
    code, output = lab.exec("mcc", ["python3", "-c", client])
    assert (code, output) == (0, "")
    assert b"".join(stream) == b"4000000\n"
    assert int(b"".join(watched)) == 46 << 2


def test_docker_kill_and_start_by_anybody_keep_network_and_state(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab()
    lab.start_controllers(write_plan(tmp_path / "plan.json", always()), clock_now())
    assert lab.exec("mro", ["touch", "/var/lib/marsnet/bundle"])[0] == 0
    before = lab.tool("mro", ["ip", "-br", "addr"])
    neighbours = lab.tool("mro", ["ip", "neigh"])
    container = docker.from_env().containers.get(spec.container_name(lab.name, "mro"))
    container.kill()
    container.wait()
    assert lab.node_pid("mro") == 0
    container.start()
    assert lab.node_pid("mro") > 0
    assert lab.tool("mro", ["ip", "-br", "addr"]) == before
    assert lab.tool("mro", ["ip", "neigh"]) == neighbours
    assert ping(lab, "mro", "mcc", count=3) == 3
    assert lab.exec("mro", ["ls", "/var/lib/marsnet"]) == (0, "bundle\n")
    lab.kill_node("mro")
    lab.start_node("mro")
    assert ping(lab, "mcc", "rover", count=3) == 3


def test_a_container_cannot_write_outside_its_state_and_is_limited(make_lab: LabMaker) -> None:
    lab = make_lab()
    assert lab.exec("mcc", ["touch", "/usr/x"])[0] != 0
    assert lab.exec("mcc", ["touch", "/tmp/x", "/run/x", "/var/lib/marsnet/x"])[0] == 0
    host = lab.containers.node("mcc").attrs["HostConfig"]
    assert (host["Memory"], host["PidsLimit"]) == (512 * 1024**2, 256)


def until(lab: Lab, segment: Segment, node: str, ports: dict[str, int], deadline: float) -> None:
    """Follow the controller from change to change until a switch forwards this way."""
    state = lab.controllers.state(segment)
    while state["switches"][node]["ports"] != ports:
        left = deadline - time.monotonic()
        assert left > 0, state
        state = lab.controllers.await_change(segment, state, left)


def test_a_link_carries_frames_only_during_its_contact_and_the_rest_is_counted(
    make_lab: LabMaker, tmp_path: Path
) -> None:
    lab = make_lab()
    opened = [Contact("x", *ends, 0.0, 2500.0, 1e6) for ends in (("dss", "mro"), ("mro", "dss"))]
    plan = write_plan(tmp_path / "plan.json", opened, start=-1e4)
    lab.start_controllers(plan, clock_now(ahead=1e4), guard=0.0)
    dropped = {"node": "dss", "reason": "no contact", "destination": "mro"}
    assert ping(lab, "dss", "mro", count=3, wait=0.2) == 0
    assert metric(lab, "earth", "marsnet_sdn_dropped_frames_total", **dropped) == 3
    clock = clock_now(rate=1000.0, ahead=1.0)
    lab.controllers.replace_clock(clock)
    limit = time.monotonic() + 30
    until(lab, "earth", "dss", {"mro": 2 + 1}, limit)
    until(lab, "mars", "mro", {"dss": 2}, limit)
    assert clock.now() >= 0.0
    assert ping(lab, "dss", "mro", count=2) == 2
    until(lab, "earth", "dss", {}, limit)
    assert clock.now() >= 2500.0
    assert ping(lab, "dss", "mro", count=4, wait=0.2) == 0
    assert metric(lab, "earth", "marsnet_sdn_dropped_frames_total", **dropped) == 7
    assert metric(lab, "earth", "marsnet_sdn_forwarded_frames_total", link="x", destination="mro") == 2
    assert metric(lab, "earth", "marsnet_sdn_schedule_lateness_seconds_count") == 2
    assert metric(lab, "earth", "marsnet_sdn_schedule_lateness_seconds_bucket", le="1.0") == 2


def test_what_is_in_flight_when_the_contact_closes_is_still_delivered(make_lab: LabMaker, tmp_path: Path) -> None:
    # Only the way from Earth is open: the request arrives although the answer has no contact.
    lab = make_lab()
    lab.start_controllers(
        write_plan(tmp_path / "plan.json", [Contact("x", "dss", "mro", 0.0, 1e6, 1e6)]),
        clock_now(),
    )
    assert ping(lab, "dss", "mro", count=2, wait=0.2) == 0
    assert metric(lab, "mars", "marsnet_sdn_delivered_frames_total", node="mro") == 2
    assert metric(lab, "mars", "marsnet_sdn_dropped_frames_total", node="mro", reason="no contact") == 2


@pytest.mark.parametrize("quiet", [False, True])
def test_switches_outlive_their_controller_and_take_up_a_new_plan(
    quiet: bool, make_lab: LabMaker, tmp_path: Path
) -> None:
    lab = make_lab(quiet=quiet)
    lab.start_controllers(write_plan(tmp_path / "plan.json", always()), clock_now())
    lab.stop_controller("mars")
    assert ping(lab, "mcc", "rover", count=3) == 3
    lab.start_controller("mars")
    assert ping(lab, "mcc", "rover", count=3) == 3
    assert metric(lab, "mars", "marsnet_sdn_flow_changes_total") == 0
    without_uhf = [contact for contact in always() if contact.link != "uhf"]
    lab.controllers.replace_plan(write_plan(tmp_path / "new.json", without_uhf).read_text())
    assert ping(lab, "mcc", "rover", wait=0.2) == 0
    assert ping(lab, "mcc", "mro") == 1
    assert lab.controllers.state("mars")["generation"] == 1
    lab.stop_controller("mars")
    lab.start_controller("mars")
    assert "rover" not in lab.controllers.state("mars")["switches"]["mro"]["ports"]


def test_a_wrong_request_is_refused_and_changes_nothing(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab()
    lab.start_controllers(write_plan(tmp_path / "plan.json", always()), clock_now())
    before = lab.controllers.state("earth")["switches"]
    wrong = {
        ("PUT", "/plan", b"[]"): (400, "no JSON object"),
        ("PUT", "/clock", b'{"epoch": "2026-10-01", "rate": 0, "origin": 1}'): (400, "rate is 0.0; give a rate above"),
        ("PUT", "/clock", b"{}"): (400, "no mission clock"),
        ("GET", "/ready?timeout=soon", None): (400, "soon"),
        ("GET", "/nothing", None): (404, "no GET /nothing here"),
    }
    for (method, path, body), (status, said) in wrong.items():
        with pytest.raises(urllib.error.HTTPError) as caught:
            lab.controllers.request("earth", method, path, body)
        assert caught.value.code == status
        assert said in caught.value.read().decode()
    assert lab.controllers.state("earth")["switches"] == before


class Scraped(http.server.BaseHTTPRequestHandler):
    seen: threading.Semaphore

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"marsnet_test_value 42\n")
        self.seen.release()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def test_prometheus_scrapes_the_lab_and_is_reachable_from_outside(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab()
    lab.start_controllers(write_plan(tmp_path / "plan.json", always()), clock_now())
    Scraped.seen = threading.Semaphore(0)
    lab_end = spec.management_address(spec.LAB_NUMBER)
    with namespace.inside(lab.namespace):
        server = http.server.HTTPServer((lab_end, 0), Scraped)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        target = Target("links", f"{lab_end}:{server.server_port}", {"part": "test"})
        lab.start_prometheus(scrape_interval=0.2, targets=[target])
        outside = lab.forward(f"127.0.0.1:{spec.PROMETHEUS_PORT}")
        # When Prometheus asks for the third time, the answer to the first has been stored.
        for _ in range(3):
            assert Scraped.seen.acquire(timeout=30)
        value = lab.query("marsnet_test_value")
        assert [(v["metric"]["part"], v["value"][1]) for v in value] == [("test", "42")]
        up = {v["metric"].get("node") or v["metric"].get("segment"): v["value"][1] for v in lab.query("up{part=''}")}
        assert up == {"mcc": "0", "dss": "0", "mro": "0", "rover": "0", "earth": "1", "mars": "1"}
        namespace.run("promtool", "check", "config", str(lab.run_dir / "prometheus" / "prometheus.yml"))
        while len(lab.query('ALERTS{alertname="NodeDown"}')) < len(lab.nodes):
            assert Scraped.seen.acquire(timeout=30)
        host, port = outside.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        connection.request("GET", "/-/ready")
        assert connection.getresponse().status == 200
    finally:
        server.shutdown()
        server.server_close()
