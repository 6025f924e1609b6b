"""A guest whose user is nobody: no root, no group, no capability, no Docker. `make test-warp` runs it.

Where the test itself runs as root, it takes a copy of the tree and of the kept guest, and runs that as `nobody`. What
`nobody` cannot do is make the root of Debian packages, because system users have no subordinate ids.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.warp, pytest.mark.slow, pytest.mark.timeout(7200)]
CHECKOUT = Path(__file__).resolve().parents[3]
SCENARIO = Path("tests", "integration", "warp", "self_check.yaml")
NOBODY = 65534
DROPPED = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs --inh-caps -all --bounding-set -all"


@dataclass(frozen=True)
class Place:
    """A tree that somebody without privileges may use, how to become that, and where results go."""

    tree: Path
    become: tuple[str, ...]
    output: Path

    def start(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """The Python of this environment, as that somebody, with no Docker to speak to."""
        told = {
            "HOME": str(self.output),
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
            "PYTHONPATH": str(self.tree),
        }
        command = [*self.become, sys.executable, *map(str, words)]
        env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **told}
        return subprocess.run(command, cwd=self.tree, env=env, capture_output=True, text=True, check=False)


def as_root(folder: Path) -> tuple[dict[str, Any], Path]:
    """The run that a privileged user gets, which also makes the guest; and its folder."""
    command = [sys.executable, "-m", "marsnet.cli", "run", str(SCENARIO), "--world", "warp", "--output", str(folder)]
    done = subprocess.run([*command, "--json"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict, folder / "latest"


def copy_tree(target: Path) -> None:
    """Sources and compiled parts; of what is kept a copy of the newest guest, and links to what is only read."""
    command = ["git", "-C", str(CHECKOUT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    compiled = [str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "marsnet").rglob("*.so")]
    for name in [*filter(None, listed.split("\0")), *compiled]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target / name)
    kept, own = CHECKOUT / ".cache" / "warp", target / ".cache" / "warp"
    own.mkdir(parents=True)
    for path in kept.iterdir():
        if path.suffix in {".tar", ".cpio", ".sha256"} or path.name.startswith(("kernel-", "python-")):
            (own / path.name).symlink_to(path)
    guests = [path for path in kept.glob("program-*") if path.is_dir()]
    newest = max(guests, key=lambda path: path.stat().st_mtime)
    subprocess.run(["cp", "-r", "--sparse=always", str(newest), str(own)], check=True)
    subprocess.run(["chown", "-R", "--no-dereference", f"{NOBODY}:{NOBODY}", str(target)], check=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    if os.geteuid() != 0:
        yield Place(CHECKOUT, (), tmp_path)
        return
    become = tuple(DROPPED.split())
    probe = [*become, sys.executable, "-m", "marsnet.cli", "--help"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("nobody may not read this checkout")
    with tempfile.TemporaryDirectory(prefix="marsnet-nobody-", dir="/var/tmp") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        (folder / "home").mkdir()
        os.chown(folder / "home", NOBODY, NOBODY)
        yield Place(folder / "tree", become, folder / "home")


def test_nobody_gets_the_run_that_root_gets(place: Place, tmp_path: Path) -> None:
    verdict, folder = as_root(tmp_path / "root")
    if os.geteuid() == 0:
        copy_tree(place.tree)
        socket = "import socket; socket.socket(socket.AF_UNIX).connect('/run/docker.sock')"
        assert place.start("-c", socket).returncode != 0, "Docker is out of reach"
    done = place.start("-m", "marsnet.cli", "run", SCENARIO, "--world", "warp", "--output", place.output, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    own: dict[str, Any] = json.loads(done.stdout)
    assert own["passed"]
    assert own["valid"]
    content = [(run / "guest-content.txt").read_text() for run in (folder, place.output / "latest")]
    assert content[0] == content[1]
    assert own["ledger_hash"] == verdict["ledger_hash"]
