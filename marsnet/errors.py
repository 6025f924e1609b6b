"""The exceptions of marsnet and the exit code that each one ends the console script with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class MarsnetError(Exception):
    """Root of everything marsnet raises on purpose. A message states the value and the remedy."""

    exit_code: ClassVar[int] = 1


class InputError(MarsnetError):
    """A file or an argument that a person wrote is wrong.

    Attributes:
        problem: what is wrong, naming the value.
        remedy: what to write instead.
        file: the file, where there is one.
        line: its line, counted from 1.
    """

    exit_code = 2

    def __init__(
        self, problem: str, *, remedy: str = "", file: str | Path | None = None, line: int | None = None
    ) -> None:
        self.problem, self.remedy = problem, remedy
        self.file = str(file) if file is not None else None
        self.line = line
        super().__init__(str(self))

    def __str__(self) -> str:
        place = "" if self.file is None else self.file + (f":{self.line}" if self.line else "") + ": "
        return place + self.problem + (f"; {self.remedy}" if self.remedy else "")

    def at(self, file: str | Path, line: int | None) -> InputError:
        """The same error, placed in a file."""
        return InputError(self.problem, remedy=self.remedy, file=file, line=line)


class RunInvalidError(MarsnetError):
    """The run cannot be trusted: its fidelity figures exceed the budget, or it was broken off."""

    exit_code = 3


class EnvironmentLacksError(MarsnetError):
    """The machine lacks a package, a privilege or a service.

    Attributes:
        missing: what is missing.
        fix: the command that mends it.
    """

    exit_code = 4

    def __init__(self, missing: str, *, fix: str) -> None:
        self.missing, self.fix = missing, fix
        super().__init__(f"{missing}; to fix it: {fix}")
