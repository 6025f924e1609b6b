"""Golden tests of the mistakes in faults: file, line, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from marsnet.errors import InputError
from marsnet.model.scenario import load_scenario
from marsnet.plan.files import write_plan
from marsnet.plan.types import ContactPlan
from marsnet.runs.prepare import check_times

TOPOLOGY = Path(__file__).parents[3] / "topologies" / "first_light.yaml"
NODES = "there are mcc, dss14, dss43, dss63, mro, areo, rover, habitat"
SITES = "there are rover, habitat"
HEAD = f"""\
marsnet: scenario/1
name: faults
topology: {TOPOLOGY}
start: 2026-10-01T10:00:00Z
duration: 6 h
traffic:
  - {{name: t, source: rover, destination: mcc, class: bulk, size: 1 kB, every: 1 h, lifetime: 6 h}}
requirements:
  - {{kind: nothing_lost}}
faults:
"""
AT = "    at: 1 h\n    duration: 1 h\n"

# name: the fault, what follows the file's name in the message
MISTAKES: dict[str, tuple[str, str]] = {
    "no-time": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 h\n",
        "11: the fault has no time; give 'at', 'every', 'when' or 'probability'",
    ),
    "two-times": (
        f"  - kind: node_silent\n    node: mro\n{AT}    every: 2 h\n",
        "15: the fault has at and every; give one of them",
    ),
    "chance-of-a-rate": (
        "  - kind: node_silent\n    node: mro\n    every: 2 h\n    duration: 1 h\n    probability: 10 %\n",
        "15: 'probability' does not go with 'every'; give 'at', or nothing",
    ),
    "chance-of-too-much": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 h\n    probability: 110 %\n",
        "14: faults.0.probability: 110 % is out of range; give 0 % to 100 %",
    ),
    "bare-chance": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 h\n    probability: 0.1\n",
        "14: faults.0.probability: 0.1 has no unit; write it like '95 %' (units: %)",
    ),
    "empty-condition": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 h\n    when: {delay: 1 h}\n",
        "14: the condition waits for nothing; give one of delivered, storage, contact_opens, begins, ends",
    ),
    "two-conditions": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 h\n    when:\n      begins: a\n      ends: b\n",
        "16: the condition waits for begins and ends; give one of delivered, storage, contact_opens, begins, ends",
    ),
    "condition-on-nobody": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 h\n    when:\n      "
        "storage: {node: base, above: 80 %}\n",
        f"15: unknown node 'base'; {NODES}",
    ),
    "condition-on-no-flow": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 h\n    when:\n      delivered: {flow: x, count: 3}\n",
        "15: unknown flow 'x'; there are t",
    ),
    "condition-on-itself": (
        "  - kind: node_silent\n    name: a\n    node: mro\n    duration: 1 h\n    when: {ends: a}\n",
        "15: unknown other fault 'a'; there are none",
    ),
    "planned-condition": (
        "  - kind: link_outage\n    link: areo--rover\n    duration: 1 h\n    planned: true\n    when: {ends: a}\n",
        "14: what waits for a condition cannot be planned; give 'at', or remove 'planned'",
    ),
    "planned-silence": (
        f"  - kind: node_silent\n    node: mro\n{AT}    planned: true\n",
        "15: unknown key 'faults.0.planned'; choose one of name, at, probability, every, when, duration, kind, node",
    ),
    "two-names": (
        f"  - kind: node_silent\n    name: a\n    node: mro\n{AT}"
        f"  - kind: node_crash\n    name: a\n    node: mro\n{AT}",
        "17: two faults are named 'a'; rename one",
    ),
    "rate-of-nobody": (
        f"  - kind: partial_rate\n    rate: 50 %\n{AT}",
        "11: the fault needs a link or a node; give one of 'link' and 'node'",
    ),
    "rate-of-nothing": (
        f"  - kind: partial_rate\n    link: areo--rover\n    rate: 0 %\n{AT}",
        "13: a rate of nothing is an outage; use the kind 'link_outage'",
    ),
    "no-errors": (
        f"  - kind: bit_errors\n    link: areo--rover\n{AT}",
        "11: the link has no errors; give 'ber', as in 1e-6, or 'loss', as in 5 %",
    ),
    "too-many-errors": (
        f"  - kind: bit_errors\n    link: areo--rover\n    ber: 0.7\n{AT}",
        "13: faults.0.ber: 0.7 is out of range; give at most 0.5",
    ),
    "dust-in-space": (
        f"  - kind: dust_storm\n    sites: [habitat, mro]\n    rise: 1 min\n    decay: 1 min\n{AT}",
        f"12: unknown site 'mro'; {SITES}",
    ),
    "dust-too-long": (
        f"  - kind: dust_storm\n    sites: [habitat]\n    rise: 1 h\n    decay: 1 min\n{AT}",
        "16: the storm rises and decays for longer than it lasts; lengthen 'duration'",
    ),
    "dust-in-no-band": (
        f"  - kind: dust_storm\n    sites: [habitat]\n    rise: 0 s\n    decay: 0 s\n"
        f"{AT}    attenuation: {{K: 1 dB}}\n",
        "17: faults.0.attenuation.K: unknown value 'K'; did you mean 'Ka'?",
    ),
    "bare-drift": (
        f"  - kind: clock_drift\n    node: rover\n    drift: 20\n{AT}",
        "13: faults.0.drift: 20 has no unit; write it like '20 ppm' (units: ppm, ppb)",
    ),
    "no-drift": (
        f"  - kind: clock_drift\n    node: rover\n    drift: 0 ppm\n{AT}",
        "13: faults.0.drift: a drift of 0 ppm is out of range; give up to 100000 ppm, and not 0",
    ),
    "misses-nothing": (
        f"  - kind: stale_plan\n    nodes: [rover]\n    misses: [works]\n{AT}",
        "13: unknown planned fault 'works'; there are none",
    ),
    "nothing-wrong": (
        f"  - kind: wrong_plan\n    nodes: [rover]\n{AT}",
        "11: the plan has nothing wrong; give one of 'plan', 'shift' and 'without'",
    ),
    "two-wrongs": (
        f"  - kind: wrong_plan\n    nodes: [rover]\n    shift: 1 h\n    plan: a.json\n{AT}",
        "13: the plan has plan and shift at once; give one of 'plan', 'shift' and 'without'",
    ),
    "no-plan": (
        f"  - kind: wrong_plan\n    nodes: [rover]\n    plan: a.json\n{AT}",
        "13: there is no file 'a.json' with content; give its path relative to this file",
    ),
    "plan-of-strangers": (
        f"  - kind: wrong_plan\n    nodes: [rover]\n    plan: strange.csv\n{AT}",
        f"13: the plan has the unknown node 'base'; {NODES}",
    ),
    "no-segment": (
        f"  - kind: controller_loss\n    segment: moon\n{AT}",
        "12: faults.0.segment: unknown value 'moon'; choose one of earth, mars",
    ),
    "crash-while-switched-off": (
        "  - kind: power_cycle\n    node: mro\n    off: 20 min\n    on: 1 h\n    at: 1 h\n    duration: 3 h\n"
        "  - kind: node_crash\n    node: mro\n    at: 145 min\n    duration: 1 h\n",
        "19: node 'mro' crashes at 8700 s while it is down already; move the second crash to 9600 s or later",
    ),
    "crash-twice": (
        f"  - kind: node_crash\n    node: mro\n{AT}"
        "  - kind: node_crash\n    node: mro\n    at: 90 min\n    duration: 1 h\n",
        "17: node 'mro' crashes at 5400 s while it is down already; move the second crash to 7200 s or later",
    ),
    "circle": (
        "  - {name: a, kind: node_crash, node: mro, duration: 1 h, when: {begins: b}}\n"
        "  - {name: b, kind: node_crash, node: areo, duration: 1 h, when: {ends: a}}\n",
        "11: fault 'a' waits for 'b', which waits for it; let one of them begin at a time",
    ),
    "contact-after-the-run": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 h\n"
        "    when: {contact_opens: {link: mro--rover, after: 6 h}}\n",
        "11: a fault waits for a contact after '6 h', which is outside of the run; give an instant within the duration",
    ),
    "minute-60": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 h\n    at: sol 0 06:60 LTST at rover\n",
        "14: faults.0.at: 'sol 0 06:60 LTST at rover' is no instant; write '11 h' after the start, "
        "'2026-10-01T12:00:00Z', or 'sol 3 06:00 LTST at jezero'",
    ),
    "endless-cycle": (
        f"  - kind: power_cycle\n    node: mro\n    off: 1 us\n    on: 1 us\n{AT}",
        "13: the node is switched off more than 10000 times; lengthen 'off' and 'on'",
    ),
    "endless-chance": (
        "  - kind: node_silent\n    node: mro\n    duration: 1 us\n    every: 1 ms\n",
        "11: a fault happens more than 10000 times; lengthen 'every'",
    ),
    "no-off": (f"  - kind: power_cycle\n    node: mro\n    on: 1 h\n{AT}", "11: 'faults.0.off' is missing; add 'off'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_placed_and_explained(name: str, tmp_path: Path) -> None:
    fault, expected = MISTAKES[name]
    path = tmp_path / "wrong.yaml"
    path.write_text(HEAD + fault)
    plan = ContactPlan("2026-10-01T10:00:00.000Z", 0.0, 10.0, {"base": 9}, (), ())
    write_plan(plan, tmp_path / "strange.csv")
    with pytest.raises(InputError) as caught:
        check_times(*load_scenario(path), path)
    assert str(caught.value) == f"{path}:{expected}"
