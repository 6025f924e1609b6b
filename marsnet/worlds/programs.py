"""Runs a scenario's programs in the networks of its nodes, and keeps what they write and how they end.

A program has the network of its node (setns(2)) and the machine's file system. Only `/etc/hosts` is another one, in a
mount namespace of its own, so that names of nodes are names of hosts. It runs in a folder of its own in the run folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from marsnet.clock import MissionClock
from marsnet.errors import EnvironmentLacksError
from marsnet.model.programs import Program
from marsnet.worlds.spec import ProgramEnd, RunSpec, mission_time

FOLDER = "programs"
"""Folder of a run folder in which each program has one of its own."""
OUTPUT, ERRORS = "output.txt", "errors.txt"
GRACE = 5.0
"""Host seconds that a program gets to end when it is asked to."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


def check_programs(spec: RunSpec) -> None:
    """Raise EnvironmentLacksError for a program that this machine does not have."""
    for program in spec.scenario.programs:
        command = program.command[0]
        if "/" not in command and shutil.which(command, path=_PATH) is None:
            packages = " ".join(spec.scenario.software.debian) or f"(the package that has {command})"
            raise EnvironmentLacksError(
                f"program {program.name!r} of the scenario is {command!r}, which is not installed",
                fix=f"apt-get install {packages}, or name its package under 'software' and run with '--world warp'",
            )


def inside(network: int, hosts: Path) -> tuple[str, ...]:
    """What to begin a command with so that it runs in a process's network, with a file in place of `/etc/hosts`."""
    return ("nsenter", "-t", str(network), "-n", "unshare", "--mount", "sh", "-c", _WITH_HOSTS, str(hosts))


class Programs:
    """The programs of a run: started and stopped when the mission clock says so.

    Args:
        spec: the run.
        networks: process ids in whose networks the nodes are, by node.
        addresses: of the nodes in these networks.
        clock: the mission clock, at rate 1.
        packages: folder of the Python packages that the scenario names; None when it names none.
    """

    def __init__(
        self,
        spec: RunSpec,
        networks: Mapping[str, int],
        addresses: Mapping[str, str],
        clock: MissionClock,
        packages: Path | None,
    ) -> None:
        self._spec, self._networks, self._clock, self._packages = spec, networks, clock, packages
        self._agenda = sorted(
            (time, index, begins) for index, program in enumerate(spec.scenario.programs)
            for time, begins in self._times(program)
        )  # fmt: skip
        self._running: dict[int, _Running] = {}
        if spec.scenario.programs:
            folder = spec.folder / FOLDER
            folder.mkdir()
            self._hosts = folder / "hosts.txt"
            lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
            self._hosts.write_text("\n".join(lines) + "\n", encoding="ascii")
            if packages is not None:
                found = sorted(path.name.removesuffix(".dist-info") for path in packages.glob("*.dist-info"))
                (folder / "packages.txt").write_text("\n".join(found) + "\n", encoding="utf-8")

    def _times(self, program: Program) -> list[tuple[float, bool]]:
        scenario, topology = self._spec.scenario, self._spec.topology
        times = [(mission_time(program.at, scenario, topology), True)]
        if program.stop is not None:
            times.append((mission_time(program.stop, scenario, topology), False))
        return times

    @property
    def next_time(self) -> float | None:
        """Mission time of the next thing to do."""
        return self._agenda[0][0] if self._agenda else None

    def advance(self, now: float) -> None:
        """Start and stop what is due by `now`."""
        while self._agenda and self._agenda[0][0] <= now:
            _, index, begins = self._agenda.pop(0)
            if begins:
                self._running[index] = self._start(self._spec.scenario.programs[index])
            else:
                self._running[index].stop()

    def _start(self, program: Program) -> _Running:
        folder = self._spec.folder / FOLDER / program.name
        folder.mkdir()
        for file in program.files:
            shutil.copy(file, folder)
        environment = {"PATH": _PATH, "HOME": str(folder), "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONUNBUFFERED": "1"}
        if self._packages is not None:
            environment["PYTHONPATH"] = str(self._packages)
        command = [*inside(self._networks[program.node], self._hosts), *program.command]
        return _Running(command, folder, environment | program.environment, self._clock)

    def finish(self) -> tuple[ProgramEnd, ...]:
        """Stop what still runs, and say what became of all."""
        for running in self._running.values():
            running.stop()
        return tuple(
            self._running[index].end(program) if index in self._running else ProgramEnd(program.name, program.node)
            for index, program in enumerate(self._spec.scenario.programs)
        )


class _Running:
    """One program, and a thread that waits for its end."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], clock: MissionClock) -> None:
        self._clock, self._started, self._ended = clock, clock.now(), 0.0
        self._stopped = False
        with (folder / OUTPUT).open("wb") as output, (folder / ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        self._waiting = threading.Thread(target=self._wait, daemon=True)
        self._waiting.start()

    def _wait(self) -> None:
        self._process.wait()
        self._ended = self._clock.now()

    def stop(self) -> None:
        """Ask it to end, and end it when it does not; without effect when it has ended."""
        if not self._waiting.is_alive():
            return
        self._stopped = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(self._process.pid, number)
            self._waiting.join(GRACE)
            if not self._waiting.is_alive():
                return

    def end(self, program: Program) -> ProgramEnd:
        """How it ended."""
        self._waiting.join()
        return ProgramEnd(
            program.name, program.node, self._started, self._ended, self._process.returncode, self._stopped
        )


def written(folder: Path, program: str) -> str:
    """What a program of a run has written to standard output and standard error."""
    own = folder / FOLDER / program
    return "".join(
        (own / name).read_text(encoding="utf-8", errors="replace") for name in (OUTPUT, ERRORS) if (own / name).exists()
    )
