"""TCPCL as a convergence layer of a node: sessions with neighbours and with whoever comes by, on asyncio."""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import BundleError, Eid, ServiceClass
from marsnet.dtn.bpv7.eid import LOCAL_NODE
from marsnet.dtn.node.backoff import Backoff
from marsnet.dtn.node.config import Address, TcpclOptions
from marsnet.dtn.node.connecting import Called, ConnectingLayer
from marsnet.dtn.node.layer import Figure, Interrupted, PeerDown, PeerUp, Received, Returned, Sent, Taken
from marsnet.dtn.recipe import Rope
from marsnet.dtn.tcpcl import (
    RefuseReason,
    SessionEnded,
    SessionEstablished,
    State,
    TcpclConfig,
    TcpclEvent,
    TermReason,
    TlsPolicy,
    TransferAcknowledged,
    TransferFailed,
    TransferInterrupted,
    TransferReceived,
    TransferRefused,
)
from marsnet.dtn.tcpcl.asyncio_session import TcpclSession, connect

MAX_STRANGERS = 256
"""Connections accepted that have not said yet who they are."""

_TOLD = 200
"""Characters of a node id that the log tells; a stranger's may have 65,535."""

log = logging.getLogger(__name__)


class TcpclPeer(NamedTuple):
    """A neighbour as the configuration gives it.

    Attributes:
        node_id: that it must give.
        address: where it listens; None when it is the one to connect.
    """

    node_id: str
    address: Address | None


class _Peer(Called):
    """A node and the sessions with it, the newest last."""

    def __init__(self, name: str, node_id: str, address: Address | None, backoff: Backoff) -> None:
        super().__init__(address, backoff)
        self.name, self.node_id = name, node_id
        self.sessions: list[TcpclSession] = []
        self.counters: Counter[str] = Counter()
        self.established = 0
        self.since = 0.0
        self.rate = 0.0
        self.configured = True

    def usable(self) -> TcpclSession | None:
        return next((s for s in reversed(self.sessions) if s.engine.state is State.OPEN), None)


class _Handle(NamedTuple):
    session: TcpclSession
    number: int
    tag: object


class TcpclLayer(ConnectingLayer[_Peer]):
    """Sessions of TCPCLv4. A bundle is taken when its last segment is acknowledged, which the peer does when it is
    durable there; what a session leaves unacknowledged goes back to the node, to be sent again in the next one."""

    def __init__(
        self,
        node_id: str,
        options: TcpclOptions,
        peers: Mapping[str, TcpclPeer],
        clock: MissionClock,
        *,
        known: Mapping[str, str] | None = None,
        listen: Address | None = None,
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
        resume: bool = False,
    ) -> None:
        """Prepare.

        Args:
            node_id: of this node.
            options: of the layer.
            peers: neighbours by name.
            clock: the mission clock.
            known: names of nodes by node id, of those that may come by too.
            listen: where to accept connections; None for nowhere.
            tls: contexts of the end that connects and of the one that accepts, when the options have certificates.
            resume: whether the node keeps the beginnings of broken transfers.
        """
        super().__init__("tcpcl", clock, listen)
        self._options, self._tls = options, tls
        rate, policy = clock.rate, TlsPolicy.NEVER
        if options.tls is not None:
            policy = TlsPolicy(options.tls.policy)
        self._config = TcpclConfig(
            node_id,
            keepalive=min(65535, round(options.keepalive * rate)),
            segment_mru=options.segment_mru,
            transfer_mru=options.transfer_mru,
            segment_size=options.segment_size,
            contact_timeout=60.0 * rate,
            ack_timeout=options.ack_timeout * rate,
            tls=policy,
            require_peer_id=policy is TlsPolicy.REQUIRE,
            resume=resume,
        )
        self._peers = {name: self._peer(name, peer.node_id, peer.address) for name, peer in peers.items()}
        self._names = {peer.node_id: name for name, peer in peers.items()}
        self._known = dict(known or {})
        self._owners: dict[TcpclSession, _Peer] = {}
        self._strangers: set[TcpclSession] = set()

    def _peer(self, name: str, node_id: str, address: Address | None) -> _Peer:
        rate, options = self._clock.rate, self._options
        return _Peer(name, node_id, address, Backoff(options.reconnect * rate, options.reconnect_limit * rate))

    # For the node

    def send(
        self, neighbour: str, octets: bytes | Rope, now: float, *, tag: object, service_class: ServiceClass
    ) -> Hashable:
        """Queue a bundle in the newest session."""
        return self._send(neighbour, bytes(octets), tag, service_class)

    def send_rest(
        self, neighbour: str, octets: bytes, now: float, *, tag: object, service_class: ServiceClass, base: int
    ) -> Hashable:
        """Likewise, for a neighbour that `resumes`."""
        return self._send(neighbour, octets, tag, service_class, base)

    def _send(
        self, neighbour: str, octets: bytes, tag: object, service_class: ServiceClass, rest: int | None = None
    ) -> Hashable:
        session = self._peers[neighbour].usable()
        if session is None:
            self._events.append(Returned((tag,), "no session"))
            return None
        return _Handle(session, session.send(octets, tag=tag, priority=3 - int(service_class), rest=rest), tag)

    def cancel(self, handle: Hashable, now: float) -> None:
        """Take back a bundle whose transfer has not begun. One that is under way is finished (RFC 9174 5.2)."""
        if isinstance(handle, _Handle) and handle.session.engine.withdraw(handle.number):
            self._events.append(Returned((handle.tag,), "withdrawn"))

    def confirm(self, receipt: Hashable, now: float) -> None:
        """Send the last acknowledgement."""
        if isinstance(receipt, _Receipt):
            receipt.session.confirm(receipt.transfer)

    def refuse(self, receipt: Hashable, now: float, *, unfit: bool = False) -> None:
        """Refuse the bundle, with the reason of RFC 9174 section 5.2.4."""
        if isinstance(receipt, _Receipt):
            reason = RefuseReason.NOT_ACCEPTABLE if unfit else RefuseReason.NO_RESOURCES
            receipt.session.refuse(receipt.transfer, reason)

    def demand_whole(self, receipt: Hashable, now: float) -> None:
        """Refuse it as RFC 9174 section 5.2.4 has it for what must be retransmitted in its entirety."""
        if isinstance(receipt, _Receipt):
            receipt.session.refuse(receipt.transfer, RefuseReason.RETRANSMIT)

    def resumes(self, neighbour: str) -> bool:
        """Whether the newest session agreed on it."""
        peer = self._peers.get(neighbour)
        session = None if peer is None else peer.usable()
        return session is not None and session.engine.resumes

    def ready(self, neighbour: str) -> bool:
        """Whether there is a session."""
        peer = self._peers.get(neighbour)
        return peer is not None and peer.usable() is not None

    def max_bundle(self, neighbour: str) -> int | None:
        """The peer's Transfer MRU, while there is a session."""
        peer = self._peers.get(neighbour)
        session = None if peer is None else peer.usable()
        return None if session is None or session.engine.peer is None else session.engine.peer.transfer_mru

    def contact(self, neighbour: str, rate: float, now: float) -> None:
        """Connect when a contact opens, and end the sessions when it closes."""
        peer = self._peers.get(neighbour)
        if peer is None:
            return
        peer.rate = rate
        if rate <= 0:
            peer.backoff.stop()
            for session in list(peer.sessions):
                session.terminate()
        elif not peer.sessions and peer.address is not None and peer.dialling is None:
            peer.backoff.begin(now)

    def close(self) -> None:
        """Tell the peers that this node ends. What is not acknowledged yet is sent again after a restart."""
        super().close()
        for peer in self._peers.values():
            for session in list(peer.sessions):
                session.terminate()
        for session in list(self._strangers):
            session.terminate()

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Sessions, messages, octets and transfers by outcome."""
        yield from super().figures()
        for name, peer in self._peers.items():
            counts = Counter(peer.counters)
            for session in peer.sessions:
                counts.update(session.engine.counters)
            waiting = sum(session.engine.queued_octets for session in peer.sessions)
            yield name, Figure("tcpcl_sessions", "Open sessions.", "gauge", {}, len(peer.sessions))
            running = sum(session.engine.next_deadline(self._loop.time()) is not None for session in peer.sessions)
            yield name, Figure("tcpcl_timers", "Sessions with a deadline.", "gauge", {}, running)
            yield name, Figure("tcpcl_queued_bytes", "Octets that wait in sessions.", "gauge", {}, waiting)
            yield (
                name,
                Figure("tcpcl_established_sessions", "Sessions that came to be.", "counter", {}, peer.established),
            )
            for key, count in sorted(counts.items()):
                way, _, what = key.partition(".")
                if what == "octets" or key in ("received", "sent"):
                    unit = "bytes" if what else "transfers"
                    text = f"TCPCL {unit} by direction."
                    yield name, Figure(f"tcpcl_{unit}", text, "counter", {"direction": way}, count)
                elif what:
                    labels = {"direction": way, "type": what}
                    yield name, Figure("tcpcl_messages", "TCPCL messages by type.", "counter", labels, count)
                else:
                    yield name, Figure("tcpcl_outcomes", "What became of transfers.", "counter", {"what": key}, count)

    # Connections

    def _callable(self) -> Iterable[_Peer]:
        return self._peers.values()

    def _accept(self) -> TcpclSession:
        session = TcpclSession(
            self._config,
            self._on_event,
            clock=self._clock,
            active=False,
            tls=None if self._tls is None else self._tls[1],
        )
        if len(self._strangers) >= MAX_STRANGERS:
            self.drops["too many connections"] += 1
            session.terminate(TermReason.BUSY)
        self._strangers.add(session)
        return session

    async def _connect(self, called: _Peer, address: Address) -> None:
        await connect(
            address,
            replace(self._config, expected_peer=called.node_id),
            lambda session, event: self._on_event(session, event, called),
            clock=self._clock,
            tls=None if self._tls is None else self._tls[0],
        )

    def _unreachable(self, called: _Peer, why: str) -> None:
        if called.sessions or called.rate <= 0 or self._closed:
            return
        self.drops["attempt"] += 1
        log.info("no session", extra={"peer": called.name, "why": why})
        called.backoff.failed(self._clock.now())
        self._events.append(PeerDown(self, called.name, retries=True))

    # Events of sessions

    def _on_event(self, session: TcpclSession, event: TcpclEvent, dialled: _Peer | None = None) -> None:
        peer = self._owners.get(session)
        match event:
            case SessionEstablished():
                self._on_established(session, event)
            case SessionEnded():
                self._on_ended(session, event, peer, dialled)
            case TransferReceived() if peer is not None:
                receipt = _Receipt(session, event.transfer)
                self._events.append(Received(self, peer.name, (event.data,), receipt, event.rest))
            case TransferInterrupted():
                self.drops["interrupted transfer"] += 1
                self._events.append(Interrupted(None if peer is None else peer.name, event.data, event.rest))
            case TransferAcknowledged():
                self._events += (Sent((event.tag,)), Taken((event.tag,)))
            case TransferRefused():
                whole = event.rest is not None and event.reason in (
                    RefuseReason.RETRANSMIT,
                    RefuseReason.EXTENSION_FAILURE,
                )
                declined = event.reason != RefuseReason.SESSION_TERMINATING and not whole
                kept = None if whole else 0
                reason = f"refused, reason {int(event.reason)}"
                self._events.append(Returned((event.tag,), reason, refused=declined, kept=kept))
            case TransferFailed():
                reason = "too large" if event.too_large else "session ended"
                kept = 0 if event.too_large else event.acknowledged
                self._events.append(Returned((event.tag,), reason, refused=event.too_large, kept=kept))
            case _:
                pass
        self.wake()

    def _on_established(self, session: TcpclSession, event: SessionEstablished) -> None:
        self._strangers.discard(session)
        peer = None if event.node_id == self._config.node_id else self._recognise(event.node_id)
        if peer is None:
            self.drops["unwanted peer"] += 1
            log.warning("session refused", extra={"peer": event.node_id[:_TOLD]})
            session.terminate(TermReason.RESOURCE_EXHAUSTION)
            return
        first = not peer.sessions
        peer.sessions.append(session)
        self._owners[session] = peer
        peer.established += 1
        peer.since = self._clock.now()
        peer.backoff.stop()
        log.info("session", extra={"peer": peer.name, "secure": event.secure, "active": session.engine.active})
        if self._config.node_id > peer.node_id and any(not s.engine.active for s in peer.sessions):
            # Both ends have connected: one of them gives its session up, and only one.
            for own in [s for s in peer.sessions if s.engine.active]:
                own.terminate()
        if first:
            self._events.append(PeerUp(self, peer.name))

    def _recognise(self, node_id: str) -> _Peer | None:
        """The peer of a node id; a stranger becomes one for as long as it stays."""
        name = self._names.get(node_id)
        if name is None and self._options.opportunistic and _is_node_id(node_id):
            name = self._names[node_id] = self._known.get(node_id, node_id)
            peer = self._peers[name] = self._peer(name, node_id, None)
            peer.configured = False
        return None if name is None else self._peers[name]

    def _on_ended(self, session: TcpclSession, event: SessionEnded, peer: _Peer | None, dialled: _Peer | None) -> None:
        self._strangers.discard(session)
        told = {"why": event.detail or "ordinary end", "reason": event.reason, "by_peer": event.by_peer}
        if event.detail:
            self.drops["broken session"] += 1
        if peer is None:
            if dialled is not None:
                self._unreachable(dialled, event.detail)
            else:
                log.info("connection ended", extra=told)
            return
        log.info("session ended", extra={"peer": peer.name, **told})
        peer.sessions.remove(session)
        del self._owners[session]
        peer.counters.update(session.engine.counters)
        if peer.sessions:
            return
        self._events.append(PeerDown(self, peer.name, retries=True))
        if not peer.configured:
            del self._peers[peer.name], self._names[peer.node_id]
        elif peer.rate > 0 and peer.address is not None and not self._closed:
            now = self._clock.now()
            if now - peer.since > self._options.reconnect_limit * self._clock.rate:
                peer.backoff.succeeded()
            peer.backoff.failed(now)


class _Receipt(NamedTuple):
    session: TcpclSession
    transfer: int


def _is_node_id(text: str) -> bool:
    try:
        eid = Eid.parse(text)
    except BundleError:
        return False
    return eid.is_node_id and eid.node != LOCAL_NODE


def contexts(options: TcpclOptions, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    """TLS contexts of the end that connects and of the one that accepts; None without certificates.

    Raises:
        InputError: a file is missing or not what it should be.
    """
    tls = options.tls
    if tls is None:
        return None
    # Whoever has no certificates does not pay for the library.
    from marsnet.dtn.tcpcl.tls import tls_context  # noqa: PLC0415

    client, server = (
        tls_context(
            server=server,
            certificate=folder / tls.certificate,
            key=folder / tls.key,
            authorities=folder / tls.authorities,
        )
        for server in (False, True)
    )
    return client, server
