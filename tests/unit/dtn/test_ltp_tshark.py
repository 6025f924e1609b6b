"""tshark reads every type of LTP segment that the engine sends."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cl_pcap import dissect, udp
from ltp_world import Channel, World

from marsnet.dtn.ltp import ConstantPeer, LtpConfig, LtpEngine
from marsnet.dtn.ltp.segments import KIND_NAMES

LTP_PORT = 1113


def conversation() -> World:
    """Two engines whose segments include all types: losses, both colours, both cancellations."""
    rng = random.Random(4)
    config = LtpConfig(max_imports=4, checkpoint_every=20_000, cancel_limit=2, session_base=300)
    engines = {n: LtpEngine(n, config, random.Random(n)) for n in (1, 2)}
    for node, other in ((1, 2), (2, 1)):
        engines[node].add_peer(other, ConstantPeer(mtu=900, owlt=5.0, rate=1e6))

    def lose(octets: bytes, when: float) -> bool:
        return rng.random() < 0.2

    world = World(engines, {(1, 2): Channel(5.0, lose=lose), (2, 1): Channel(5.0, lose=lose)})
    for size, red in ((50_000, 50_000), (5000, 2000), (3000, 0), (10, 10)):
        engines[1].send(2, rng.randbytes(size), 0.0, red_length=red)
    doomed = engines[1].send(2, bytes(5000), 0.0)
    world.at(7.0, lambda: engines[1].cancel(doomed, world.now))
    for n in range(8):
        world.at(500.0, lambda n=n: engines[1].send(2, bytes(3000 + n), world.now))  # type: ignore[misc]
    world.run()
    return world


@pytest.mark.slow
def test_tshark_reads_what_the_engine_sends(tmp_path: Path) -> None:
    world = conversation()
    assert {octets[0] for *_, octets in world.log} == set(KIND_NAMES)
    # A cancel acknowledgement ends with its header (RFC 5326 section 3.2.5), and tshark 4.0 wants one octet after it.
    packets = [
        udp(source, target, octets + b"\0" * (octets[0] in (13, 15)), LTP_PORT)
        for _, source, target, octets in world.log
    ]
    layers = dissect(
        tmp_path / "ltp.pcap",
        packets,
        "ltp.type",
        "ltp.session.orig",
        "ltp.session.number",
        "ltp.data.offset",
        "ltp.data.length",
        "ltp.rpt.clm.cnt",
    )
    for layer, (*_, octets) in zip(layers, world.log, strict=True):
        assert int(layer["ltp.type"][0], 0) == octets[0]
        assert layer["ltp.session.orig"][0] == "1"
        assert int(layer["ltp.session.number"][0]) >= 300
        assert ("ltp.data.length" in layer) == (octets[0] < 8)
        assert ("ltp.rpt.clm.cnt" in layer) == (octets[0] == 8)
