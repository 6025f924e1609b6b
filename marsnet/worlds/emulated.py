"""The emulated world: real containers, switches and packets on a mission clock that runs at a chosen rate."""

from __future__ import annotations

import json
import math
import time
import urllib.error
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from marsnet.dtn.bpv7 import decode_from
from marsnet.dtn.node.conditions import Conditions
from marsnet.dtn.node.identity import name_of
from marsnet.dtn.node.ledger import read_ledgers
from marsnet.dtn.store import BundleState, BundleStore, StoreError
from marsnet.links.fidelity import percentile
from marsnet.units import format_duration
from marsnet.worlds import netem_links
from marsnet.worlds.deploy import Deployment, deploy, frames_of
from marsnet.worlds.director import Director
from marsnet.worlds.lab.switches import socket_drops
from marsnet.worlds.ownership import let_stay, owned
from marsnet.worlds.programs import Programs, check_programs
from marsnet.worlds.software import python_packages
from marsnet.worlds.spec import (
    NO_CONTACT,
    EmulatedOptions,
    Frames,
    Incident,
    Outcome,
    Pause,
    ProgramEnd,
    Progress,
    RunSpec,
)
from marsnet.worlds.watch import LedgerWatch
from marsnet.worlds.witnesses import doubts

_TICKS = 50
"""How often progress is told."""


def lab_name(spec: RunSpec, options: EmulatedOptions) -> str:
    """The lab's name: the scenario's, in the letters that a lab name may have."""
    return options.lab or spec.scenario.name.replace("_", "-")


def run_emulated(spec: RunSpec, options: EmulatedOptions, progress: Progress | None = None) -> Outcome:
    """Run a scenario on containers.

    Ctrl-C ends it early: what was observed until then comes back, marked as interrupted. The lab is gone afterwards,
    whatever happened, unless it is to be kept.

    Raises:
        MarsnetError: the network cannot be built.
    """
    tell = progress or (lambda share, state: None)
    began = time.monotonic()
    name = lab_name(spec, options)

    def say(step: str) -> None:
        tell(0.0, f"setting up: {step}")

    check_programs(spec)
    packages = python_packages(spec.scenario.software.python, say) if options.packages is None else options.packages
    with owned(name, say):
        deployment = deploy(spec, name, say, options)
        try:
            stage = _Stage(spec, deployment)
            director = Director(spec, stage)
            programs = _programs(spec, deployment, packages)
            try:
                interrupted = not _drive(spec, deployment, options, tell, director, programs)
            finally:
                ends = programs.finish()
            return _observe(spec, deployment, interrupted, began, stage, director.happened, ends)
        finally:
            if options.keep:
                let_stay(name)
            else:
                deployment.lab.down()


class _Stage:
    """Makes the emulated world's faults happen."""

    def __init__(self, spec: RunSpec, deployment: Deployment) -> None:
        self._spec, self._deployment = spec, deployment
        self._started: dict[str, float] = {}
        self.doubts: list[str] = []
        self.lateness: list[float] = []

    def kill(self, node: str) -> None:
        if not self._deployment.lab.node_pid(node):
            self.doubts.append(f"node {node!r} had ended before a fault was to end it; see its log")
            return
        # What it knows of its own lateness ends with it.
        status = _status(self._deployment, node)
        if status is not None:
            self.lateness.append(status["lateness"]["p99"])
        self._deployment.lab.kill_node(node)

    def revive(self, node: str) -> None:
        self._started[node] = time.time()
        self._deployment.lab.start_node(node)

    def impose(self, node: str, conditions: Conditions) -> None:
        if node in self._started:
            self._deployment.await_node(node, self._started[node])
        self._deployment.node_request(node, "/conditions", method="PUT", body=conditions.model_dump_json().encode())

    def stop_controller(self, segment: str) -> None:
        self._deployment.lab.stop_controller("earth" if segment == "earth" else "mars")

    def start_controller(self, segment: str) -> None:
        self._deployment.lab.start_controller("earth" if segment == "earth" else "mars")

    def relink(self, links: frozenset[str], happened: tuple[Incident, ...]) -> None:
        self._deployment.reload(self._spec, links, happened)


def _programs(spec: RunSpec, deployment: Deployment, packages: Path | None) -> Programs:
    lab = deployment.lab
    used = dict.fromkeys(program.node for program in spec.scenario.programs)
    return Programs(
        spec, _networks(deployment, used), {node: lab.address(node) for node in lab.nodes}, deployment.clock, packages
    )


def _networks(deployment: Deployment, nodes: Iterable[str]) -> dict[str, int]:
    """Process ids in whose networks nodes are."""
    containers = deployment.lab.containers
    return {node: int(containers.holder(node).attrs["State"]["Pid"]) for node in nodes}


def _drive(
    spec: RunSpec,
    deployment: Deployment,
    options: EmulatedOptions,
    tell: Progress,
    director: Director,
    programs: Programs,
) -> bool:
    """Let the mission run, with its faults and its programs; returns whether it reached its end."""
    duration, clock = spec.scenario.duration, deployment.clock
    ticks = [duration * i / _TICKS for i in range(1, _TICKS + 1)]
    pause = options.pause or Pause(math.inf, lambda now, networks: None)
    folders = [deployment.node_folder(node) for node in deployment.lab.nodes] if director.watches else []
    try:
        with LedgerWatch(folders) as watch, ExitStack() as rest:
            rest.enter_context(options.asleep())
            while ticks:
                times = (ticks[0], director.next_time, programs.next_time, pause.at)
                due = min(time for time in times if time is not None)
                records = watch.wait(clock.to_monotonic(due) - time.monotonic())
                if records:
                    director.observe(records, clock.now())
                if clock.now() < due:
                    continue
                if director.next_time is not None and director.next_time <= due:
                    rest.close()
                    director.advance(due)
                    rest.enter_context(options.asleep())
                programs.advance(due)
                if pause.at <= due:
                    rest.close()
                    pause.look(clock.now(), _networks(deployment, deployment.lab.nodes))
                    rest.enter_context(options.asleep())
                    pause = replace(pause, at=math.inf)
                if ticks[0] <= due:
                    tell(ticks[0] / duration, _reached(ticks.pop(0), duration))
    except KeyboardInterrupt:
        return False
    return True


def _reached(mission: float, duration: float) -> str:
    return f"{format_duration(mission)} of {format_duration(duration)}"


def _observe(
    spec: RunSpec,
    deployment: Deployment,
    interrupted: bool,
    began: float,
    stage: _Stage,
    happened: tuple[Incident, ...],
    ends: tuple[ProgramEnd, ...],
) -> Outcome:
    """Read what the links and the nodes have seen, end the nodes, and read their stores and ledgers."""
    lab = deployment.lab
    elapsed = min(max(deployment.clock.now(), 0.0), spec.scenario.duration)
    wall = time.monotonic() - began
    statuses = {node: _status(deployment, node) for node in lab.nodes}
    outside = lab.outside_contacts()
    frames, fidelity, invalid = _links(deployment)
    if not interrupted:
        own = {node: status for node, status in statuses.items() if spec.topology.nodes[node].daemon is None}
        invalid += [*stage.doubts, *doubts(own, happened, elapsed)]
    lateness = [s["lateness"]["p99"] for s in statuses.values() if s is not None]
    fidelity["node_lateness_p99"] = max((*lateness, *stage.lateness), default=0.0)
    fidelity["nodes_asked"] = float(len(lateness))
    fidelity["switch_drops"] = float(sum(socket_drops().values()))
    fidelity["datagrams_unheard"] = float(sum(map(_unheard, _networks(deployment, lab.nodes).values())))
    if deployment.prometheus:
        up = [float(series["value"][1]) for series in lab.query("up")]
        fidelity["targets_scraped"] = sum(up)
        fidelity["targets_down"] = len(up) - sum(up)
    deployment.stop_nodes()
    folders = {node: deployment.node_folder(node) for node in lab.nodes}
    files = [folder / "ledger.jsonl" for folder in folders.values()]
    return Outcome(
        world="emulated",
        records=list(read_ledgers(file for file in files if file.exists())),
        stored={node: _holdings(folder / "store") for node, folder in folders.items()},
        frames=[_with_outside(each, outside) for each in frames],
        fidelity=fidelity,
        invalid=invalid,
        interrupted=interrupted,
        incidents=happened,
        elapsed=elapsed,
        wall=wall,
        programs=ends,
    )


def _with_outside(frames: Frames, outside: Mapping[tuple[str, str], int]) -> Frames:
    """The frames of a direction together with those that its switch did not let into the link."""
    count = outside.get((frames.source, frames.target), 0)
    if not count:
        return frames
    return replace(frames, entered=frames.entered + count, dropped=frames.dropped | {NO_CONTACT: count})


def _unheard(process: int) -> int:
    """UDP datagrams that came to the network of a process when nobody listened (`NoPorts` of RFC 4113)."""
    names, values = (
        line.split()[1:] for line in Path(f"/proc/{process}/net/snmp").read_text().splitlines() if line[:4] == "Udp:"
    )
    return int(dict(zip(names, values, strict=True))["NoPorts"])


def _links(deployment: Deployment) -> tuple[list[Frames], dict[str, float], list[str]]:
    """Frames, fidelity figures in host seconds and counts, and the delay line's own doubts.

    Percentiles of lateness are those of all frames together: that of a direction which carried fifty frames would be
    its latest one.
    """
    lab = deployment.lab
    if deployment.netem is not None:
        return netem_links.frames(lab.ends()), {}, []
    stats = lab.client.stats()
    directions = [
        (f"{title} {name}", figures)
        for title, link in stats["links"].items()
        for name, figures in link["directions"].items()
    ]
    late = [sum(counts) for counts in zip(*(figures["lateness_histogram"] for _, figures in directions), strict=True)]
    fidelity = {
        "link_lateness_p99": (percentile(late, 0.99) or 0) * 1e-9,
        "link_lateness_max": max(figures["lateness_max_ns"] or 0 for _, figures in directions) * 1e-9,
        "ring_drops": float(sum(figures["ring_drops"] for _, figures in directions)),
        "clock_steps": float(max(figures["clock_steps"] for _, figures in directions)),
        "steal": stats["steal"] or 0.0,
        "realtime": float(stats["realtime"]),
    }
    doubts = [
        f"link {name}: {count} times {what}"
        for name, figures in directions
        for what, count in (
            ("the balance of frames did not hold", figures["broken"]),
            ("the timeline was not loaded in time", figures["stalls"]),
            ("the wall clock stepped", figures["clock_steps"]),
        )
        if count
    ]
    return frames_of(stats, {title: (link.a, link.b) for title, link in lab.links.items()}), fidelity, doubts


def _status(deployment: Deployment, node: str) -> dict[str, Any] | None:
    """What a node says of itself; None where it does not run."""
    with suppress(OSError, urllib.error.HTTPError):
        answer: dict[str, Any] = json.loads(deployment.node_request(node, "/status"))
        return answer
    return None


def _holdings(folder: Any) -> list[str]:
    """Ids of the bundles in a node's store.

    Raises:
        StoreError: the store cannot be read.
    """
    if not folder.exists():
        return []
    store = BundleStore(folder)
    try:
        return [name_of(decode_from(store.load(r.key), 0)[0]) for r in store.iterate(*BundleState)]
    except StoreError as error:
        raise StoreError(f"{folder}: {error}") from error
    finally:
        store.close()
