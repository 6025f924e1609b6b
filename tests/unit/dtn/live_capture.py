"""tshark on the loopback while node processes talk: what it captured on their ports, and what it says of that."""

from __future__ import annotations

import json
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PATIENCE = 30.0
"""Host seconds that tshark may take to show a packet."""
SEVERE = 0x600000
"""Severities of tshark's expert from a warning on (epan/proto.h: PI_WARN, PI_ERROR)."""
GOOD, BAD = "1", "0"
"""tshark's verdicts on a checksum (epan/proto.h: proto_checksum_enum_e)."""


class Packet(NamedTuple):
    """What tshark says of one packet.

    Attributes:
        fields: values by the name of their field.
        complaints: messages of the expert, from warnings on.
    """

    fields: dict[str, list[str]]
    complaints: list[str]


class Capture:
    """A capture under way."""

    def __init__(self, file: Path, process: subprocess.Popen[str], port: int) -> None:
        self.file, self._process, self._port = file, process, port
        self._count = 0

    def mark(self) -> None:
        """Send a datagram to a port that nobody listens at, until tshark has shown it: all before it is captured."""
        self._count += 1
        text = f"mark {self._count}".encode()
        assert self._process.stdout is not None
        limit = time.monotonic() + PATIENCE
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while True:
                sender.sendto(text, ("127.0.0.1", self._port))
                again = time.monotonic() + 0.5
                while select.select([self._process.stdout], [], [], max(0.0, again - time.monotonic()))[0]:
                    line = self._process.stdout.readline()
                    assert line, f"tshark ended with {self._process.wait()}"
                    if line.strip() == text.hex():
                        return
                assert time.monotonic() < limit, "tshark shows no packet"


@contextmanager
def capturing(file: Path, ports: Sequence[int], mark: int) -> Iterator[Capture]:
    """Capture what comes from or goes to some ports of the loopback; `mark` is a UDP port that nobody listens at."""
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed; to install it: apt-get install tshark")
    wanted = " or ".join(f"port {port}" for port in (*ports, mark))
    # Two passes are not to be had live: fields of the marks are shown as they come, the rest is read from the file.
    command = [tshark, "-n", "-l", "-i", "lo", "-B", "64", "-f", wanted, "-w", str(file), "-P"]
    command += ["-d", f"udp.port=={mark},data", "-T", "fields", "-e", "data.data"]
    with (file.parent / "tshark.txt").open("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, bufsize=1)
        try:
            capture = Capture(file, process, mark)
            try:
                capture.mark()
            except AssertionError:
                said.seek(0)
                words = said.read()
                if re.search(r"permission|not permitted", words, re.IGNORECASE):
                    pytest.skip("no right to capture packets here; as root, or a member of the group wireshark")
                raise AssertionError(words) from None
            yield capture
            capture.mark()
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)


def dissect(file: Path, decode_as: dict[str, str], *fields: str, show: str = "") -> list[Packet]:
    """tshark's reading of a capture; nothing in it may be malformed.

    Args:
        file: of the capture.
        decode_as: protocol by what it runs on, such as `udp.port==4000` to `ltp`.
        fields: whose values are wanted.
        show: display filter.
    """
    command = ["tshark", "-n", "-2", "-r", str(file), "-T", "json", "-o", "tcp.check_checksum:FALSE"]
    for place, protocol in decode_as.items():
        command += ["-d", f"{place},{protocol}"]
    for field in ("_ws.malformed", "_ws.expert.message", "_ws.expert.severity", *fields):
        command += ["-e", field]
    command += ["-Y", show] if show else []
    output = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
    found = []
    for packet in json.loads(output):
        layers: dict[str, Any] = packet["_source"].get("layers", {})
        assert "_ws.malformed" not in layers, layers
        messages = zip(layers.get("_ws.expert.message", []), layers.get("_ws.expert.severity", []), strict=True)
        found.append(Packet(layers, [text for text, severity in messages if int(severity, 0) >= SEVERE]))
    return found


def values(packets: Sequence[Packet], field: str) -> list[str]:
    """All values of a field, in order."""
    return [value for packet in packets for value in packet.fields.get(field, [])]
