"""Every expression of the dashboard finds something in a live Prometheus that holds a minute of a made-up run."""

import json
import math
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from marsnet.worlds.machine_programs import find

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (find("prometheus") and find("promtool")), reason="Prometheus is not installed"),
]

DASHBOARD = json.loads((Path(__file__).resolve().parents[3] / "services/grafana/dashboards/run.json").read_text())
EXPRESSIONS = sorted({target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])})

VALUES = {"__rate_interval": "30s", "node": ".*", "class": ".*", "k": "600"}

NODES = {"node": ["mro", "rover"]}
CLASSES = {"class": ["critical", "bulk"]}
NEIGHBOURS = {"neighbour": ["dsn"]}
LINK = {"link": ["dsn-mro"], "direction": ["dsn>mro", "mro>dsn"]}
SEGMENT = {"segment": ["mars"]}
STEPS = {"event": ["accepted", "delivered", "forwarded", "expired"]}

COUNTERS = {
    "marsnet_bundles": NODES | STEPS | CLASSES,
    "marsnet_ltp_segments": NODES | NEIGHBOURS | {"direction": ["sent", "received"], "type": ["red", "report"]},
    "marsnet_ltp_retransmitted_segments": NODES | NEIGHBOURS | {"type": ["checkpoint"]},
    "marsnet_ltp_bytes": NODES | NEIGHBOURS | {"direction": ["sent", "received"]},
    "marsnet_ltp_retransmitted_bytes": NODES | NEIGHBOURS,
    "marsnet_ltp_cancelled_sessions": NODES | {"reason": ["2"], "by": ["self"]},
    "marsnet_sdn_flow_changes": SEGMENT,
    "marsnet_sdn_errors": SEGMENT,
    "marsnet_sdn_packet_ins": SEGMENT,
    "marsnet_sdn_dropped_frames": SEGMENT | NODES | {"reason": ["no contact"], "destination": ["dsn"]},
    "marsnet_sdn_forwarded_frames": SEGMENT | NODES | {"link": ["dsn-mro"], "destination": ["dsn"]},
    "marsnet_link_drops_frames": LINK | {"reason": ["down"]},
    "marsnet_link_delivered_frames": LINK | CLASSES,
    "marsnet_link_delivered_bytes": LINK | CLASSES,
}
GAUGES = {
    "up": {"job": ["nodes"]} | NODES,
    "marsnet_store_bundles": NODES,
    "marsnet_store_bytes": NODES,
    "marsnet_unroutable_bundles": NODES,
    "marsnet_queue_bundles": NODES | NEIGHBOURS | CLASSES,
    "marsnet_contact_open": NODES | NEIGHBOURS,
    "marsnet_ltp_sessions": NODES | {"direction": ["export", "import"]},
    "marsnet_sdn_switch_connected": SEGMENT | NODES,
    "marsnet_sdn_flows_installed": SEGMENT | NODES,
    "marsnet_link_in_flight_frames": LINK,
    "marsnet_link_queued_frames": LINK | CLASSES,
    "marsnet_link_balanced": LINK,
    "marsnet_link_valid": LINK,
}
HISTOGRAMS = {
    "marsnet_bundle_latency_seconds": NODES | CLASSES,
    "marsnet_node_lateness_seconds": NODES,
    "marsnet_sdn_schedule_lateness_seconds": SEGMENT,
    "marsnet_link_lateness_seconds": LINK,
}


def openmetrics(end: int) -> str:
    """A minute of all families, a sample every five seconds, each growing by one at a time."""
    lines = []

    def sample(name: str, labels: dict[str, str], count: int, stamp: int) -> None:
        inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
        lines.append(f"{name}{{{inside}}} {count} {stamp}")

    for kind, families in (("counter", COUNTERS), ("gauge", GAUGES), ("histogram", HISTOGRAMS)):
        for family, labels in families.items():
            lines.append(f"# TYPE {family} {kind}")
            for values in product(*labels.values()):
                one = dict(zip(labels, values, strict=True))
                for count, stamp in enumerate(range(end - 60, end + 1, 5), start=1):
                    if kind != "histogram":
                        sample(family + ("_total" if kind == "counter" else ""), one, count, stamp)
                        continue
                    for bound in ("0.1", "1000", "+Inf"):
                        sample(f"{family}_bucket", one | {"le": bound}, count, stamp)
                    sample(f"{family}_count", one, count, stamp)
                    sample(f"{family}_sum", one, count, stamp)
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address of a Prometheus and the time at which its data end."""
    folder = tmp_path_factory.mktemp("prometheus")
    end = int(time.time()) - 10
    (folder / "run.om").write_text(openmetrics(end))
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    promtool, prometheus = find("promtool"), find("prometheus")
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", folder / "run.om", folder / "data"],
        check=True,
        capture_output=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [
            str(prometheus),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        started = any("Server is ready to receive web requests" in line for line in process.stderr)
        assert started, "Prometheus ended before it was ready"
        yield address, end
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_finds_something(expression: str, answers: tuple[str, int]) -> None:
    address, end = answers
    concrete = expression
    for variable, value in VALUES.items():
        concrete = concrete.replace(f"${variable}", value)
    assert "$" not in concrete
    query = urllib.parse.urlencode({"query": concrete, "time": end})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{query}", timeout=20) as response:
        told = json.load(response)
    assert told["status"] == "success"
    values = [float(series["value"][1]) for series in told["data"]["result"]]
    assert values, f"nothing answers {concrete}"
    assert not any(map(math.isnan, values)), f"not a number: {concrete}"
