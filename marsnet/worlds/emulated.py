"""The emulated world: real containers, switches and packets on a mission clock that runs at a chosen rate."""

from __future__ import annotations

import json
import time
import urllib.error
from contextlib import suppress
from typing import Any

from marsnet.dtn.bpv7 import decode_from
from marsnet.dtn.node.ledger import read_ledgers
from marsnet.dtn.store import BundleState, BundleStore, StoreError
from marsnet.units import format_duration
from marsnet.worlds.deploy import Deployment, deploy, frames_of
from marsnet.worlds.lab.switches import socket_drops
from marsnet.worlds.ownership import let_stay, owned
from marsnet.worlds.spec import EmulatedOptions, Frames, Outcome, Progress, RunSpec

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

    with owned(name, say):
        deployment = deploy(spec, name, say, options.prometheus)
        try:
            interrupted = not _drive(spec, deployment, tell)
            return _observe(spec, deployment, interrupted, began)
        finally:
            if options.keep:
                let_stay(name)
            else:
                deployment.lab.down()


def _drive(spec: RunSpec, deployment: Deployment, tell: Progress) -> bool:
    """Let the mission run, with its crashes; returns whether it reached its end."""
    duration, lab = spec.scenario.duration, deployment.lab
    agenda: list[tuple[float, Any]] = [
        (duration * i / _TICKS, lambda i=i: tell(i / _TICKS, _reached(duration * i / _TICKS, duration)))
        for i in range(1, _TICKS + 1)
    ]
    for incident in spec.incidents:
        if incident.kind == "node_crash":
            agenda.append((incident.start, lambda node=incident.subject: lab.kill_node(node)))
            agenda.append((incident.end, lambda node=incident.subject: lab.start_node(node)))
    try:
        for at, action in sorted(agenda, key=lambda entry: entry[0]):
            if at > duration:
                break
            _sleep_until(deployment.clock.to_monotonic(at))
            action()
    except KeyboardInterrupt:
        return False
    return True


def _reached(mission: float, duration: float) -> str:
    return f"{format_duration(mission)} of {format_duration(duration)}"


def _sleep_until(monotonic: float) -> None:
    left = monotonic - time.monotonic()
    if left > 0:
        time.sleep(left)


def _observe(spec: RunSpec, deployment: Deployment, interrupted: bool, began: float) -> Outcome:
    """Read what the links and the nodes have seen, end the nodes, and read their stores and ledgers."""
    lab = deployment.lab
    elapsed = min(max(deployment.clock.now(), 0.0), spec.scenario.duration)
    wall = time.monotonic() - began
    statuses = {node: _status(deployment, node) for node in lab.nodes}
    frames, fidelity, invalid = _links(deployment)
    lateness = [s["lateness"]["p99"] for s in statuses.values() if s is not None]
    fidelity["node_lateness_p99"] = max(lateness, default=0.0)
    fidelity["nodes_asked"] = float(len(lateness))
    fidelity["switch_drops"] = float(sum(socket_drops().values()))
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
        frames=frames,
        fidelity=fidelity,
        invalid=invalid,
        interrupted=interrupted,
        incidents=spec.incidents,
        elapsed=elapsed,
        wall=wall,
    )


def _links(deployment: Deployment) -> tuple[list[Frames], dict[str, float], list[str]]:
    """Frames, fidelity figures in host seconds and counts, and the delay line's own doubts."""
    lab = deployment.lab
    stats = lab.client.stats()
    directions = [
        (f"{title} {name}", figures)
        for title, link in stats["links"].items()
        for name, figures in link["directions"].items()
    ]
    fidelity = {
        "link_lateness_p99": max(figures["lateness_p99_ns"] or 0 for _, figures in directions) * 1e-9,
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
        return [str(decode_from(store.load(r.key), 0)[0].id) for r in store.iterate(*BundleState)]
    except StoreError as error:
        raise StoreError(f"{folder}: {error}") from error
    finally:
        store.close()
