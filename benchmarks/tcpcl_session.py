"""How fast TCPCL sessions are: two processes over TCP on the loopback interface, in the clear and with TLS 1.3.

    python benchmarks/tcpcl_session.py [--seconds 3]

Prints, for each size of bundle, bundles/s and Mbit/s of bundles. Every bundle is confirmed by the receiver before it is
acknowledged; nothing is stored.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import ssl
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from marsnet.clock import MissionClock
from marsnet.dtn.tcpcl import TcpclConfig, TcpclEvent, TlsPolicy, TransferAcknowledged, TransferReceived
from marsnet.dtn.tcpcl.asyncio_session import TcpclSession, connect, listen
from marsnet.dtn.tcpcl.tls import LabAuthority, tls_context

SIZES = (1_000, 10_000, 100_000, 1_000_000)
"""Octets of a bundle."""


def clock() -> MissionClock:
    """Mission time that runs with the host's."""
    return MissionClock("2026-10-01T00:00:00Z", 1.0, time.monotonic())


def parameters(node: str, context: ssl.SSLContext | None) -> TcpclConfig:
    """The configuration of one end."""
    config = TcpclConfig(node)
    return config if context is None else replace(config, tls=TlsPolicy.REQUIRE, require_peer_id=True)


def context_of(folder: Path | None, name: str) -> ssl.SSLContext | None:
    """The TLS context of one end, None for a session in the clear."""
    if folder is None:
        return None
    place = folder / name
    files = {"certificate": place / "node.crt", "key": place / "node.key", "authorities": place / "authority.crt"}
    return tls_context(server=name == "server", **files)


def receiving_process(pipe: Connection, folder: Path | None) -> None:
    """Receive and confirm bundles until the pipe says stop."""

    def on_event(session: TcpclSession, event: TcpclEvent) -> None:
        if isinstance(event, TransferReceived):
            session.confirm(event.transfer)

    async def serve() -> None:
        context = context_of(folder, "server")
        server = await listen(("127.0.0.1", 0), parameters("ipn:2.0", context), on_event, clock=clock(), tls=context)
        pipe.send(server.sockets[0].getsockname())
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        server.close()

    asyncio.run(serve())


async def send_for(seconds: float, size: int, address: tuple[str, int], folder: Path | None) -> tuple[int, float]:
    """Bundles acknowledged, and the seconds that took."""
    window, data, done = max(2, min(256, 8_000_000 // size)), bytes(size), 0
    finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    begin = time.perf_counter()

    def on_event(session: TcpclSession, event: TcpclEvent) -> None:
        nonlocal done
        if isinstance(event, TransferAcknowledged):
            done += 1
            if time.perf_counter() - begin < seconds:
                session.send(data)
            elif not finished.done():
                finished.set_result(None)

    context = context_of(folder, "client")
    config = parameters("ipn:1.0", context)
    session = await connect(address, config, on_event, clock=clock(), tls=context)
    await session.wait_established()
    begin = time.perf_counter()
    for _ in range(window):
        session.send(data)
    await finished
    elapsed = time.perf_counter() - begin
    session.terminate()
    await session.wait_closed()
    return done, elapsed


def measure(size: int, seconds: float, folder: Path | None) -> tuple[int, float]:
    """One case in two processes."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=receiving_process, args=(there, folder))
    process.start()
    result = asyncio.run(send_for(seconds, size, here.recv(), folder))
    here.send("stop")
    process.join(10)
    return result


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each case")
    seconds = parser.parse_args().seconds
    print(f"{'':10}{'bundle B':>10}{'bundles/s':>12}{'Mbit/s':>10}")
    with tempfile.TemporaryDirectory() as name:
        authority = LabAuthority.create()
        for end, node in (("client", "ipn:1.0"), ("server", "ipn:2.0")):
            (Path(name) / end).mkdir()
            authority.issue(Path(name) / end, node)
        for label, folder in (("clear", None), ("TLS 1.3", Path(name))):
            for size in SIZES:
                done, elapsed = measure(size, seconds, folder)
                print(f"{label:10}{size:>10}{done / elapsed:>12.0f}{done * size * 8 / elapsed / 1e6:>10.0f}")


if __name__ == "__main__":
    main()
