"""The published schema of a node's configuration is that of the model, describes every key and fits what is written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from ruamel.yaml import YAML

from marsnet.dtn.node.config import NodeConfig
from marsnet.dtn.node.schema import NAME, node_schema

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads(node_schema())
PLAIN: dict[str, Any] = {"name": "earth", "number": 1}


def test_the_committed_schema_is_current() -> None:
    assert (ROOT / "schemas" / NAME).read_text() == node_schema(), "run: python -m marsnet.dtn.node.schema schemas"


def test_every_key_is_described() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for name, model in {"": SCHEMA, **SCHEMA["$defs"]}.items():
        for key, value in model.get("properties", {}).items():
            assert value.get("description"), f"{name}.{key}"


def test_the_configurations_of_the_page_obey_it() -> None:
    page = (ROOT / "docs" / "node.md").read_text()
    written = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(written) >= 2
    for text in written:
        config = YAML(typ="safe").load(text)
        Draft202012Validator(SCHEMA).validate(config)
        NodeConfig.model_validate(config)


@pytest.mark.parametrize(
    ("added", "fits"),
    [
        ({}, True),
        ({"metrics": "127.0.0.1:8101"}, True),
        ({"metrics": "[::1]:8101"}, True),
        ({"listen": {"ltp": ["127.0.0.1", 1113]}}, True),
        ({"clock": {"epoch": "2026-10-01T00:00:00Z", "rate": 2.0, "origin": 0.0}}, True),
        ({"tenants": {"a": {"sources": ["ipn:1.*"], "quota": 5}}}, True),
        ({"neighbours": {"mars": {"number": 2, "convergence": "tcpcl"}}}, True),
        ({"metrics": "localhost"}, False),
        ({"listen": {"smtp": "127.0.0.1:25"}}, False),
        ({"listen": {"ltp": ["127.0.0.1"]}}, False),
        ({"clock": "gps"}, False),
        ({"number": 0}, False),
        ({"nmae": "mars"}, False),
        ({"neighbours": {"mars": {"rate": 0}}}, False),
        ({"tenants": {"a": {"quota": 0}}}, False),
        ({"tcpcl": {"keepalive": 70000}}, False),
    ],
    ids=str,
)
def test_the_schema_and_the_node_agree(added: dict[str, Any], fits: bool) -> None:
    assert Draft202012Validator(SCHEMA).is_valid(PLAIN | added) == fits
    try:
        NodeConfig.model_validate(PLAIN | added)
    except ValidationError:
        assert not fits
    else:
        assert fits
