"""Bundle-hops per second in the virtual world, beside `aiodtnsim` and `pons-dtn` on the same plan and traffic.

    python benchmarks/virtual.py [--bundles 500 1000 2000 4000] [--aiodtnsim PYTHON] [--pons PYTHON]

The plan is first_light's, without its fault. The traffic is telemetry of 1 kB from the habitat to mission control,
evenly over eighteen hours (three hops a bundle: relay, station, control), by as many bundles as asked for, and
first_light's own, of up to 500 kB a bundle.

A hop is a bundle that a node has received; seconds are those of the simulation alone, without imports and planning, in
CPU time of the process where `--cpu` is given (for a machine that is busy otherwise). The peers move messages as
objects: no encoding, no segments, no acknowledgement, no store. What the virtual world does for a hop is what a
node does in a container: BPv7 with checksums, LTP sessions with reports, routes and volumes by SABR, the ledger, and
each frame through the link's queues; only the store is no database, and red segments travel without being encoded. Each
peer runs with an interpreter of its own, given by its option.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from marsnet.dtn.node.ledger import Step
from marsnet.dtn.node.traffic import departures
from marsnet.runs.prepare import prepare
from marsnet.worlds.nodes import node_configs
from marsnet.worlds.spec import RunSpec
from marsnet.worlds.virtual import run_virtual

HERE = Path(__file__).resolve().parent
SCENARIO = HERE.parent / "scenarios" / "first_light.yaml"
SPAN = 18 * 3600.0


def telemetry(spec: RunSpec, bundles: int) -> RunSpec:
    """The run with one flow of so many bundles of 1 kB."""
    scenario = spec.scenario
    flow = next(flow for flow in scenario.traffic if flow.name == "habitat-telemetry")
    flow = flow.model_copy(update={"every": SPAN / bundles, "size": 1000.0, "stop": None, "lifetime": 2 * 86400.0})
    return replace(spec, scenario=scenario.model_copy(update={"traffic": (flow,), "requirements": ()}))


def work(spec: RunSpec) -> dict[str, Any]:
    """Plan and traffic as the peers read them."""
    configs = node_configs(spec, None, hiccup=0.0)
    flows = chain.from_iterable(((name, flow) for flow in config.flows) for name, config in configs.items())
    messages = [
        (at, name, flow.destination, flow.size, flow.lifetime)
        for name, flow in flows
        for at in departures(flow, spec.seed)
        for _ in range(flow.burst)
    ]
    plan = spec.plan
    return {
        "nodes": list(plan.nodes),
        "contacts": [
            (c.source, c.target, c.start, c.end, c.rate, plan.owlt(c.source, c.target, c.start)) for c in plan.contacts
        ],
        "messages": sorted(messages),
        "duration": spec.scenario.duration,
    }


def peer(program: str, python: str, task: dict[str, Any], cpu: bool) -> dict[str, float]:
    """What a peer says."""
    done = subprocess.run(
        [python, str(HERE / program), *(["--cpu"] if cpu else [])],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    if done.returncode:
        raise SystemExit(f"{program}: {done.stderr[-2000:]}")
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def ours(spec: RunSpec, cpu: bool) -> dict[str, float]:
    """The virtual world."""
    clock = time.process_time if cpu else time.perf_counter
    began = clock()
    outcome = run_virtual(spec)
    seconds = clock() - began
    steps = [record.step for record in outcome.records]
    return {
        "seconds": seconds,
        "hops": steps.count(Step.RECEIVED),
        "delivered": steps.count(Step.DELIVERED),
        "frames": sum(direction.entered for direction in outcome.frames),
    }


def show(name: str, who: str, said: dict[str, float], reference: float | None) -> float:
    """Print a line; returns hops per second."""
    rate = said["hops"] / said["seconds"]
    ratio = "" if reference is None else f"{reference / rate:7.2f}"
    print(
        f"{name:>12} {who:10} {said['seconds']:8.2f} s {said['hops']:8.0f} {said['delivered']:9.0f} {rate:9.0f}",
        ratio,
        flush=True,
    )
    return rate


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=int, nargs="*", default=[500, 1000, 2000, 4000])
    parser.add_argument("--aiodtnsim", default="", help="interpreter that has aiodtnsim")
    parser.add_argument("--pons", default="", help="interpreter that has pons-dtn")
    parser.add_argument("--cpu", action="store_true", help="CPU time instead of time")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        base = prepare(SCENARIO, Path(folder), without_faults=True)
        print(f"{'traffic':>12} {'simulator':10} {'time':>10} {'hops':>8} {'delivered':>9} {'hops/s':>9} {'ratio':>7}")
        runs = [(f"{count} x 1 kB", telemetry(base, count)) for count in options.bundles]
        for name, spec in [*runs, ("first_light", base)]:
            rate = show(name, "marsnet", ours(spec, options.cpu), None)
            for who, program, python in (
                ("aiodtnsim", "peers/aiodtnsim_sabr.py", options.aiodtnsim),
                ("pons-dtn", "peers/pons_epidemic.py", options.pons),
            ):
                if python:
                    show(name, who, peer(program, python, work(spec), options.cpu), rate)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
