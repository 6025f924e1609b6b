"""Node processes on loopback over every convergence layer: both ways, several hops, restarts, kills, TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
from cl_nodes import NUMBERS, figure, free_port, line, send, started, take, take_all, until
from node_process import Node

from marsnet.dtn.tcpcl.tls import LabAuthority

SLOW = pytest.mark.slow


@pytest.mark.parametrize("layer", ["ltp", "tcpcl", *(pytest.param(x, marks=SLOW) for x in ("udpcl", "mtcp", "stcp"))])
def test_bundles_go_both_ways(layer: str, tmp_path: Path) -> None:
    with started(line(tmp_path, layer)) as nodes:
        for size in (1, 1000, 50_000):
            send(nodes["alpha"], "ipn:2.5", b"a" * size)
            send(nodes["beta"], "ipn:1.5", b"b" * size)
        assert sorted(map(len, take_all(nodes["beta"], 3))) == [1, 1000, 50_000]
        assert set(b"".join(take_all(nodes["alpha"], 3))) == set(b"b")
        for node in nodes.values():
            until(node, "marsnet_bundles_total", 3, event="forwarded")
            assert figure(node, "marsnet_queue_bundles", layer=layer) == 0


@SLOW
@pytest.mark.parametrize("layer", ["ltp", "tcpcl", "mtcp"])
def test_static_routes_lead_over_a_third_node_that_the_source_does_not_know(layer: str, tmp_path: Path) -> None:
    nodes = line(tmp_path, layer, ("alpha", "beta", "gamma"), routing="static")
    for name, routes in (("alpha", {"*": "beta"}), ("gamma", {"alpha": "beta"})):
        nodes[name].config["routes"] = routes
        nodes[name].config["numbers"] = {"beta": 2} if name == "alpha" else NUMBERS
        nodes[name].write()
    with started(nodes):
        send(nodes["alpha"], "ipn:3.5", b"there")
        assert take(nodes["gamma"]) == b"there"
        send(nodes["gamma"], "ipn:1.5", b"and back")
        assert take(nodes["alpha"]) == b"and back"


@SLOW
@pytest.mark.parametrize("layer", ["ltp", "tcpcl"])
def test_a_peer_killed_inside_of_a_transfer_gets_the_bundles_again_and_delivers_each_once(
    layer: str, tmp_path: Path
) -> None:
    nodes = line(tmp_path, layer)
    # Slow enough that a kill finds transfers under way.
    for node in nodes.values():
        for neighbour in node.config["neighbours"].values():
            neighbour["rate"] = 4e7
        node.write()
    with started(nodes):
        sent = [bytes([number]) * 600_000 for number in range(20)]
        for payload in sent:
            send(nodes["alpha"], "ipn:2.5", payload)
        until(nodes["beta"], "marsnet_bundles_total", 3, event="received")
        nodes["beta"].kill()
        nodes["beta"].start()
        nodes["alpha"].kill()
        nodes["alpha"].start()
        assert sorted(take_all(nodes["beta"], 20)) == sorted(sent)
        until(nodes["alpha"], "marsnet_store_bundles", 0)
        assert figure(nodes["alpha"], "marsnet_store_bundles") == 0


def secured(folder: Path, authorities: dict[str, LabAuthority], identities: dict[str, str]) -> dict[str, Node]:
    """Two nodes over TLS with these authorities' certificates for these node ids."""
    nodes = line(folder, "tcpcl")
    for name, node in nodes.items():
        node.folder.mkdir(parents=True, exist_ok=True)
        certificate, key, trusted = authorities[name].issue(node.folder, identities[name])
        tls = {"certificate": certificate.name, "key": key.name, "authorities": trusted.name}
        node.config["tcpcl"] = {"tls": tls, "reconnect": 0.1}
        node.write()
    return nodes


def test_tls_carries_bundles_between_those_whose_certificates_name_them(tmp_path: Path) -> None:
    authority = LabAuthority.create()
    ours = dict.fromkeys(("alpha", "beta"), authority)
    with started(secured(tmp_path, ours, {"alpha": "ipn:1.0", "beta": "ipn:2.0"})) as nodes:
        send(nodes["alpha"], "ipn:2.5", b"secret")
        assert take(nodes["beta"]) == b"secret"


@SLOW
@pytest.mark.parametrize("wrong", ["name", "authority"])
def test_a_certificate_of_another_node_or_authority_gets_no_bundle(wrong: str, tmp_path: Path) -> None:
    authority = LabAuthority.create()
    authorities = {"alpha": authority, "beta": LabAuthority.create() if wrong == "authority" else authority}
    identities = {"alpha": "ipn:1.0", "beta": "ipn:9.0" if wrong == "name" else "ipn:2.0"}
    with started(secured(tmp_path, authorities, identities)) as nodes:
        send(nodes["alpha"], "ipn:2.5", b"secret")
        until(nodes["alpha"], "marsnet_cl_drops_total", 2, reason="attempt")
        assert figure(nodes["alpha"], "marsnet_tcpcl_established_sessions_total") == 0
        assert take(nodes["beta"], wait=0.3) is None
        assert figure(nodes["alpha"], "marsnet_store_bundles") == 1


@SLOW
def test_whoever_comes_by_is_routed_to_while_there(tmp_path: Path) -> None:
    nodes = line(tmp_path, "tcpcl")
    alpha, beta = nodes["alpha"], nodes["beta"]
    # Alpha knows nobody; beta knows where alpha is.
    alpha.config |= {"neighbours": {}, "numbers": {}}
    alpha.write()
    with started(nodes):
        until(alpha, "marsnet_contact_open", 1, neighbour="ipn:2.0")
        send(alpha, "ipn:2.5", b"hello, stranger")
        assert take(beta) == b"hello, stranger"
        beta.stop()
        waits = send(alpha, "ipn:2.5", b"until you come again")
        assert waits
        until(alpha, "marsnet_unroutable_bundles", 1)
        assert figure(alpha, "marsnet_contact_open", neighbour="ipn:2.0") == 0
        beta.start()
        assert take(beta) == b"until you come again"


@SLOW
def test_epidemic_routing_gives_everybody_a_copy_and_delivers_one(tmp_path: Path) -> None:
    names = ("alpha", "beta", "gamma")
    nodes = line(tmp_path, "tcpcl", names, routing="epidemic")
    ports = {name: node.config["listen"]["tcpcl"][1] for name, node in nodes.items()}
    for name, node in nodes.items():
        node.config["neighbours"] = {
            other: {"convergence": "tcpcl", "address": "127.0.0.1", "port": ports[other]}
            for other in names
            if other != name
        }
        node.write()
    with started(nodes):
        send(nodes["alpha"], "ipn:3.5", b"to all", lifetime=60)
        assert take_all(nodes["gamma"], 1) == [b"to all"]
        until(nodes["alpha"], "marsnet_bundles_total", 2, event="copied")
        until(nodes["beta"], "marsnet_bundles_total", 1, event="received")
        assert figure(nodes["alpha"], "marsnet_store_bundles") == 1, "it keeps its copy for whoever comes by"
        assert figure(nodes["alpha"], "marsnet_bundles_total", event="forwarded") == 0


@SLOW
def test_a_node_starts_on_yaml_alone_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    port = free_port()
    node = Node(tmp_path, {"metrics": ["127.0.0.1", port]}, "node.yaml")
    node.path.write_text(f"name: alpha\nnumber: 1\nmetrics: 127.0.0.1:{port}\n")
    with started({"alpha": node}):
        assert node.ask("GET", "/v1/status")[0] == 200
    node.path.write_text("name: alpha\nnumber: 1\nneighbours:\n  beta: {number: 2, convergance: tcpcl}\n")
    assert "node.yaml:4: unknown key 'neighbours.beta.convergance'" in node.refusal()
