"""Other people's programs on real containers, over two light seconds: what they print, leave and end with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_harness import NOTHING, left_of, marsnet

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]
SCENARIO = Path(__file__).with_name("programs_run.yaml")


def test_programs_run_in_the_networks_of_their_nodes(tmp_path: Path) -> None:
    lab = f"programs-{tmp_path.parent.name[-6:]}".replace("_", "-").rstrip("-")
    options = ["--world", "emulated", "--lab", lab, "--output", str(tmp_path), "--json"]
    done = marsnet("run", SCENARIO, *options, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    told = {entry["name"]: entry["measured"] for entry in json.loads(done.stdout)["requirements"]}
    assert told["program ping at mars"].startswith("exit code 0")
    assert told["program stopped at earth"] == "ended by SIGTERM after 7.0 s, asked to end"
    own = tmp_path / "latest" / "programs"
    assert "3 packets transmitted, 3 received" in (own / "ping" / "output.txt").read_text()
    assert (own / "wrong" / "file").read_text() == "made\n"
    assert left_of(lab, []) == NOTHING
