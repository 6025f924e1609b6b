"""Names, addresses and ports of a lab, and what is refused before anything is built."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from marsnet.errors import InputError
from marsnet.worlds.lab import Limits, LinkSpec, NodeSpec, spec


def node(name: str, number: int, **fields: object) -> NodeSpec:
    return NodeSpec(name, number, "earth", "image", **fields)  # type: ignore[arg-type]


def test_addresses_follow_from_numbers_and_never_collide() -> None:
    numbers = [1, 2, 255, 256, 257, 65533]
    for address in (spec.data_address, spec.management_address, spec.data_mac, spec.management_mac):
        assert len({address(number) for number in numbers}) == len(numbers)
    assert spec.data_address(258) == "10.77.1.2"
    assert spec.management_address(258) == "172.30.1.2"
    assert spec.data_mac(258) == "02:4d:00:00:01:02"


def test_ethernet_addresses_are_unicast_and_locally_administered() -> None:
    first = int(spec.data_mac(7).split(":")[0], 16)
    assert first & 0b11 == 0b10


def test_link_ports_are_numbered_after_the_container_in_the_order_of_the_links() -> None:
    ports = spec.ports_of(
        [node("a", 1), node("b", 2), node("c", 30000)], [LinkSpec("ab", "a", "b"), LinkSpec("ca", "c", "a")]
    )
    assert [(p.number, p.interface, p.link, p.peer) for p in ports["a"]] == [
        (2, "s1-eth2", "ab", "b"),
        (3, "s1-eth3", "ca", "c"),
    ]
    assert [p.interface for p in ports["c"]] == ["s30000-eth2"]


def test_interface_names_fit_the_kernel() -> None:
    many = [node("hub", 65533), *(node(f"n{i}", i + 1) for i in range(100))]
    ports = spec.ports_of(many, [LinkSpec(f"l{i}", "hub", f"n{i}") for i in range(100)])
    assert max(len(port.interface) for port in ports["hub"]) <= 15


@pytest.mark.parametrize("name", ["", "Mars", "a_b", "-a", "a-", "a" * 33, "a/b", "../x", "a b"])
def test_a_name_that_cannot_be_part_of_a_path_or_interface_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is no lab name; use 1 to 32"):
        spec.check_lab_name(name)


@pytest.mark.parametrize(
    ("nodes", "links", "message"),
    [
        ([node("a", 1), node("a", 2)], [], "node 'a' exists twice; give"),
        ([node("a", 1), node("b", 1)], [], "nodes 'a' and 'b' share number 1; give"),
        ([node("a", 0)], [], "node 'a' has number 0; use 1 to 65533"),
        ([node("a", 65534)], [], "node 'a' has number 65534; use 1 to 65533"),
        ([node("A", 1)], [], "'A' is no node name; use"),
        ([NodeSpec("a", 1, "moon", "image")], [], "segment 'moon'; use 'earth' or 'mars'"),  # type: ignore[arg-type]
        ([node("a", 1)], [LinkSpec("l", "a", "b")], "ends at 'b', which is no node; use one of: a"),
        ([node("a", 1)], [LinkSpec("l", "a", "a")], "joins 'a' to itself; name two"),
        ([node("a", 1), node("b", 2)], [LinkSpec("l", "a", "b")] * 2, "link 'l' exists twice; give"),
    ],
)
def test_a_topology_that_cannot_be_built_is_refused(nodes: list[NodeSpec], links: list[LinkSpec], message: str) -> None:
    with pytest.raises(InputError, match=message):
        spec.check_topology(nodes, links)


def test_the_fingerprint_changes_with_every_part_of_the_topology() -> None:
    base = node("a", 1)
    others = [
        dataclasses.replace(base, image="other"),
        dataclasses.replace(base, number=2),
        dataclasses.replace(base, command=("x",)),
        dataclasses.replace(base, env={"A": "1"}),
        dataclasses.replace(base, state_dir=Path("/state")),
        dataclasses.replace(base, limits=Limits(cpus=0.5)),
    ]
    prints = {spec.digest([n], []) for n in (base, *others)} | {
        spec.digest([base, node("b", 2)], [LinkSpec("l", "a", "b")])
    }
    assert len(prints) == len(others) + 2
    assert spec.digest([base], []) == spec.digest([node("a", 1)], [])
