"""A QEMU whose clock counts instructions and jumps when its guest idles, and the channel by which the guest speaks.

With `-icount shift=0,sleep=off` one instruction is one nanosecond, and when the guest's only processor halts, time goes
to its next timer at once. Nothing comes in from outside: no network, no disk, a random seed and a wall clock that are
given. So what happens inside is the same each time (docs/warp.md).
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marsnet.clock import format_utc, parse_utc
from marsnet.errors import EnvironmentLacksError, RunInvalidError

PATIENCE = 1800.0
"""Host seconds without a word from the guest after which it counts as hung."""
CHANNEL = "marsnet.out"
_KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 clocksource=tsc tsc=reliable nohz=on nosoftlockup nowatchdog mitigations=off "
    "random.trust_cpu=off transparent_hugepage=never rdinit=/init"
)


@dataclass(frozen=True, slots=True)
class Order:
    """What a guest is started with.

    Attributes:
        kernel: its image.
        initramfs: its root.
        memory: bytes.
        seed: of every random number inside, 0 to 2^63 - 1.
        clock: UTC at the guest's start, ISO 8601.
        folder: where console and channel are kept.
        shell: path of a Unix socket that a shell inside can be spoken to by; None for nobody at the other end.
    """

    kernel: Path
    initramfs: Path
    memory: int
    seed: int
    clock: str
    folder: Path
    shell: Path | None = None


class Guest:
    """One guest from start to end. Use it as a context manager: no process stays behind."""

    def __init__(self, order: Order) -> None:
        """Prepare.

        Raises:
            EnvironmentLacksError: QEMU is not installed, or the machine has too little memory for the guest.
        """
        program = shutil.which("qemu-system-x86_64")
        if program is None:
            raise EnvironmentLacksError(
                "qemu-system-x86_64 is not installed", fix="apt-get install --no-install-recommends qemu-system-x86"
            )
        available = _available_memory()
        if available < order.memory:
            raise EnvironmentLacksError(
                f"the guest needs {order.memory >> 20} MiB of memory, and {available >> 20} MiB are free",
                fix="end other programs, or give the topology's containers less memory",
            )
        self._order = order
        self._command = _command(program, order)
        self.console = order.folder / "console.log"
        self._channel = order.folder / "channel"
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = -1
        self._pending = b""

    def __enter__(self) -> Guest:
        os.mkfifo(self._channel)
        # Opened for both, so that neither side waits for the other and its end is seen by the process, not by the pipe.
        self._reader = os.open(self._channel, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):
            _widen(self._reader)
        with (self._order.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        os.close(self._reader)
        self._channel.unlink(missing_ok=True)

    def messages(self, into: Path) -> Iterator[dict[str, Any]]:
        """What the guest says, until it ends. A message `{"file": name, "size": n}` comes when that file is there.

        Args:
            into: folder that files from the guest are written to.

        Raises:
            RunInvalidError: the guest ended or fell silent before it said `{"end": true}`; with its last words.
        """
        assert self._process is not None  # noqa: S101
        ended = os.pidfd_open(self._process.pid)
        try:
            while True:
                line = self._line(ended)
                message: dict[str, Any] = json.loads(line)
                if "file" in message:
                    self._receive(into / Path(message["file"]).name, int(message["size"]), ended)
                yield message
                if message.get("end"):
                    return
        finally:
            os.close(ended)

    def _line(self, ended: int) -> bytes:
        while b"\n" not in self._pending:
            self._pending += self._read(ended)
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _receive(self, target: Path, size: int, ended: int) -> None:
        with target.open("wb") as file:
            while size:
                if not self._pending:
                    self._pending = self._read(ended)
                taken, self._pending = self._pending[:size], self._pending[size:]
                size -= len(taken)
                file.write(taken)

    def _read(self, ended: int) -> bytes:
        deadline = time.monotonic() + PATIENCE
        ready, _, _ = select.select([self._reader, ended], [], [], max(0.0, deadline - time.monotonic()))
        if self._reader in ready:
            with suppress(BlockingIOError):
                return os.read(self._reader, 1 << 20)
        if ended in ready:
            raise RunInvalidError(f"the guest ended before its run: {self._last_words()}")
        if not ready:
            raise RunInvalidError(f"the guest has said nothing for {PATIENCE:g} s: {self._last_words()}")
        return b""

    def _last_words(self) -> str:
        words: list[str] = []
        for path in (self._order.folder / "qemu.log", self.console):
            with suppress(OSError):
                lines = path.read_text(errors="replace").splitlines()
                words += [line.strip() for line in lines if line.strip()][-12:]
        return " | ".join(words) or "it left no word"


def start_of_clock(epoch: str, lead: float) -> str:
    """UTC at which a guest starts so that mission time 0 is `lead` seconds later; whole seconds, as QEMU takes them."""
    instant = parse_utc(epoch).timestamp() - lead
    return format_utc(type(parse_utc(epoch)).fromtimestamp(int(instant), tz=parse_utc(epoch).tzinfo))[:19]


def _command(program: str, order: Order) -> list[str]:
    # The guest ends with its driver, however that ends (prctl(2), PR_SET_PDEATHSIG).
    return [
        "setpriv", "--pdeathsig", "KILL", program,
        "-M", "pc", "-accel", "tcg", "-icount", "shift=0,sleep=off", "-seed", str(order.seed % 2**63),
        "-rtc", f"base={order.clock},clock=vm", "-cpu", "max,-rdrand,-rdseed", "-smp", "1",
        "-m", str(order.memory >> 20), "-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none",
        "-serial", f"file:{order.folder / 'console.log'}",
        # Without ioeventfd the device answers within the guest's own instruction, not whenever the host gets to it.
        "-device", "virtio-serial-pci,ioeventfd=off",
        "-chardev", f"file,id=out,path={order.folder / 'channel'},append=on",
        "-device", f"virtserialport,chardev=out,name={CHANNEL}",
        "-chardev", "null,id=shell" if order.shell is None
        else f"socket,id=shell,path={order.shell},server=on,wait=off",
        "-device", "virtconsole,chardev=shell,name=marsnet.shell",
        "-kernel", str(order.kernel), "-initrd", str(order.initramfs), "-append", _KERNEL_ARGUMENTS,
    ]  # fmt: skip


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _widen(pipe: int) -> None:
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
