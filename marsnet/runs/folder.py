"""Where a run leaves its files: `runs/<scenario>-<stamp>/`, and `runs/latest` that points to the newest one."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from marsnet.errors import EnvironmentLacksError


def make_run_folder(parent: Path, scenario: str) -> Path:
    """A new folder for a run; `latest` beside it points to it.

    Raises:
        EnvironmentLacksError: the parent cannot be written.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            folder = parent / (f"{scenario}-{stamp}" + (f"-{number}" if number else ""))
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
        latest = parent / "latest"
        fresh = parent / f".latest-{os.getpid()}"
        fresh.symlink_to(folder.name)
        fresh.replace(latest)
    except OSError as error:
        raise EnvironmentLacksError(
            f"cannot write runs to {str(parent)!r}: {error.strerror}", fix="run 'marsnet run SCENARIO --output FOLDER'"
        ) from None
    return folder.resolve()
