"""TCPCL peers of a real node that lie or stall: nothing is lost by them, and the node goes on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from cl_nodes import PATIENCE, figure, line, send, started, take, until

from marsnet.dtn.tcpcl.messages import SessInit, encode_contact_header, encode_sess_init

HUGE = (1 << 64) - 1


@pytest.mark.slow
def test_peers_that_lie_or_stall_cost_no_bundle(tmp_path: Path) -> None:
    nodes = line(tmp_path, "tcpcl")
    alpha, beta = nodes["alpha"], nodes["beta"]
    alpha.config["tcpcl"] = {"keepalive": 1, "segment_size": 400, "reconnect": 0.1, "reconnect_limit": 0.5}
    alpha.write()
    address = tuple(alpha.config["listen"]["tcpcl"])
    with started({"alpha": alpha}):
        with socket.create_connection(address, PATIENCE) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while stranger.recv(4096):
                pass
        until(alpha, "marsnet_cl_drops_total", 1, reason="broken session")
        send(alpha, "ipn:2.5", bytes(1000))
        with socket.create_connection(address, PATIENCE) as liar:
            # It says that it is beta, that it takes everything, and then nothing any more.
            liar.sendall(encode_contact_header(0) + encode_sess_init(SessInit(1, HUGE, HUGE, "ipn:2.0")))
            until(alpha, "marsnet_tcpcl_messages_total", 3, type="xfer_segment", direction="sent")
            while liar.recv(4096):
                pass
        until(alpha, "marsnet_returned_bundles_total", 1, reason="session ended")
        assert figure(alpha, "marsnet_store_bundles") == 1
        with started({"beta": beta}):
            assert take(beta) == bytes(1000)
