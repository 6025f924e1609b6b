"""How fast the clock of a guest of the warp world runs, against wall time and against processor time.

    python benchmarks/warp.py [--json FILE]

No root. Idle guests in several states, plain `ping` over 22 minutes of light time, and a second of computing. The
first use makes the guest (docs/warp.md). Figures are read best from a machine that does nothing else; processor time of
the guest's QEMU is given too, which other work disturbs less.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from marsnet.worlds.warp import recipe
from marsnet.worlds.warp.archives import Content
from marsnet.worlds.warp.machine import Guest, Order
from marsnet.worlds.warp.snapshots import base_guest, program_tree, raise_failure, write_mission

MEMORY = 3 << 30
INSIDE = Path(__file__).with_name("warp_inside.py")


def main() -> None:
    """Print one line of JSON for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for all figures as one list")
    options = parser.parse_args()

    def say(step: str) -> None:
        print(step, file=sys.stderr, flush=True)

    parts = recipe.parts(say)
    kept = base_guest(parts, MEMORY, say)
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="marsnet-warp-bench-") as scratch:
        folder = Path(scratch)
        order = {"seed": 1, "program": "warp_inside"}
        entries: dict[str, Content] = {
            "mission/order.json": json.dumps(order).encode(),
            "opt/marsnet/warp_inside.py": INSIDE,
            **program_tree(recipe.program_layer(say), folder),
        }
        mission = write_mission(folder, entries)
        with Guest(Order(parts.kernel, parts.root, MEMORY, folder, mission, kept=kept)) as guest:
            began = time.monotonic(), guest.processor_seconds()
            for message in guest.messages(folder):
                raise_failure(message)
                now = time.monotonic(), guest.processor_seconds()
                if "done" in message:
                    wall, processor = (b - a for a, b in zip(began, now, strict=True))
                    figures.append(_figure(message, wall, processor))
                    print(json.dumps(figures[-1]), flush=True)
                began = now
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _figure(message: dict[str, Any], wall: float, processor: float) -> dict[str, Any]:
    seconds = float(message["seconds"])
    wakers = message["wakers"]
    woken = sum(count for _, count in wakers["counts"]["sched/sched_wakeup"])
    return {
        "what": message["done"],
        "guest_s": round(seconds, 3),
        "busy_s": round(wakers["busy"], 2),
        "wakeups_per_guest_s": round(woken / seconds, 2),
        "wall_s": round(wall, 2),
        "processor_s": round(processor, 2),
        "times_wall": round(seconds / wall, 1),
        "times_processor": round(seconds / processor, 1) if processor else None,
        "told": message["told"],
    }


if __name__ == "__main__":
    main()
