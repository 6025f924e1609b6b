"""An Open vSwitch of the lab's own, and the Mininet switch that uses it.

The database server and the switch daemon run inside the lab's namespace with sockets and pid files of their own, so
the machine's Open vSwitch, if it has one, never hears of the lab.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from marsnet.errors import EnvironmentLacksError
from marsnet.worlds.lab.mininet_library import OVSSwitch
from marsnet.worlds.lab.namespace import run
from marsnet.worlds.lab.priority import switch_command

Datapath = Literal["system", "netdev"]
_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_FIX = "apt-get install openvswitch-switch"
_RECEIVE_BYTES = 32 << 20
_HOUR_MS = 3_600_000
_SO_RCVBUFFORCE, _PIDFD_GETFD = 33, 438
_NO_WAY = re.compile(r"n_packets=(\d+),.*\bnw_dst=([\d.]+) actions=drop")
_SOCKET_LINE = re.compile(r"\*:(s\d+-eth\d+)\s.*,d(\d+)\)")


def detect_datapath() -> Datapath:
    """`system` (the kernel's) where the kernel has or can load the openvswitch module, else `netdev` (userspace)."""
    if Path("/sys/module/openvswitch").exists():
        return "system"
    try:
        done = subprocess.run(["modprobe", "--quiet", "openvswitch"], capture_output=True, check=False)
    except FileNotFoundError:
        return "netdev"
    return "system" if done.returncode == 0 else "netdev"


def chosen_datapath(wanted: Datapath | None) -> Datapath:
    """The wanted datapath, or the kernel's where it has one.

    Raises:
        EnvironmentLacksError: the kernel's is wanted, and it has none.
    """
    if wanted == "netdev":
        return wanted
    found = detect_datapath()
    if wanted == "system" and found != wanted:
        raise EnvironmentLacksError(
            "this kernel has no Open vSwitch datapath",
            fix="modprobe openvswitch, or run with '--datapath user' or '--world warp'",
        )
    return found


def environment(runtime: Path) -> dict[str, str]:
    """Environment in which Open vSwitch's tools speak to the lab's own daemons."""
    return {**os.environ, **{f"OVS_{kind}DIR": str(runtime) for kind in ("RUN", "DB", "LOG")}}


def vsctl(runtime: Path, *arguments: str) -> str:
    """What `ovs-vsctl` prints, when it has been obeyed by the switch daemon.

    Raises:
        subprocess.CalledProcessError: when it fails, with a note that says why.
    """
    return run("ovs-vsctl", "--timeout=30", *arguments, env=environment(runtime))


def start_daemons(runtime: Path, *, quiet: bool = False) -> None:
    """Start the lab's database server and switch daemon in the calling thread's namespace; both are ready on return.

    Args:
        runtime: directory for sockets, database, logs and pid files.
        quiet: whether nothing in them is to wake up without a frame or a change. Counters of flow entries then lag
            until somebody asks (`settle_counters`), and entries of the datapath are kept however long they idle.

    Raises:
        EnvironmentLacksError: when Open vSwitch is not installed.
    """
    if not _SCHEMA.exists():
        raise EnvironmentLacksError("Open vSwitch is not installed", fix=_FIX)
    env = environment(runtime)
    database, socket = runtime / "conf.db", f"unix:{runtime}/db.sock"
    run("ovsdb-tool", "create", str(database), str(_SCHEMA), env=env)
    run("ovsdb-server", str(database), f"--remote=p{socket}", f"--pidfile={runtime}/ovsdb-server.pid", "--detach",
        "--no-chdir", f"--log-file={runtime}/ovsdb-server.log", "-vconsole:off", env=env)  # fmt: skip
    # One handler and one revalidator are plenty for a lab, and many labs share the machine's processors. Counters of
    # flow entries lag by one round of the revalidator, half a second unless told otherwise.
    settings = {"n-handler-threads": 1, "n-revalidator-threads": 1, "max-revalidator": 100}
    if quiet:
        settings |= dict.fromkeys(("max-revalidator", "max-idle", "stats-update-interval"), _HOUR_MS)
    words = [f"other_config:{name}={value}" for name, value in settings.items()]
    run("ovs-vsctl", "--no-wait", "init", "--", "set", "Open_vSwitch", ".", *words, env=env)
    run(*switch_command(), "ovs-vswitchd", socket, f"--pidfile={runtime}/ovs-vswitchd.pid", "--detach",
        "--no-chdir",
        f"--log-file={runtime}/ovs-vswitchd.log", "-vconsole:off", env=env)  # fmt: skip


def widen_receive_buffers(runtime: Path) -> int:
    """Let the userspace datapath's packet sockets hold bursts: by default they have room for some ninety frames.

    Open vSwitch has no option for it, and the kernel's default holds for the whole machine; so the sockets are fetched
    from the daemon (pidfd_getfd(2)) and enlarged one by one. The kernel's datapath has none.

    Args:
        runtime: the lab's runtime directory.

    Returns:
        How many sockets were enlarged.

    Raises:
        EnvironmentLacksError: when the system does not allow it.
    """
    pid = int((runtime / "ovs-vswitchd.pid").read_text())
    daemon, enlarged = os.pidfd_open(pid), 0
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if str(entry.readlink()).startswith("socket:"):
                with _fetch(daemon, int(entry.name)) as its:
                    if its.family == socket.AF_PACKET:
                        its.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
                        enlarged += 1
    except OSError as error:
        raise EnvironmentLacksError(
            f"cannot enlarge the switches' receive buffers: {error.strerror}", fix="run as root on Linux 5.6 or newer"
        ) from error
    finally:
        os.close(daemon)
    return enlarged


def _fetch(process: int, descriptor: int) -> socket.socket:
    """A duplicate of another process's socket."""
    libc = ctypes.CDLL(None, use_errno=True)
    fetched = libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
    if fetched < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return socket.socket(fileno=fetched)


def socket_drops() -> dict[str, int]:
    """Frames that the userspace datapath's packet sockets had no room for, by interface of the thread's namespace.

    Only interfaces that lost some are named. The kernel's datapath has no such sockets.
    """
    found: dict[str, int] = {}
    for line in run("ss", "--packet", "--memory", "--numeric", "--no-header").splitlines():
        match = _SOCKET_LINE.search(line)
        if match is not None and int(match[2]):
            found[match[1]] = found.get(match[1], 0) + int(match[2])
    return found


def verify_ports(runtime: Path, expected: Mapping[str, int]) -> None:
    """Compare what the switch daemon has made with what was asked for; it reports no failure by itself.

    Args:
        runtime: the lab's runtime directory.
        expected: interface to OpenFlow port number.

    Raises:
        EnvironmentLacksError: when an interface is missing or has another number, with the daemon's own words.
    """
    answer = json.loads(vsctl(runtime, "--format=json", "--columns=name,ofport,error", "list", "Interface"))
    found = {name: (number, words) for name, number, words in answer["data"]}
    for interface, number in expected.items():
        actual, words = found.get(interface, (None, "it is not there"))
        if actual != number:
            raise EnvironmentLacksError(
                f"Open vSwitch has {interface} as port {actual} instead of {number}: {words}",
                fix=f"read {runtime}/ovs-vswitchd.log, and see 'marsnet doctor'",
            )


def settle_counters(runtime: Path, *, quiet: bool = False) -> None:
    """Return when the counters of flow entries include every frame that has passed so far.

    Args:
        runtime: the lab's runtime directory.
        quiet: whether the daemons were started so. The next round of their revalidator may be an hour away then; in
            place of it the datapath's entries are taken out, which adds up what they counted, and come again with the
            next frame.
    """
    pid = (runtime / "ovs-vswitchd.pid").read_text().strip()
    command = "revalidator/purge" if quiet else "revalidator/wait"
    run("ovs-appctl", "--target", f"{runtime}/ovs-vswitchd.{pid}.ctl", command)


def dropped_towards(runtime: Path, switch: str) -> dict[str, int]:
    """Frames for which a switch had no contact, by the IPv4 address that they were for.

    Args:
        runtime: the lab's runtime directory.
        switch: name of the switch.
    """
    listed = run("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", switch, env=environment(runtime))
    found: dict[str, int] = {}
    for packets, address in _NO_WAY.findall(listed):
        found[address] = found.get(address, 0) + int(packets)
    return found


class LabSwitch(OVSSwitch):  # type: ignore[misc]
    """A Mininet switch on the lab's own Open vSwitch: OpenFlow 1.3, secure, datapath id = number of its node."""

    def __init__(self, name: str, *, number: int, runtime: Path, datapath_type: Datapath, **parameters: Any) -> None:
        self.runtime = runtime
        super().__init__(
            name,
            dpid=f"{number:016x}",
            datapath="user" if datapath_type == "netdev" else "kernel",
            failMode="secure",
            protocols="OpenFlow13",
            batch=True,
            **parameters,
        )

    def _popen(self, cmd: list[str], **parameters: Any) -> Any:
        parameters.setdefault("env", environment(self.runtime))
        return super()._popen(cmd, **parameters)

    @classmethod
    def setup(cls) -> None:
        """Nothing is left to check: `start_daemons` has done so."""

    @classmethod
    def isOldOVS(cls) -> bool:  # noqa: N802
        """Whether this is Open vSwitch before 1.10 (2013); Mininet asks."""
        return False

    @classmethod
    def batchStartup(cls, switches: Sequence[LabSwitch], run: object = None) -> Sequence[LabSwitch]:  # noqa: N802
        """Make all bridges of a lab in one transaction of its database; Mininet collected the commands.

        Raises:
            subprocess.CalledProcessError: when Open vSwitch refuses.
        """
        if switches:
            words = [word for switch in switches for command in switch.commands for word in shlex.split(command)]
            vsctl(switches[0].runtime, *words)
            for switch in switches:
                switch.commands, switch.batch = [], False
        return switches
