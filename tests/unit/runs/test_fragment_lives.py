"""Copies and fragments in the account of a run: what they carry counts for the bundle that was accepted."""

from __future__ import annotations

import pytest

from marsnet.dtn.node.identity import original
from marsnet.dtn.node.ledger import Record, Step
from marsnet.runs.lives import lives

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
