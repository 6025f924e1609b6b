"""JSON Schemas of the files that people and programs write, for editors and other languages.

`python -m marsnet.plan.schemas FOLDER` writes them; `marsnet.dtn.node.schema` writes that of a node's configuration.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from marsnet.model.daemon import Manifest
from marsnet.model.scenario import Scenario
from marsnet.model.topology import Topology
from marsnet.plan.document import PlanDocument

_MODELS: dict[str, type[BaseModel]] = {
    "topology.schema.json": Topology,
    "scenario.schema.json": Scenario,
    "plan.schema.json": PlanDocument,
    "daemon.schema.json": Manifest,
}


def schemas() -> dict[str, str]:
    """File name to text of every schema."""
    texts: dict[str, str] = {}
    for name, model in _MODELS.items():
        body: dict[str, Any] = _as_written(model.model_json_schema())
        if model in _WRITTEN_BY_PEOPLE:
            body = _with_language(body)
        texts[name] = schema_text(name, body)
    return texts


def schema_text(name: str, body: dict[str, Any]) -> str:
    """A schema as its file has it."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"marsnet {name.partition('.')[0]}"}
    return json.dumps(head | {key: body[key] for key in body if key != "title"}, indent=1) + "\n"


_WRITTEN_BY_PEOPLE = (Topology, Scenario)
_REFERENCE = {"type": "string", "pattern": r"\$\{[^{}]*\}"}
_NAMES = {"type": "string", "description": "a file, relative to this one"}
_FOR = {
    "type": "object",
    "description": "repeat this entry for each value: '1..3', or a list",
    "minProperties": 1,
    "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "number"]}}]},
}


def _with_language(body: dict[str, Any]) -> dict[str, Any]:
    """A schema that also admits `include`, `${...}` in place of values, and `for` in entries."""
    whole: dict[str, Any] = _templated(body)
    whole["properties"].pop("for")
    whole["properties"]["include"] = {
        "description": "files whose content this one adds to",
        "anyOf": [_NAMES, {"type": "array", "items": _NAMES}],
    }
    whole["anyOf"] = [{"required": ["include"]}, {"required": whole.pop("required")}]
    return whole


def _templated(node: Any) -> Any:
    if isinstance(node, list):
        return [_templated(child) for child in node]
    if not isinstance(node, dict):
        return node
    if "enum" in node or node.get("type") in {"number", "integer", "boolean"} or "pattern" in node:
        outer = {key: node[key] for key in ("description", "default") if key in node}
        return outer | {"anyOf": [{key: node[key] for key in node if key not in outer}, _REFERENCE]}
    made = {
        key: {name: _templated(child) for name, child in value.items()}
        if key in {"properties", "patternProperties", "$defs"}
        else value
        if key in {"propertyNames", "discriminator"}
        else _templated(value)
        for key, value in node.items()
    }
    if "propertyNames" in made:
        made["propertyNames"] = {"anyOf": [made["propertyNames"], _REFERENCE]}
    if "patternProperties" in made:
        (entry,) = made["patternProperties"].values()
        made["patternProperties"][_REFERENCE["pattern"]] = entry
    if made.get("additionalProperties") is False and "properties" in made:
        made["properties"]["for"] = _FOR
    return made


def _as_written(node: Any) -> Any:
    """Without the defaults of quantities: they are base-unit numbers, where a person writes text with a unit."""
    if isinstance(node, list):
        return [_as_written(child) for child in node]
    if not isinstance(node, dict):
        return node
    odd = node.get("type") == "string" and isinstance(node.get("default"), float)
    return {key: _as_written(value) for key, value in node.items() if not (odd and key == "default")}


def write_schemas(folder: Path) -> None:
    """Write every schema into a folder."""
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
