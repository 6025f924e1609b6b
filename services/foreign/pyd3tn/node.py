"""A bundle node on pyD3TN's codec and MTCP, by the contract of docs/foreign.md. It imports nothing of marsnet.

It obeys the contact plan (a neighbour is connected to while the contact is open), forwards along static routes, keeps
bundles in memory, delivers those for itself, generates the flows that it is told to, and writes the ledger.
"""

from __future__ import annotations

import calendar
import hashlib
import http.server
import json
import math
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from pyd3tn.bundle7 import EID, Bundle, CRCType, CreationTimestamp, PayloadBlock, PrimaryBlock
from pyd3tn.mtcp import MTCPSocket

CONFIG, STATE = Path("/etc/marsnet"), Path("/var/lib/marsnet")


class Clock:
    """Mission seconds, from the host's CLOCK_MONOTONIC and the three numbers of clock.json."""

    def __init__(self, epoch, rate, origin):
        self.epoch, self.rate, self.origin = epoch, rate, origin
        whole, _, fraction = epoch.rstrip("Z").partition(".")
        parts = time.strptime(whole + "UTC", "%Y-%m-%dT%H:%M:%S%Z")
        self._unix = float(calendar.timegm(parts)) + float("0." + (fraction or "0"))

    def now(self):
        return (time.monotonic() - self.origin) * self.rate

    def unix(self):
        """The Unix time of the mission, which bundles are stamped with."""
        return self._unix + self.now()

    def host_seconds(self, mission):
        """Host seconds until a mission time."""
        return max(0.0, (mission - self.now()) / self.rate)


class Node:
    def __init__(self, config, clock):
        self.config, self.clock, self.name = config, clock, config["name"]
        self.counts, self._lock, self._sequence = Counter(), threading.Condition(), 0
        self._names = {number: name for name, number in config["numbers"].items()}
        self.waiting = {neighbour["name"]: [] for neighbour in config["neighbours"]}
        self.seen = set()
        self._ledger = (STATE / "ledger.jsonl").open("a", buffering=1, encoding="utf-8")

    def note(self, step, bundle, **details):
        """A line of the ledger, and a count."""
        with self._lock:
            self.counts[step] += 1
            record = {"t": round(self.clock.now(), 6), "node": self.name, "step": step, "bundle": bundle, **details}
            self._ledger.write(json.dumps(record, separators=(",", ":")) + "\n")

    def accept(self, flow, index):
        """Make a bundle of a flow's next data."""
        data = payload(flow["name"], index, flow["size"])
        with self._lock:
            sequence, self._sequence = self._sequence, self._sequence + 1
        primary = PrimaryBlock(
            crc_type=CRCType.CRC32,
            destination=EID(f"ipn:{self.config['numbers'][flow['destination']]}.{flow['service']}"),
            source=EID(f"ipn:{self.config['number']}.{flow['service']}"),
            creation_time=CreationTimestamp(self.clock.unix(), sequence),
            lifetime=round(flow["lifetime"] * 1000),
        )
        bundle = Bundle([primary, PayloadBlock(data)])
        self.seen.add(identity(bundle))
        self.note(
            "accepted",
            identity(bundle),
            **{"flow": flow["name"], "class": "normal", "source": self.name, "destination": flow["destination"]},
            size=len(data),
            lifetime=flow["lifetime"],
        )
        self.forward(bundle, bytes(bundle))

    def receive(self, data, peer):
        """A bundle came from a neighbour."""
        try:
            bundle = Bundle.parse(data)
            name, destination = identity(bundle), bundle.primary_block.destination
            node = destination[1][-2] if destination[0] == 2 else None
        except Exception as error:  # whatever pyD3TN makes of it
            with self._lock:
                self.counts["malformed"] += 1
            print(f"no bundle from {peer}: {error!r}", file=sys.stderr)
            return
        with self._lock:
            duplicate = name in self.seen
            self.seen.add(name)
        if duplicate:
            self.note("duplicate", name, peer=peer)
            return
        self.note("received", name, peer=peer)
        if node == self.config["number"]:
            self.note("delivered", name, intact=is_intact(bundle.payload_block.data))
        else:
            self.forward(bundle, data)

    def forward(self, bundle, data):
        """Queue a bundle for the next hop of its destination."""
        destination = bundle.primary_block.destination
        target = self._names.get(destination[1][-2]) if destination[0] == 2 else None
        hop = self.config["routes"].get(target)
        if hop is None:
            self.note("dropped", identity(bundle), reason=f"no route to {destination}")
            return
        with self._lock:
            self.waiting[hop].append((identity(bundle), data))
            self._lock.notify_all()

    def send_by_plan(self, neighbour):
        """Send what waits for a neighbour while its contacts are open."""
        name = neighbour["name"]
        for start, end in neighbour["contacts"]:
            time.sleep(self.clock.host_seconds(start))
            while self.clock.now() < end:
                try:
                    with socket.create_connection((neighbour["address"], neighbour["port"]), timeout=5) as plain:
                        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        self._send_on(MTCPSocket(plain), name, end)
                except OSError as error:
                    with self._lock:
                        self.counts["connection_failed"] += 1
                    print(f"{name}: {error}", file=sys.stderr)
                    time.sleep(min(1.0, self.clock.host_seconds(end)))

    def _send_on(self, connection, name, end):
        queue = self.waiting[name]
        while self.clock.now() < end:
            with self._lock:
                if not self._lock.wait_for(lambda: queue, self.clock.host_seconds(end)):
                    return
                bundle, data = queue[0]
            connection.send_bundle(data)
            with self._lock:
                queue.pop(0)
            self.note("forwarded", bundle, peer=name)

    def listen(self, ready):
        """Take connections of neighbours."""
        server = socket.create_server(tuple(self.config["listen"]))
        ready.set()
        while True:
            plain, address = server.accept()
            threading.Thread(target=self._receive_on, args=(plain, address[0]), daemon=True).start()

    def _receive_on(self, plain, address):
        peer = next((n["name"] for n in self.config["neighbours"] if n["address"] == address), address)
        connection = MTCPSocket(plain)
        try:
            while True:
                self.receive(connection.recv_bundle(), peer)
        except Exception:  # pyD3TN raises its own when the peer closes
            plain.close()

    def generate(self, flow):
        """The bundles of a flow, at its times."""
        draw, at, index = random.Random(f"{self.config['seed']}/{flow['name']}"), flow["start"], 0
        poisson = flow["arrivals"] == "poisson"
        if poisson:
            at += draw.expovariate(1 / flow["every"])
        while at < flow["stop"]:
            time.sleep(self.clock.host_seconds(at))
            for _ in range(flow["burst"]):
                self.accept(flow, index)
                index += 1
            at += draw.expovariate(1 / flow["every"]) if poisson else flow["every"]

    def exposition(self):
        """What Prometheus reads."""
        lines = [
            "# HELP marsnet_foreign_bundles_total Steps in the lives of bundles.",
            "# TYPE marsnet_foreign_bundles_total counter",
        ]
        with self._lock:
            for event, count in sorted(self.counts.items()):
                lines.append(f'marsnet_foreign_bundles_total{{node="{self.name}",event="{event}"}} {count}')
            lines += [
                "# HELP marsnet_foreign_queue_bundles Bundles that wait.",
                "# TYPE marsnet_foreign_queue_bundles gauge",
            ]
            for name, queue in self.waiting.items():
                lines.append(f'marsnet_foreign_queue_bundles{{node="{self.name}",neighbour="{name}"}} {len(queue)}')
        return ("\n".join(lines) + "\n").encode()

    def serve_metrics(self):
        """Answer Prometheus."""
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = node.exposition() if self.path == "/metrics" else b""
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        http.server.ThreadingHTTPServer(tuple(self.config["metrics"]), Handler).serve_forever(poll_interval=None)


def identity(bundle):
    """A bundle's ID as the ledger has it."""
    stamp = bundle.primary_block.creation_time
    return f"{bundle.primary_block.source}/{stamp[0]}-{stamp[1]}"


def payload(flow, index, size):
    """Data with a digest of itself in front (docs/foreign.md)."""
    if size <= 16:
        return hashlib.shake_128(f"{flow}/{index}".encode()).digest(size)
    block = hashlib.shake_128(f"{flow}/{index}".encode()).digest(min(size - 16, 1024))
    body = (block * math.ceil((size - 16) / len(block)))[: size - 16]
    return hashlib.blake2b(body, digest_size=16).digest() + body


def is_intact(data):
    """Whether data made by `payload` is what it was."""
    return len(data) <= 16 or hashlib.blake2b(data[16:], digest_size=16).digest() == data[:16]


def main():
    clock = Clock(**json.loads((CONFIG / "clock.json").read_text()))
    node = Node(json.loads((CONFIG / "node.json").read_text()), clock)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ready = threading.Event()
    tasks = [(node.listen, (ready,)), (node.serve_metrics, ())]
    tasks += [(node.send_by_plan, (neighbour,)) for neighbour in node.config["neighbours"]]
    tasks += [(node.generate, (flow,)) for flow in node.config["flows"]]
    for task, arguments in tasks:
        threading.Thread(target=task, args=arguments, daemon=True).start()
    ready.wait(10)
    print(f"node {node.name} ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
