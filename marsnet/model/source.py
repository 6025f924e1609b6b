"""Reads the YAML that people write, and places every mistake at its file and line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from marsnet.errors import InputError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]


def read_yaml(path: str | Path) -> CommentedMap:
    """The mapping that a YAML 1.2 file holds, with line numbers attached.

    Raises:
        InputError: file missing or not text, malformed YAML, duplicate key, or top level not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}", remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {str(path)!r}: {error}", remedy="give a readable UTF-8 text file") from None
    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problem = (error.problem or "malformed YAML").split("\n")[0]
        raise InputError(f"malformed YAML: {problem}", remedy="mend the syntax", file=path, line=line) from None
    except YAMLError as error:
        raise InputError(f"malformed YAML: {error}", remedy="mend the syntax", file=path) from None
    if not isinstance(document, CommentedMap):
        raise InputError("the file holds no mapping", remedy="write 'key: value' lines", file=path, line=1)
    return document


def line_of(document: Any, location: Location) -> int | None:
    """The line, from 1, of the innermost part of a location that the document has."""
    line: int | None = None
    for part in location:
        if isinstance(document, CommentedMap) and part in document:
            line = document.lc.key(part)[0] + 1
            document = document[part]
        elif isinstance(document, CommentedSeq) and isinstance(part, int) and part < len(document):
            line = document.lc.item(part)[0] + 1
            document = document[part]
    return line


def build(model: type[Model], document: CommentedMap, path: str | Path) -> Model:
    """Validate a document read by `read_yaml` against a model.

    Raises:
        InputError: the first mistake, with file, line, value and remedy.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        mistakes = error.errors()
        # An unknown key explains a missing one beside it, so it is the one to show.
        mistake = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
        raise _explain(model, document, path, mistake) from None


def _explain(model: type[BaseModel], document: CommentedMap, path: str | Path, mistake: Any) -> InputError:
    location: Location = tuple(mistake["loc"])
    line = line_of(document, location)
    shown = ".".join(str(part) for part in location if _exists(document, part) or part == location[-1])
    kind, value = mistake["type"], mistake.get("input")
    if kind == "extra_forbidden":
        known = _keys_beside(model, location)
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}" if known else "remove it"
        return InputError(f"unknown key {shown!r}", remedy=remedy, file=path, line=line)
    if kind == "missing":
        return InputError(f"{shown!r} is missing", remedy=f"add {location[-1]!r}", file=path, line=line or 1)
    message = str(mistake["msg"]).removeprefix("Value error, ")
    problem, _, remedy = message.partition("; ")
    if kind not in {"value_error", "assertion_error"}:
        problem = f"{value!r}: {problem[0].lower()}{problem[1:]}"
    where = f"{shown}: " if shown else ""
    return InputError(f"{where}{problem}", remedy=remedy, file=path, line=line or 1)


def _exists(document: Any, part: int | str) -> bool:
    """Whether a part of a pydantic location is a key of the file (and not the name of a union's branch)."""
    if isinstance(part, int):
        return True
    if isinstance(document, CommentedMap):
        return part in document or any(_exists(child, part) for child in document.values())
    if isinstance(document, CommentedSeq):
        return any(_exists(child, part) for child in document)
    return False


def _keys_beside(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that the record around an unknown key may have, found through the model's JSON Schema."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    nodes: list[dict[str, Any]] = [schema]
    for part in location[:-1]:
        nodes = [child for node in nodes for child in _children(node, part, definitions)] or nodes
    keys = dict.fromkeys(key for node in nodes for child in _flatten(node, definitions) for key in child["properties"])
    return list(keys)


def _flatten(node: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _flatten(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    branches = node.get("anyOf", []) + node.get("oneOf", [])
    if branches:
        return [flat for branch in branches for flat in _flatten(branch, definitions)]
    return [node] if "properties" in node else []


def _children(node: dict[str, Any], part: int | str, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _children(definitions[node["$ref"].rsplit("/", 1)[-1]], part, definitions)
    found = [
        child
        for branch in node.get("anyOf", []) + node.get("oneOf", [])
        for child in _children(branch, part, definitions)
    ]
    mapping = node.get("discriminator", {}).get("mapping", {})
    if part in mapping:
        return [{"$ref": mapping[part]}]
    if isinstance(part, int) and "items" in node:
        found.append(node["items"])
    if part in node.get("properties", {}):
        found.append(node["properties"][part])
    elif isinstance(node.get("additionalProperties"), dict):
        found.append(node["additionalProperties"])
    return found
