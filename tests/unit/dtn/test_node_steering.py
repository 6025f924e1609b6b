"""What of LTP wakes a node and what waits in the kernel until something does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from node_process import addresses

from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.ltp import SessionId, Train
from marsnet.dtn.ltp.segments import (
    GREEN,
    GREEN_BLOCK_END,
    RED,
    RED_BLOCK_END,
    RED_CHECKPOINT,
    RED_END,
    CancelAckSegment,
    CancelSegment,
    DataSegment,
    Extension,
    ReportAckSegment,
    ReportSegment,
    encode_segment,
)
from marsnet.dtn.node import steering, udp
from marsnet.dtn.node.config import Address
from marsnet.dtn.node.steering import steer
from marsnet.dtn.node.udp import UdpTransport
from marsnet.errors import EnvironmentLacksError

SESSION = SessionId(1, 77)
SPAN = 1 << 18
BLOCK = bytes(range(256)) * 1250


def red(offset: int, length: int, *, origin: int = 1, number: int = 77, service: int = 1) -> bytes:
    return encode_segment(DataSegment(RED, SessionId(origin, number), service, offset, bytes(length)))


def data(kind: int) -> bytes:
    checkpoint = (7, 9) if kind in (RED_CHECKPOINT, RED_END, RED_BLOCK_END) else (0, 0)
    return encode_segment(DataSegment(kind, SESSION, 1, 100, b"data", *checkpoint))


WAITS = {
    "the first": red(0, 1400),
    "another": red(1400, 1400),
    "one octet": red(300, 1),
    "numbers of five octets": red(2**30, 1400, origin=2**34, number=2**35 - 1, service=2**20),
    "the last before a multiple": red(SPAN - 100, 99),
    "the first after it": red(SPAN, 100),
}
PROMPT = {
    "a multiple": red(SPAN - 100, 100),
    "a multiple within": red(3 * SPAN - 700, 1400),
    "beyond what it can count": red(2**40, 100),
    "a number of six octets": red(0, 100, number=2**35),
    "two segments": red(0, 100) + red(100, 100),
    "a checkpoint behind": red(0, 100) + data(RED_CHECKPOINT),
    "cut off": red(0, 100)[:-1],
    "nothing": b"",
    "a beginning": b"\0",
    "endless numbers": b"\0" + b"\xff" * 60,
    "no LTP": b"\x10" + bytes(20),
    "extensions": encode_segment(DataSegment(RED, SESSION, 1, 0, b"x", header=(Extension(0xC0, b"y"),))),
    **{f"type {kind}": data(kind) for kind in (RED_CHECKPOINT, RED_END, RED_BLOCK_END, GREEN, GREEN_BLOCK_END)},
    "a report": encode_segment(ReportSegment(SESSION, 5, 7, 100, 0, ((0, 100),))),
    "its acknowledgement": encode_segment(ReportAckSegment(SESSION, 5)),
    "a cancellation": encode_segment(CancelSegment(12, SESSION, 0)),
    "its acknowledgement ": encode_segment(CancelAckSegment(13, SESSION)),
}


@pytest.fixture(params=["127.0.0.1", "::1"])
def sockets(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    made = [socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2)]
    for each in made:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    try:
        made[0].bind((request.param, 0))
        assert steer(*made)
    except OSError:
        pytest.skip("no IPv6 here")
    yield made[0], made[1]
    for each in made:
        each.close()


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "prompt"])
def test_what_need_not_wake_a_node_waits(sockets: tuple[socket.socket, socket.socket], *, waits: bool) -> None:
    if sockets[1].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 8 * SPAN:
        pytest.skip("net.core.rmem_max is too small here for this test's figures")
    receiver, other = sockets[::-1] if waits else sockets
    with socket.socket(receiver.family, socket.SOCK_DGRAM) as sender:
        for name, datagram in (WAITS if waits else PROMPT).items():
            sender.sendto(datagram, receiver.getsockname())
            assert receiver.recv(65535) == datagram, name
            with pytest.raises(BlockingIOError):
                other.recv(65535)


def test_nobody_else_gets_a_share_of_the_port(sockets: tuple[socket.socket, socket.socket]) -> None:
    host, port = sockets[0].getsockname()[:2]

    async def another() -> None:
        UdpTransport(Address(host, port), {}, asyncio.get_running_loop(), patient=True)

    with pytest.raises(EnvironmentLacksError, match=f"cannot bind UDP {host}:{port}"):
        asyncio.run(another())


def places() -> tuple[Address, Address]:
    block, _, first = addresses().rpartition(".")
    return Address(f"{block}.{first}", 1113), Address(f"{block}.{int(first) + 1}", 1113)


def test_without_such_filters_everything_is_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "_ATTACH_CBPF", 9999)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as patient,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(places()[0])
        assert not steer(receiver, patient)
        assert patient.fileno() < 0
        for datagram in (*WAITS.values(), *PROMPT.values()):
            sender.sendto(datagram, receiver.getsockname())
            assert receiver.recv(65535) == datagram


def trains() -> list[Train]:
    """A block of 320,000 octets: red segments of 1,280, and its checkpoint."""
    last = len(BLOCK) - 1280
    return [
        Train(SESSION, 1, BLOCK, 0, 1280, 249, 1290),
        Train(SESSION, 1, BLOCK, last, 1280, 1, 1292, RED_BLOCK_END, 3, 0),
    ]


def test_a_block_wakes_a_node_twice_and_comes_in_order() -> None:
    """Once by its 2**18th octet, once by its checkpoint, however slowly it comes; and whole before the checkpoint."""

    async def receive() -> tuple[list[bytes], int]:
        loop = asyncio.get_running_loop()
        here, there = places()
        sender = UdpTransport(here, {"there": there}, loop, patient=True)
        receiver = UdpTransport(there, {"here": here}, loop, patient=True)
        came: list[bytes] = []
        wakes = 0
        whole: asyncio.Future[None] = loop.create_future()

        def take(neighbour: str | None, datagrams: list[bytes]) -> None:
            assert neighbour == "here"
            came.extend(datagrams)

        def pump() -> None:
            nonlocal wakes
            wakes += bool(came)
            if came and came[-1][0] == RED_BLOCK_END:
                whole.set_result(None)

        receiver.open(take, pump)
        await asyncio.sleep(0)
        for train in trains():
            for datagram in train.datagrams():
                sender.send("there", datagram, ServiceClass.NORMAL)
                for _ in range(3):
                    # The receiver may act on each before the next one leaves.
                    await asyncio.sleep(0)
        await asyncio.wait_for(whole, 10)
        assert receiver.overrun == 0
        sender.close()
        receiver.close()
        return came, wakes

    came, wakes = asyncio.run(receive())
    assert came == [datagram for train in trains() for datagram in train.datagrams()]
    assert wakes <= 2 + len(BLOCK) // (1 << 15)


def test_what_waits_is_collected_for_a_deadline() -> None:
    short = Train(SESSION, 1, BLOCK, 0, 1280, 10, 1290)

    async def receive() -> list[bytes]:
        loop = asyncio.get_running_loop()
        here, there = places()
        sender = UdpTransport(here, {"there": there}, loop, patient=True)
        receiver = UdpTransport(there, {"here": here}, loop, patient=True)
        came: list[bytes] = []
        receiver.open(lambda neighbour, datagrams: came.extend(datagrams), lambda: None)
        await asyncio.sleep(0)
        sender.send("there", short, ServiceClass.BULK)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not came
        receiver.collect()
        sender.close()
        receiver.close()
        return came

    assert asyncio.run(receive()) == short.datagrams()


@pytest.mark.parametrize("option", [103, 9999], ids=["cuts", "cannot"])
def test_a_train_that_the_kernel_cuts_arrives_as_its_datagrams(monkeypatch: pytest.MonkeyPatch, option: int) -> None:
    monkeypatch.setattr(udp, "_UDP_SEGMENT", option)
    pieces: list[int] = []
    # The first of them has offsets of one octet and two, the second of three.
    alike = [Train(SESSION, 1, BLOCK, 0, 1280, 13, 1289), Train(SESSION, 1, BLOCK, 16640, 1280, 236, 1290), trains()[1]]

    async def receive() -> list[bytes]:
        loop = asyncio.get_running_loop()
        here, there = places()
        sender = UdpTransport(here, {"there": there}, loop)
        receiver = UdpTransport(there, {"here": here}, loop)
        came: list[bytes] = []
        whole: asyncio.Future[None] = loop.create_future()

        def take(neighbour: str | None, datagrams: list[bytes]) -> None:
            came.extend(datagrams)

        receiver.open(take, lambda: whole.set_result(None) if len(came) == 250 and not whole.done() else None)
        # Tests have no other network; it is only for the sake of captures that a loopback is left out.
        sender._cut.add("there")
        one_by_one = UdpTransport._try

        def alone(transport: UdpTransport, service_class: ServiceClass, datagram: bytes, address: Address) -> bool:
            pieces.append(len(datagram))
            return one_by_one(transport, service_class, datagram, address)

        monkeypatch.setattr(UdpTransport, "_try", alone)
        for train in alike:
            sender.send("there", train, ServiceClass.NORMAL)
        await asyncio.wait_for(whole, 10)
        assert not sender.lost
        assert ("there" in sender._cut) == (option == 103)
        sender.close()
        receiver.close()
        return came

    assert asyncio.run(receive()) == [datagram for train in alike for datagram in train.datagrams()]
    # What has another size goes alone.
    assert len(pieces) == (14 if option == 103 else 250)


def test_what_finds_no_room_is_counted() -> None:
    async def flood() -> None:
        loop = asyncio.get_running_loop()
        here, there = places()
        receiver = UdpTransport(there, {"here": here}, loop, patient=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            # Blocks that never come to a checkpoint.
            for number in range(1000):
                sender.sendto(red(0, 60_000, number=number), there)
        assert receiver.overrun > 0
        figures = {figure.name: figure.value for _, figure in receiver.figures()}
        assert figures["overrun_datagrams"] == receiver.overrun
        receiver.close()

    asyncio.run(flood())
