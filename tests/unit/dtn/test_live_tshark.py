"""tshark reads what two node processes say to each other, packet by packet as it passes over the loopback."""

from __future__ import annotations

import random
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cl_nodes import NUMBERS, free_port, free_ports, send, started, take_all, until
from cl_pcap import udp, write_pcap
from live_capture import BAD, GOOD, Packet, capturing, dissect, values
from node_process import Node

from marsnet.dtn.bpv7 import (
    NULL_EID,
    BlockFlags,
    Bundle,
    CanonicalBlock,
    CrcType,
    CreationTimestamp,
    Eid,
    decode,
    encode,
    fragment,
)
from marsnet.dtn.tcpcl.tls import LabAuthority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

REPORTS = "report_reception,report_forwarding,report_delivery,report_deletion,status_time"
LARGE = 150_000
"""Octets of a payload that no block, transfer or datagram takes whole."""
MOST = 60_000
STAMP = 812_000_000_000
"""Creation time of the bundles of other makes, DTN milliseconds."""
SECURITY = {
    "keys": {"sign": {"hex": "1a" * 32}, "wrap": {"hex": "2b" * 32, "wraps": True}},
    "rules": [
        {"classes": ["critical"], "integrity": "sign"},
        {"classes": ["bulk"], "integrity": "sign", "confidentiality": "wrap"},
    ],
}
PRIVATE = {241: "class of service", 242: "copies", 243: "nodes of a group", 200: "of another make"}
"""Types of the blocks that tshark cannot know (RFC 9171 section 9.1: private use), and what they are."""
KERNEL = {"Connection reset (RST)", "D-SACK Sequence", "Previous segment(s) not captured (common at capture start)"}
"""What tshark says of TCP itself, on a machine that is busy, and when a node calls another that is not there yet."""
WITHIN_BUNDLES = {"Unknown type code", "Data not fully dissected"}
SESSION_FIELDS = (
    "tcp.stream",
    "tcp.srcport",
    "tcpcl.v4.mhdr.type",
    "tcpcl.v4.xfer_id",
    "tcpcl.v4.xfer_segment.data",
    "tcpcl.v4.xferext.transfer_length.total_len",
    "tcpcl.v4.sess_init.nodeid_data",
)
BUNDLE_FIELDS = (
    "bpv7.crc_type",
    "bpv7.crc_status",
    "bpv7.canonical.type_code",
    "bpv7.primary.src_uri",
    "bpv7.primary.dst_uri",
    "bpv7.primary.frag_offset",
    "bpv7.status_rep.reason_code",
    "bpv7.bundle_age.time",
    "bpsec.asb.ctxid",
)


class Pair:
    """Two nodes that talk by one layer, and a laboratory that hands the first one bundles of other makes."""

    def __init__(self, folder: Path, layer: str, **options: Any) -> None:
        self.layer, (a, b, self.lab, door, self.mark) = layer, free_ports(5)
        self.ports = (a, b)
        at = {"alpha": a, "beta": b}
        self.door = ("127.0.0.1", door)
        self.nodes: dict[str, Node] = {}
        for name, other in (("alpha", "beta"), ("beta", "alpha")):
            near: dict[str, Any] = {other: {"convergence": layer, "address": "127.0.0.1", "port": at[other]}}
            listen = {layer: ["127.0.0.1", at[name]]}
            if layer == "udpcl":
                near[other]["mtu"] = MOST
            if name == "alpha":
                near["lab"] = {"convergence": "udpcl", "number": 77, "address": "127.0.0.1", "port": self.lab}
                if layer == "udpcl":
                    self.door = ("127.0.0.1", a)
                else:
                    listen["udpcl"] = ["127.0.0.1", door]
            config = {
                "name": name,
                "number": NUMBERS[name],
                "numbers": {"alpha": 1, "beta": 2},
                "state": "state",
                "durability": "process",
                "listen": listen,
                "neighbours": near,
                "metrics": ["127.0.0.1", free_port()],
                "reports": {"enabled": True},
                "security": SECURITY,
                "groups": {"dtn://team/~all": ["alpha", "beta"]},
                "ltp": {"max_block": MOST},
                "tcpcl": {"transfer_mru": MOST, "segment_size": 20_000, "keepalive": 1, "reconnect": 0.1},
                **options,
            }
            self.nodes[name] = Node(folder / name, config)

    def inject(self, octets: bytes) -> None:
        """A bundle of another make comes to the first node."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("127.0.0.1", self.lab))
            sender.sendto(octets, self.door)

    def capture(self, file: Path) -> Any:
        """tshark on what these two say to each other."""
        return capturing(file, self.ports, self.mark)

    def decode_as(self) -> dict[str, str]:
        """What tshark is to take their ports for."""
        kind = "tcp" if self.layer == "tcpcl" else "udp"
        dissector = {"tcpcl": "tcpcl", "ltp": "ltp", "udpcl": "bundle"}[self.layer]
        return {f"{kind}.port=={port}": dissector for port in self.ports}


def foreign() -> list[Bundle]:
    """Bundles as other nodes make them, for service 5 of the second node."""
    stamp, target, long = STAMP, Eid.ipn(2, 5), 10**12
    plain = Bundle.create(Eid.ipn(77, 1), target, b"crc16", CreationTimestamp(stamp, 1), long, crc_type=CrcType.CRC16)
    unknown = CanonicalBlock(200, 9, BlockFlags.REPLICATE.value, CrcType.CRC32C.value, b"\x43abc")
    return [
        plain,
        Bundle.create(Eid.ipn(77, 1), target, b"hops", CreationTimestamp(stamp, 2), long, hop_limit=9),
        Bundle.create(Eid.ipn(77, 1), target, b"no clock", CreationTimestamp(0, 3), long, age_ms=12_345),
        Bundle.create(NULL_EID, target, b"anonymous", CreationTimestamp(stamp, 4), long),
        Bundle.create(Eid.parse("dtn://lab/probe"), target, b"names", CreationTimestamp(stamp, 5), long),
        Bundle.create(Eid.ipn(77, 1), target, b"unknown block", CreationTimestamp(stamp, 6), long).with_block(unknown),
        *fragment(Bundle.create(Eid.ipn(77, 1), target, b"halves" * 10, CreationTimestamp(stamp, 7), long), 140),
    ]


def converse(pair: Pair) -> int:
    """Bundles of all kinds in both directions; returns how many applications got at the second node."""
    alpha, beta = pair.nodes["alpha"], pair.nodes["beta"]
    payload = random.Random(5).randbytes(LARGE)
    ours = {
        "critical": b"signed" * 20,
        "bulk": b"encrypted" * 20,
        "expedited": b"urgent" * 20,
        "normal": payload,
    }
    for name, data in ours.items():
        send(alpha, "ipn:2.5", data, service_class=name, flags=REPORTS, report_to="ipn:1.0")
    send(alpha, "dtn://team/~all", b"for everybody")
    send(beta, "ipn:1.5", b"and back" * 1000)
    strangers = foreign()
    for bundle in strangers:
        pair.inject(encode(bundle))
    came = take_all(beta, len(ours) + 7)
    for bundle in (f"dtn:none/{STAMP}-4~{'0' * 24}", "ipn:77.1/1-1"):
        assert beta.ask("DELETE", f"/v1/endpoints/5/bundles/{bundle}")[0] == 404
    assert sorted(came) == sorted([*ours.values(), *{b.payload for b in strangers[:6]}, b"halves" * 10])
    assert len(take_all(alpha, 1)) == 1
    # Each of the four bundles that ask for it: left here, came there (the large one in parts), delivered there.
    until(alpha, "marsnet_status_reports_received_total", 4, status="delivered")
    return len(came)


def judge(packets: list[Packet]) -> None:
    """No complaint but of what tshark cannot know, every checksum right, and all kinds of bundles among them."""
    types = Counter(int(code) for code in values(packets, "bpv7.canonical.type_code"))
    assert set(types) == {1, 6, 7, 10, 11, 12, *PRIVATE}, types
    for packet in packets:
        codes = [int(code) for code in packet.fields.get("bpv7.canonical.type_code", [])]
        complaints = Counter(packet.complaints)
        # Blocks of private types, and what applications send.
        assert complaints.pop("Unknown type code", 0) <= sum(code in PRIVATE for code in codes) + codes.count(1)
        if "bpv7.status_rep.reason_code" in packet.fields:
            # tshark 4.0 does not read on to the two elements that tell of a fragment (RFC 9171 section 6.1.1).
            complaints.pop("Data not fully dissected", None)
        assert not set(complaints) - KERNEL, packet
    checks = Counter(values(packets, "bpv7.crc_status"))
    kinds = Counter(int(kind, 0) for kind in values(packets, "bpv7.crc_type"))
    assert kinds[1] >= 2
    assert checks == {GOOD: kinds[1] + kinds[2]}
    sources = set(values(packets, "bpv7.primary.src_uri"))
    assert {"ipn:1.0", "ipn:2.0", "ipn:77.1", "dtn:none", "dtn://lab/probe"} <= sources
    assert "dtn://team/~all" in values(packets, "bpv7.primary.dst_uri")
    assert len({int(offset, 0) for offset in values(packets, "bpv7.primary.frag_offset")}) > 2
    assert {int(reason, 0) for reason in values(packets, "bpv7.status_rep.reason_code")} == {0}
    assert len(set(values(packets, "bpsec.asb.ctxid"))) == 2, "signed and encrypted ones"
    assert min(map(int, values(packets, "bpv7.bundle_age.time"))) >= 12_345


@pytest.mark.parametrize("layer", ["ltp", "udpcl"])
def test_tshark_reads_the_datagrams_of_two_nodes(layer: str, tmp_path: Path) -> None:
    pair, file = Pair(tmp_path, layer), tmp_path / "live.pcapng"
    with pair.capture(file), started(pair.nodes):
        converse(pair)
    packets = dissect(file, pair.decode_as(), *BUNDLE_FIELDS, "ltp.type", "ltp.reassembled.length")
    judge(packets)
    if layer == "ltp":
        assert {int(kind, 0) for kind in values(packets, "ltp.type")} >= {0, 3, 8, 9}
        assert max(map(int, values(packets, "ltp.reassembled.length"))) > 1472, "blocks of several segments"


def transfers(packets: list[Packet]) -> list[bytes]:
    """The bundles of TCPCL sessions, from the segments that tshark tells apart."""
    found: dict[tuple[str, str, int], list[bytes]] = {}
    for packet in packets:
        ids, data = (iter(packet.fields.get(name, [])) for name in ("tcpcl.v4.xfer_id", "tcpcl.v4.xfer_segment.data"))
        for kind in packet.fields.get("tcpcl.v4.mhdr.type", []):
            if int(kind, 0) in (1, 2, 3):
                key = (packet.fields["tcp.stream"][0], packet.fields["tcp.srcport"][0], int(next(ids), 0))
                if int(kind, 0) == 1:
                    found.setdefault(key, []).append(bytes.fromhex(next(data).replace(":", "")))
    return [b"".join(parts) for parts in found.values()]


def test_tshark_reads_the_sessions_of_two_nodes(tmp_path: Path) -> None:
    pair, file = Pair(tmp_path, "tcpcl"), tmp_path / "live.pcapng"
    with pair.capture(file), started(pair.nodes):
        converse(pair)
        # Nothing is left to say for a whole interval.
        until(pair.nodes["alpha"], "marsnet_tcpcl_messages_total", 1, type="keepalive", direction="sent")
    packets = dissect(file, pair.decode_as(), *SESSION_FIELDS)
    assert not {text for packet in packets for text in packet.complaints} - KERNEL - WITHIN_BUNDLES
    assert {int(kind, 0) for kind in values(packets, "tcpcl.v4.mhdr.type")} >= {1, 2, 4, 5, 7}
    # One session, or two where both have called at once.
    named = Counter(values(packets, "tcpcl.v4.sess_init.nodeid_data"))
    assert named in ({"ipn:1.0": 1, "ipn:2.0": 1}, {"ipn:1.0": 2, "ipn:2.0": 2})
    bundles = transfers(packets)
    announced = [int(length) for length in values(packets, "tcpcl.v4.xferext.transfer_length.total_len")]
    assert sorted(announced) == sorted(len(octets) for octets in bundles if len(octets) > 20_000)
    assert all(decode(octets) for octets in bundles)
    # tshark 4.0 shows only one of the bundles that end in one packet of TCP. So it gets each once more by itself.
    write_pcap(tmp_path / "bundles.pcap", [udp(1, 2, octets, 4556) for octets in bundles])
    alone = dissect(tmp_path / "bundles.pcap", {"udp.port==4556": "bundle"}, *BUNDLE_FIELDS)
    assert len(alone) == len(bundles)
    judge(alone)


def test_tshark_sees_a_handshake_of_tls_1_3_and_nothing_of_the_bundles(tmp_path: Path) -> None:
    authority, pair, file = LabAuthority.create(), Pair(tmp_path, "tcpcl"), tmp_path / "live.pcapng"
    for node in pair.nodes.values():
        node_id = f"ipn:{node.config['number']}.0"
        certificate, key, trusted = authority.issue(node.folder, node_id)
        tls = {"certificate": certificate.name, "key": key.name, "authorities": trusted.name}
        node.config["tcpcl"] = {"tls": tls, "reconnect": 0.1}
        node.write()
    with pair.capture(file), started(pair.nodes):
        send(pair.nodes["alpha"], "ipn:2.5", b"nobody reads this" * 9)
        assert take_all(pair.nodes["beta"], 1) == [b"nobody reads this" * 9]
    fields = ("tcpcl.v4.chdr.flags.can_tls", "tcpcl.v4.negotiated.use_tls", "tls.handshake.type")
    packets = dissect(file, pair.decode_as(), *fields, "tls.handshake.extensions.supported_version", "bpv7.block")
    assert not {text for packet in packets for text in packet.complaints} - KERNEL
    assert set(values(packets, fields[0])) == set(values(packets, fields[1])) == {"1"}
    hellos = Counter(values(packets, fields[2]))
    assert hellos in ({"1": 1, "2": 1}, {"1": 2, "2": 2}), "the rest of the handshake is encrypted"
    assert values(packets, "tls.handshake.extensions.supported_version")[-1] == "0x0304"
    assert not values(packets, "bpv7.block")
    assert b"nobody reads this" not in file.read_bytes()


def test_tshark_and_the_node_agree_on_a_wrong_checksum(tmp_path: Path) -> None:
    """The other tests could not fail if tshark did not look."""
    pair, file = Pair(tmp_path, "udpcl"), tmp_path / "live.pcapng"
    octets = bytearray(encode(foreign()[1]))
    octets[-8] ^= 1
    alpha = pair.nodes["alpha"]
    with pair.capture(file), started({"alpha": alpha}):
        pair.inject(bytes(octets))
        until(alpha, "marsnet_malformed_bundles_total", 1)
    packets = dissect(file, pair.decode_as(), *BUNDLE_FIELDS)
    assert Counter(values(packets, "bpv7.crc_status")) == {GOOD: 1, BAD: 1}
    assert any("CRC" in text for packet in packets for text in packet.complaints)
