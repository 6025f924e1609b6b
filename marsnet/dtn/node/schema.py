"""The JSON Schema of a node's configuration. `python -m marsnet.dtn.node.schema FOLDER` writes it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from marsnet.dtn.node.config import NodeConfig
from marsnet.model.bundles import BundleSettings
from marsnet.plan.schemas import schema_text

NAME = "node.schema.json"
_ATTRIBUTE = re.compile(r"^    (\w+): ", re.MULTILINE)


def node_schema() -> str:
    """Its text; what each key is for comes from the docstrings of the models."""
    whole, inherited = _described(NodeConfig.model_json_schema()), _described(BundleSettings.model_json_schema())
    for name, key in inherited["properties"].items():
        whole["properties"][name].setdefault("description", key["description"])
    return schema_text(NAME, whole)


def _described(node: Any) -> Any:
    """A schema in which the descriptions of attributes stand beside the keys that they describe."""
    if isinstance(node, list):
        return [_described(child) for child in node]
    if not isinstance(node, dict):
        return node
    made = {key: _described(value) for key, value in node.items()}
    if isinstance(node.get("description"), str) and isinstance(node.get("properties"), dict):
        made["description"], _, listed = node["description"].partition("\n\nAttributes:\n")
        made["description"] = " ".join(made["description"].split())
        parts = _ATTRIBUTE.split(listed)
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            made["properties"][name]["description"] = " ".join(text.split())
    return made


if __name__ == "__main__":
    (Path(sys.argv[1]) / NAME).write_text(node_schema(), encoding="utf-8")
