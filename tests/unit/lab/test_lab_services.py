"""Services that announce themselves in their log, and the forwarder, without any namespace."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.worlds.lab import forward, services

SCRIPT = "import sys,signal;print('port 77 is open', flush=True);signal.pause()"


def test_a_service_is_ready_when_its_log_says_so(tmp_path: Path) -> None:
    pid, match = services.start([sys.executable, "-c", SCRIPT], tmp_path / "logs" / "x.log", r"port (\d+) is open")
    try:
        assert match[1] == "77"
        assert Path(f"/proc/{pid}").exists()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_service_that_ends_shows_the_end_of_its_log(tmp_path: Path) -> None:
    script = "print('the disk is full'); raise SystemExit(3)"
    with pytest.raises(services.ServiceError, match=r"ended at once(.|\n)*the disk is full"):
        services.start([sys.executable, "-c", script], tmp_path / "x.log", "ready")


def test_a_service_that_says_nothing_is_given_up_and_ended(tmp_path: Path) -> None:
    script = "import os,signal;print(os.getpid(), flush=True);signal.pause()"
    log = tmp_path / "x.log"
    with pytest.raises(services.ServiceError, match=r"not ready after 0\.5 s"):
        services.start([sys.executable, "-c", script], log, "ready", timeout=0.5)
    assert not Path(f"/proc/{log.read_text().strip() or 'never-started'}/exe").exists()


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match="'no-such-program' is not installed; to fix it: make setup"):
        services.start(["no-such-program"], tmp_path / "x.log", "ready")


@pytest.mark.parametrize("text", ["", "9090", "host:", "host:x", "host:70000", ":80"])
def test_an_address_without_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write host and port"):
        forward.endpoint(text)


async def test_the_forwarder_carries_both_directions_and_passes_the_end_on() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(forward.serve(listener, server.sockets[0].getsockname()))
    try:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"mars" * 50_000)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"MARS" * 50_000
        writer.close()
    finally:
        task.cancel()
        server.close()


async def test_a_target_that_refuses_closes_the_connection() -> None:
    unused = socket.create_server(("127.0.0.1", 0))
    target = unused.getsockname()
    unused.close()
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(forward.serve(listener, target))
    try:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    finally:
        task.cancel()
