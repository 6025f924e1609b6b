"""A node that died or went on after a defect makes a run invalid; one that a fault keeps down does not."""

from __future__ import annotations

from marsnet.worlds.spec import Incident
from marsnet.worlds.witnesses import doubts

CRASH = Incident("node_crash", "relay", 50.0, 150.0, down="relay")
SOUND = {"defects": 0}


def test_nodes_that_answer_and_nodes_that_a_fault_keeps_down_are_trusted() -> None:
    assert not list(doubts({"earth": SOUND, "relay": None}, (CRASH,), 100.0))
    assert not list(doubts({"earth": SOUND, "relay": SOUND}, (CRASH,), 200.0))


def test_a_node_that_died_is_told() -> None:
    (told,) = doubts({"earth": SOUND, "relay": None}, (CRASH,), 200.0)
    assert told == "node 'relay' did not answer at the end of the run, and no fault keeps it down; see its log"


def test_a_node_that_went_on_after_a_defect_is_told() -> None:
    (told,) = doubts({"earth": {"defects": 2}, "relay": SOUND}, (), 100.0)
    assert told == "node 'earth' went on after 2 errors that it did not expect; see its log"
