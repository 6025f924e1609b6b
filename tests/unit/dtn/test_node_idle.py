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
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from node_process import ROOT, addresses

from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.daemon import NodeDaemon
from marsnet.dtn.node.distribution import Quantiles

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


def test_a_node_that_listens_has_not_imported_what_serves(folder: Path) -> None:
    (folder / "node.json").write_text(json.dumps(config(folder)))
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
        process.terminate()
        modules = json.loads(process.stdout.read())
    roots = {module.partition(".")[0] for module in modules}
    heavy = {"aiohttp", "jinja2", "numpy", "plotly", "prometheus_client", "rich", "ruamel", "scipy", "typer"}
    assert not roots & heavy
    assert not {"marsnet.plan.files", "marsnet.dtn.apps.api", "marsnet.dtn.apps.documents"} & set(modules)
    assert len(modules) < 550


def test_quantiles_are_right_to_two_per_cent_and_take_no_room() -> None:
    found, values = Quantiles(), [n / 10_000 for n in range(1, 100_001)]
    for value in values:
        found.observe(value)
    for share in (0.01, 0.5, 0.99, 1.0):
        exact = values[round(share * len(values)) - 1]
        assert exact <= found.at_most(share) <= 1.02 * exact
    assert found.largest == 10.0
    assert len(vars(found)["_bins"]) < 1000
