"""Programs of other people that a scenario runs in the networks of its nodes, and what they need installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from marsnet.model.quantities import Strict, misplaced
from marsnet.model.times import When, WhenField
from marsnet.model.topology import Name

_DEBIAN = r"^[a-z0-9][a-z0-9+.-]+$"
_PINNED = r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.!+_-]+$"


def _word(value: object) -> object:
    """YAML reads `5` as a number; a fraction is better quoted, for it need not come out as it was written."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _pinned(value: object) -> object:
    if isinstance(value, str) and not re.match(_PINNED, value):
        raise ValueError(f"{value!r} has no version; write it as in 'aioquic==1.2.0', so that each run has the same")
    return value


Word = Annotated[str, BeforeValidator(_word)]


class Program(Strict):
    """A program that runs, unmodified and told nothing, in the network of a node; the file system is the machine's.

    Names of nodes are names of hosts to it. What it writes to its working directory, to standard output and to standard
    error comes back in the run folder.
    """

    name: Name
    node: str = Field(description="in whose network it runs")
    command: tuple[Word, ...] = Field(min_length=1, description="program and arguments, a word each; no shell reads it")
    at: WhenField = Field(default=When("0 s", 0.0), description="when it is started")
    stop: WhenField | None = Field(
        default=None, description="when it is asked to end (SIGTERM), if it has not; default: at the end of the run"
    )
    exit: int | Literal["any"] = Field(
        default=0, description="the exit code that the run requires; 'any' also for what is to be stopped"
    )
    files: tuple[Path, ...] = Field(default=(), description="copied to its working directory; relative to this file")
    environment: dict[str, Word] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _plain_files(self) -> Self:
        names = [path.name for path in self.files]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise misplaced(f"two files are named {name!r}", "rename one", "files", index)
        return self


class Software(Strict):
    """What the programs need beside what every guest of the warp world has."""

    debian: tuple[Annotated[str, Field(pattern=_DEBIAN)], ...] = Field(default=(), description="Debian packages")
    python: tuple[Annotated[str, BeforeValidator(_pinned), Field(pattern=_PINNED)], ...] = Field(
        default=(), description="Python packages with versions, as in 'aioquic==1.2.0'"
    )
