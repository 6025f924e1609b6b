"""TCPCL sessions over sockets of the loopback interface, in the clear and with TLS 1.3."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from marsnet.clock import MissionClock
from marsnet.dtn.tcpcl import (
    SessionEnded,
    SessionEstablished,
    State,
    TcpclConfig,
    TcpclEvent,
    TermReason,
    TlsPolicy,
    TransferAcknowledged,
    TransferFailed,
    TransferReceived,
)
from marsnet.dtn.tcpcl.asyncio_session import TcpclSession, connect, listen
from marsnet.dtn.tcpcl.tls import LabAuthority, node_ids, tls_context
from marsnet.errors import InputError

ONE, TWO = TcpclConfig("ipn:1.0"), TcpclConfig("ipn:2.0")


@dataclass
class End:
    """Collects events and confirms what comes."""

    events: list[TcpclEvent] = field(default_factory=list)
    sessions: list[TcpclSession] = field(default_factory=list)
    confirm: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, session: TcpclSession, event: TcpclEvent) -> None:
        self.events.append(event)
        if session not in self.sessions:
            self.sessions.append(session)
        if isinstance(event, TransferReceived) and self.confirm:
            session.confirm(event.transfer)
        self.changed.set()

    def of(self, kind: type) -> list[TcpclEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type, count: int = 1) -> list[TcpclEvent]:
        async with asyncio.timeout(20):
            while len(self.of(kind)) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.of(kind)


def clock_of(rate: float = 1.0) -> MissionClock:
    return MissionClock("2026-10-01T00:00:00Z", rate, time.monotonic())


async def pair(
    one: TcpclConfig = ONE,
    two: TcpclConfig = TWO,
    tls: tuple[ssl.SSLContext | None, ssl.SSLContext | None] = (None, None),
    rate: float = 1.0,
) -> tuple[TcpclSession, End, End, asyncio.Server]:
    here, there, clock = End(), End(), clock_of(rate)
    server = await listen(("127.0.0.1", 0), two, there, clock=clock, tls=tls[1])
    address = server.sockets[0].getsockname()
    session = await connect(address, one, here, clock=clock, tls=tls[0])
    return session, here, there, server


async def close(session: TcpclSession, there: End, server: asyncio.Server) -> None:
    session.terminate()
    async with asyncio.timeout(20):
        await session.wait_closed()
        for other in there.sessions:
            await other.wait_closed()
    server.close()


async def test_bundles_cross_and_the_session_ends_in_order() -> None:
    session, here, there, server = await pair(replace(ONE, segment_size=1000))
    rng = random.Random(1)
    bundles = [rng.randbytes(size) for size in (1, 100_000, 3_000_000)]
    for tag, data in enumerate(bundles):
        session.send(data, tag=tag)
    received = await there.until(TransferReceived, 3)
    assert [e.data for e in received if isinstance(e, TransferReceived)] == bundles
    await here.until(TransferAcknowledged, 3)
    there.sessions[0].send(b"back", tag="b")
    (back,) = await here.until(TransferReceived)
    assert isinstance(back, TransferReceived)
    assert back.data == b"back"
    assert await session.wait_established()
    transport_socket = session._transport.get_extra_info("socket")  # type: ignore[union-attr]
    assert transport_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await close(session, there, server)
    assert here.of(SessionEnded) == [SessionEnded(TermReason.UNKNOWN, False)]
    assert there.of(SessionEnded) == [SessionEnded(TermReason.UNKNOWN, True)]
    assert here.of(TransferFailed) == []


async def test_small_bundles_do_not_wait_for_each_other() -> None:
    session, here, there, server = await pair()
    await here.until(SessionEstablished)
    begin = time.monotonic()
    for n in range(50):
        session.send(b"ping")
        await here.until(TransferAcknowledged, n + 1)
    # With Nagle's algorithm and delayed acknowledgements each would take 40 ms.
    assert time.monotonic() - begin < 1.0
    await close(session, there, server)


def contexts(folder: Path, one: str, two: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = LabAuthority.create()
    made = []
    for server, node in ((False, one), (True, two)):
        place = folder / ("server" if server else "client")
        place.mkdir()
        certificate, key, authorities = authority.issue(place, node)
        made.append(tls_context(server=server, certificate=certificate, key=key, authorities=authorities))
    return made[0], made[1]


def strict(config: TcpclConfig) -> TcpclConfig:
    return replace(config, tls=TlsPolicy.REQUIRE, require_peer_id=True)


async def test_tls_13_with_node_id_certificates(tmp_path: Path) -> None:
    session, here, there, server = await pair(strict(ONE), strict(TWO), contexts(tmp_path, "ipn:1.0", "ipn:2.0"))
    data = random.Random(2).randbytes(500_000)
    session.send(data)
    (event,) = await there.until(TransferReceived)
    assert isinstance(event, TransferReceived)
    assert event.data == data
    assert [e.secure for e in here.of(SessionEstablished) if isinstance(e, SessionEstablished)] == [True]
    secured = session._transport.get_extra_info("ssl_object")  # type: ignore[union-attr]
    assert secured.version() == "TLSv1.3"
    await close(session, there, server)


async def test_a_certificate_for_another_node_is_refused(tmp_path: Path) -> None:
    session, here, there, server = await pair(strict(ONE), strict(TWO), contexts(tmp_path, "ipn:1.0", "ipn:66.0"))
    (ended,) = await here.until(SessionEnded)
    assert isinstance(ended, SessionEnded)
    assert "not for 'ipn:2.0'" in ended.detail
    assert not await session.wait_established()
    assert here.of(SessionEstablished) == []
    await close(session, there, server)


async def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    client, _ = contexts(tmp_path / "a", "ipn:1.0", "ipn:2.0")
    _, server_context = contexts(tmp_path / "b", "ipn:1.0", "ipn:2.0")
    session, here, there, server = await pair(strict(ONE), strict(TWO), (client, server_context))
    await here.until(SessionEnded)
    assert not await session.wait_established()
    await there.until(SessionEnded)
    await close(session, there, server)
    assert here.of(SessionEstablished) == there.of(SessionEstablished) == []


def test_certificates_name_their_nodes(tmp_path: Path) -> None:
    authority = LabAuthority.create()
    for node in ("ipn:1.0", "dtn://mars/" + "x" * 200):
        certificate, key, _ = authority.issue(tmp_path, node)
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        assert node_ids(der) == (node,)
        assert key.stat().st_mode & 0o077 == 0
    assert node_ids(b"") == ()
    assert node_ids(b"nonsense") == ()
    with pytest.raises(InputError, match="not ASCII"):
        authority.issue(tmp_path, "dtn://größe/")
    with pytest.raises(InputError, match=r"missing\.crt' is no file"):
        tls_context(server=True, certificate=tmp_path / "missing.crt", key=key, authorities=certificate)
    with pytest.raises(InputError, match="TLS files"):
        tls_context(server=True, certificate=key, key=key, authorities=certificate)


async def test_tls_needs_a_context() -> None:
    with pytest.raises(InputError, match="no TLS context"):
        await connect(("127.0.0.1", 1), strict(ONE), End(), clock=clock_of())


async def test_reading_pauses_until_transfers_are_confirmed() -> None:
    session, here, there, server = await pair(ONE, replace(TWO, max_unconfirmed=1_000_000))
    there.confirm = False
    for _ in range(100):
        session.send(bytes(500_000))
    await there.until(TransferReceived, 3)
    other = there.sessions[0]
    assert other.engine.congested
    # What the engine holds is bounded by the limit, and by what was read at once.
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(there.of(TransferReceived)) < 20
    there.confirm = True
    for event in there.of(TransferReceived):
        assert isinstance(event, TransferReceived)
        other.confirm(event.transfer)
    await here.until(TransferAcknowledged, 100)
    await close(session, there, server)


async def test_keepalives_run_on_mission_time() -> None:
    # 600 mission seconds pass in a second: a keepalive of 60 s is due every 0.1 s.
    keepalive = replace(ONE, keepalive=60), replace(TWO, keepalive=60)
    session, here, there, server = await pair(*keepalive, rate=600.0)
    await here.until(SessionEstablished)
    async with asyncio.timeout(10):
        while session.engine.counters["received.keepalive"] < 3:
            await asyncio.sleep(0.02)
    assert session.engine.state is State.OPEN
    await close(session, there, server)


async def test_a_dead_connection_gives_the_bundles_back() -> None:
    here = End()
    async with await asyncio.start_server(lambda r, w: w.transport.abort(), "127.0.0.1", 0) as server:
        session = await connect(server.sockets[0].getsockname(), ONE, here, clock=clock_of())
        session.send(b"bundle", tag="t")
        (failed,) = await here.until(TransferFailed)
        assert isinstance(failed, TransferFailed)
        assert failed.tag == "t"
        await session.wait_closed()
        assert not await session.wait_established()


async def test_a_peer_that_speaks_something_else() -> None:
    session, here, there, server = await pair()
    await here.until(SessionEstablished)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    await there.until(SessionEnded)
    await close(session, there, server)
