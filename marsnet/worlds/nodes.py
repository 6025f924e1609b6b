"""What a run tells each of its nodes: who it is, its neighbours, its traffic, its applications."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from marsnet.dtn.node.config import (
    ClockConfig,
    FileConfig,
    FlowConfig,
    LtpOptions,
    NeighbourConfig,
    NodeConfig,
    ReceiverConfig,
    ReplyConfig,
    TraceItem,
)
from marsnet.model.bundles import BundleSettings, TenantConfig
from marsnet.model.scenario import Scenario
from marsnet.model.topology import Link, Topology
from marsnet.model.traffic import Flow, read_trace
from marsnet.worlds.spec import ETHERNET_UDP_OVERHEAD, IP_UDP_OVERHEAD, RunSpec, mission_time

_SINK = 1
_MARGIN = 10.0
"""Mission seconds that an answer may be late. So much of it, because a process that is late by 50 ms is late by 10 s of
mission time at rate 200: up to there nodes wait for the same instants in every world."""
_FIRST_SERVICE = 100
"""Flows that answer, put a file together, or belong to a tenant have endpoints of their own, from this number on."""


def node_configs(
    spec: RunSpec, clock: ClockConfig | None, *, hiccup: float, ahead: float = 0.005, burst: int | None = None
) -> dict[str, NodeConfig]:
    """The configuration of every node, without addresses and paths, which only a world knows.

    Args:
        spec: the run.
        clock: the three numbers, where they are known already.
        hiccup: host seconds that a node may be late.
        ahead: host seconds of a link's rate that a node hands out at once.
        burst: octets that it hands out at once at most; links whose queues hold less get less.
    """
    topology, scenario = spec.topology, spec.scenario
    numbers = {name: node.number for name, node in topology.nodes.items()}
    traffic = [(flow_config(scenario, topology, flow), flow.source) for flow in scenario.traffic]
    applications = receivers(scenario)
    settings = {key: getattr(topology.bundles, key) for key in BundleSettings.model_fields}
    settings["tenants"] = tenants(scenario, topology)
    configs: dict[str, NodeConfig] = {}
    for name, node in topology.nodes.items():
        neighbours = {
            (set(link.between) - {name}).pop(): NeighbourConfig(
                mtu=link.mtu - IP_UDP_OVERHEAD, ahead=_most_ahead(link, burst)
            )
            for link in topology.links
            if name in link.between
        }
        flows = tuple(flow for flow, source in traffic if source == name)
        apps = tuple(receiver for receiver, place in applications if place == name)
        configs[name] = NodeConfig(
            name=name,
            number=node.number,
            numbers=numbers,
            clock=clock or "wait",
            plan=Path("plan.json"),
            neighbours=neighbours,
            quota=round(node.storage),
            seed=spec.seed,
            hiccup=hiccup,
            ahead=ahead,
            overhead=ETHERNET_UDP_OVERHEAD,
            ltp=LtpOptions(timer_margin=_MARGIN),
            flows=flows,
            receivers=apps,
            **settings,
        )
    return configs


def _most_ahead(link: Link, burst: int | None) -> int | None:
    """Octets that may wait in a link's transmitter: half of its smallest queue, so that the urgent finds room."""
    queues = link.queue.limits.values()
    bounds = [] if burst is None else [burst]
    bounds += [max(link.mtu, round(limit.size) // 2) for limit in queues if limit.size is not None]
    bounds += [link.mtu * max(1, limit.frames // 2) for limit in queues if limit.frames is not None]
    return min(bounds, default=None)


def flow_config(scenario: Scenario, topology: Topology, flow: Flow) -> FlowConfig:
    """A flow as its source is told of it, with mission times."""
    start = mission_time(flow.start, scenario, topology)
    config = FlowConfig(
        name=flow.name,
        destination=flow.destination or "",
        service=_service(scenario, flow),
        service_class=flow.service_class,
        tenant=flow.tenant or "",
        size=round(flow.size or 1),
        arrivals=flow.arrivals,
        burst=flow.burst,
        lifetime=flow.lifetime,
        start=start,
        stop=scenario.duration if flow.stop is None else mission_time(flow.stop, scenario, topology),
    )
    if flow.every is not None:
        return config.model_copy(update={"every": flow.every})
    if flow.trace is not None:
        items = tuple(
            TraceItem(
                time=start + entry.time,
                size=round(entry.size),
                service_class=entry.service_class or flow.service_class,
                destination=entry.destination or flow.destination or "",
            )
            for entry in read_trace(flow.trace)
        )
        return config.model_copy(update={"arrivals": "trace", "trace": items})
    whole = flow.file.stat().st_size if flow.file is not None else round(flow.volume or 0)
    count = math.ceil(whole / config.size)
    rest = whole - (count - 1) * config.size
    return config.model_copy(
        update={"arrivals": "backlog", "count": count, "last": rest, "window": flow.window, "file": flow.file}
    )


def tenants(scenario: Scenario, topology: Topology) -> dict[str, TenantConfig]:
    """Whose bundles nodes account for: the topology's tenants, with their quotas, and those of the scenario's flows."""
    found = dict(topology.bundles.tenants)
    for flow in scenario.traffic:
        if flow.tenant is not None:
            known = found.get(flow.tenant, TenantConfig())
            # The flow's endpoints at both ends: replies are its tenant's too.
            sources = (*known.sources, f"ipn:*.{_service(scenario, flow)}")
            found[flow.tenant] = known.model_copy(update={"sources": sources})
    return found


class Load(NamedTuple):
    """What a flow offers.

    Attributes:
        bundles: in all.
        together: the most that leave at once.
        size: payload bytes of one, on the average.
    """

    bundles: float
    together: int
    size: float


def offered(flow: FlowConfig) -> Load:
    """The load of a flow, replies left aside."""
    if flow.arrivals == "backlog":
        whole = (flow.count - 1) * flow.size + flow.last
        return Load(flow.count, min(flow.count, flow.window), whole / flow.count)
    if flow.arrivals == "trace":
        times = Counter(item.time for item in flow.trace)
        sizes = [item.size for item in flow.trace] or [1]
        return Load(len(flow.trace), max(times.values(), default=1), sum(sizes) / len(sizes))
    return Load(max(1.0, (flow.stop - flow.start) / flow.every) * flow.burst, flow.burst, flow.size)


def receivers(scenario: Scenario) -> list[tuple[ReceiverConfig, str]]:
    """The applications that flows need, each with its node: both ends of those with endpoints of their own."""
    found: list[tuple[ReceiverConfig, str]] = []
    for flow in scenario.traffic:
        service = _service(scenario, flow)
        if service == _SINK:
            continue
        plain = ReceiverConfig(service=service, flow=flow.name, tenant=flow.tenant or "")
        ends = (
            {flow.destination}
            if flow.trace is None
            else {e.destination or flow.destination for e in read_trace(flow.trace)}
        )
        update: dict[str, object] = {}
        if flow.reply is not None:
            reply = flow.reply
            update["reply"] = ReplyConfig(
                size=round(reply.size), service_class=reply.service_class, lifetime=reply.lifetime
            )
        if flow.file is not None:
            with flow.file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            update["file"] = FileConfig(
                name=flow.file.name, size=flow.file.stat().st_size, part=round(flow.size or 1), sha256=digest
            )
        found += [(plain.model_copy(update=update), end) for end in sorted(filter(None, ends))]
        if flow.source not in ends:
            found.append((plain, flow.source))
    return found


def _service(scenario: Scenario, flow: Flow) -> int:
    own = flow.reply is not None or flow.file is not None or flow.volume is not None or flow.tenant is not None
    return _FIRST_SERVICE + scenario.traffic.index(flow) if own else _SINK
