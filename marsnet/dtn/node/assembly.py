"""Puts a node's forwarder together from its configuration: contacts, convergence layers and router."""

from __future__ import annotations

import random
from collections.abc import Iterable

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import ServiceClass
from marsnet.dtn.ltp import LtpConfig
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.contacts import Contacts
from marsnet.dtn.node.forwarding import Fetch, Forwarder
from marsnet.dtn.node.layer import Layer
from marsnet.dtn.node.ltp_layer import LtpLayer
from marsnet.dtn.routing import EpidemicRouter, Router, SabrRouter, StaticRouter
from marsnet.errors import InputError
from marsnet.plan.types import ContactPlan

_CHECKPOINT_LIMIT = 5
"""Checkpoints without an answer before a neighbour counts as failed."""
_SEGMENT_HEAD = 24
"""Octets of the header of an LTP data segment, at most in practice: what routes are computed with (SABR 2.4.3)."""


def assemble(
    config: NodeConfig,
    clock: MissionClock,
    plan: ContactPlan,
    now: float,
    boots: int,
    others: Iterable[Layer],
    fetch: Fetch,
    *,
    trains: bool = False,
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
        trains: whether LTP's red data is to leave as trains.

    Raises:
        InputError: a neighbour wants a layer that is not among `others`, or has no number.
    """
    margin = max(config.ltp.timer_margin, config.hiccup * clock.rate)
    for name in config.neighbours:
        if name not in config.numbers:
            raise InputError(f"neighbour {name!r} has no node number", remedy="give its 'number'")
    contacts = Contacts(config.name, {name: n.segment for name, n in config.neighbours.items()}, plan, now, margin)
    ltp = LtpLayer(
        config.number,
        LtpConfig(
            timer_margin=margin,
            checkpoint_limit=_CHECKPOINT_LIMIT,
            pacing_burst=max(0.05, 0.05 * clock.rate),
            pacing_ahead=config.ahead * clock.rate,
            segments_ahead=config.segments_ahead,
            datagram_overhead=config.overhead,
            aggregate_size=config.ltp.aggregate_size,
            aggregate_time=config.ltp.aggregate_time,
            aggregate_service=config.ltp.aggregate_service,
            checkpoint_every=config.ltp.checkpoint_every,
            control_copies=config.ltp.control_copies,
            max_block=config.ltp.max_block,
            trains=trains,
        ),
        {name: contacts.models[name] for name, n in config.neighbours.items() if n.convergence == "ltp"},
        config.numbers,
        random.Random(f"{config.seed}/{config.name}/ltp/{boots}"),
        [ServiceClass[name.upper()] for name in config.ltp.green],
        {name: n.ahead for name, n in config.neighbours.items() if n.ahead is not None},
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
    mtu = min((neighbour.segment for neighbour in config.neighbours.values()), default=1472) - _SEGMENT_HEAD
    forwarder = Forwarder(
        router_of(config, plan),
        contacts,
        carried,
        fetch,
        rate=clock.rate,
        keeps_copies=config.routing == "epidemic",
        expansion=1.0 + (config.overhead + _SEGMENT_HEAD) / mtu,
    )
    return forwarder, layers, ltp


def router_of(config: NodeConfig, plan: ContactPlan) -> Router:
    """The router that a configuration asks for."""
    match config.routing:
        case "static":
            return StaticRouter(config.name, plan, {name: name for name in config.neighbours} | config.routes)
        case "epidemic":
            return EpidemicRouter(config.name, plan)
        case "sabr":
            return SabrRouter(config.name, plan, copies=config.critical_copies)
