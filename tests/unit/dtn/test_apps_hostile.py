"""Octets at a node's HTTP port that no client of ours would send: it says what is wrong with them, and goes on."""

from __future__ import annotations

import random
import re
import socket
from pathlib import Path

import pytest
from cl_nodes import line, send, started, take

pytestmark = pytest.mark.slow

DEEP = b"[" * 50_000
BODIES = (
    b"", b"{", b"[]", b"5", b"null", DEEP, b"\xff\xfe\x00", b'{"destination": "ipn:1.5"}',
    b'{"destination": "ipn:1.5", "payload": "no base64!"}',
    b'{"destination": "ipn:1.5", "payload": "", "service": 99999999999999999999999999}',
    b'{"destination": "ipn:99999999999999999999999.5", "payload": ""}',
    b'{"destination": "ipn:1.5", "payload": "", "lifetime": 1e999}',
    b'{"destination": "ipn:1.5", "payload": "", "lifetime": NaN}',
    b'{"destination": "dtn:none", "payload": "", "report_to": "\xc3\xa9", "flags": ["report_delivery"]}',
    b'{"destination": "' + b"x" * 70_000 + b'", "payload": ""}',
    b'{"epoch": "x", "contacts": ' + DEEP + b"}",
    b'{"acknowledge": 5}', b'{"quota": -1}', b'{"material": "00", "name": "' + b"k" * 5000 + b'"}',
)  # fmt: skip
PATHS = (
    "/", "/metrics", "/openapi.json", "/v1/status", "/status", "/clock", "/conditions", "/%2e%2e/%2e%2e/etc/passwd",
    "/v1/bundles", "/v1/bundles?limit=-1", "/v1/bundles?after=1e9&limit=99999999999999999999", "/v1/bundles?state=x",
    "/v1/bundles?after=99999999999999999999&limit=5", "/v1/bundles?destination=ipn:1.5&lifetime=nan",
    "/v1/bundles?destination=ipn:1.5&service=18446744073709551616", "/v1/endpoints", "/v1/neighbours",
    "/v1/endpoints/ipn:1.5/next?wait=-5", "/v1/endpoints/ipn:1.5/next?lease=1e308",
    "/v1/endpoints/ipn:1.5/next?wait=nan",
    "/v1/endpoints/" + "y" * 7000 + "/next", "/v1/endpoints/dtn:none/next", "/v1/endpoints/ipn:1.5/stream?window=0",
    "/v1/endpoints/ipn:1.5/stream", "/v1/endpoints/ipn:1.5/bundles/..%2f..%2fetc%2fpasswd",
    "/v1/endpoints/ipn:1.5/bundles/ipn:1.5%2f99999999999999999999999-1", "/v1/plan", "/v1/plan?format=exe",
    "/v1/forecast", "/v1/forecast?destination=ipn:99999999999999999999.1&size=-1",
    "/v1/forecast?destination=beta&size=1e99",
    "/v1/reports?wait=1e308", "/v1/reports?wait=nan", "/v1/reports?after=-1", "/v1/reports?bundle=%ff%fe", "/v1/keys",
    "/v1/keys/%00", "/v1/keys/" + "k" * 5000,
)  # fmt: skip
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"


def request(draw: random.Random) -> bytes:
    method = draw.choice((b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"\xff", b"GET " * 3))
    body = draw.choice(BODIES)
    said = draw.choice((len(body), len(body), len(body), 0, -1, 10**20))
    kind = draw.choice((b"application/json", b"application/octet-stream", b"text/plain", b"\x00"))
    lines = [
        method + b" " + draw.choice(PATHS).encode() + b" HTTP/1.1", b"Host: x", b"Content-Type: " + kind,
        b"Content-Length: %d" % said, b"Connection: close",
    ]  # fmt: skip
    octets = b"\r\n".join(lines) + b"\r\n" + (UPGRADE if draw.random() < 0.1 else b"") + b"\r\n" + body
    for _ in range(draw.choice((0, 0, 1, 3))):
        at = draw.randrange(min(len(octets), 400))
        octets = octets[:at] + draw.randbytes(draw.randrange(4)) + octets[at + 1 :]
    return octets


def answer(port: int, octets: bytes) -> bytes:
    """What the node says, until it hangs up or says nothing more."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(octets)
            connection.settimeout(0.5)
            while more := connection.recv(1 << 16):
                said += more
                if said.startswith(b"HTTP/1.1 101"):
                    break
        except (ConnectionError, TimeoutError):
            pass
    return said


def test_whatever_comes_at_the_http_port_the_node_goes_on(tmp_path: Path) -> None:
    alpha = line(tmp_path, "tcpcl")["alpha"]
    _, port = alpha.config["metrics"]
    draw = random.Random(5)
    with started({"alpha": alpha}):
        for count in range(150):
            octets = request(draw)
            said = answer(port, octets)
            status = re.match(rb"HTTP/1\.[01] (\d+)", said)
            assert status is None or int(status[1]) < 500 or int(status[1]) in (501, 505), (count, octets[:300], said)
        send(alpha, "ipn:1.5", b"still here")
        while (payload := take(alpha)) != b"still here":
            assert payload is not None
        # The library tells of octets that are no HTTP; nothing of ours fails.
        assert "marsnet/dtn" not in (tmp_path / "alpha" / "stderr.txt").read_text()
