"""Coverage-guided fuzzing of every parser: `python fuzz_parsers.py FOLDER SECONDS [TARGET]`.

The folder keeps the corpus, so that a later run goes on where this one ended. Without a target, the first octet of each
input chooses it. What is found is written to the current folder as `crash-...`, `timeout-...` or `oom-...`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["marsnet.dtn", "marsnet.plan"]):
    from fuzz_targets import TARGETS

NAMES = list(TARGETS)
MEMORY_EVERY = 8
"""Memory is measured for one input in so many, since that takes as long as parsing."""


def main() -> None:
    """Fuzz until the time is over or something is found."""
    folder, seconds = Path(sys.argv[1]), int(sys.argv[2])
    chosen = sys.argv[3:4]
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        for count, seed in enumerate(TARGETS[name].seeds):
            if not chosen or name in chosen:
                prefix = b"" if chosen else bytes((number,))
                (folder / f"seed-{number}-{count}").write_bytes(prefix + seed)
    runs = 0

    def one(data: bytes) -> None:
        nonlocal runs
        if not chosen:
            if not data:
                return
            name, data = NAMES[data[0] % len(NAMES)], data[1:]
        else:
            name = chosen[0]
        runs += 1
        if runs % MEMORY_EVERY:
            TARGETS[name].run(data)
        else:
            TARGETS[name].check(data)

    options = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-seed=1"]
    atheris.Setup([sys.argv[0], *options, str(folder)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
