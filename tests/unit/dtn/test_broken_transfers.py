"""Sessions of TCPCL that are cut in the middle of a transfer, between node processes on the loopback."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from cl_nodes import figure, line, send, started, take_all, until
from cutting_proxy import CuttingProxy
from node_process import Node

pytestmark = pytest.mark.slow

PAYLOAD = random.Random(9).randbytes(900_000)
SEGMENT = 50_000


def cut_between(
    folder: Path, *names: str, cuts: tuple[int, ...], **options: Any
) -> tuple[dict[str, Node], CuttingProxy]:
    """Nodes in a line whose first session is cut after so many acknowledgements."""
    tcpcl = {"segment_size": SEGMENT, "reconnect": 0.05, "reconnect_limit": 0.1, "opportunistic": False}
    nodes = line(folder, "tcpcl", names, tcpcl=tcpcl, **options)
    first, second = names[:2]
    _, port = nodes[second].config["listen"]["tcpcl"]
    proxy = CuttingProxy(("127.0.0.1", port), f"ipn:{nodes[second].config['number']}.0", cuts, SEGMENT)
    nodes[first].config["neighbours"][second] |= {"address": proxy.address[0], "port": proxy.address[1]}
    # Only the first one calls: the other could go round the proxy.
    for key in ("address", "port"):
        del nodes[second].config["neighbours"][first][key]
    for node in nodes.values():
        node.write()
    return nodes, proxy


@pytest.mark.parametrize("cuts", [(7,), (3, 4, 5)])
def test_the_rest_of_a_broken_transfer_follows_and_nothing_is_sent_twice(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    nodes, proxy = cut_between(tmp_path, "alpha", "beta", cuts=cuts, fragments={"reactive": True})
    with proxy, started(nodes):
        send(nodes["alpha"], "ipn:2.5", PAYLOAD)
        assert take_all(nodes["beta"], 1) == [PAYLOAD]
        until(nodes["alpha"], "marsnet_bundles_total", 1, event="forwarded")
        assert figure(nodes["beta"], "marsnet_fragments_made_total", why="reactive") == len(cuts)
        assert figure(nodes["beta"], "marsnet_reassembled_bundles_total") == 1
        assert figure(nodes["beta"], "marsnet_bundles_total", event="delivered") == 1
        for node in nodes.values():
            until(node, "marsnet_store_bundles", 0)
            assert figure(node, "marsnet_store_bundles") == 0
            assert figure(node, "marsnet_dropped_bundles_total") == 0
    assert len(proxy.forwarded) == len(cuts) + 1
    acknowledged = SEGMENT * sum(cuts)
    # What was acknowledged never leaves again; what was on its way when the session was cut does.
    assert proxy.forwarded[-1] < len(PAYLOAD) - acknowledged + SEGMENT, proxy.forwarded


@pytest.mark.parametrize(("alpha", "beta"), [(True, False), (False, True), (False, False)])
def test_where_not_both_resume_all_of_it_follows_and_is_delivered_once(tmp_path: Path, alpha: bool, beta: bool) -> None:
    nodes, proxy = cut_between(tmp_path, "alpha", "beta", cuts=(7,))
    for name, resumes in (("alpha", alpha), ("beta", beta)):
        nodes[name].config["fragments"] = {"reactive": resumes}
        nodes[name].write()
    with proxy, started(nodes):
        send(nodes["alpha"], "ipn:2.5", PAYLOAD)
        assert take_all(nodes["beta"], 1) == [PAYLOAD]
        for node in nodes.values():
            until(node, "marsnet_contact_open", 1)
            assert figure(node, "marsnet_store_bundles") == 0
    assert proxy.forwarded[-1] > len(PAYLOAD)


def test_what_a_killed_node_acknowledged_and_had_not_kept_comes_again(tmp_path: Path) -> None:
    nodes, proxy = cut_between(tmp_path, "alpha", "beta", cuts=(7, 2), fragments={"reactive": True})
    with proxy, started(nodes):
        send(nodes["alpha"], "ipn:2.5", PAYLOAD)
        until(nodes["alpha"], "marsnet_fragments_made_total", 1, why="reactive")
        nodes["beta"].kill()
        nodes["beta"].start()
        assert take_all(nodes["beta"], 1) == [PAYLOAD]
        until(nodes["alpha"], "marsnet_bundles_total", 1, event="forwarded")
        assert figure(nodes["beta"], "marsnet_store_bundles") == 0


def test_the_parts_of_a_broken_transfer_go_on_to_a_third_node(tmp_path: Path) -> None:
    names = ("alpha", "beta", "gamma")
    nodes, proxy = cut_between(tmp_path, *names, cuts=(4, 4), fragments={"reactive": True}, routing="static")
    nodes["alpha"].config["routes"] = nodes["gamma"].config["routes"] = {"*": "beta"}
    for node in nodes.values():
        node.write()
    with proxy, started(nodes):
        send(nodes["alpha"], "ipn:3.5", PAYLOAD)
        assert take_all(nodes["gamma"], 1) == [PAYLOAD]
        for node in nodes.values():
            until(node, "marsnet_contact_open", 1)
        assert figure(nodes["beta"], "marsnet_bundles_total", event="forwarded") == 3
        assert figure(nodes["gamma"], "marsnet_bundles_total", event="delivered") == 1
        assert [figure(node, "marsnet_store_bundles") for node in nodes.values()] == [0, 0, 0]
