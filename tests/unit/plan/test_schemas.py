"""The committed JSON Schemas are those of the models, and the files that ship obey them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from marsnet.plan.files import write_plan_to
from marsnet.plan.schemas import schemas
from marsnet.plan.types import Contact, ContactPlan, Range

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", schemas())
def test_a_committed_schema_is_current(name: str) -> None:
    assert (ROOT / "schemas" / name).read_text() == schemas()[name], "run: python -m marsnet.plan.schemas schemas"


@pytest.mark.parametrize(
    ("kind", "path"),
    [("topology", path) for path in sorted((ROOT / "topologies").glob("*.yaml"))]
    + [("scenario", path) for path in sorted((ROOT / "scenarios").glob("*.yaml"))],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_a_shipped_file_obeys_its_schema(kind: str, path: Path) -> None:
    yaml = YAML(typ="safe")
    yaml.constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)
    schema = json.loads((ROOT / "schemas" / f"{kind}.schema.json").read_text())
    mistakes = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(yaml.load(path))
    ]
    assert mistakes == []


def test_a_written_plan_obeys_its_schema() -> None:
    plan = ContactPlan(
        "2026-10-01T00:00:00.000Z",
        0.0,
        60.0,
        {"a": 1, "b": 2},
        (Contact("a--b", "a", "b", 0.0, 60.0, 1e6, 1e-9, 0.1),),
        (Range("a", "b", 0.0, 60.0, 1.0, 1e-5),),
    )
    out = io.StringIO()
    write_plan_to(plan, out, "json")
    Draft202012Validator(json.loads(schemas()["plan.schema.json"])).validate(json.loads(out.getvalue()))
    wrong = json.loads(out.getvalue()) | {"epoch": 5}
    assert not Draft202012Validator(json.loads(schemas()["plan.schema.json"])).is_valid(wrong)
