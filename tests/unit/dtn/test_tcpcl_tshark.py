"""tshark reads every TCPCL message that the engine sends."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cl_pcap import TcpStream, dissect

from marsnet.dtn.tcpcl import TCPCL_PORT, RefuseReason, TcpclConfig, TcpclEngine, TermReason, TransferReceived

FIELDS = (
    "tcpcl.v4.mhdr.type",
    "tcpcl.v4.xfer_id",
    "tcpcl.v4.xferext.transfer_length.total_len",
    "tcpcl.v4.sess_init.nodeid_data",
    "tcpcl.v4.xfer_segment.data_len",
)


def bundle(size: int) -> bytes:
    """Octets that tshark takes for a bundle: a minimal primary block (no CRC) and a payload block."""
    payload = b"\x85\x01\x01\x00\x00\x59" + size.to_bytes(2, "big") + random.Random(size).randbytes(size)
    primary = bytes.fromhex("88 07 00 00 82 02 82 02 00 82 02 82 01 00 82 01 00 82 1b000000b5998c8000 01 1a000f4240")
    return b"\x9f" + primary + payload + b"\xff"


@pytest.mark.slow
def test_tshark_reads_what_the_engine_sends(tmp_path: Path) -> None:
    stream = TcpStream(TCPCL_PORT)
    ends = [
        TcpclEngine(TcpclConfig("ipn:1.0", keepalive=5, segment_size=400), active=True, now=0.0),
        TcpclEngine(TcpclConfig("ipn:2.0", keepalive=5), active=False, now=0.0),
    ]
    refused: list[int] = []

    def run(now: float) -> None:
        moving = True
        while moving:
            moving = False
            for side in (0, 1):
                octets = b"".join(ends[side].data_to_send(now))
                if octets:
                    stream.send(side + 1, octets)
                    ends[1 - side].receive(octets, now)
                    moving = True
                for event in ends[1 - side].take_events():
                    if isinstance(event, TransferReceived) and event.transfer in refused:
                        ends[1 - side].refuse(event.transfer, RefuseReason.NO_RESOURCES, now)
                    elif isinstance(event, TransferReceived):
                        ends[1 - side].confirm(event.transfer, now)

    run(0.0)
    for size in (100, 1000, 300):
        ends[0].send(bundle(size), 0.0)
    refused.append(2)
    run(0.0)
    refused.clear()
    ends[1].send(bundle(300), 0.0)
    run(0.0)
    for end in ends:
        end.advance(5.0)
    run(5.0)
    ends[0].receive(bytes((2, 1)) + bytes(16), 5.0)  # An acknowledgement of nothing, which is rejected.
    run(5.0)
    ends[0].terminate(5.0, TermReason.IDLE_TIMEOUT)
    run(5.0)
    assert all(end.finished for end in ends)
    layers = dissect(tmp_path / "tcpcl.pcap", stream.packets, *FIELDS)
    complaints = [text for layer in layers for text in layer.get("_ws.expert.message", []) if "XFER" in text]
    # Both notes are about the refused transfer, which is not acknowledged (RFC 9174 section 5.2.4).
    assert sorted(complaints) == [
        "XFER_REFUSE has no related XFER_SEGMENT(s)",
        "XFER_SEGMENT has no related XFER_ACK",
    ]
    values = {name: [v for layer in layers for v in layer.get(name, [])] for name in FIELDS}
    assert {int(v, 0) for v in values["tcpcl.v4.mhdr.type"]} == {1, 2, 3, 4, 5, 6, 7}
    assert values["tcpcl.v4.sess_init.nodeid_data"] == ["ipn:1.0", "ipn:2.0"]
    assert [int(v, 0) for v in values["tcpcl.v4.xferext.transfer_length.total_len"]] == [len(bundle(1000))]
    lengths = [int(v, 0) for v in values["tcpcl.v4.xfer_segment.data_len"]]
    assert sum(lengths) == sum(len(bundle(size)) for size in (100, 1000, 300, 300))
