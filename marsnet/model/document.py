"""What a file says once its includes are put in and its parameters resolved, and where each part of it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from marsnet.errors import InputError
from marsnet.model.parts import Location, Part, part_of
from marsnet.model.source import read_yaml
from marsnet.model.templates import Parameters, expand


class Place(NamedTuple):
    """Where something stands.

    Attributes:
        file: the file.
        line: its line, counted from 1.
    """

    file: Path
    line: int


@dataclass(frozen=True)
class Document:
    """A file with its includes and parameters resolved.

    Attributes:
        path: the file that was asked for.
        root: its content, each part with its place.
        parameters: what `${...}` stood for.
    """

    path: Path
    root: Part
    parameters: Parameters

    @property
    def data(self) -> dict[str, Any]:
        """The content as plain mappings and lists."""
        plain: dict[str, Any] = self.root.plain()
        return plain

    def place(self, location: Location) -> Place:
        """Where the innermost part of a location stands that the document has."""
        part = self.root.innermost(location)
        return Place(part.file, part.line)

    def error(self, location: Location, problem: str, remedy: str) -> InputError:
        """An error about what stands at a location."""
        file, line = self.place(location)
        return InputError(problem, remedy=remedy, file=file, line=line)

    def beside(self, location: Location, path: Path) -> Path:
        """A path that is relative to the file in which a location stands.

        It stays as it is, relative to the file that was asked for, unless an included file has it.
        """
        file = self.place(location).file
        return path if file == self.path else (file.parent / path).resolve()


def read_document(path: str | Path, settings: Mapping[str, object] | None = None) -> Document:
    """Read a file, put in what it includes, and resolve its parameters.

    Args:
        path: of the file.
        settings: values in place of its own; those of parameters that it does not declare are left aside.

    Raises:
        InputError: with file, line, value and remedy.
    """
    path = Path(path)
    root = _with_includes(path, ())
    parameters = Parameters(root.children().pop("parameters", None), settings or {})
    parameters.note_uses(root)
    expand(root, parameters)
    if parameters.whole is not None:
        entries = {name: Part(value, parameters.part(name)) for name, value in parameters.values().items()}
        root.children()["parameters"] = Part(entries, parameters.whole)
    return Document(path, root, parameters)


def _with_includes(path: Path, within: tuple[Path, ...]) -> Part:
    content = read_yaml(path)
    root = part_of(content, path, 1)
    included = root.children().pop("include", None)
    if included is None:
        return root
    merged: Part | None = None
    for entry in included.value if isinstance(included.value, list) else [included]:
        if not isinstance(entry.value, str):
            raise entry.error(f"include: {entry.plain()!r} is no path", "name a file, or a list of files")
        file = path.parent / entry.value
        if file.resolve() in {p.resolve() for p in (*within, path)}:
            raise entry.error(f"{entry.value!r} includes itself", "take one of the includes out")
        if not file.is_file():
            raise entry.error(f"there is no file {str(file)!r}", "give its path relative to this file")
        piece = _with_includes(file, (*within, path))
        _same_kind(root, piece)
        merged = piece if merged is None else overlay(merged, piece)
    return root if merged is None else overlay(merged, root)


def _same_kind(root: Part, piece: Part) -> None:
    mine, other = root.children().get("marsnet"), piece.children().get("marsnet")
    if mine is not None and other is not None and mine.value != other.value:
        raise other.error(
            f"'marsnet: {other.value}' is included in a file of 'marsnet: {mine.value}'",
            "include only files of the same kind, or without 'marsnet'",
        )


def overlay(below: Part, above: Part) -> Part:
    """One part laid over another.

    Mappings are merged key by key. Lists are joined, what is below first; of entries with the same `name`, the upper
    one is laid over the lower one in its place. Anything else above replaces what is below.
    """
    if isinstance(below.value, dict) and isinstance(above.value, dict):
        merged = dict(below.value)
        for key, part in above.value.items():
            merged[key] = overlay(merged[key], part) if key in merged else part
        return Part(merged, above)
    if isinstance(below.value, list) and isinstance(above.value, list):
        items = list(below.value)
        named = {name: index for index, item in enumerate(items) if (name := _name(item)) is not None}
        for item in above.value:
            name = _name(item)
            if name in named:
                items[named[name]] = overlay(items[named[name]], item)
            else:
                items.append(item)
        return Part(items, above)
    return above


def _name(item: Part) -> object:
    return item.value["name"].value if isinstance(item.value, dict) and "name" in item.value else None
