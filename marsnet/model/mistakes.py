"""Checks documents against models, and places every mistake at its file and line."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from marsnet.errors import InputError
from marsnet.model.document import Document
from marsnet.model.parts import Location, Part

Model = TypeVar("Model", bound=BaseModel)


def build(model: type[Model], document: Document) -> Model:
    """Validate a document against a model.

    Raises:
        InputError: the first mistake, with file, line, value and remedy.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        mistakes = error.errors()
        # An unknown key explains a missing one beside it, so it is the one to show.
        mistake = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
        raise _explain(model, document, mistake) from None


def _explain(model: type[BaseModel], document: Document, mistake: Any) -> InputError:
    context: dict[str, Any] = mistake.get("ctx", {})
    location: Location = (*mistake["loc"], *context.get("path", ()))
    kind, value = mistake["type"], mistake.get("input")
    if kind.startswith("union_tag"):
        location = (*location, context["discriminator"].strip("'"))
    path, line = document.place(location)
    absent = kind in {"missing", "union_tag_not_found"}
    shown, written = _shown(document.root, location, keep_last=absent)
    if kind == "extra_forbidden":
        known = _keys_beside(model, location)
        return InputError(f"unknown key {shown!r}", remedy=_among(location[-1], known), file=path, line=line)
    if absent:
        return InputError(f"{shown!r} is missing", remedy=f"add {location[-1]!r}", file=path, line=line)
    if kind == "misplaced":
        return InputError(context["problem"], remedy=context["remedy"], file=path, line=line)
    if kind in {"value_error", "assertion_error"}:
        problem, _, remedy = str(mistake["msg"]).partition(", ")[2].partition("; ")
    else:
        problem, remedy = _in_words(kind, written if kind in _BOUNDS else value, context, str(mistake["msg"]))
    return InputError(f"{shown}: {problem}" if shown else problem, remedy=remedy, file=path, line=line)


def _in_words(kind: str, value: object, context: dict[str, Any], message: str) -> tuple[str, str]:
    """What is wrong, and what to write instead, for the checks that pydantic makes."""
    if kind == "union_tag_invalid":
        expected = [tag.strip("' ") for tag in context["expected_tags"].split(",")]
        return f"unknown {context['discriminator'].strip(chr(39))} {context['tag']!r}", _among(context["tag"], expected)
    if kind == "literal_error":
        expected = [text.strip("' ") for text in context["expected"].replace(" or ", ", ").split(",")]
        return f"unknown value {value!r}", _among(value, expected)
    if kind == "string_pattern_mismatch":
        return f"{value!r} is no name", "write a lower-case letter, then up to 30 letters, digits, '-' or '_'"
    if kind in _BOUNDS:
        (bound,) = context.values()
        return f"{value!r} is out of range", f"give {_BOUNDS[kind]} {bound:g}"
    if kind.startswith(("float", "int")):
        return f"{value!r} is no number", "write a plain number, without a unit"
    if kind.startswith("string"):
        return f"{value!r} is no text", "write it in quotes"
    if kind in {"tuple_type", "list_type"}:
        return f"{value!r} is no list", "write '[...]'"
    if kind in {"model_type", "dict_type", "model_attributes_type"}:
        return f"{value!r} is no mapping", "write '{key: value}' or indented 'key: value' lines"
    if kind == "too_short":
        return "the list is too short", f"give at least {context['min_length']}"
    if kind == "too_long":
        return "the list is too long", f"give at most {context['max_length']}"
    return f"{value!r}: {message[0].lower()}{message[1:]}", "see the schema of this file"


_BOUNDS = {
    "greater_than_equal": "at least",
    "less_than_equal": "at most",
    "greater_than": "more than",
    "less_than": "less than",
}


def _among(name: object, known: list[str]) -> str:
    """A remedy: the known word that is nearest, or all of them."""
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"choose one of {', '.join(known)}" if known else "remove it"


def _shown(part: Part, location: Location, *, keep_last: bool) -> tuple[str, object]:
    """A location as the file's own keys, and what the file has there.

    Pydantic puts the names of union branches between the keys; they are left out. A last part that the file lacks is
    kept on demand.
    """
    shown: list[str] = []
    for index, key in enumerate(location):
        inside = part.child(key)
        part = inside or part
        if inside is not None or (keep_last and index == len(location) - 1):
            shown.append(str(key))
    return ".".join(shown), part.plain()


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
    elif isinstance(part, str):
        found += node.get("patternProperties", {}).values()
    return found
