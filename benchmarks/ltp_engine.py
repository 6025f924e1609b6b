"""How fast the LTP engine is: alone in one process, and in two processes over UDP on the loopback interface.

    python benchmarks/ltp_engine.py [--seconds 3]

Prints, for each size of block and segment, blocks/s, segments/s (data segments) and Mbit/s of block data. Every block
is all red and is confirmed by the receiver before it is acknowledged; nothing is stored.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import select
import socket
import time
from multiprocessing.connection import Connection

from marsnet.dtn.ltp import ConstantPeer, ExportCompleted, LtpConfig, LtpEngine, RedPartReceived

CASES = ((1_000, 1_400), (10_000, 1_400), (100_000, 1_400), (100_000, 64_000), (1_000_000, 64_000))
"""(octets of a block, octets of the largest segment)."""
WINDOW = 64
"""Blocks under way at once, at most; fewer where they would exceed 4 MB."""
BUFFER = 8 << 20


def window_of(size: int) -> int:
    """Blocks under way at once."""
    return max(2, min(WINDOW, 4_000_000 // size))


def engine_for(own: int, peer: int, mtu: int) -> LtpEngine:
    """An engine with one peer and no pacing."""
    engine = LtpEngine(own, LtpConfig(timer_margin=30.0), random.Random(own))
    engine.add_peer(peer, ConstantPeer(mtu=mtu, rate=math.inf))
    return engine


def in_memory(size: int, mtu: int, seconds: float) -> tuple[int, int, float]:
    """Blocks and data segments that two engines in one process exchange, and the seconds that took."""
    sender, receiver = engine_for(1, 2, mtu), engine_for(2, 1, mtu)
    data, done, window = bytes(size), 0, window_of(size)
    begin = time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        for _ in range(window - sender.open_sessions()[0]):
            sender.send(2, data, now)
        sender.advance(now)
        for _, octets, _ in sender.take_datagrams():
            receiver.receive(octets, now, 1)
        for event in receiver.take_events():
            if isinstance(event, RedPartReceived):
                receiver.confirm(event.session, now)
        receiver.advance(now)
        for _, octets, _ in receiver.take_datagrams():
            sender.receive(octets, now, 2)
        done += sum(isinstance(event, ExportCompleted) for event in sender.take_events())
    elapsed = time.perf_counter() - begin
    return done, sum(sender.counters(2).sent_segments[:8]), elapsed


def pump(engine: LtpEngine, port: socket.socket, peer: int, target: tuple[str, int], patience: float) -> None:
    """Wait for datagrams or the next deadline, take in what has come, and send what may leave."""
    now = time.monotonic()
    deadline = engine.next_deadline(now)
    wait = patience if deadline is None else min(patience, deadline - now)
    if select.select([port], [], [], max(wait, 0.0))[0]:
        now = time.monotonic()
        for _ in range(256):
            try:
                octets = port.recv(65535, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            engine.receive(octets, now, peer)
    engine.advance(time.monotonic())
    for _, octets, _ in engine.take_datagrams():
        port.sendto(octets, target)


def udp_port() -> socket.socket:
    """A UDP socket on the loopback interface with large buffers."""
    port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    port.bind(("127.0.0.1", 0))
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        port.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return port


def receiving_process(pipe: Connection, mtu: int) -> None:
    """Receive and confirm blocks until the pipe says stop."""
    port = udp_port()
    pipe.send(port.getsockname())
    target = pipe.recv()
    engine = engine_for(2, 1, mtu)
    while not pipe.poll():
        pump(engine, port, 1, target, 0.05)
        for event in engine.take_events():
            if isinstance(event, RedPartReceived):
                engine.confirm(event.session, time.monotonic())
        engine.advance(time.monotonic())
        for _, octets, _ in engine.take_datagrams():
            port.sendto(octets, target)
    port.close()


def over_udp(size: int, mtu: int, seconds: float) -> tuple[int, int, float]:
    """The same between two processes."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=receiving_process, args=(there, mtu))
    process.start()
    port = udp_port()
    target = here.recv()
    here.send(port.getsockname())
    engine, data, done = engine_for(1, 2, mtu), bytes(size), 0
    granted = port.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    # What is under way must fit the receiver's socket buffer, which counts about twice the octets of a datagram.
    window = max(1, min(window_of(size), granted // (4 * max(size, mtu))))
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        now = time.monotonic()
        for _ in range(window - engine.open_sessions()[0]):
            engine.send(2, data, now)
        pump(engine, port, 2, target, 0.05)
        done += sum(isinstance(event, ExportCompleted) for event in engine.take_events())
    elapsed = time.perf_counter() - begin
    here.send("stop")
    process.join(10)
    port.close()
    return done, sum(engine.counters(2).sent_segments[:8]), elapsed


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each case")
    seconds = parser.parse_args().seconds
    print(f"{'':10}{'block B':>10}{'segment B':>11}{'blocks/s':>12}{'segments/s':>12}{'Mbit/s':>10}")
    for name, run in (("engines", in_memory), ("UDP", over_udp)):
        for size, mtu in CASES:
            blocks, segments, elapsed = run(size, mtu, seconds)
            rate = blocks * size * 8 / elapsed / 1e6
            print(f"{name:10}{size:>10}{mtu:>11}{blocks / elapsed:>12.0f}{segments / elapsed:>12.0f}{rate:>10.0f}")


if __name__ == "__main__":
    main()
