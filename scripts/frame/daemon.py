"""A Docker daemon for machines where none answers: started once, recorded, and stopped only by whoever started it.

Where systemd runs, the daemon is systemd's and stays. Elsewhere dockerd is started without a bridge and without
firewall rules: every container of a lab has `network_mode: none`, so the host's network stays as it was.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from frame import say

SOCKET = Path("/var/run/docker.sock")
RUN_DIR = Path("/run/marsnet")
_QUIET = ("--bridge=none", "--iptables=false", "--ip6tables=false")
START_SECONDS = 60.0
STOP_SECONDS = 60.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def answers(path: Path = SOCKET) -> bool:
    """Whether a Docker daemon answers here, or wherever DOCKER_HOST points.

    Raises:
        PermissionError: when a daemon is there and this user may not speak to it.
    """
    host = os.environ.get("DOCKER_HOST", "")
    if host.startswith("unix://"):
        path = Path(host.removeprefix("unix://"))
    elif host:
        return True
    try:
        return request("GET", "/_ping", path)[0] == http.client.OK
    except PermissionError:
        raise
    except (OSError, http.client.HTTPException):
        return False


def request(method: str, target: str, path: Path = SOCKET) -> tuple[int, bytes]:
    """One request to the daemon's HTTP interface, before any client library is installed: status and body."""
    connection = _UnixConnection(path)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def process_started(pid: int) -> int | None:
    """The start time of a process in clock ticks since boot (proc(5), stat field 22), or None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure(owner: Path, run_dir: Path = RUN_DIR, path: Path = SOCKET, options: Sequence[str] = ()) -> None:
    """Starts a Docker daemon when none answers; exits with 4 when that needs root or fails.

    Args:
        owner: the checkout on whose behalf it starts; only that one stops it again.
        run_dir: where the record, the log and the lock live.
        path: the socket at which it answers.
        options: for dockerd, beyond the usual ones.
    """
    try:
        if answers(path):
            return
    except PermissionError:
        say.lacks(f"no permission to speak to the Docker daemon at {path}", "sudo make setup, or join the group docker")
    if not say.is_root():
        say.lacks("no Docker daemon answers, and starting one needs root", "sudo make setup")
    if path == SOCKET and Path("/run/systemd/system").is_dir():
        say.step("starting the docker service")
        say.run(["systemctl", "start", "docker"], run_dir / "setup.log", "journalctl -u docker")
        return
    with _locked(run_dir):
        if not answers(path):
            _start(owner, run_dir, [f"--host=unix://{path}", *options])


def _start(owner: Path, run_dir: Path, options: Sequence[str]) -> None:
    log = run_dir / "dockerd.log"
    dockerd = shutil.which("dockerd") or "/usr/sbin/dockerd"
    say.step(f"starting dockerd (none was running; log: {log})")
    address = run_dir / "ready"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("ab") as out:
        notify.bind(str(address))
        process = subprocess.Popen(
            [dockerd, *_QUIET, f"--pidfile={run_dir / 'docker.pid'}", *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env=os.environ | {"NOTIFY_SOCKET": str(address), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        )
        record = {"pid": process.pid, "started": process_started(process.pid), "owner": str(owner)}
        (run_dir / "dockerd.json").write_text(json.dumps(record))
        ready = _wait_ready(notify, process.pid)
    address.unlink()
    if not ready:
        print("\n".join(log.read_text(errors="replace").splitlines()[-15:]), file=sys.stderr)
        say.lacks("dockerd did not become ready", f"read {log}")


def _wait_ready(notify: socket.socket, pid: int) -> bool:
    """Waits for dockerd's READY=1 (sd_notify(3)) or its end, whichever comes first."""
    pidfd = os.pidfd_open(pid)
    try:
        while True:
            readable, _, _ = select.select([notify.fileno(), pidfd], [], [], START_SECONDS)
            if notify.fileno() in readable and b"READY=1" in notify.recv(4096):
                return True
            if pidfd in readable or not readable:
                return False
    finally:
        os.close(pidfd)


def _owned(record_file: Path, owner: Path) -> bool:
    return record_file.exists() and json.loads(record_file.read_text())["owner"] == str(owner)


def stop(owner: Path, run_dir: Path = RUN_DIR) -> bool:
    """Stops the Docker daemon that `ensure` started for this checkout; any other is left alone.

    Returns:
        whether one was stopped.
    """
    record_file = run_dir / "dockerd.json"
    if not _owned(record_file, owner):
        return False
    with _locked(run_dir):
        if not _owned(record_file, owner):
            return False
        record = json.loads(record_file.read_text())
        record_file.unlink()
        pid = int(record["pid"])
        if process_started(pid) != record["started"]:
            return False
        say.step(f"stopping the dockerd that this checkout started (pid {pid})")
        pidfd = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGTERM)
            ended, _, _ = select.select([pidfd], [], [], STOP_SECONDS)
        finally:
            os.close(pidfd)
        if not ended:
            say.step(f"dockerd (pid {pid}) did not end within {STOP_SECONDS:.0f} s of SIGTERM; it is left running")
        return bool(ended)
