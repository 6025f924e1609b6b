"""Includes, parameters and repeated entries: what they make of a file, and how each mistake is placed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from marsnet.errors import InputError
from marsnet.model.document import read_document
from marsnet.model.expressions import evaluate
from marsnet.model.scenario import load_scenario
from marsnet.model.templates import parse_settings
from marsnet.model.topology import load_topology
from marsnet.plan.schemas import schemas

TOPOLOGIES = Path(__file__).parents[3] / "topologies"
NAMES: dict[str, Any] = {"n": 3, "gap": "20 min", "long": "2 h", "rate": "2 Mbit/s", "site": "jezero", "on": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n", 3),
        ("n * 2 + 1", 7),
        ("n / 2", 1.5),
        ("(n + 1) / 2", 2),
        ("n // 2", 1),
        ("-n", -3),
        ("gap", "20 min"),
        ("gap * n", "60 min"),
        ("2 * gap", "40 min"),
        ("long + gap", f"{2 + 1 / 3:.15g} h"),
        ("long / gap", 6),
        ("min(long, gap)", "20 min"),
        ("max(n, 7, 2)", 7),
        ("gap + 30 s", "20.5 min"),
        ("max(gap, 1.5 h)", "1.5 h"),
        ("2 h/20 min", 6),
        ("rate * 2 + 500 kbit/s", "4.5 Mbit/s"),
        ("-5 min", "-5 min"),
        ("1e3 s", "1000 s"),
        ("50 % * n", "150 %"),
        ("7 % n", 1),
        ("7%n", 1),
        ("12 % 5", 2),
        ("site", "jezero"),
        ("on", True),
    ],
)
def test_an_expression_keeps_type_and_unit(text: str, value: object) -> None:
    assert evaluate(text, NAMES.__getitem__) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gap + rate", "'Mbit/s' and 'min' are no units of one kind"),
        ("gap + 1", "'${gap + 1}': 20 min + 1 makes no sense"),
        ("n / gap", "'${n / gap}': 3 / 20 min makes no sense"),
        ("site * 2", "'${site * 2}' calculates with what is no number"),
        ("n / 0", "'${n / 0}' divides by zero"),
        ("n +", "'${n +}' is no expression"),
        ("2 h + 1", "'${2 h + 1}': 2 h + 1 makes no sense"),
        ("2 parsecs", "'${2 parsecs}' is no expression"),
        ("__import__('os')", "'${__import__('os')}' is no expression"),
        ("n ** 9999", "'${n ** 9999}' is no expression"),
    ],
)
def test_nonsense_in_an_expression_is_explained(text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(text, NAMES.__getitem__)
    assert caught.value.problem == problem


SCENARIO = f"""\
marsnet: scenario/1
name: mixed
topology: {TOPOLOGIES / "mtn_mix.yaml"}
parameters:
  low: 4
  gap: 20 min
  sites: 2
start: 2030-01-01T00:00:00Z
duration: 6 h
traffic:
  - for: {{i: "1..${{sites}}"}}
    name: t${{i}}
    source: rover${{i}}
    destination: mcc
    class: normal
    size: 1 kB
    every: ${{gap * i}}
    lifetime: 6 h
requirements:
  - {{kind: nothing_lost}}
"""


def written(folder: Path, text: str, name: str = "s.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_parameters_reach_the_topology_and_can_be_set(tmp_path: Path) -> None:
    path = written(tmp_path, SCENARIO)
    scenario, topology = load_scenario(path)
    assert [(f.name, f.source, f.every) for f in scenario.traffic] == [
        ("t1", "rover1", 1200.0),
        ("t2", "rover2", 2400.0),
    ]
    assert scenario.parameters == {"low": 4, "gap": "20 min", "sites": 2}
    assert sum(name.startswith("low") for name in topology.nodes) == 4
    changed, topology = load_scenario(path, parse_settings(["low=1", "areostationary=3", "gap=1 h", "sites=1"]))
    assert [f.every for f in changed.traffic] == [3600.0]
    assert [n for n in topology.nodes if n.startswith(("low", "areo"))] == ["areo1", "areo2", "areo3", "low1"]
    assert [round(topology.nodes[f"areo{i}"].areostationary.longitude) for i in (1, 2, 3)] == [75, 195, 315]  # type: ignore[union-attr]


@pytest.mark.parametrize(("low", "areo"), [(0, 1), (1, 0), (4, 4)])
def test_a_topology_has_as_many_orbiters_as_wanted(low: int, areo: int) -> None:
    topology = load_topology(TOPOLOGIES / "mtn_mix.yaml", {"low": low, "areostationary": areo})
    assert len(topology.nodes) == 7 + low + areo
    assert len(topology.links) == 3 + 3 * (low + areo) + 2 * areo + 3 * low


MISTAKES: dict[str, tuple[str, str, str]] = {
    "unknown": ("${gap * i}", "${gaps * i}", "17: unknown parameter 'gaps'; did you mean 'gap'?"),
    "unused": (
        "  sites: 2",
        "  sites: 2\n  more: 1",
        "8: nothing uses parameter 'more'; write '${more}' somewhere, or remove it",
    ),
    "half": ("t${i}", "t${i}-${", "12: 't${i}-${' has a '${' without its '}'; write '${name}'"),
    "units": ("${gap * i}", "${gap + i}", "17: '${gap + i}': 20 min + 1 makes no sense; give both a unit of one kind"),
    "range": ('"1..${sites}"', "often", "11: for: 'often' is no range; write '1..3', or a list '[a, b]'"),
    "endless": (
        '"1..${sites}"',
        "1..1000000",
        "11: for: '1..1000000' repeats 1000000 times; repeat at most 10000 times",
    ),
    "loop": (
        'for: {i: "1..${sites}"}',
        "for: 3",
        "11: for: 3 is no mapping; write 'for: {i: 1..3}' or 'for: {site: [a, b]}'",
    ),
    "taken": ("{i: ", "{gap: ", "11: the variable 'gap' is declared already; choose another name"),
    "wrong-type": (
        "${gap * i}",
        "${i}",
        "17: traffic.0.every: 1 has no unit; write it like '20 min' (units: ns, us, ms, s, min, h, d, sol, sols)",
    ),
    "no-mapping": (
        "parameters:\n  low: 4\n  gap: 20 min\n  sites: 2",
        "parameters: 4",
        "4: parameters: 4 is no mapping; write '{name: value}'",
    ),
    "no-name": (
        "  sites: 2",
        "  Sites: 2",
        "7: 'Sites' is no name of a parameter; write a lower-case letter, then letters, digits or '_'",
    ),
    "no-value": (
        "  sites: 2",
        "  sites: [1]",
        "7: parameters.sites: [1] is no value; give a number, a quantity or a text",
    ),
    "in-the-topology": (
        "  low: 4",
        "  low: many",
        "parameter 'low' is a whole number, not 'many'; give one, as the file does with 2",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_placed_and_explained(name: str, tmp_path: Path) -> None:
    right, wrong, expected = MISTAKES[name]
    assert right in SCENARIO
    path = written(tmp_path, SCENARIO.replace(right, wrong, 1))
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    place = f"{TOPOLOGIES / 'mtn_mix.yaml'}:13: " if name == "in-the-topology" else f"{path}:"
    assert str(caught.value) == place + expected


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("lows=3", "--set lows: there is no such parameter; did you mean 'low'?"),
        ("low", "--set 'low' sets nothing; write --set name=value, as in --set orbiters=4"),
        ("low=2.5", "parameter 'low' is a whole number, not '2.5'; give one, as the file does with 4"),
        (
            "gap=5 km",
            "parameter 'gap' is a quantity like '20 min', not '5 km'; give one, as the file does with '20 min'",
        ),
    ],
)
def test_a_setting_has_the_type_of_what_it_replaces(setting: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(written(tmp_path, SCENARIO), parse_settings([setting]))
    assert str(caught.value).endswith(problem)


def test_an_include_is_laid_under_the_file_and_keeps_its_places(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    written(
        tmp_path / "common",
        f"topology: {TOPOLOGIES / 'mtn_mix.yaml'}\nduration: 1 h\ntraffic:\n"
        "  - {name: a, source: rover1, destination: mcc, class: normal, size: 1 kB, every: 1 h, lifetime: 1 h}\n"
        "  - {name: b, source: rovr, destination: mcc, class: normal, size: 1 kB, every: 1 h, lifetime: 1 h}\n",
        "base.yaml",
    )
    top = (
        "marsnet: scenario/1\nname: s\ninclude: [common/base.yaml]\nduration: 2 h\nstart: 2030-01-01\n"
        "traffic:\n  - {name: a, size: 9 kB}\nrequirements: [{kind: nothing_lost}]\n"
    )
    path = written(tmp_path, top)
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert str(caught.value).startswith(f"{tmp_path / 'common' / 'base.yaml'}:5: unknown node 'rovr'")
    path.write_text(top.replace("- {name: a, size: 9 kB}", "- {name: a, size: 9 kB}\n  - {name: b, source: rover2}"))
    scenario, _ = load_scenario(path)
    assert scenario.duration == 7200.0
    assert [(f.name, f.source, f.size) for f in scenario.traffic] == [("a", "rover1", 9e3), ("b", "rover2", 1e3)]


def test_paths_of_an_included_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    written(tmp_path / "common", (TOPOLOGIES / "mtn_mix.yaml").read_text(), "t.yaml")
    written(tmp_path / "common", SCENARIO.replace(str(TOPOLOGIES / "mtn_mix.yaml"), "t.yaml"), "base.yaml")
    _, topology = load_scenario(written(tmp_path, "include: common/base.yaml\n"))
    assert topology.name == "mtn_mix"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("include: s.yaml\n", "1: 's.yaml' includes itself; take one of the includes out"),
        ("include: no.yaml\n", "1: there is no file '{folder}/no.yaml'; give its path relative to this file"),
        ("include: [{a: 1}]\n", "1: include: {{'a': 1}} is no path; name a file, or a list of files"),
    ],
)
def test_an_impossible_include_is_explained(text: str, problem: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_document(path)
    assert str(caught.value) == f"{path}:" + problem.format(folder=tmp_path)


def test_a_file_of_another_kind_is_not_included(tmp_path: Path) -> None:
    path = written(tmp_path, f"marsnet: scenario/1\ninclude: {TOPOLOGIES / 'mtn_mix.yaml'}\n")
    with pytest.raises(InputError, match=r"mtn_mix\.yaml:7: 'marsnet: topology/1' is included in a file of"):
        read_document(path)


def test_the_schema_knows_the_language(tmp_path: Path) -> None:
    yaml = YAML(typ="safe")
    yaml.constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)
    validator = Draft202012Validator(json.loads(schemas()["scenario.schema.json"]))
    assert validator.is_valid(yaml.load(SCENARIO))
    assert validator.is_valid({"include": "base.yaml", "duration": "${gap * 3}"})
    assert not validator.is_valid({"duration": "8 h"})
    assert not validator.is_valid(yaml.load(SCENARIO) | {"duration": "8"})
