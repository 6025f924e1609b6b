"""The Mininet network of a lab, and the management network beside it.

Everything here runs in the thread that has entered the lab's namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from marsnet.worlds.lab import spec
from marsnet.worlds.lab.mininet_library import Host, Intf, Link, Mininet
from marsnet.worlds.lab.namespace import run
from marsnet.worlds.lab.spec import LinkSpec, NodeSpec, Port
from marsnet.worlds.lab.switches import Datapath, LabSwitch, verify_ports, widen_receive_buffers

LinkMaker = Callable[[Any, Any, LinkSpec, Port, Port], Any]
"""Joins two Mininet nodes at the two ports of a link and returns the Mininet link."""

_OFFLOADS = ("tx", "off", "tso", "off", "gso", "off", "gro", "off")


class ContainerHost(Host):  # type: ignore[misc]
    """A Mininet host whose interfaces live in the network namespace of a container.

    `cmd` runs the lab machine's tools inside that namespace, so that an image need not contain any.
    """

    def __init__(self, name: str, *, holder_pid: int, **parameters: Any) -> None:
        self.holder_pid = holder_pid
        super().__init__(name, inNamespace=False, **parameters)

    def _popen(self, cmd: list[str], **parameters: Any) -> Any:
        if self.shell is None and cmd[:2] == ["mnexec", "-cd"]:
            cmd = ["mnexec", "-cd", "nsenter", "-t", str(self.holder_pid), "-n", *cmd[2:]]
        return super()._popen(cmd, **parameters)


def plain_link(a: Any, b: Any, link: LinkSpec, port_a: Port, port_b: Port) -> Any:
    """A pair of veth interfaces: no delay, no loss, no plan."""
    made = Link(a, b, port1=port_a.number, port2=port_b.number, intfName1=port_a.interface, intfName2=port_b.interface)
    for node, port in ((a, port_a), (b, port_b)):
        node.cmd(f"ip link set {port.interface} mtu {link.mtu} up")
    return made


def build(
    nodes: Sequence[NodeSpec],
    links: Sequence[LinkSpec],
    holder_pids: Mapping[str, int],
    *,
    runtime: Path,
    datapath: Datapath,
    make_link: LinkMaker,
) -> Mininet:
    """Make every host, switch and link, and configure addresses and neighbours.

    Every node gets `eth0` on its own switch. All nodes share one flat subnet and know each other's Ethernet addresses
    from the start, so that no broadcast ever has to cross space.

    Raises:
        EnvironmentLacksError: when a switch did not take an interface.
    """
    network = Mininet(controller=None, switch=LabSwitch, host=ContainerHost, link=Link, intf=Intf, build=False)
    switches: dict[str, LabSwitch] = {}
    for node in nodes:
        switch = network.addSwitch(
            spec.switch_name(node.number), number=node.number, runtime=runtime, datapath_type=datapath
        )
        host = network.addHost(
            node.name,
            holder_pid=holder_pids[node.name],
            ip=f"{spec.data_address(node.number)}/{spec.DATA_PREFIX}",
        )
        network.addLink(host, switch, port1=0, port2=spec.HOST_PORT, intfName1="eth0", addr1=spec.data_mac(node.number))
        switches[node.name] = switch
    ports = {(port.node, port.link): port for group in spec.ports_of(nodes, links).values() for port in group}
    for link in links:
        network.links.append(
            make_link(switches[link.a], switches[link.b], link, ports[link.a, link.name], ports[link.b, link.name])
        )
    network.build()
    for node in nodes:
        _finish_host(node, nodes, holder_pids[node.name])
        run("ethtool", "-K", _host_side(node), *_OFFLOADS)
    network.start()
    expected = {port.interface: port.number for port in ports.values()}
    verify_ports(runtime, expected | {_host_side(node): spec.HOST_PORT for node in nodes})
    widen_receive_buffers(runtime)
    return network


def _host_side(node: NodeSpec) -> str:
    """The interface of a node's switch that leads to the container."""
    return f"{spec.switch_name(node.number)}-eth{spec.HOST_PORT}"


def _finish_host(node: NodeSpec, nodes: Sequence[NodeSpec], holder_pid: int) -> None:
    """Switch off what a data-plane interface must not do, and teach it its neighbours.

    The userspace datapath does not finish partial checksums, and a segment of 52 kB would count as one frame, hence
    no offloads.
    """
    enter = ("nsenter", "-t", str(holder_pid), "-n")
    run(*enter, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    run(*enter, "ethtool", "-K", "eth0", *_OFFLOADS)
    commands = ["link set lo up"]
    commands += [
        f"neigh replace {spec.data_address(peer.number)} lladdr {spec.data_mac(peer.number)} dev eth0 nud permanent"
        for peer in nodes
        if peer is not node
    ]
    run(*enter, "ip", "-batch", "-", stdin="\n".join(commands) + "\n")


def build_management(nodes: Sequence[NodeSpec], holder_pids: Mapping[str, int]) -> None:
    """Give every node `mgmt0` on a bridge inside the lab's namespace.

    This is the lab's own way to its nodes, for metrics and control; nothing of it exists on Mars.
    """
    bridge = spec.MANAGEMENT_BRIDGE
    lab_end = f"{spec.management_address(spec.LAB_NUMBER)}/{spec.MANAGEMENT_PREFIX}"
    commands = [f"link add {bridge} type bridge", f"addr add {lab_end} dev {bridge}", f"link set {bridge} up"]
    for node in nodes:
        port = f"m{node.number}"
        commands += [
            f"link add {port} type veth peer name mgmt0 address {spec.management_mac(node.number)}"
            f" netns {holder_pids[node.name]}",
            f"link set {port} master {bridge} up",
        ]
    run("ip", "-batch", "-", stdin="\n".join(commands) + "\n")
    for node in nodes:
        address = f"{spec.management_address(node.number)}/{spec.MANAGEMENT_PREFIX}"
        run("nsenter", "-t", str(holder_pids[node.name]), "-n", "ip", "-batch", "-",
            stdin=f"addr add {address} dev mgmt0\nlink set mgmt0 up\n")  # fmt: skip
