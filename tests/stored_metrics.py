"""A Prometheus server over a TSDB that lies in a folder, for tests that ask it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(server: str, data: Path) -> Iterator[str]:
    """Where a server of the data listens, which scrapes nothing and forgets nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [server, "--config.file=/dev/null", f"--storage.tsdb.path={data}", "--storage.tsdb.retention.time=100y",
         f"--web.listen-address={address}"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert any("Server is ready to receive web requests" in line for line in process.stderr)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=30)
