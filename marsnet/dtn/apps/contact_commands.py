"""uD3TN's commands to change contacts, as its `aap2-config` sends them to a node's configuration endpoint.

A command is a JSON object: `command` (ADD, UPDATE, DELETE, QUERY), `node_id`, `cla_addr`, `reachable_eids` and
`contact_list` with `start` and `end` in whole seconds of DTN time and `data_rate` in octets a second (ud3tn-utils 0.15,
`config.py`). What it says becomes contacts of the plan, in both directions, as far as a plan can say the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marsnet.clock import MissionClock
from marsnet.dtn.bpv7 import BundleError, Eid
from marsnet.dtn.node.config import NodeConfig
from marsnet.errors import InputError
from marsnet.plan.types import Contact, ContactPlan, Range

LINK = "aap2"
"""Link of the contacts that commands have added; they take away no others."""
_MOST = 1 << 50
"""Seconds and octets a second beyond which nothing is meant."""
_LAYERS = {"tcpclv4": "tcpcl"}
"""uD3TN's names of layers that have another one here."""


class _Window(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    start: int = Field(ge=0, le=_MOST)
    end: int = Field(ge=0, le=_MOST)
    data_rate: int = Field(ge=0, le=_MOST)
    reachable_eids: tuple[str, ...] = ()


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    command: Literal["ADD", "UPDATE", "DELETE", "QUERY"]
    node_id: str | None
    cla_addr: str | None = None
    reachable_eids: tuple[str, ...] = ()
    contact_list: tuple[_Window, ...] = ()


def commanded(plan: ContactPlan, octets: bytes, config: NodeConfig, clock: MissionClock, now: float) -> ContactPlan:
    """The plan that a command makes of a node's plan.

    Args:
        plan: of the node.
        octets: the command.
        config: of the node.
        clock: by which DTN time becomes mission time.
        now: mission seconds.

    Raises:
        InputError: it is no command, or says what a plan cannot.
    """
    try:
        command = _Command.model_validate_json(octets)
    except ValidationError as error:
        problem = f"no command to change contacts: {error.errors()[0]['msg']}"
        raise InputError(problem, remedy="send what aap2-config of ud3tn-utils sends") from None
    if command.command in {"QUERY", "UPDATE"}:
        raise InputError(f"{command.command} has no answer here", remedy="read or replace the plan over HTTP: /plan")
    neighbour = _neighbour(command, plan, config)
    pair = {config.name, neighbour}
    ours = [c for c in plan.contacts if {c.source, c.target} == pair]
    windows = [_contact(window, config.name, neighbour, clock) for window in command.contact_list]
    if command.command == "DELETE":
        times = {(c.start, c.end) for c in windows}
        gone = [c for c in ours if c.link == LINK and (not times or (c.start, c.end) in times)]
        if not gone:
            raise InputError(f"no command has added such a contact with {neighbour!r}", remedy="see the plan: /plan")
        return replace(plan, contacts=tuple(c for c in plan.contacts if c not in gone), _ranges={})
    return _with(plan, windows, ours, config, now)


def _neighbour(command: _Command, plan: ContactPlan, config: NodeConfig) -> str:
    """The neighbour that a command is about. Raises InputError when there is none, or it is reached in another way."""
    try:
        endpoint = Eid.parse(command.node_id or "")
    except BundleError as error:
        raise InputError(f"the node {command.node_id!r}: {error}", remedy="write it as ipn:2.0") from None
    numbers = {**plan.nodes, **config.known_numbers()}
    name = next((n for n in config.neighbours if numbers.get(n) == endpoint.node or n == endpoint.name), None)
    if name is None:
        raise InputError(
            f"{command.node_id!r} is no neighbour of {config.name!r}",
            remedy="name it in 'neighbours', with its address",
        )
    settings = config.neighbours[name]
    if command.cla_addr:
        layer, _, place = command.cla_addr.partition(":")
        known = f"{settings.convergence}:" + (
            f"{settings.address}:{settings.destination.port}" if settings.address else ""
        )
        if f"{_LAYERS.get(layer, layer)}:{place}" != known:
            raise InputError(f"{name!r} is at {known}, not at {command.cla_addr!r}", remedy="give that address")
    stated = (command.reachable_eids, *(window.reachable_eids for window in command.contact_list))
    away = {eid for eids in stated for eid in eids} - {command.node_id}
    if away:
        raise InputError(
            f"the command does not say when {name!r} reaches {sorted(away)[0]!r}, nor how fast",
            remedy="state that contact too, in a plan over HTTP",
        )
    return name


def _contact(window: _Window, here: str, there: str, clock: MissionClock) -> Contact:
    if window.end <= window.start or not window.data_rate:
        raise InputError(
            f"a contact from {window.start} to {window.end} with {window.data_rate} octets a second",
            remedy="let it end after its start, and carry something",
        )
    start, end = (clock.from_dtn_time(1000 * time) for time in (window.start, window.end))
    return Contact(LINK, here, there, start, end, 8.0 * window.data_rate)


def _with(plan: ContactPlan, added: list[Contact], ours: list[Contact], config: NodeConfig, now: float) -> ContactPlan:
    if not added:
        raise InputError("no contact is stated", remedy="state one: aap2-config -s OFFSET DURATION RATE")
    for at, contact in enumerate(added):
        if contact.end <= now:
            raise InputError(
                "a contact is over", remedy=f"the mission clock of this node shows {now:.0f} s, {plan.epoch}"
            )
        for other in (*ours, *added[:at]):
            same = (other.link, other.start, other.end, other.rate) == (LINK, contact.start, contact.end, contact.rate)
            if not same and other.start < contact.end and contact.start < other.end:
                raise InputError(
                    f"{contact.target!r} is in contact already from {other.start:.0f} s to {other.end:.0f} s",
                    remedy="take that contact away first, or state another time",
                )
    both = {*added, *(replace(c, source=c.target, target=c.source) for c in added)}
    contacts = {*plan.contacts, *both}
    stated = {(r.source, r.target) for r in plan.ranges}
    light = config.neighbours[added[0].target].light_time
    ranges = [Range(c.source, c.target, plan.start, plan.end, light) for c in both]
    new = {(r.source, r.target): r for r in ranges if (r.source, r.target) not in stated}
    return replace(
        plan,
        start=min(plan.start, *(c.start for c in both)),
        end=max(plan.end, *(c.end for c in both)),
        contacts=tuple(sorted(contacts, key=lambda c: (c.start, c.source, c.target))),
        ranges=tuple(sorted((*plan.ranges, *new.values()), key=lambda r: (r.start, r.source, r.target))),
        _ranges={},
    )
