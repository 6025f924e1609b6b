"""Run by `../virtual.py` with an interpreter that has `aiodtnsim`: its SABR simulation of a plan and traffic.

    PYTHON aiodtnsim_sabr.py < input.json

The input names `nodes`, `contacts` (source, target, start, end, bit/s, light time) and `messages` (time, source,
target, bytes, lifetime); the output has `seconds`, `hops` (receptions) and `delivered`. With `--cpu` seconds are CPU
time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from aiodtnsim import Contact, EventDispatcher, EventHandler, Message
from aiodtnsim.simulation.cgr import sabr
from aiodtnsim.simulation.cgr.sabr_nodegraph_node import NGSABRNode
from aiodtnsim.simulation.event_loop import DESEventLoop
from tvgutil.contact_plan import PredictedContact
from tvgutil.tvg import from_contact_plan


class Count(EventHandler):
    """Counts what happens to messages."""

    def __init__(self) -> None:
        self.hops = self.delivered = 0

    def message_received(self, time: float, node: object, message: object, tx_node: object) -> None:
        """A hop."""
        self.hops += 1

    def message_delivered(self, time: float, node: object, message: object) -> None:
        """The last one."""
        self.delivered += 1


def main() -> None:
    """Simulate."""
    work = json.load(sys.stdin)
    clock = time.process_time if "--cpu" in sys.argv else time.perf_counter
    began = clock()
    loop = DESEventLoop()
    asyncio.events._set_running_loop(loop)
    dispatcher, count = EventDispatcher(), Count()
    dispatcher.add_subscriber(count)
    graph = from_contact_plan(
        [
            PredictedContact.simple(a, b, s, e, bit_rate=rate, delay=delay)
            for a, b, s, e, rate, delay in work["contacts"]
        ]
    )
    nodes = {name: NGSABRNode(name, -1, dispatcher, sabr.sabr, graph, 0) for name in work["nodes"]}
    tasks = []
    for a, b, start, end, rate, delay in work["contacts"]:
        contact = Contact(nodes[a], nodes[b], start, end, rate, delay)
        tasks.append(asyncio.ensure_future(nodes[a].schedule_contact(contact), loop=loop))
    for number, (at, source, target, size, lifetime) in enumerate(work["messages"]):
        # Its messages are told apart by time and source.
        message = Message(at + number * 1e-6, source, target, size * 8, at + lifetime)
        tasks.append(asyncio.ensure_future(nodes[source].schedule_injection(message), loop=loop))
    loop.run_forever()
    print(json.dumps({"seconds": clock() - began, "hops": count.hops, "delivered": count.delivered}))


if __name__ == "__main__":
    main()
