"""Applications that send and receive by HTTP, WebSocket and AAP 2.0 at nodes that are killed, and what they saw."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import Counter
from typing import Any

import aiohttp
from test_apps_aap2 import framed

from marsnet.dtn.apps.aap2 import GREETING
from marsnet.dtn.apps.aap2_schema import MESSAGES, Status

HTTP_PORT, AAP2_PORT = 8090, 4242
GONE = (OSError, aiohttp.ClientError, asyncio.IncompleteReadError)
"""What a node that is killed does to those that talk to it."""
PAUSE = 0.02
"""Host seconds between attempts to reach a node that is not there."""


class Sent:
    """What senders were told.

    Attributes:
        accepted: payloads that a node said are safe.
        unsaid: payloads whose node was killed before it said anything.
    """

    def __init__(self, label: str) -> None:
        self.accepted: set[bytes] = set()
        self.unsaid: set[bytes] = set()
        self._label, self._count = label, 0

    def fresh(self) -> bytes:
        """A payload that nobody had before, some of them large."""
        self._count += 1
        return f"{self._label} {self._count} ".encode() * (20_000 if self._count % 10 == 0 else 1)


class Seen:
    """What a receiver was given; its own disk outlives every node.

    Attributes:
        noted: payloads that it has dealt with, by bundle.
        settled: bundles whose acknowledgement a node has answered.
        wrong: what must not happen, in words.
        repeated: bundles that came again, as often as they did.
    """

    def __init__(self) -> None:
        self.noted: dict[str, bytes] = {}
        self.settled: set[str] = set()
        self.wrong: list[str] = []
        self.repeated: Counter[str] = Counter()

    def take(self, bundle: str, payload: bytes, *, marked: bool | None) -> None:
        """A bundle has come; `marked` as one that may have come before, None where the protocol has no mark."""
        if bundle in self.settled:
            self.wrong.append(f"{bundle} came again after its acknowledgement was answered")
        if bundle in self.noted:
            self.repeated[bundle] += 1
            if marked is False:
                self.wrong.append(f"{bundle} came twice without a mark")
            if self.noted[bundle] != payload:
                self.wrong.append(f"{bundle} came with another payload")
        elif payload in self.noted.values():
            self.wrong.append(f"{bundle} brings what another bundle brought")
        self.noted[bundle] = payload


async def send_by_http(address: str, destination: str, sent: Sent, stop: asyncio.Event) -> None:
    """Send one bundle after another until told to stop."""
    async with aiohttp.ClientSession() as session:
        while not stop.is_set():
            payload = sent.fresh()
            query = {"destination": destination, "service": "8"}
            headers = {"Content-Type": "application/octet-stream"}
            sent.unsaid.add(payload)
            try:
                async with session.post(
                    f"http://{address}:{HTTP_PORT}/v1/bundles", params=query, data=payload, headers=headers
                ) as answer:
                    assert answer.status == 201, await answer.text()
                    sent.accepted.add(payload)
                    sent.unsaid.discard(payload)
            except GONE:
                await asyncio.sleep(PAUSE)


async def receive_by_websocket(address: str, service: int, seen: Seen) -> None:
    """Take what comes, note it, acknowledge it."""
    url = f"http://{address}:{HTTP_PORT}/v1/endpoints/{service}/stream?window=4"
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(*GONE):
                async with session.ws_connect(url, max_msg_size=0) as stream:
                    async for message in stream:
                        said: dict[str, Any] = message.json()
                        if said.get("acknowledged"):
                            seen.settled.add(said["acknowledged"])
                        elif "payload" in said:
                            seen.take(said["bundle"], base64.b64decode(said["payload"]), marked=said["repeated"])
                            await stream.send_json({"acknowledge": said["bundle"]})
                        else:
                            seen.wrong.append(f"the node said {said}")
            await asyncio.sleep(PAUSE)


async def receive_by_request(address: str, service: int, seen: Seen) -> None:
    """Ask for one bundle after another, and acknowledge each until that is answered."""
    place = f"http://{address}:{HTTP_PORT}/v1/endpoints/{service}"
    async with aiohttp.ClientSession() as session:
        waiting: str | None = None
        while True:
            try:
                if waiting is None:
                    async with session.get(f"{place}/next", params={"wait": "30"}) as answer:
                        if answer.status == 200:
                            said = await answer.json()
                            seen.take(said["bundle"], base64.b64decode(said["payload"]), marked=said["repeated"])
                            waiting = said["bundle"]
                else:
                    async with session.delete(f"{place}/bundles/{waiting}") as answer:
                        if answer.status == 200:
                            seen.settled.add(waiting)
                            waiting = None
                        else:
                            seen.wrong.append(f"acknowledging {waiting}: {await answer.text()}")
                            return
            except GONE:
                await asyncio.sleep(PAUSE)


class Aap2:
    """A connection to a node's AAP 2.0."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @staticmethod
    async def connect(address: str, endpoint: str, *, subscribe: bool) -> Aap2:
        """Connect and take a role. Raises one of `GONE`."""
        made = Aap2(*await asyncio.open_connection(address, AAP2_PORT))
        try:
            assert await made._reader.readexactly(1) == GREETING
            await made.read("AAPMessage")
            config = {"endpoint_id": endpoint, "secret": "s", "is_subscriber": subscribe}
            made.write(MESSAGES["AAPMessage"](config=config))
            status = (await made.read("AAPResponse")).response_status
        except BaseException:
            made.close()
            raise
        assert status == Status.SUCCESS
        return made

    async def read(self, kind: str) -> Any:
        """The next message."""
        length = shift = 0
        while True:
            octet = (await self._reader.readexactly(1))[0]
            length |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
        return MESSAGES[kind].FromString(await self._reader.readexactly(length))

    async def payload(self, size: int) -> bytes:
        """What follows a message."""
        return await self._reader.readexactly(size)

    def write(self, message: Any, payload: bytes = b"") -> None:
        """Send a message."""
        self._writer.write(framed(message, payload))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def send_by_aap2(address: str, source: str, destination: str, sent: Sent, stop: asyncio.Event) -> None:
    """Send one bundle after another until told to stop."""
    while not stop.is_set():
        try:
            connection = await Aap2.connect(address, source, subscribe=False)
        except GONE:
            await asyncio.sleep(PAUSE)
            continue
        try:
            while not stop.is_set():
                payload = sent.fresh()
                sent.unsaid.add(payload)
                adu = {"dst_eid": destination, "payload_length": len(payload)}
                connection.write(MESSAGES["AAPMessage"](adu=adu), payload)
                if (await connection.read("AAPResponse")).response_status == Status.SUCCESS:
                    sent.accepted.add(payload)
                sent.unsaid.discard(payload)
        except GONE:
            pass
        finally:
            connection.close()


async def receive_by_aap2(address: str, endpoint: str, seen: Seen) -> None:
    """Take what comes, note it, acknowledge it; nothing comes twice on one connection."""
    while True:
        try:
            connection = await Aap2.connect(address, endpoint, subscribe=True)
        except GONE:
            await asyncio.sleep(PAUSE)
            continue
        here: set[str] = set()
        try:
            while True:
                message = await connection.read("AAPMessage")
                if message.WhichOneof("msg") == "adu":
                    adu = message.adu
                    payload = await connection.payload(adu.payload_length)
                    bundle = f"{adu.src_eid}/{adu.creation_timestamp_ms}-{adu.sequence_number}"
                    if bundle in here:
                        seen.wrong.append(f"{bundle} came twice on one connection")
                    here.add(bundle)
                    seen.take(bundle, payload, marked=None)
                    connection.write(MESSAGES["AAPResponse"](response_status=int(Status.SUCCESS)))
                else:
                    connection.write(MESSAGES["AAPResponse"](response_status=int(Status.ACK)))
        except GONE:
            pass
        finally:
            connection.close()
