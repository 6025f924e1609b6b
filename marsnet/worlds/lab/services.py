"""Programs that belong to a lab: start one and wait for its word that it is ready; stop it again.

A service writes to a log file of its own, so it lives on when the process that started it ends.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from marsnet.errors import EnvironmentLacksError, MarsnetError
from marsnet.worlds.lab import namespace


class ServiceError(MarsnetError):
    """A service ended, or did not become ready in time. The message has the end of its log."""

    exit_code = 3


def start(
    argv: Sequence[str],
    log: Path,
    ready: str,
    *,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    timeout: float = 30.0,
) -> tuple[int, re.Match[str]]:
    """Start a program in the calling thread's namespace and wait for a line of its log.

    Args:
        argv: program and arguments.
        log: file for standard output and error; an existing one is replaced.
        ready: regular expression that the line contains.
        env: environment; None for this process's own.
        pass_fds: descriptors that the program inherits.
        timeout: host seconds.

    Returns:
        Process id, and what the expression matched.

    Raises:
        EnvironmentLacksError: when the program is not installed.
        ServiceError: when it ends first or is not ready in time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise EnvironmentLacksError(f"the program {argv[0]!r} is not installed", fix="make setup") from error
    try:
        return process.pid, _await_line(process.pid, log, re.compile(ready), timeout)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        # The lab ends it by its namespace; this object must not complain that nobody waited for it.
        process.returncode = process.returncode or 0


def _await_line(pid: int, log: Path, ready: re.Pattern[str], timeout: float) -> re.Match[str]:
    deadline = time.monotonic() + timeout
    ended = os.pidfd_open(pid)
    # tail waits on inotify, so nothing here wakes up without a cause.
    with subprocess.Popen(["tail", "-n", "+1", "-f", str(log)], stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None  # noqa: S101
        lines = follower.stdout.fileno()
        os.set_blocking(lines, False)
        poll = select.poll()
        for descriptor in (ended, lines):
            poll.register(descriptor, select.POLLIN)
        text = ""
        try:
            while (left := deadline - time.monotonic()) > 0:
                events = {descriptor for descriptor, _ in poll.poll(left * 1000)}
                if lines in events:
                    with suppress(BlockingIOError):
                        text += os.read(lines, 65536).decode(errors="replace")
                    if match := ready.search(text):
                        return match
                elif ended in events:
                    raise ServiceError(f"a service ended at once; the end of {log}:\n{_end_of(log)}")
            raise ServiceError(f"a service was not ready after {timeout:g} s; the end of {log}:\n{_end_of(log)}")
        finally:
            os.close(ended)
            follower.kill()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:])


def stop(pid: int, inode: int, patience: float = 5.0) -> bool:
    """End a service by its process id, if it is still the one that runs in the lab's namespace.

    Args:
        pid: process id.
        inode: the lab's namespace; a process elsewhere has been given the id meanwhile and is left alone.
        patience: host seconds between SIGTERM and SIGKILL.

    Returns:
        Whether there was one to end.
    """
    ended = namespace.end_processes([inode], patience, only=pid) > 0
    reap(pid)
    return ended


def reap(pid: int) -> None:
    """Take note of the end of a service that this process started; nothing happens when another one did."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def is_running(pid: int, inode: int) -> bool:
    """Whether the service with this process id still runs in the lab's namespace."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino == inode
    except OSError:
        return False
