"""Datagrams and TCP streams as a capture file, and what tshark says of them."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest


def _checksum(octets: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ipv4(source: int, target: int, protocol: int, payload: bytes) -> bytes:
    addresses = bytes((10, 0, 0, source, 10, 0, 0, target))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    return head[:10] + struct.pack("!H", _checksum(head + addresses)) + addresses + payload


def udp(source: int, target: int, octets: bytes, port: int) -> bytes:
    """An IPv4 packet from 10.0.0.source to 10.0.0.target with a UDP datagram."""
    return _ipv4(source, target, 17, struct.pack("!HHHH", port, port, 8 + len(octets), 0) + octets)


class TcpStream:
    """The packets of one connection from 10.0.0.1 to 10.0.0.2."""

    def __init__(self, port: int) -> None:
        self._port, self._next = port, {1: 1000, 2: 5000}
        self.packets: list[bytes] = []
        self._packet(1, 0x02, b"")
        self._next[1] += 1
        self._packet(2, 0x12, b"")
        self._next[2] += 1
        self._packet(1, 0x10, b"")

    def _packet(self, source: int, flags: int, octets: bytes) -> None:
        target = 3 - source
        ports = (40000, self._port) if source == 1 else (self._port, 40000)
        acknowledged = self._next[target] if flags & 0x10 else 0
        head = struct.pack("!HHIIBBHHH", *ports, self._next[source], acknowledged, 0x50, flags, 65535, 0, 0)
        self.packets.append(_ipv4(source, target, 6, head + octets))

    def send(self, source: int, octets: bytes) -> None:
        """Octets from one end (1 or 2), in packets of at most 60,000."""
        for start in range(0, len(octets), 60_000):
            part = octets[start : start + 60_000]
            self._packet(source, 0x18, part)
            self._next[source] += len(part)


def write_pcap(path: Path, packets: list[bytes]) -> None:
    """A capture file of IPv4 packets, a second apart."""
    records = [struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)]
    for n, packet in enumerate(packets):
        records += (struct.pack("<IIII", n, 0, len(packet), len(packet)), packet)
    path.write_bytes(b"".join(records))


def dissect(path: Path, packets: list[bytes], *fields: str) -> list[dict[str, list[str]]]:
    """tshark's values of some fields for each packet; fails on anything that tshark finds malformed."""
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed; to install it: apt-get install tshark")
    write_pcap(path, packets)
    command = [tshark, "-2", "-r", str(path), "-T", "json"]
    for field in ("_ws.malformed", "_ws.expert.message", *fields):
        command += ["-e", field]
    output = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    layers = [packet["_source"].get("layers", {}) for packet in json.loads(output)]
    assert len(layers) == len(packets)
    for layer in layers:
        assert "_ws.malformed" not in layer, layer
    return layers
