"""The convergence layers that a configuration asks for, on real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import Eid
from marsnet.dtn.node.config import LayerName, NeighbourConfig, NodeConfig
from marsnet.dtn.node.layer import Layer
from marsnet.dtn.node.udp import UdpTransport
from marsnet.dtn.udpcl import MAX_DATAGRAM
from marsnet.errors import InputError


class Silence:
    """In place of a transport, where nobody speaks LTP."""

    def send(self, neighbour: str, datagram: object, service_class: object) -> None:
        """Nobody listens."""

    def collect(self) -> None:
        """Nobody speaks."""


def ltp_transport(config: NodeConfig, loop: asyncio.AbstractEventLoop) -> UdpTransport | None:
    """Sockets for LTP; None when no neighbour speaks it and the configuration names no address for it.

    Raises:
        EnvironmentLacksError: the address or the port is not to be had.
        InputError: a neighbour has no address.
    """
    return _datagrams("ltp", config, loop)


def connected_layers(
    config: NodeConfig, numbers: dict[str, int], clock: MissionClock, folder: Path, loop: asyncio.AbstractEventLoop
) -> list[Layer]:
    """All layers besides LTP that neighbours or `listen` name. Modules of the others are not imported.

    Args:
        config: of the node.
        numbers: ipn node numbers by name.
        clock: the mission clock.
        folder: that relative paths are relative to.
        loop: that they run on.

    Raises:
        EnvironmentLacksError: a UDP port is not to be had.
        InputError: a neighbour has no address, or a certificate is not what it should be.
    """
    names = {n.convergence for n in config.neighbours.values()} | config.listen.keys()
    made: list[Layer] = []
    if "tcpcl" in names:
        from marsnet.dtn.node.tcpcl_layer import TcpclLayer, TcpclPeer, contexts  # noqa: PLC0415

        peers = {
            name: TcpclPeer(n.node_id or str(Eid.ipn(numbers[name], 0)), n.destination if n.address else None)
            for name, n in config.neighbours.items()
            if n.convergence == "tcpcl"
        }
        known = {str(Eid.ipn(number, 0)): name for name, number in numbers.items()}
        tls = contexts(config.tcpcl, folder)
        listen = config.listen.get("tcpcl")
        node_id, resume = str(config.node_id), config.fragments.reactive
        made.append(TcpclLayer(node_id, config.tcpcl, peers, clock, known=known, listen=listen, tls=tls, resume=resume))
    if "udpcl" in names:
        from marsnet.dtn.node.udp_layer import UdpclLayer  # noqa: PLC0415

        transport = _datagrams("udpcl", config, loop)
        if transport is not None:
            limits = {name: n.mtu or MAX_DATAGRAM for name, n in config.neighbours.items() if n.convergence == "udpcl"}
            made.append(UdpclLayer(transport, limits, clock.rate))
    streams: tuple[LayerName, ...] = ("mtcp", "stcp")
    for stream in streams:
        if stream in names:
            from marsnet.dtn.node.stream_layer import StreamLayer  # noqa: PLC0415

            receivers = {name: n.destination for name, n in _reached_by(stream, config).items()}
            made.append(StreamLayer(stream, receivers, clock, listen=config.listen.get(stream)))
    return made


def _reached_by(layer: LayerName, config: NodeConfig) -> dict[str, NeighbourConfig]:
    chosen = {name: n for name, n in config.neighbours.items() if n.convergence == layer}
    for name, neighbour in chosen.items():
        if not neighbour.address:
            raise InputError(f"neighbour {name!r} has no address", remedy=f"{layer} needs one: give its 'address'")
    return chosen


def _datagrams(layer: LayerName, config: NodeConfig, loop: asyncio.AbstractEventLoop) -> UdpTransport | None:
    listen = config.listening().get(layer)
    if listen is None:
        return None
    addresses = {name: n.destination for name, n in _reached_by(layer, config).items()}
    return UdpTransport(listen, addresses, loop, patient=layer == "ltp")
