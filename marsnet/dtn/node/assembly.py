"""Puts a node's forwarder together from its configuration: contacts, convergence layers and router."""

from __future__ import annotations

import random
from collections.abc import Iterable

from marsnet.clock import MissionClock
from marsnet.dtn.ltp import LtpConfig
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.contacts import Contacts
from marsnet.dtn.node.forwarding import Fetch, Forwarder
from marsnet.dtn.node.layer import Layer
from marsnet.dtn.node.ltp_layer import LtpLayer
from marsnet.dtn.routing import SabrRouter
from marsnet.errors import InputError
from marsnet.plan.types import ContactPlan

_CHECKPOINT_LIMIT = 5
_MARGIN = 10.0
"""Mission seconds that an answer may be late. So much of it, because a process that is late by 50 ms is late by 10 s of
mission time at rate 200: up to there nodes wait for the same instants in every world."""
"""Checkpoints without an answer before a neighbour counts as failed."""


def assemble(
    config: NodeConfig,
    clock: MissionClock,
    plan: ContactPlan,
    now: float,
    boots: int,
    others: Iterable[Layer],
    fetch: Fetch,
) -> tuple[Forwarder, tuple[Layer, ...], LtpLayer]:
    """The forwarder, all layers, and LTP among them.

    Args:
        config: who the node is and whom it can reach.
        clock: the mission clock.
        plan: contacts and ranges.
        now: mission seconds.
        boots: how often the node was started before: LTP's random numbers differ each time.
        others: the layers besides LTP.
        fetch: called when a bundle is about to leave.

    Raises:
        InputError: a neighbour wants a layer that is not among `others`.
    """
    margin = max(_MARGIN, config.hiccup * clock.rate)
    contacts = Contacts(config.name, {name: n.mtu for name, n in config.neighbours.items()}, plan, now, margin)
    ltp = LtpLayer(
        config.number,
        LtpConfig(
            timer_margin=margin,
            checkpoint_limit=_CHECKPOINT_LIMIT,
            pacing_burst=max(0.05, 0.05 * clock.rate),
            pacing_ahead=config.ahead * clock.rate,
            datagram_overhead=config.overhead,
        ),
        {name: contacts.models[name] for name, n in config.neighbours.items() if n.convergence == LtpLayer.name},
        config.numbers,
        random.Random(f"{config.seed}/{config.name}/ltp/{boots}"),
    )
    layers = (ltp, *others)
    by_name = {layer.name: layer for layer in layers}
    carried: dict[str, Layer] = {}
    for name, neighbour in config.neighbours.items():
        if neighbour.convergence not in by_name:
            raise InputError(
                f"neighbour {name!r} is reached by {neighbour.convergence!r}, which this node does not speak here",
                remedy=f"choose one of {', '.join(by_name)}",
            )
        carried[name] = by_name[neighbour.convergence]
    forwarder = Forwarder(
        SabrRouter(config.name, plan, copies=config.critical_copies), contacts, carried, fetch, rate=clock.rate
    )
    return forwarder, layers, ltp
