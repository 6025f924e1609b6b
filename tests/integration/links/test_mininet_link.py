"""The delay line as a Mininet link, in a network namespace of the test's own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mininet")
pytestmark = pytest.mark.root

PROGRAM = """
import sys, time
from mininet.net import Mininet
from mininet.node import Host
from marsnet.errors import MarsnetError
from marsnet.links.mininet_link import SpaceLink
net = Mininet(controller=None, waitConnected=False)
earth, mars, moon = (net.addHost(n, ip=None) for n in ("earth", "mars", "moon"))
link = net.addLink(earth, mars, cls=SpaceLink, delay="150 ms", rate="10 Mbit/s", mtu=9000)
second = net.addLink(earth, moon, cls=SpaceLink, delay="5 ms")
assert link.client is second.client
for node, name, address in ((earth, "earth-eth0", "10.0.0.1"), (mars, "mars-eth0", "10.0.0.2"),
                            (earth, "earth-eth1", "10.0.1.1"), (moon, "moon-eth0", "10.0.1.2")):
    node.cmd(f"ip address add {address}/24 dev {name}")
net.build()
print(earth.cmd("ping -c 3 -i 0.2 -s 8000 -M do -W 3 10.0.0.2"))
print(earth.cmd("ping -c 3 -i 0.2 -W 3 10.0.1.2"))
print(earth.cmd("ethtool -k earth-eth0 | grep -E '^(tcp-seg|generic-seg|tx-check)'"))
for text, params in (("is no time", {"delay": "5"}), ("mtu", {"mtu": 10**6}), ("unknown key", {"config": {"x": 1}})):
    try:
        net.addLink(mars, moon, cls=SpaceLink, **params)
    except MarsnetError as error:
        assert text in str(error), error
    else:
        raise AssertionError(text)
print("STATS", link.client.stats()["links"]["earth-eth0-mars-eth0"]["directions"]["ab"]["delivered"])
net.stop()
"""


ROOT = Path(__file__).resolve().parents[3]
# The checkout may itself lie under /tmp, and must stay where it is.
SETUP = f"""
mount --bind "{ROOT}" /mnt && mount -t tmpfs tmpfs /tmp && mkdir -p "{ROOT}" && mount --bind /mnt "{ROOT}" || exit 98
ip link set lo up || exit 99
cd "{ROOT}"
export TMPDIR=/tmp
cat > /tmp/space.py <<END
from marsnet.links.mininet_link import LINKS
from mininet.topo import Topo
class Pair(Topo):
    def build(self):
        self.addLink(self.addHost("h1"), self.addHost("h2"))
topos = {{"pair": Pair}}
END
exec "$@"
"""


def own_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    """Namespaces also of processes and of /tmp: on an error `mn` kills processes and deletes files by name.

    /sys goes on showing the interfaces of the namespace that the test came from, as after a bare setns(2).
    """
    return subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            SETUP,
            "-",
            *command,
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_plain_hosts_over_space_links() -> None:
    done = own_namespace(sys.executable, "-c", PROGRAM + "import socket; print('LEFT', socket.if_nameindex())")
    assert done.returncode == 0, done.stdout + done.stderr
    times = [float(t) for t in re.findall(r"time=([\d.]+)", done.stdout)]
    assert len(times) == 6
    assert all(313 <= t < 330 for t in times[2:3]), times  # 8042 bytes at 10 Mbit/s take 6.4 ms each way
    assert all(10 <= t < 15 for t in times[5:]), times
    assert done.stdout.count(": off") == 3
    carried = re.search(r"'bytes': (\d+)", done.stdout)
    assert carried is not None
    assert int(carried[1]) >= 3 * 8042
    assert re.search(r"LEFT \[\(\d+, 'lo'\)\]", done.stdout), done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mn") is None, reason="the program mn is not installed")
def test_mn_custom() -> None:
    done = own_namespace(
        sys.executable, shutil.which("mn") or "", "--custom", "/tmp/space.py", "--topo", "pair",
        "--controller", "none", "--link", "space,delay=100ms,rate=1Mbit/s", "--test", "pingall",
    )  # fmt: skip
    assert "0% dropped (2/2 received)" in done.stdout + done.stderr, done.stdout + done.stderr
