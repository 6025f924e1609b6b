"""A node that has nothing to do sleeps, and starts without what it does not need yet: counted, not timed."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from node_process import ROOT, addresses

from marsnet.dtn.node.config import ClockConfig, NodeConfig
from marsnet.dtn.node.daemon import NodeDaemon
from marsnet.dtn.node.distribution import Quantiles
from marsnet.dtn.node.door import recognized
from marsnet.dtn.node.questions import answers

HOUR = 3600.0


class CountingSelector(selectors.DefaultSelector):
    """Looks for sockets that are ready, and jumps over waits for timers. Counts how often a loop wakes up."""

    def __init__(self) -> None:
        super().__init__()
        self.wakes, self.jumped = 0, 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.wakes += 1
        ready: list[Any] = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self.jumped += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """A real loop on which an idle hour takes no time."""

    def __init__(self) -> None:
        self.selector = CountingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return super().time() + self.selector.jumped


@contextmanager
def untouched_collector() -> Iterator[None]:
    """A node sets its process's garbage collector."""
    before = gc.get_threshold()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def config(folder: Path) -> dict[str, Any]:
    prefix, _, first = addresses().rpartition(".")
    here, there = f"{prefix}.{int(first) + 1}", f"{prefix}.{int(first) + 2}"
    return {
        "name": "earth",
        "number": 1,
        "state": str(folder / "state"),
        "durability": "process",
        "metrics": f"{here}:8090",
        "listen": {"ltp": f"{here}:1113", "tcpcl": f"{here}:4556", "udpcl": f"{here}:4557", "mtcp": f"{here}:16162"},
        "neighbours": {
            "mars": {"number": 2, "address": there},
            "phobos": {"number": 3, "convergence": "tcpcl"},
        },
        "applications": {"aap2": {"socket": str(folder / "aap2.sock")}},
    }


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket lies in it."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


async def scraped(url: str) -> bytes:
    """What /metrics says, while the node goes on in this thread."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return await asyncio.to_thread(lambda: opener.open(url, timeout=30).read())


@pytest.mark.parametrize("asked", [False, True], ids=["by nobody", "by Prometheus"])
def test_nothing_wakes_an_idle_node(folder: Path, *, asked: bool) -> None:
    written = config(folder)
    with untouched_collector():
        loop = JumpingLoop()

        async def live() -> int:
            daemon = asyncio.create_task(NodeDaemon(NodeConfig.model_validate(written), folder).run())
            await asyncio.sleep(0)
            if asked:
                assert b"marsnet_store_bundles" in await scraped(f"http://{written['metrics']}/metrics")
            # The server closes the scraper's connection, and asyncio's worker thread its errand.
            await asyncio.sleep(120)
            before = loop.selector.wakes
            await asyncio.sleep(HOUR)
            woken = loop.selector.wakes - before
            os.kill(os.getpid(), signal.SIGTERM)
            await daemon
            return woken

        try:
            woken = loop.run_until_complete(live())
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
    # The end of the hour wakes it, and nothing else.
    assert woken <= 2


def told(url: str, method: str, body: bytes | None = None) -> dict[str, Any]:
    """The answer of a node to what a world asks."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, data=body, method=method)  # noqa: S310
    with opener.open(request, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        content: dict[str, Any] = json.loads(answer.read())
    return content


@pytest.mark.parametrize("asked", [False, True], ids=["by nobody", "by a world"])
def test_a_node_that_listens_has_not_imported_what_serves(folder: Path, *, asked: bool) -> None:
    written = config(folder) | ({"clock": "wait"} if asked else {})
    url = f"http://{written['metrics']}"
    (folder / "node.json").write_text(json.dumps(written))
    program = (
        "import json, sys\n"
        "from marsnet.dtn.node.__main__ import main\n"
        "sys.argv[1:] = ['--config', 'node.json']\n"
        "main()\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, text=True, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        if asked:
            clock = {"epoch": "2026-10-01T00:00:00Z", "rate": 1.0, "origin": time.monotonic()}
            assert told(f"{url}/status", "GET")["running"] is False
            assert told(f"{url}/clock", "PUT", json.dumps(clock).encode()) == {"running": True}
            assert told(f"{url}/conditions", "PUT", b"{}")
            for path, body, status in (("/clock", json.dumps(clock).encode(), 409), ("/conditions", b"[]", 400)):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    told(url + path, "PUT", body)
                assert refused.value.code == status
                refused.value.close()
            assert told(f"{url}/status", "GET")["running"] is True
        process.terminate()
        modules = json.loads(process.stdout.read())
    roots = {module.partition(".")[0] for module in modules}
    heavy = {"aiohttp", "jinja2", "numpy", "plotly", "prometheus_client", "rich", "ruamel", "scipy", "typer"}
    assert not roots & heavy
    assert not {"marsnet.plan.files", "marsnet.dtn.apps.api", "marsnet.dtn.apps.documents"} & set(modules)
    assert len(modules) < 550


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT /clock HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}",
        b"PUT /clock HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_request_for_a_known_answer_needs_no_server(request_: bytes) -> None:
    known = answers(dict, no_clock, lambda conditions: True)
    assert recognized(request_, known) == (known[tuple(request_.decode().split()[:2])], len(request_))  # type: ignore[index]


def test_a_body_may_come_after_its_head() -> None:
    known = answers(dict, no_clock, lambda conditions: True)
    head = b"PUT /clock HTTP/1.1\r\nContent-Length: 70\r\n\r\n"
    assert recognized(head + b"{", known) == (known["PUT", "/clock"], len(head) + 70)


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"GET /status HTTP/1.1\r\nHost: x\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"POST /clock HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /status HTTP/2\r\n\r\n",
        b"GET  /status HTTP/1.1\r\n\r\n",
        b"PUT /clock HTTP/1.1\r\nContent-Length: 99999\r\n\r\n{}",
        b"PUT /clock HTTP/1.1\r\nContent-Length: 1\r\n\r\n{}",
        b"PUT /clock HTTP/1.1\r\nContent-Length: x\r\n\r\n{}",
        b"PUT /clock HTTP/1.1\r\n\r\n{}",
        b"PUT /clock HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /clock HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
    ],
)
def test_everything_else_is_for_the_server(request_: bytes) -> None:
    assert recognized(request_, answers(dict, no_clock, lambda conditions: True)) is None


async def no_clock(clock: ClockConfig) -> bool:
    return False


def test_a_request_in_pieces_is_answered_and_a_silent_client_delays_no_end(folder: Path) -> None:
    written = config(folder)
    host, port = written["metrics"].split(":")

    async def live() -> bytes:
        daemon = asyncio.create_task(NodeDaemon(NodeConfig.model_validate(written), folder).run())
        await asyncio.sleep(0)
        answered, silent = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        reader, writer = answered
        writer.write(b"GET /sta")
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(b"tus HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        content = await reader.read()
        writer.close()
        os.kill(os.getpid(), signal.SIGTERM)
        await daemon
        silent[1].close()
        return content

    with untouched_collector():
        answer = asyncio.run(live())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"name": "earth"' in answer


def test_quantiles_are_right_to_two_per_cent_and_take_no_room() -> None:
    found, values = Quantiles(), [n / 10_000 for n in range(1, 100_001)]
    for value in values:
        found.observe(value)
    for share in (0.01, 0.5, 0.99, 1.0):
        exact = values[round(share * len(values)) - 1]
        assert exact <= found.at_most(share) <= 1.02 * exact
    assert found.largest == 10.0
    assert len(vars(found)["_bins"]) < 1000
