"""The network namespace that a lab lives in: make it, enter it, end what runs in it, remove it.

A process belongs to a lab when its network namespace is the lab's. Nothing is ever found by the name of a program.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from marsnet.errors import EnvironmentLacksError

NETNS_DIR = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_ROUNDS = 5
"""How often a namespace is searched again for processes that started meanwhile."""
_libc = ctypes.CDLL(None, use_errno=True)


def run(*argv: str, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    """Standard output of a command.

    Raises:
        EnvironmentLacksError: when the command is not installed.
        subprocess.CalledProcessError: when it fails; its `stderr` says why, and so does a note on the exception.
    """
    try:
        return subprocess.run(argv, input=stdin, env=env, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise EnvironmentLacksError(f"the program {argv[0]!r} is not installed", fix="make setup") from error
    except subprocess.CalledProcessError as error:
        error.add_note((error.stderr or error.stdout).strip())
        raise


def require_root() -> None:
    """Raise EnvironmentLacksError unless this process may build namespaces."""
    if os.geteuid() != 0:
        raise EnvironmentLacksError("a lab needs root: it builds network namespaces", fix="run the command with sudo")


def path(name: str) -> Path:
    """The file that keeps the namespace alive."""
    return NETNS_DIR / name


def inode(name: str) -> int | None:
    """What identifies the namespace among all others of the machine; None when it does not exist."""
    try:
        return path(name).stat().st_ino
    except FileNotFoundError:
        return None


def create(name: str) -> None:
    """Make an empty namespace whose loopback is up and which has no IPv6.

    Raises:
        FileExistsError: when there is one of that name.
    """
    if inode(name) is not None:
        raise FileExistsError(name)
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
        "net.ipv6.conf.default.disable_ipv6=1")  # fmt: skip


def delete(name: str) -> None:
    """Remove the namespace and with it every interface inside. Nothing happens when there is none."""
    if inode(name) is not None:
        run("ip", "netns", "delete", name)


def own_fd() -> int:
    """A descriptor of the calling thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def enter_fd(descriptor: int) -> None:
    """Move the calling thread into the namespace; threads and processes it starts from now on follow it there.

    Raises:
        OSError: when the kernel refuses.
    """
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Run a block with the calling thread inside a named namespace, then return to where it was."""
    home, target = own_fd(), os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_fd(target)
        yield
    finally:
        enter_fd(home)
        os.close(home)
        os.close(target)


def processes_in(inodes: Collection[int]) -> list[int]:
    """Ids of the processes, this one excepted, whose network namespace is one of these."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if (entry / "ns" / "net").stat().st_ino in inodes:
                    found.append(int(entry.name))
    return found


def end_processes(inodes: Collection[int], patience: float = 3.0, only: int | None = None) -> int:
    """End every process inside the namespaces: first by SIGTERM and, after `patience` seconds, by SIGKILL.

    A process is held by a pidfd and checked again before it is signalled, so that an id which was given to another
    process meanwhile is never hit. Processes that appear while others end are ended as well. With `only`, just the
    process of that id is meant.

    Returns:
        How many processes were ended.

    Raises:
        RuntimeError: when processes remain.
    """
    ended = 0
    for _ in range(_ROUNDS):
        pids = [pid for pid in processes_in(inodes) if only in (None, pid)]
        if not pids:
            return ended
        descriptors = _open_members(pids, inodes)
        try:
            _signal_all(descriptors, signal.SIGTERM)
            survivors = _await_exit(descriptors, patience)
            _signal_all(survivors, signal.SIGKILL)
            _await_exit(survivors, patience)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        ended += len(descriptors)
    if left := [pid for pid in processes_in(inodes) if only in (None, pid)]:
        raise RuntimeError(f"processes {left} do not end, even by SIGKILL; they wait inside the kernel")
    return ended


def _open_members(pids: list[int], inodes: Collection[int]) -> list[int]:
    descriptors = []
    for pid in pids:
        with suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                member = Path(f"/proc/{pid}/ns/net").stat().st_ino in inodes
            except OSError:
                member = False
            if member:
                descriptors.append(descriptor)
            else:
                os.close(descriptor)
    return descriptors


def _signal_all(descriptors: list[int], number: signal.Signals) -> None:
    for descriptor in descriptors:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)


def _await_exit(descriptors: list[int], patience: float) -> list[int]:
    """The processes that still run after `patience` seconds; a pidfd becomes readable when its process ends."""
    waiting = set(descriptors)
    poll = select.poll()
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + patience
    while waiting and (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            poll.unregister(descriptor)
            waiting.discard(descriptor)
    return list(waiting)
