"""JSON Schemas of the files that people and programs write, for editors and other languages.

`python -m marsnet.plan.schemas FOLDER` writes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from marsnet.model.scenario import Scenario
from marsnet.model.topology import Topology
from marsnet.plan.document import PlanDocument

_MODELS: dict[str, type[BaseModel]] = {
    "topology.schema.json": Topology,
    "scenario.schema.json": Scenario,
    "plan.schema.json": PlanDocument,
}


def schemas() -> dict[str, str]:
    """File name to text of every schema."""
    texts: dict[str, str] = {}
    for name, model in _MODELS.items():
        body: dict[str, Any] = _as_written(model.model_json_schema())
        head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"marsnet {name.split('.')[0]}"}
        texts[name] = json.dumps(head | {key: body[key] for key in body if key != "title"}, indent=1) + "\n"
    return texts


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
