"""AAP 2.0 on sockets: what its clients ask of the node, and bundles for those that subscribe."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket as sockets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from marsnet.dtn.apps.aap2 import (
    Aap2Session,
    Adu,
    Answered,
    Broken,
    Configure,
    Event,
    Headers,
    LinkChange,
    may_dispatch,
)
from marsnet.dtn.apps.aap2_schema import AduFlag, AuthType, LinkStatus, Status
from marsnet.dtn.apps.config import Aap2Config
from marsnet.dtn.apps.contact_commands import commanded
from marsnet.dtn.apps.registry import Attachment, Delivery
from marsnet.dtn.apps.secrets import read_secret
from marsnet.dtn.apps.submission import Submission, SubmissionError
from marsnet.dtn.bpsec import SecurityError
from marsnet.dtn.bpv7 import Bundle, BundleError, BundleFlags, Eid
from marsnet.dtn.bpv7.blocks import REPORT_FLAGS
from marsnet.dtn.node.gateway import Gateway
from marsnet.errors import InputError
from marsnet.plan.types import ContactPlan

log = logging.getLogger(__name__)
_CHUNK = 1 << 16
_SEND_BUFFER = 4 << 20
"""Octets. The synchronous client reads a payload in one go, so all of it should be in the kernel by then."""
_BIBE = b"\x82\x03"
"""An administrative record of type 3, a bundle in a bundle (draft-ietf-dtn-bibect-03), before its content."""
_CONFIG = 9000
_STATUS_REPORT = b"\x82\x01"


@dataclass
class _Registration:
    """An endpoint that connections are registered at."""

    secret: bytes
    connections: int = 0


@dataclass(eq=False)
class _Client:
    """One connection."""

    session: Aap2Session
    writer: asyncio.StreamWriter
    endpoint: Eid | None = None
    registered: str | None = None
    dispatcher: bool = False
    attachment: Attachment | None = None
    delivery: Delivery | None = None
    handed: bool = False
    links: dict[str, bool] | None = None
    pending: dict[str, bool] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class Aap2Server:
    """The AAP 2.0 interface of one node.

    Attributes:
        broken: connections that were ended, by reason.
    """

    def __init__(self, config: Aap2Config, folder: Path, gateway: Gateway) -> None:
        """Prepare.

        Args:
            config: where to listen.
            folder: that paths are relative to.
            gateway: the node.

        Raises:
            InputError: the node's secret cannot be read, or is empty.
        """
        self.broken: Counter[str] = Counter()
        self._config, self._folder, self._node = config, folder, gateway
        self._secret = None if config.secret is None else read_secret(folder / config.secret, "AAP 2.0 secret")
        self._registrations: dict[str, _Registration] = {}
        self._servers: list[asyncio.Server] = []
        self._clients: set[_Client] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        gateway.listen(self._links_changed)

    def figures(self) -> Iterator[tuple[str, str, bool, float]]:
        """For Prometheus: name, text, whether it only grows, value."""
        yield "aap2_connections", "Connections of AAP 2.0 now.", False, len(self._clients)

    def reasons(self) -> Counter[str]:
        """Connections that the node ended, by reason."""
        return self.broken

    async def open(self) -> None:
        """Listen.

        Raises:
            InputError: the address or the path cannot be listened at.
        """
        config = self._config
        if config.socket is not None:
            path = self._folder / config.socket
            with contextlib.suppress(FileNotFoundError):
                if path.is_socket():
                    path.unlink()
            try:
                server = await asyncio.start_unix_server(self._serve, path)
            except OSError as error:
                raise InputError(
                    f"cannot listen at {path}: {error.strerror or error}", remedy="choose another path"
                ) from None
            path.chmod(0o660)
            self._servers.append(server)
        if config.tcp is not None:
            host, port = config.tcp
            try:
                server = await asyncio.start_server(self._serve, host, port)
            except OSError as error:
                raise InputError(
                    f"cannot listen at {host}:{port}: {error.strerror or error}",
                    remedy="choose another address or port",
                ) from None
            self._servers.append(server)

    async def close(self) -> None:
        """End all connections."""
        for server in self._servers:
            server.close()
        for client in list(self._clients):
            client.writer.transport.abort()
        # What each had in its hands goes back before the store is closed.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._config.socket is not None:
            (self._folder / self._config.socket).unlink(missing_ok=True)

    # One connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire: sockets.socket = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            wire.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, _SEND_BUFFER)
        limit = self._config.payload
        client = _Client(Aap2Session(str(self._node.node_id), self._loop.time(), payload_limit=limit), writer)
        self._clients.add(client)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            self._flush(client)
            while not writer.is_closing():
                data = await reader.read(_CHUNK)
                if not data:
                    break
                client.session.receive(data, self._loop.time())
                await self._settle(client)
        except ConnectionError:
            self.broken["connection lost"] += 1
        finally:
            self._forget(client)
            with contextlib.suppress(ConnectionError):
                writer.close()

    async def _settle(self, client: _Client) -> None:
        """Act on everything that the client has said."""
        while events := client.session.take_events():
            for event in events:
                await self._handle(client, event)
        self._hand_over(client)
        self._tell_links(client)
        self._flush(client)
        await client.writer.drain()

    def _flush(self, client: _Client) -> None:
        if output := client.session.take_output():
            client.writer.write(output)
        if client.timer is not None:
            client.timer.cancel()
            client.timer = None
        deadline = client.session.next_deadline()
        if deadline is not None and client in self._clients:
            client.timer = self._loop.call_at(deadline, self._due, client)

    def _due(self, client: _Client) -> None:
        client.timer = None
        client.session.advance(self._loop.time())
        for event in client.session.take_events():
            if isinstance(event, Broken):
                self._end(client, event)
        self._flush(client)

    def _end(self, client: _Client, event: Broken) -> None:
        self.broken[event.reason] += 1
        self._flush(client)
        client.writer.close()

    def _forget(self, client: _Client) -> None:
        self._clients.discard(client)
        if client.timer is not None:
            client.timer.cancel()
        if client.attachment is not None:
            self._node.detach(client.attachment)
            client.attachment = None
        if client.registered is not None:
            registration = self._registrations[client.registered]
            registration.connections -= 1
            if not registration.connections:
                del self._registrations[client.registered]
            client.registered = None

    async def _handle(self, client: _Client, event: Event) -> None:
        match event:
            case Configure():
                self._configure(client, event)
            case Adu():
                await self._submit(client, event)
            case LinkChange():
                # Ways follow from the contact plan, which its own interface changes.
                client.session.respond(Status.INVALID_REQUEST)
            case Answered(status=status):
                self._answered(client, status)
            case Broken():
                self._end(client, event)

    # Configuration

    def _configure(self, client: _Client, wish: Configure) -> None:
        session = client.session
        privileged = wish.auth_type != AuthType.DEFAULT
        if privileged and not self._is_node_secret(wish.secret):
            session.refuse(Status.UNAUTHORIZED, "wrong node secret")
            return
        follows_links = wish.auth_type in {AuthType.FIB_CONTROL, AuthType.FIB_AND_DISPATCH}
        if wish.endpoint:
            try:
                client.endpoint = self._node.endpoint(wish.endpoint, receiving=wish.subscribe)
            except BundleError:
                session.refuse(Status.INVALID_REQUEST, "no endpoint of this node")
                return
            if not self._register(client, wish.secret.encode()):
                session.refuse(Status.UNAUTHORIZED, "wrong endpoint secret")
                return
        elif not privileged:
            session.refuse(Status.INVALID_REQUEST, "no endpoint")
            return
        client.dispatcher = may_dispatch(wish.auth_type)
        session.configured(wish, self._loop.time())
        if not wish.subscribe:
            return
        if follows_links:
            client.links = {}
            self._links_changed()
        elif client.endpoint is not None:
            client.attachment = self._node.attach(
                client.endpoint, "aap2", lambda delivery: self._deliver(client, delivery), 1
            )

    def _is_node_secret(self, secret: str) -> bool:
        return self._secret is not None and hmac.compare_digest(secret.encode(), self._secret)

    def _register(self, client: _Client, secret: bytes) -> bool:
        name = str(client.endpoint)
        registration = self._registrations.get(name)
        if registration is None:
            registration = self._registrations[name] = _Registration(secret)
        elif not hmac.compare_digest(secret, registration.secret) and not self._is_node_secret(secret.decode()):
            return False
        registration.connections += 1
        client.registered = name
        return True

    # Bundles from the client

    async def _submit(self, client: _Client, adu: Adu) -> None:
        override = AduFlag.WITH_BDM_AUTH in adu.flags
        if override and not client.dispatcher:
            client.session.respond(Status.UNAUTHORIZED)
            return
        try:
            submission = self._submission(client, adu, override)
            if override and self._configures(submission.destination):
                self._node.set_plan(self._commanded(adu.payload))
                client.session.respond(Status.SUCCESS)
                return
            bundle = await self._node.submit(submission)
        except InputError as error:
            log.warning("contact command refused", extra={"problem": error.problem, "remedy": error.remedy})
            client.session.respond(Status.INVALID_REQUEST)
        except (BundleError, ValueError):
            client.session.respond(Status.INVALID_REQUEST)
        except (SubmissionError, SecurityError):
            client.session.respond(Status.ERROR)
        else:
            client.session.respond(Status.SUCCESS, _headers(bundle))

    def _commanded(self, octets: bytes) -> ContactPlan:
        """The plan after uD3TN's command to change contacts. Raises InputError when it cannot be obeyed."""
        node = self._node
        return commanded(node.plan, octets, node.agent.config, node.agent.clock, node.now)

    def _configures(self, endpoint: Eid) -> bool:
        """Whether bundles for an endpoint are uD3TN's commands to change contacts."""
        own = endpoint.node_id == self._node.node_id and endpoint.service == _CONFIG
        return own or (endpoint.name == self._node.agent.config.name and endpoint.demux == "config")

    def _submission(self, client: _Client, adu: Adu, override: bool) -> Submission:
        """What a client sends, as the node makes bundles.

        Raises:
            BundleError: an endpoint ID that is none, or another's.
        """
        source = client.endpoint or self._node.node_id
        if adu.source and override:
            source = Eid.parse(adu.source)
        elif adu.source and Eid.parse(adu.source) != source:
            raise ValueError("the source is not the connection's endpoint")
        flags = BundleFlags(0)
        payload = adu.payload
        if adu.report_to:
            flags |= BundleFlags(REPORT_FLAGS) | BundleFlags.STATUS_TIME
        if AduFlag.BPDU in adu.flags:
            flags = (flags & ~BundleFlags(REPORT_FLAGS)) | BundleFlags.ADMIN_RECORD
            payload = _BIBE + payload
        return Submission(
            Eid.parse(adu.destination),
            payload,
            source,
            report_to=Eid.parse(adu.report_to) if adu.report_to else None,
            flags=int(flags),
            time_ms=adu.time_ms if override and adu.time_ms else None,
            sequence=adu.sequence,
        )

    # Bundles for the client

    def _deliver(self, client: _Client, delivery: Delivery) -> None:
        client.delivery, client.handed = delivery, False
        self._hand_over(client)

    def _hand_over(self, client: _Client) -> None:
        if client.delivery is None or client.handed or not client.session.idle:
            return
        client.handed = True
        bundle = client.delivery.content
        flag, payload = AduFlag.NORMAL, bundle.payload
        if bundle.is_admin_record and payload.startswith(_STATUS_REPORT):
            flag = AduFlag.STATUS_REPORT
        elif bundle.is_admin_record and payload.startswith(_BIBE):
            flag, payload = AduFlag.BPDU, payload[len(_BIBE) :]
        client.session.deliver(_headers(bundle), (flag,), payload, self._loop.time())
        self._flush(client)

    def _answered(self, client: _Client, status: int) -> None:
        delivery = client.delivery
        if delivery is None or not client.handed or client.attachment is None:
            return
        client.delivery = None
        if status in {Status.SUCCESS, Status.ACK}:
            self._node.confirm_later(delivery.parcel)
        else:
            self._node.release(delivery.parcel, refused=True)
        self._node.grant(client.attachment)

    # Links

    def _links_changed(self) -> None:
        """Tell those who follow links what has come up or gone down."""
        if not any(client.links is not None for client in self._clients):
            return
        states = dict(self._node.links())
        for client in self._clients:
            if client.links is None:
                continue
            known = {**client.links, **client.pending}
            for name, up in states.items():
                if known.get(name, False) != up:
                    client.pending[name] = up
            self._tell_links(client)

    def _tell_links(self, client: _Client) -> None:
        if client.links is None or not client.session.idle:
            return
        if client.pending:
            name, up = next(iter(client.pending.items()))
            del client.pending[name]
            client.links[name] = up
            number = self._node.numbers.get(name)
            peer = name if number is None else str(Eid.ipn(number, 0))
            status = LinkStatus.UP if up else LinkStatus.DOWN
            client.session.tell_link(status, peer, self._node.address(name), self._loop.time())
            self._flush(client)


def _headers(bundle: Bundle) -> Headers:
    return Headers(
        str(bundle.source),
        str(bundle.destination),
        bundle.timestamp.time_ms,
        bundle.timestamp.sequence,
        len(bundle.payload),
        bundle.lifetime_ms,
    )
