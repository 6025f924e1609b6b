"""The lab's delay line: one process for all links, inside the lab's namespace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from marsnet.links.client import DelayLineClient
from marsnet.links.mininet_link import SpaceLink
from marsnet.worlds.lab import services, spec
from marsnet.worlds.lab.spec import LinkSpec, Port

METRICS_ADDRESS = f"127.0.0.1:{spec.DELAY_LINE_METRICS_PORT}"


def socket_path(runtime: Path) -> Path:
    """Where the delay line takes requests."""
    return runtime / "delay-line.sock"


def start(runtime: Path, run_dir: Path) -> dict[str, str | int]:
    """Start the delay line in the calling thread's namespace; it takes requests when this returns.

    Args:
        runtime: directory of its socket.
        run_dir: directory of its log, and of frames in flight that do not fit into memory.

    Returns:
        Process id and addresses.

    Raises:
        services.ServiceError: when it does not start.
    """
    spill = run_dir / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    path, log = socket_path(runtime), run_dir / "logs" / "delay-line.log"
    command = [sys.executable, "-m", "marsnet.links.daemon", "--socket", str(path), "--metrics", METRICS_ADDRESS]
    pid, _ = services.start([*command, "--spill-dir", str(spill)], log, r"(?m)^ready ")
    return {"pid": pid, "log": str(log), "socket": str(path), "http": METRICS_ADDRESS}


def make_link(client: DelayLineClient, a: Any, b: Any, link: LinkSpec, port_a: Port, port_b: Port) -> Any:
    """Join two Mininet switches through the delay line. Both transmitters are down until a timeline is loaded."""
    return SpaceLink(
        a,
        b,
        client=client,
        link_name=link.name,
        mtu=link.mtu,
        config=link.config,
        timeline=False,
        port1=port_a.number,
        port2=port_b.number,
        intfName1=port_a.interface,
        intfName2=port_b.interface,
    )
