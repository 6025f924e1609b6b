"""Reads the YAML that people write."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.constructor import DuplicateKeyError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from marsnet.errors import InputError

_DUPLICATE = re.compile(r'duplicate key "([^"]*)"')


class _Constructor(RoundTripConstructor):
    """Leaves dates as the text that a person wrote: the model reads instants, and explains malformed ones."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", RoundTripConstructor.construct_yaml_str)


@lru_cache(8)
def _parsed(text: str) -> Any:
    """What a text says: a command asks several times for the same file, and its parser is slow."""
    yaml = YAML(typ="rt")
    yaml.Constructor = _Constructor
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
