"""One thing that is known about the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "limited", "missing"]
SETUP = "sudo make setup"
"""The command that mends most lacks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about the machine.

    Attributes:
        name: what was looked at.
        state: `ok`; `limited`, where marsnet does without it or goes slower; or `missing`.
        value: what was found, in a few words.
        required: whether the emulated world cannot run without it.
        fix: the command that mends it, empty where there is nothing to mend.
    """

    name: str
    state: State
    value: str
    required: bool = False
    fix: str = ""


def judge(name: str, good: bool, value: str, *, required: bool = False, fix: str = "") -> Finding:
    """A finding that is `ok` when good, else `missing` where required and `limited` where not."""
    state: State = "ok" if good else "missing" if required else "limited"
    return Finding(name, state, value, required, "" if good else fix)
