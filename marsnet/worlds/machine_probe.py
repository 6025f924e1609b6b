"""Asks the kernel by trying, in a process and a network namespace of its own, and prints the answers as JSON.

Whatever a try creates ends with the namespace and the process. Run as `python -m marsnet.worlds.machine_probe`; a list
of queueing disciplines to try may follow.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Sequence

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

_OPTIONS: dict[str, dict[str, object]] = {
    "netem": {"delay": 1000, "limit": 10},
    "tbf": {"rate": "1mbit", "burst": 10_000, "latency": "10ms"},
}
_ROOT = 0xFFFF_FFFF
"""TC_H_ROOT (linux/pkt_sched.h)."""
_CLONE_NEWNET, _CLONE_NEWUSER = 0x4000_0000, 0x1000_0000


def enter_namespace() -> str:
    """Moves this process into a fresh network namespace; without root into a user namespace as well.

    Returns:
        what was entered: `network`, `user and network`, or `` when the kernel allows neither.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) == 0:
        return "network"
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        return "user and network"
    return ""


def realtime_allowed() -> bool:
    """Whether this process may run under SCHED_FIFO (sched(7))."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


def qdisc_works(ipr: IPRoute, kind: str) -> str:
    """Adds a queueing discipline to the loopback interface of this namespace and removes it again.

    Returns:
        `` when it works, else the kernel's reason.
    """
    loopback = ipr.link_lookup(ifname="lo")[0]
    try:
        ipr.tc("add", kind, loopback, **_OPTIONS.get(kind, {}))
    except NetlinkError as error:
        return errno.errorcode.get(error.code, str(error.code))
    ipr.tc("del", index=loopback, parent=_ROOT)
    return ""


def link_works(ipr: IPRoute, kind: str) -> str:
    """Creates and removes an interface of the kind in this namespace; `` or the kernel's reason."""
    peer = {"peer": "probe1"} if kind == "veth" else {}
    try:
        ipr.link("add", ifname="probe0", kind=kind, **peer)
    except NetlinkError as error:
        return errno.errorcode.get(error.code, str(error.code))
    ipr.link("del", ifname="probe0")
    return ""


def probe(qdiscs: Sequence[str], links: Sequence[str]) -> dict[str, object]:
    """Everything at once: the namespace that was entered, real-time scheduling, disciplines and interface kinds."""
    realtime = realtime_allowed()
    entered = enter_namespace()
    if not entered:
        return {"namespace": "", "realtime": realtime, "qdisc": {}, "link": {}}
    with IPRoute() as ipr:
        return {
            "namespace": entered,
            "realtime": realtime,
            "qdisc": {kind: qdisc_works(ipr, kind) for kind in qdiscs},
            "link": {kind: link_works(ipr, kind) for kind in links},
        }


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1:], ["veth"])))
