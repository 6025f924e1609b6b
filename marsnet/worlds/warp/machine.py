"""A QEMU whose clock counts instructions and jumps when its guest idles, and the channel by which the guest speaks.

With `-icount shift=0,sleep=off` one instruction is one nanosecond, and when the guest's only processor halts, time goes
to its next timer at once. Nothing comes in from outside: no network, no disk, a random seed and a wall clock that are
given. So what happens inside is the same each time (docs/warp.md).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from marsnet.errors import EnvironmentLacksError, RunInvalidError
from marsnet.worlds.warp.agent import CHANNEL
from marsnet.worlds.warp.needs import require_memory
from marsnet.worlds.warp.qmp import Control
from marsnet.worlds.watch import changes

PATIENCE = 1800.0
"""Host seconds without a word from the guest after which it counts as hung."""
_REMEDY = "run it again, and where it ends likewise, remove .cache/warp, so that the guest is made anew"
_LAST_LINES = 12
LOGS = ("console.log", "qemu.log")
"""What a guest and its QEMU had to say: files in the folder of its order."""
MISSION_BYTES = 256 << 20
"""Size of the mission device."""
_KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 clocksource=tsc tsc=reliable nohz=on nosoftlockup nowatchdog mitigations=off nokaslr "
    "random.trust_cpu=off transparent_hugepage=never init_on_alloc=0 psi=0 rdinit=/init"
)
# Without random numbers of the host. Without "enhanced" string instructions, of which QEMU counts and emulates every
# octet, and without protection that costs it a lookup at each entry of the kernel.
_CPU = "max,-rdrand,-rdseed,-erms,-la57,-smap,-smep,-umip,-pku"


@dataclass(frozen=True, slots=True)
class Kept:
    """A machine that stands still.

    Attributes:
        ram: file of its memory.
        state: file of the rest of it.
    """

    ram: Path
    state: Path


@dataclass(frozen=True, slots=True)
class Order:
    """What a guest is started with.

    Attributes:
        kernel: its image.
        initramfs: its root.
        memory: bytes.
        folder: where console and channel are kept.
        seed: of the random numbers that QEMU gives, 0 to 2^63 - 1.
        mission: file that the guest sees as its mission device, MISSION_BYTES long.
        kept: the machine to go on with, which stays as it is; None to boot.
        ram: file that is the memory, to keep the machine afterwards, and where `kept` is given, a copy of what it has.
            None for memory that is gone with the guest, which needs `kept`.
        shell: path of a Unix socket that a shell inside can be spoken to by; None for nobody at the other end.
    """

    kernel: Path
    initramfs: Path
    memory: int
    folder: Path
    mission: Path
    seed: int = 1
    kept: Kept | None = None
    ram: Path | None = None
    shell: Path | None = None


class Guest:
    """One guest from start to end. Use it as a context manager: no process stays behind."""

    def __init__(self, order: Order) -> None:
        """Prepare.

        Raises:
            EnvironmentLacksError: QEMU is not installed, or marsnet's C part not built, or the machine has too little
                memory for the guest.
        """
        program, turns = _program(), turns_library()
        require_memory(order.memory)
        self._order = order
        self._program, self._turns = program, turns
        self.console = order.folder / "console.log"
        self._channel = order.folder / "channel"
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = self._news = -1
        self._pending = b""
        self._control: Control | None = None

    def __enter__(self) -> Guest:
        # A plain file is never full, as a pipe is: the guest does not notice how fast it is read.
        self._channel.touch()
        self._reader, self._news = os.open(self._channel, os.O_RDONLY | os.O_CLOEXEC), changes([self._channel])
        own, its = socket.socketpair()
        with its, (self._order.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                _command(self._program, self._order, its.fileno()),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[its.fileno()],
                env={**os.environ, "LD_PRELOAD": self._turns},
            )  # fmt: skip
        self._control = Control(own)
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        assert self._control is not None  # noqa: S101
        try:
            self._control.greet()
            if self._order.kept is not None:
                self._control.take_over(str(self._order.kept.state))
            self._control.begin()
        except RunInvalidError as error:
            raise self._broken(str(error)) from None

    def keep(self, state: Path) -> None:
        """Write the state of the guest, which has said that it stops, to a file; its memory is in the file for it.

        Raises:
            RunInvalidError: QEMU cannot.
        """
        assert self._control is not None  # noqa: S101
        self._control.await_stop()
        self._control.save(str(state))

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        if self._control is not None:
            self._control.close()
        os.close(self._reader)
        os.close(self._news)
        self._channel.unlink(missing_ok=True)

    def processor_seconds(self) -> float:
        """Seconds of processor time that its QEMU has used (proc(5), stat)."""
        assert self._process is not None  # noqa: S101
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def messages(self, into: Path) -> Iterator[dict[str, Any]]:
        """What the guest says, until it ends or stops to be kept.

        A message `{"file": name, "size": n}` comes when that file is there.

        Args:
            into: folder that files from the guest are written to.

        Raises:
            RunInvalidError: the guest ended or fell silent before it said `{"end": true}` or `{"stop": true}`;
                with its last words.
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
                if message.get("end") or message.get("stop"):
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
        ready: list[int] = []
        while not (read := os.read(self._reader, 1 << 20)):
            if ended in ready:
                raise self._broken("the guest ended before its run")
            ready, _, _ = select.select([self._news, ended], [], [], PATIENCE)
            if not ready:
                raise self._broken(f"the guest has said nothing for {PATIENCE:g} s")
            if self._news in ready:
                os.read(self._news, 65536)
        return read

    def _broken(self, what: str) -> RunInvalidError:
        """What became of the guest, its last words, and what to do about it."""
        return RunInvalidError(f"{what}: {self._last_words()}; to fix it: {_REMEDY}")

    def _last_words(self) -> str:
        words: list[str] = []
        for path in (self._order.folder / name for name in reversed(LOGS)):
            with suppress(OSError):
                lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
                # After a panic come registers and calls; what it was about stands before them.
                words += [line for line in lines[:-_LAST_LINES] if "Kernel panic" in line] + lines[-_LAST_LINES:]
        return " | ".join(words) or "it left no word"


def version() -> str:
    """What names this QEMU and the machine that it is told to be: states of another one cannot be taken over."""
    program = _program()
    told = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    order = Order(Path("kernel"), Path("initramfs"), 0, Path("folder"), Path("mission"), ram=Path("ram"))
    return told.stdout + repr(_command("", order, 0))


def _program() -> str:
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise EnvironmentLacksError(
            "qemu-system-x86_64 is not installed", fix="apt-get install --no-install-recommends qemu-system-x86"
        )
    return program


def turns_library() -> str:
    """The library by which QEMU's main loop and the guest's processor take turns (turns.c)."""
    spec = find_spec("marsnet.worlds.warp._turns")
    if spec is None or spec.origin is None:
        raise EnvironmentLacksError(
            "what keeps the guest's clock independent of the host has not been built",
            fix="python setup.py build_ext --inplace, or pip install -e .",
        )
    return spec.origin


def _command(program: str, order: Order, control: int) -> list[str]:
    kept = order.kept
    ram = kept.ram if kept is not None and order.ram is None else order.ram
    assert ram is not None  # noqa: S101
    # Without a file of its own the guest has a private view of what is kept: only pages that it changes are its own.
    memory = (
        f"memory-backend-file,id=ram,size={order.memory},share={'on' if order.ram else 'off'},mem-path={_escaped(ram)}"
    )
    command = [
        # The guest ends with its driver, however that ends (prctl(2), PR_SET_PDEATHSIG).
        "setpriv", "--pdeathsig", "KILL", program,
        # The names of its threads are how turns.c knows the guest's processor.
        "-name", "marsnet,debug-threads=on",
        # No drives: what they answer is the host's to time, and firmware would ask them.
        "-nodefaults", "-M", "pc,nvdimm=on,memory-backend=ram", "-object", memory,
        "-m", f"{order.memory >> 20}M,slots=1,maxmem={(order.memory + MISSION_BYTES) >> 20}M",
        "-accel", "tcg", "-icount", "shift=0,sleep=off", "-seed", str(order.seed % 2**63),
        "-rtc", "base=2026-01-01T00:00:00,clock=vm", "-cpu", _CPU, "-smp", "1",
        "-display", "none", "-vga", "none", "-no-reboot", "-nic", "none",
        "-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control",
        "-object", f"memory-backend-file,id=mission,size={MISSION_BYTES},share=on,mem-path={_escaped(order.mission)}",
        "-device", "nvdimm,memdev=mission",
        "-device", "pvpanic-pci", "-action", "panic=pause",
        "-serial", f"file:{order.folder / 'console.log'}",
        # Without ioeventfd the device answers within the guest's own instruction, not whenever the host gets to it.
        "-device", "virtio-serial-pci,ioeventfd=off",
        "-chardev", f"file,id=out,path={_escaped(order.folder / 'channel')},append=on",
        "-device", f"virtserialport,chardev=out,name={CHANNEL}",
        "-chardev", "null,id=shell" if order.shell is None
        else f"socket,id=shell,path={_escaped(order.shell)},server=on,wait=off",
        "-device", "virtconsole,chardev=shell,name=marsnet.shell",
    ]  # fmt: skip
    command += ["-kernel", str(order.kernel), "-initrd", str(order.initramfs), "-append", _KERNEL_ARGUMENTS]
    # It stands still until it is told to begin: while its guest computes, its main loop hears nothing (turns.c).
    return [*command, "-S"] if kept is None else [*command, "-S", "-incoming", "defer"]


def _escaped(path: Path) -> str:
    """A path as a value of QEMU's options, in which commas separate."""
    return str(path).replace(",", ",,")
