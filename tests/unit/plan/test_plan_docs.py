"""The examples in the pages on topologies and plan formats are files that this program reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from marsnet.model.topology import load_topology
from marsnet.plan.files import read_plan

DOCS = Path(__file__).parents[3] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_smallest_topology_is_one(tmp_path: Path) -> None:
    (example,) = [text for text in blocks("topologies.md", "yaml") if text.startswith("marsnet:")]
    path = tmp_path / "two.yaml"
    path.write_text(example)
    assert [link.title for link in load_topology(path).links] == ["dss14--areo"]


def test_the_example_of_a_plan_is_one(tmp_path: Path) -> None:
    (example,) = blocks("plan-formats.md", "json")
    path = tmp_path / "plan.json"
    path.write_text(example)
    plan = read_plan(path)
    assert plan.owlt("mro", "goldstone", 31333.0) == pytest.approx(830.0 - 0.0041)
    assert plan.contacts[0].volume == pytest.approx(240.9 * 1_873_000 / 8)
