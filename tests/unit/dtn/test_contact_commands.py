"""uD3TN's commands to change contacts become contacts of the plan, or are refused for a reason that is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marsnet.clock import MissionClock
from marsnet.dtn.apps.contact_commands import LINK, commanded
from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.network import network_of
from marsnet.errors import InputError
from marsnet.plan.types import Contact, ContactPlan, Range

EPOCH = "2026-10-01T00:00:00.000Z"
CLOCK = MissionClock(EPOCH, 1.0, 0.0)
BEGIN = CLOCK.dtn_time(0.0) // 1000
PLAN = ContactPlan(
    EPOCH, 0.0, 1000.0, {"rover": 1, "relay": 2},
    tuple(Contact("x", a, b, 500.0, 600.0, 1e6) for a, b in (("rover", "relay"), ("relay", "rover"))),
    tuple(Range(a, b, 0.0, 1000.0, 0.25) for a, b in (("rover", "relay"), ("relay", "rover"))),
)  # fmt: skip
CONFIG = NodeConfig.model_validate(
    {
        "name": "rover", "number": 1, "plan": "plan.json",
        "neighbours": {
            "relay": {"address": "127.0.0.2", "convergence": "tcpcl"},
            "phobos": {"number": 3, "address": "127.0.0.3", "light_time": 2.5},
            "base": {"number": 4, "contact": "always"},
        },
    }
)  # fmt: skip


def window(start: int, end: int, rate: int = 1000, *reachable: str) -> dict[str, Any]:
    return {"start": BEGIN + start, "end": BEGIN + end, "data_rate": rate, "reachable_eids": list(reachable)}


def obey(plan: ContactPlan = PLAN, *, now: float = 10.0, **command: Any) -> ContactPlan:
    return commanded(plan, json.dumps({"command": "ADD", "node_id": "ipn:2.0"} | command).encode(), CONFIG, CLOCK, now)


def test_a_contact_is_added_both_ways_in_mission_time_with_the_light_time_of_the_pair() -> None:
    plan = obey(contact_list=[window(20, 80)], cla_addr="tcpclv4:127.0.0.2:4556")
    added = set(plan.contacts) - set(PLAN.contacts)
    assert added == {
        Contact(LINK, "rover", "relay", 20.0, 80.0, 8000.0), Contact(LINK, "relay", "rover", 20.0, 80.0, 8000.0)
    }  # fmt: skip
    assert set(plan.ranges) == set(PLAN.ranges)
    assert plan.owlt("rover", "relay", 30.0) == 0.25
    assert obey(plan, contact_list=[window(20, 80)]).contacts == plan.contacts


def test_a_neighbour_that_the_plan_does_not_know_gets_its_own_light_time() -> None:
    plan = obey(node_id="ipn:3.0", contact_list=[window(2000, 3000)])
    assert plan.end == 3000.0
    assert plan.owlt("rover", "phobos", 2500.0) == plan.owlt("phobos", "rover", 2500.0) == 2.5
    assert obey(node_id="dtn://phobos/", contact_list=[window(2000, 3000)]).contacts == plan.contacts


def test_what_was_added_can_be_taken_away_and_nothing_else() -> None:
    plan = obey(contact_list=[window(20, 80), window(100, 120)])
    assert set(obey(plan, command="DELETE").contacts) == set(PLAN.contacts)
    left = obey(plan, command="DELETE", contact_list=[window(20, 80)])
    assert {c.start for c in left.contacts} == {100.0, 500.0}
    with pytest.raises(InputError, match="no command has added"):
        obey(PLAN, command="DELETE")
    with pytest.raises(InputError, match="no command has added"):
        obey(plan, command="DELETE", contact_list=[window(500, 600)])


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ({"node_id": "ipn:9.0"}, "no neighbour"),
        ({"node_id": "mars"}, "'mars'"),
        ({"node_id": None}, "None"),
        ({"cla_addr": "mtcp:127.0.0.2:4556"}, "not at"),
        ({"cla_addr": "tcpclv4:127.0.0.9:4556"}, "not at"),
        ({"contact_list": []}, "no contact is stated"),
        ({"contact_list": [window(80, 20)]}, "a contact from"),
        ({"contact_list": [window(20, 80, 0)]}, "a contact from"),
        ({"contact_list": [window(1, 5)]}, "is over"),
        ({"contact_list": [window(550, 650)]}, "in contact already"),
        ({"contact_list": [window(20, 80), window(70, 90)]}, "in contact already"),
        ({"reachable_eids": ["ipn:7.0"]}, "does not say when"),
        ({"contact_list": [window(20, 80, 5, "ipn:7.0")]}, "does not say when"),
        ({"command": "QUERY"}, "QUERY has no answer"),
        ({"command": "UPDATE"}, "UPDATE has no answer"),
        ({"command": "DROP"}, "no command"),
        ({"sudo": 1}, "no command"),
    ],
    ids=str,
)
def test_what_a_plan_cannot_say_is_refused(command: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why) as refused:
        obey(**({"contact_list": [window(20, 80)]} | command))
    assert refused.value.remedy


def test_a_neighbour_that_is_always_in_contact_needs_none() -> None:
    with pytest.raises(InputError, match="in contact already"):
        obey(network_of(CONFIG, PLAN), node_id="ipn:4.0", contact_list=[window(20, 80)])


@pytest.mark.parametrize("octets", [b"", b"1(ipn:2.0)::;", b"[]", b"\xff\xfe", b'{"command":"ADD"}', b"[" * 100_000])
def test_octets_that_are_no_command_are_refused(octets: bytes) -> None:
    with pytest.raises(InputError, match="no command"):
        commanded(PLAN, octets, CONFIG, CLOCK, 0.0)


@pytest.mark.parametrize("field", ["start", "end", "data_rate"])
def test_numbers_that_no_clock_or_rate_holds_are_refused(field: str) -> None:
    with pytest.raises(InputError, match="no command"):
        obey(contact_list=[window(20, 80) | {field: 10**400}])
