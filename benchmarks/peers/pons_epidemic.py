"""Run by `../virtual.py` with an interpreter that has `pons-dtn`: its epidemic simulation of a plan and traffic.

    PYTHON peer_pons.py < input.json

Input and output as in `aiodtnsim_sabr.py`. It has no router that knows the plan: its epidemic one floods. Contacts
count in whole seconds there, and its messages know no contact's end once they have left.
"""

from __future__ import annotations

import json
import logging
import sys
import time

import pons
from pons.net.plans.core import CoreContact, CoreContactPlan
from pons.routing import EpidemicRouter

DELIVERED = "delivered"


def main() -> None:
    """Simulate."""
    work = json.load(sys.stdin)
    logging.disable(logging.CRITICAL)
    clock = time.process_time if "--cpu" in sys.argv else time.perf_counter
    began = clock()
    numbers = {name: number for number, name in enumerate(work["nodes"], 1)}
    contacts = [
        # Delays are milliseconds, rates bytes per second.
        CoreContact((int(s), int(e)), (numbers[a], numbers[b]), max(1, int(rate / 8)), 0.0, delay * 1000.0, 0.0)
        for a, b, s, e, rate, delay in work["contacts"]
        if a < b
    ]
    plan = CoreContactPlan(contacts=contacts, symmetric=True)
    nodes = [
        pons.Node(
            number,
            name,
            net=[pons.NetworkSettings("plan", range=0, contactplan=plan)],
            router=EpidemicRouter(scan_interval=60.0),
        )
        for name, number in numbers.items()
    ]
    duration = int(work["duration"])
    simulation = pons.NetSim(duration, nodes, config={"movement_logger": False, "peers_logger": False})

    def source(env, messages):  # type: ignore[no-untyped-def]
        for number, (at, origin, target, size, lifetime) in enumerate(messages):
            if at > env.now:
                yield env.timeout(at - env.now)
            message = pons.Message(f"m{number}", numbers[origin], numbers[target], size, env.now, ttl=int(lifetime))
            simulation.routing_stats["created"] += 1
            simulation.nodes[numbers[origin]].router.add(message)

    simulation.setup()
    simulation.env.process(source(simulation.env, sorted(work["messages"])))
    simulation.run()
    figures = {
        "seconds": clock() - began,
        "hops": simulation.routing_stats["relayed"],
        "delivered": simulation.routing_stats[DELIVERED],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
