"""Peers of other makes at a node process, played octet by octet on the loopback."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cl_nodes import figure, line, send, started, take, take_all, until

from marsnet.dtn.bpv7 import Bundle, CreationTimestamp, Eid, encode
from marsnet.dtn.tcpcl.messages import SessInit, encode_contact_header, encode_segment_head, encode_sess_init

pytestmark = pytest.mark.slow
MRU = 1 << 20


@contextmanager
def session(port: int) -> Iterator[socket.socket]:
    """A connection to a node on which both ends have greeted each other."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(encode_contact_header(0) + encode_sess_init(SessInit(0, MRU, MRU, "ipn:2.0")))
        # Contact header, and SESS_INIT of a node id of seven octets without extension items.
        read(connection, 6 + 25 + 7)
        yield connection


def read(connection: socket.socket, size: int) -> bytes:
    """So many octets."""
    octets = b""
    while len(octets) < size:
        more = connection.recv(size - len(octets))
        assert more, f"the node hung up after {octets.hex()}"
        octets += more
    return octets


def bundle(number: int) -> bytes:
    stamp = CreationTimestamp(812_000_000_000, number)
    return encode(Bundle.create(Eid.ipn(2, 1), Eid.ipn(1, 5), bytes([number]) * 5000, stamp, 10**12))


def test_an_extension_length_on_a_later_segment_ends_that_session_and_harms_nothing(tmp_path: Path) -> None:
    """RFC 9174 section 5.2.2: only a segment that begins a transfer has the field. With it nobody can tell where the
    next message begins, so the session ends; nothing that is made of such octets is delivered."""
    alpha = line(tmp_path, "tcpcl")["alpha"]
    _, port = alpha.config["listen"]["tcpcl"]
    octets = bundle(1)
    half, rest = octets[:2500], octets[2500:]
    with started({"alpha": alpha}):
        with session(port) as peer:
            peer.sendall(encode_segment_head(2, 0, len(half)) + half)
            assert read(peer, 18) == struct.pack("!BBQQ", 2, 2, 0, len(half))
            wrong = struct.pack("!BBQ", 1, 1, 0) + bytes(4) + struct.pack("!Q", len(rest)) + rest
            peer.sendall(wrong)
            said = b""
            while more := peer.recv(4096):
                said += more
        assert said[-3:-1] == bytes((5, 0)), "SESS_TERM, after whatever it said before"
        until(alpha, "marsnet_cl_drops_total", 1, reason="broken session")
        assert figure(alpha, "marsnet_store_bundles") == 0
        assert figure(alpha, "marsnet_bundles_total", event="received") == 0
        with session(port) as peer:
            peer.sendall(encode_segment_head(2, 0, len(half)) + half + encode_segment_head(1, 0, len(rest)) + rest)
            assert read(peer, 36)[18:] == struct.pack("!BBQQ", 2, 1, 0, len(octets))
            assert take_all(alpha, 1) == [bytes([1]) * 5000]


@pytest.mark.parametrize(("layer", "code"), [("udpcl", 2), ("mtcp", 2), ("stcp", 2), ("tcpcl", 0)])
def test_forwarding_is_reported_with_the_code_of_the_layer(tmp_path: Path, layer: str, code: int) -> None:
    with started(line(tmp_path, layer, reports={"enabled": True})) as nodes:
        name = send(nodes["alpha"], "ipn:2.5", b"x", flags="report_forwarding", report_to="ipn:1.0")
        assert take(nodes["beta"]) == b"x"
        status, said = nodes["alpha"].ask("GET", f"/v1/reports?bundle={name}&wait=20")
        assert status == 200
        assert [(report["assertion"], report["reason"]) for report in said["reports"]] == [("forwarded", code)]


def test_a_bundle_that_is_none_is_refused_as_not_acceptable(tmp_path: Path) -> None:
    """RFC 9174 section 5.2.4: the peer need not wait for room here, and offer it again."""
    alpha = line(tmp_path, "tcpcl")["alpha"]
    _, port = alpha.config["listen"]["tcpcl"]
    octets = bundle(1)[:-1] + b"\0"
    with started({"alpha": alpha}), session(port) as peer:
        peer.sendall(encode_segment_head(3, 0, len(octets)) + octets)
        assert read(peer, 10) == struct.pack("!BBQ", 3, 4, 0)
        until(alpha, "marsnet_malformed_bundles_total", 1)
        good = bundle(2)
        peer.sendall(encode_segment_head(3, 1, len(good)) + good)
        assert read(peer, 18) == struct.pack("!BBQQ", 2, 3, 1, len(good))


def test_who_says_to_be_nobody_or_this_node_itself_is_refused(tmp_path: Path) -> None:
    alpha = line(tmp_path, "tcpcl")["alpha"]
    _, port = alpha.config["listen"]["tcpcl"]
    ids = ("ipn:1.0", "ipn:0.0", "ipn:!.0", "dtn:none", "", "x" * 60_000, "dtn://x/y", "ipn:1.5", "dtn://\u00e9/")
    with started({"alpha": alpha}):
        for count, node_id in enumerate(ids, 1):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
                greeting = encode_contact_header(0) + encode_sess_init(SessInit(0, MRU, MRU, node_id))
                octets = bundle(count)
                peer.sendall(greeting + encode_segment_head(3, 0, len(octets)) + octets)
                read(peer, 6 + 25 + 7)
                assert read(peer, 3) == bytes((5, 0, 5)), "SESS_TERM"
            until(alpha, "marsnet_cl_drops_total", count, reason="unwanted peer")
        assert figure(alpha, "marsnet_store_bundles") == 0
        assert max(map(len, (tmp_path / "alpha" / "stderr.txt").read_text().splitlines())) < 1000
