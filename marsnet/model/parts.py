"""A file's content as a tree in which every part knows the file and the line that it stands in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from marsnet.errors import InputError

Location = tuple[int | str, ...]


class Part:
    """A mapping, a list or a scalar, and where it stands.

    Attributes:
        value: mapping of parts, list of parts, or scalar.
        file: the file.
        line: line of its key, or of its entry in a list, from 1.
    """

    __slots__ = ("file", "line", "value")

    def __init__(self, value: Any, at: Part | tuple[Path, int]) -> None:
        self.value = value
        self.file: Path
        self.line: int
        self.file, self.line = (at.file, at.line) if isinstance(at, Part) else at

    def children(self) -> dict[str, Part]:
        """The entries of a mapping."""
        entries: dict[str, Part] = self.value
        return entries

    def plain(self) -> Any:
        """The same without places."""
        if isinstance(self.value, dict):
            return {key: part.plain() for key, part in self.value.items()}
        if isinstance(self.value, list):
            return [part.plain() for part in self.value]
        return self.value

    def child(self, key: int | str) -> Part | None:
        """An entry of a mapping or a list; None where there is none."""
        if isinstance(self.value, dict):
            found: Part | None = self.value.get(key)
            return found
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            item: Part = self.value[key]
            return item
        return None

    def innermost(self, location: Location) -> Part:
        """The innermost part of a location that there is; names that nothing has, as of unions, are passed over."""
        part = self
        for key in location:
            part = part.child(key) or part
        return part

    def error(self, problem: str, remedy: str) -> InputError:
        """An error about this part."""
        return InputError(problem, remedy=remedy, file=self.file, line=self.line)


def part_of(content: Any, file: Path, line: int) -> Part:
    """The tree of what `read_yaml` gives."""
    if isinstance(content, Mapping):
        return Part(
            {key: part_of(value, file, _line(content, key, line)) for key, value in content.items()}, (file, line)
        )
    if isinstance(content, Sequence) and not isinstance(content, str):
        return Part([part_of(item, file, _line(content, i, line)) for i, item in enumerate(content)], (file, line))
    return Part(content, (file, line))


def _line(content: Any, key: Any, line: int) -> int:
    """The line of a key or an item; that of the whole where a YAML merge key brought it in."""
    try:
        if isinstance(content, CommentedMap):
            return int(content.lc.key(key)[0]) + 1
        if isinstance(content, CommentedSeq):
            return int(content.lc.item(key)[0]) + 1
    except (KeyError, TypeError):
        pass
    return line
