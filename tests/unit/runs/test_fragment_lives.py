"""Copies and fragments in the account of a run: what they carry counts for the bundle that was accepted."""

from __future__ import annotations

import math

import pytest

from marsnet.dtn.node.identity import original
from marsnet.dtn.node.ledger import Record, Step
from marsnet.runs.lives import lives
from marsnet.runs.stays import Stay, stays

B = "ipn:1.1/5-0"
ACCEPTED = Record(
    0.0, "rover", Step.ACCEPTED, B,
    {"flow": "t", "class": "critical", "source": "rover", "destination": "earth", "size": 1000, "lifetime": 3600.0},
)  # fmt: skip


def ended(step: Step, name: str, node: str = "relay") -> Record:
    return Record(9.0, node, step, name, {"reason": "x"})


@pytest.mark.parametrize(
    ("records", "stored", "fate"),
    [
        ([], {"rover": [f"{B}@0+400"], "relay": [f"{B}@400+600"]}, "stored"),
        ([], {"rover": [f"{B}@0+400"], "relay": [f"{B}@401+599"]}, "lost"),
        ([], {"relay": [f"{B}@0+400", f"{B}@300+700"]}, "stored"),
        ([ended(Step.EXPIRED, f"{B}@400+600")], {"rover": [f"{B}@0+400"]}, "expired"),
        ([ended(Step.DROPPED, f"{B}@400+600")], {"rover": [f"{B}@0+400"]}, "dropped"),
        ([ended(Step.DROPPED, f"{B}@400+600")], {"rover": [B]}, "stored"),
        ([ended(Step.EXPIRED, f"{B}@400+500")], {"rover": [f"{B}@0+400"]}, "lost"),
        ([ended(Step.EXPIRED, B, "a"), ended(Step.EXPIRED, B, "b")], {}, "expired"),
        ([ended(Step.EXPIRED, B, "a"), Record(5.0, "earth", Step.DELIVERED, B, {"intact": True})], {}, "delivered"),
        ([ended(Step.EXPIRED, f"{B}@0+1000"), ended(Step.DROPPED, f"{B}@0+10")], {}, "dropped"),
    ],
)
def test_the_fate_of_a_bundle_follows_from_all_of_its_octets(
    records: list[Record], stored: dict[str, list[str]], fate: str
) -> None:
    assert lives([ACCEPTED, *records], stored)[B].fate == fate


def test_twice_at_one_node_is_twice_but_once_at_each_of_a_group_is_once() -> None:
    each = [Record(5.0, node, Step.DELIVERED, B, {"intact": True}) for node in ("earth", "base")]
    assert lives([ACCEPTED, *each], {})[B].deliveries == 1
    assert lives([ACCEPTED, *each, each[0]], {})[B].deliveries == 2


def test_names_tell_the_part() -> None:
    assert original(f"{B}@300+700") == (B, 300, 1000)
    assert original(B) == (B, 0, None)
    assert original("dtn://a@b/c/5-0") == ("dtn://a@b/c/5-0", 0, None)


def test_a_bundle_that_is_cut_stays_no_longer_and_its_fragments_do_until_it_is_whole() -> None:
    one, two = f"{B}@0+400", f"{B}@400+600"
    records = [
        ACCEPTED,
        Record(5.0, "rover", Step.FRAGMENTED, one, {"of": B}),
        Record(5.0, "rover", Step.FRAGMENTED, two, {"of": B}),
        Record(6.0, "rover", Step.FORWARDED, one, {"peer": "earth"}),
        Record(7.0, "earth", Step.RECEIVED, one, {"peer": "rover"}),
        Record(8.0, "rover", Step.FORWARDED, two, {"peer": "earth"}),
        Record(9.0, "earth", Step.RECEIVED, two, {"peer": "rover"}),
        Record(9.5, "earth", Step.REASSEMBLED, B, {"parts": 2}),
        Record(9.75, "earth", Step.DELIVERED, B, {"intact": True}),
    ]
    found = list(stays(records))
    assert found == [
        Stay("rover", B, "", 0.0, 5.0),
        Stay("rover", one, "earth", 5.0, 6.0),
        Stay("rover", two, "earth", 5.0, 8.0),
        Stay("earth", one, "", 7.0, 9.5),
        Stay("earth", two, "", 9.0, 9.5),
        Stay("earth", B, "", 9.5, 9.75),
    ]
    assert {stay.whole for stay in found} == {B}
    assert list(stays(records[:4]))[-1] == Stay("rover", two, "", 5.0, math.inf)
