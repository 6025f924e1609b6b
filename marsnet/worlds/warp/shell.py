"""A shell inside the warp guest, at a moment of the mission, over a virtual console; and its other end outside.

While it is open a process of the lowest priority keeps the guest's processor from idling. So its clock does not jump:
mission time creeps, some eight times slower than the host's, and whoever types is not overtaken by hours.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from marsnet.worlds.spec import Pause

MOMENT = struct.Struct("<d")
"""How the guest is told the moment: mission seconds, infinite for never. All runs have as many octets of it."""
_DEVICE = Path("/dev/hvc0")
_RUN = Path("/run/marsnet-shell")
_COMMANDS = _RUN / ".commands"
_RC = """\
# Run a program in the network of a node, as `node habitat ip -s link`.
node() { _name=$1; shift; nsenter -t "$(cat "/run/marsnet-shell/$_name")" -n "$@"; }
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
PS1='warp \\w# '
"""
# Between its turns it sleeps for an instant: only then QEMU passes on what was typed.
_SPIN = """
import time
while True:
    for _ in range(50_000):
        pass
    time.sleep(1e-6)
"""
_ALIVE = 60.0
"""Guest seconds between signs of life, which tell the driver outside that the guest does not hang."""
_END_OF_FILE = b"\x04"


def looking_in(moment: bytes, folder: Path, say: Callable[..., None]) -> Pause:
    """The pause of a mission in the guest.

    Args:
        moment: as `MOMENT` packs it.
        folder: of the run.
        say: sends a message out.
    """
    (at,) = MOMENT.unpack(moment)

    def look(now: float, networks: Mapping[str, int]) -> None:
        _RUN.mkdir()
        for node, pid in networks.items():
            (_RUN / node).write_text(str(pid))
        _COMMANDS.write_text(_RC)
        spinner = subprocess.Popen([sys.executable, "-S", "-c", _SPIN])
        os.sched_setscheduler(spinner.pid, os.SCHED_IDLE, os.sched_param(0))
        threading.Thread(target=_show_life, args=(say,), daemon=True).start()
        _serve(folder, lambda: say(shell=now))
        say(end=True)
        # The driver outside ends the machine now.
        signal.pause()

    return Pause(at, look)


def _show_life(say: Callable[..., None]) -> None:
    while True:
        time.sleep(_ALIVE)
        say(alive=time.monotonic())


def _serve(folder: Path, ready: Callable[[], None]) -> None:
    with _DEVICE.open("r+b", buffering=0) as console:
        usual = termios.tcgetattr(console)
        plain = termios.tcgetattr(console)
        plain[1] &= ~termios.OPOST
        plain[3] &= ~termios.ECHO
        termios.tcsetattr(console, termios.TCSANOW, plain)
        ready()
        # The first line says who is at the other end; until it comes, nobody is.
        person = b"person" in console.readline()
        if person:
            termios.tcsetattr(console, termios.TCSANOW, usual)
        command = ["bash", "--rcfile", str(_COMMANDS), "-i"] if person else ["bash", "/proc/self/fd/0"]
        subprocess.run(
            ["setsid", "--ctty", "--wait", *command], stdin=console, stdout=console, stderr=console, cwd=folder,
            env={**os.environ, "BASH_ENV": str(_COMMANDS), "TERM": "vt100"}, check=False,
        )  # fmt: skip


class Terminal:
    """The other end: standard input goes in, what the shell says comes out on standard output.

    Args:
        path: of the Unix socket that QEMU has for the console.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._modes: list[Any] | None = None
        self._output: threading.Thread | None = None

    def begin(self) -> None:
        """Connect, and pass on from now on whatever is typed and said."""
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(self._path))
        person = sys.stdin.isatty()
        line.sendall(b"person\n" if person else b"program\n")
        if person:
            self._modes = termios.tcgetattr(sys.stdin)
            tty.setraw(sys.stdin)
        self._output = threading.Thread(target=self._say, args=(line,))
        self._output.start()
        threading.Thread(target=self._type, args=(line,), daemon=True).start()

    def end(self) -> None:
        """Say what is left to be said, when the guest has ended."""
        if self._output is not None:
            self._output.join()
        if self._modes is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._modes)

    def _say(self, line: socket.socket) -> None:
        with suppress(ConnectionError):
            while octets := line.recv(65536):
                os.write(sys.stdout.fileno(), octets)

    def _type(self, line: socket.socket) -> None:
        with suppress(OSError):
            while octets := os.read(sys.stdin.fileno(), 1024):
                line.sendall(octets)
            line.sendall(_END_OF_FILE)
