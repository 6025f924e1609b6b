"""A Docker daemon of one's own, beside whichever the machine runs: started, recorded, stopped by its owner alone."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from frame import daemon

pytestmark = [pytest.mark.root, pytest.mark.slow]

OWNER = Path("/somewhere/checkout")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Short, because paths of sockets are limited to 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mn-", dir="/tmp"))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    yield folder
    daemon.stop(OWNER, folder / "run")
    shutil.rmtree(folder)


def start(place: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Ensures a daemon in namespaces of its own: dockerd removes a docker0 that it does not use, and leaves mounts."""
    options = [f"--data-root={place}/data", f"--exec-root={place}/exec", *more]
    code = (
        "import sys; from pathlib import Path; from frame import daemon; "
        "daemon.ensure(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])"
    )
    return subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            sys.executable,
            "-c",
            code,
            OWNER,
            place / "run",
            place / "docker.sock",
            *options,
        ],
        env=os.environ | {"PYTHONPATH": str(Path(daemon.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_daemon_answers_when_ensured_and_is_gone_when_stopped(place: Path) -> None:
    networks = set(Path("/sys/class/net").glob("docker*"))
    assert start(place).returncode == 0
    assert daemon.answers(place / "docker.sock")
    record = json.loads((place / "run" / "dockerd.json").read_text())
    assert start(place).stderr == ""
    assert json.loads((place / "run" / "dockerd.json").read_text()) == record, "the second time nothing is started"

    assert daemon.stop(Path("/another/checkout"), place / "run") is False
    assert daemon.answers(place / "docker.sock")

    assert daemon.stop(OWNER, place / "run") is True
    assert daemon.process_started(record["pid"]) is None
    assert not daemon.answers(place / "docker.sock")
    assert daemon.stop(OWNER, place / "run") is False
    assert set(Path("/sys/class/net").glob("docker*")) == networks


def test_a_daemon_that_cannot_start_shows_its_log(place: Path) -> None:
    done = start(place, "--storage-driver=nonsense")
    assert done.returncode == 4
    assert "dockerd did not become ready" in done.stderr
    assert "nonsense" in done.stderr
