"""The example of docs/node.md, as a reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cl_nodes import free_ports
from node_process import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["tcpcl", "ltp"])
def test_the_nodes_of_the_page_answer(layer: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "node.md").read_text()
    files = re.findall(r"^`?.*?`(\w+\.yaml)`:\n\n```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["earth.yaml", "mars.yaml"]
    ports = dict(zip(("8101", "8102", "4561", "4562"), map(str, free_ports(4)), strict=True))
    nodes = []
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    try:
        for name, text in files:
            moved = re.sub("|".join(ports), lambda match: ports[match[0]], text)
            (tmp_path / name).write_text(moved.replace("tcpcl", layer))
            command = [sys.executable, "-m", "marsnet.cli", "node", "--config", name]
            node = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
            nodes.append(node)
            assert node.stdout is not None
            assert "ready" in node.stdout.readline()
        command = [sys.executable, "-m", "marsnet.cli", "ping", f"http://127.0.0.1:{ports['8101']}", "ipn:2.7"]
        command += ["--count", "2", "--interval", "0.1 s"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    finally:
        for node in nodes:
            node.terminate()
            node.communicate(timeout=20)
