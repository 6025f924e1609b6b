"""The metrics bridge of a foreign daemon: runs a command in its container at each scrape and reads numbers from it.

`python -m marsnet.worlds.lab.bridge CONTAINER --listen HOST:PORT --metrics JSON` answers Prometheus until it is ended.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from marsnet.worlds.images import connect
from marsnet.worlds.lab import namespace, services, spec
from marsnet.worlds.lab.prometheus import Target

if TYPE_CHECKING:
    from marsnet.model.daemon import Metrics
    from marsnet.worlds.lab.lab import Lab

FIRST_PORT = 9200
"""Port of the first bridge on the lab's loopback; each further one has the next."""


def start_bridge(lab: Lab, node: str, number: int, metrics: Metrics) -> Target:
    """Start the bridge of a node in the lab's namespace; what Prometheus is to scrape.

    Args:
        lab: that is up.
        node: whose daemon.
        number: of the bridge, from 0.
        metrics: what to run and to read.
    """
    address = f"127.0.0.1:{FIRST_PORT + number}"
    with namespace.inside(lab.namespace):
        pid, _ = services.start(
            [
                *(sys.executable, "-m", "marsnet.worlds.lab.bridge", spec.container_name(lab.name, node)),
                *("--node", node, "--listen", address, "--metrics", metrics.model_dump_json()),
            ],
            lab.run_dir / "logs" / f"bridge-{node}.log",
            r"bridge ready\n",
        )
    lab.state.record(f"bridge-{node}", {"pid": pid, "http": address})
    return Target("nodes", address, {"node": node})


class Bridge(Collector):
    """Makes metrics of a command's output.

    `marsnet_foreign_bridge_up` is 1 where the command ran and every series was found in its output.
    """

    def __init__(self, node: str, metrics: dict[str, Any], run: Any) -> None:
        """Prepare.

        Args:
            node: name of the node, a label of every series.
            metrics: a `Metrics` as JSON has it.
            run: gives exit code and output of the command in the container.
        """
        self._node, self._run = node, run
        self._series = [(entry, re.compile(entry["pattern"], re.MULTILINE)) for entry in metrics["series"]]

    def collect(self) -> Iterator[Metric]:
        """Run the command and read its output."""
        code, output = self._run()
        whole = code == 0
        for entry, pattern in self._series:
            labels = [name for name in pattern.groupindex if name != "value"]
            kind = CounterMetricFamily if entry["type"] == "counter" else GaugeMetricFamily
            family = kind(entry["name"], entry["help"], labels=["node", *labels])
            found: dict[tuple[str, ...], float] = {}
            for match in pattern.finditer(output):
                # A later line is a newer one.
                found[tuple(match[name] or "" for name in labels)] = float(match["value"])
            for values, number in found.items():
                family.add_metric([self._node, *values], number)
            whole = whole and bool(found)
            yield family
        up = GaugeMetricFamily("marsnet_foreign_bridge_up", "1 where the daemon's metrics were read.", labels=["node"])
        up.add_metric([self._node], float(whole))
        yield up


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("container")
    parser.add_argument("--node", required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--metrics", required=True, type=json.loads)
    arguments = parser.parse_args()
    client = connect()

    def run() -> tuple[int, str]:
        try:
            code, output = client.containers.get(arguments.container).exec_run(list(arguments.metrics["command"]))
        except (APIError, NotFound) as error:
            return 1, str(error)
        return int(code), (output or b"").decode(errors="replace")

    registry = CollectorRegistry()
    registry.register(Bridge(arguments.node, arguments.metrics, run))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = generate_latest(registry)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    host, _, port = arguments.listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    print("bridge ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
