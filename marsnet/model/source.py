"""Reads the YAML that people write."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.constructor import DuplicateKeyError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionStartEvent
from ruamel.yaml.nodes import MappingNode

from marsnet.errors import InputError

_DEEPEST = 40
"""Lists and mappings within one another. What follows works by recursion, and no file that people write comes near."""
_OPEN, _BRACKET = 200, re.compile(r"[][{}]")
"""Brackets that are open at once, those in strings included."""
_DUPLICATE = re.compile(r'duplicate key "([^"]*)"')


class _Constructor(RoundTripConstructor):
    """Leaves dates as the text that a person wrote: the model reads instants, and explains malformed ones."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", RoundTripConstructor.construct_yaml_str)


class _Composer(Composer):
    """Refuses mappings as keys: in one another they take the constructor for ever."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """See the base class; `index` is None for a key."""
        event = self.parser.peek_event()
        if index is None and isinstance(parent, MappingNode) and isinstance(event, CollectionStartEvent):
            raise ComposerError(None, None, "a list or a mapping is no key", event.start_mark)
        return super().compose_node(parent, index)


@lru_cache(8)
def _parsed(text: str) -> Any:
    """What a text says: a command asks several times for the same file, and its parser is slow."""
    yaml = YAML(typ="rt")
    yaml.Constructor = _Constructor
    yaml.Composer = _Composer
    yaml.max_depth = _DEEPEST
    return yaml.load(text)


def read_yaml(path: str | Path) -> CommentedMap:
    """The mapping that a YAML 1.2 file holds, with line numbers attached. It is not to be changed.

    Raises:
        InputError: file missing or not text, malformed YAML, duplicate key, or top level not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}", remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {str(path)!r}: {error}", remedy="give a readable UTF-8 text file") from None
    open_brackets = accumulate(1 if found[0] in "[{" else -1 for found in _BRACKET.finditer(text))
    if max(open_brackets, default=0) > _OPEN:
        # The parser reads ahead over all of them, again and again.
        problem = f"malformed YAML: more than {_OPEN} brackets are open at once"
        raise InputError(problem, remedy="close them", file=path)
    try:
        document = _parsed(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        if isinstance(error, DuplicateKeyError):
            name = _DUPLICATE.search(str(error.problem))
            what = f"key {name[1]!r}" if name else "a key"
            raise InputError(f"{what} stands twice in one mapping", remedy="rename one", file=path, line=line) from None
        problem = (error.problem or "malformed YAML").split("\n")[0]
        raise InputError(f"malformed YAML: {problem}", remedy="mend the syntax", file=path, line=line) from None
    except YAMLError as error:
        raise InputError(f"malformed YAML: {str(error).splitlines()[0]}", remedy="mend the syntax", file=path) from None
    if not isinstance(document, CommentedMap):
        raise InputError("the file holds no mapping", remedy="write 'key: value' lines", file=path, line=1)
    return document
