"""Whether the warp world can run here, as this user."""

from __future__ import annotations

import os
from collections.abc import Callable

from marsnet.errors import EnvironmentLacksError
from marsnet.worlds.machine_finding import Finding, judge
from marsnet.worlds.warp import machine, needs, recipe
from marsnet.worlds.warp.world import LEAST_MEMORY

NAME = "warp"
"""What the finding is called."""


def finding() -> Finding:
    """All that guests need of this machine; nothing is made."""
    checks: tuple[Callable[[], object], ...] = (
        recipe.host,
        machine.turns_library,
        lambda: needs.require(recipe.place()),
        lambda: needs.require_memory(LEAST_MEMORY),
    )
    lacks = []
    for check in checks:
        try:
            check()
        except EnvironmentLacksError as lack:
            lacks.append(lack)
    if lacks:
        told = "; ".join(lack.missing for lack in lacks)
        return judge(NAME, False, told, fix=" && ".join(lack.fix for lack in lacks))
    emulator = machine.version().partition("\n")[0].removeprefix("QEMU emulator version ")
    return judge(NAME, True, f"QEMU {emulator}, {'as root' if os.geteuid() == 0 else 'without root'}")
