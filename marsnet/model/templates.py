"""Parameters of a file, `${...}` references to them, and `for`, which repeats an entry."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from marsnet.errors import InputError
from marsnet.model.expressions import Scalar, evaluate
from marsnet.model.parts import Part
from marsnet.units import convert, number_and_unit

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_RANGE = re.compile(r"\s*(-?\d+)\s*\.\.\s*(-?\d+)\s*")
MOST_REPEATS = 10_000
"""Entries that one `for` may make: more is a slip of the pen."""


def parse_settings(texts: Sequence[str]) -> dict[str, object]:
    """What `--set name=value` options say.

    Raises:
        InputError: an option without a name or a value.
    """
    settings: dict[str, object] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise InputError(f"--set {text!r} sets nothing", remedy="write --set name=value, as in --set orbiters=4")
        settings[name.strip()] = value.strip()
    return settings


def unknown_setting(name: str, known: Iterable[str]) -> InputError:
    """The error about a setting that no file declares."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, names, n=1)
    there = f"there are {', '.join(names)}" if names else "declare it under 'parameters' in the file"
    return InputError(
        f"--set {name}: there is no such parameter", remedy=f"did you mean {near[0]!r}?" if near else there
    )


class Parameters:
    """The parameters that a file declares, with the values that they have in this run.

    Attributes:
        whole: the part that declares them, if any does.
        used: names that stand in a reference somewhere, also in entries that are repeated no times.
    """

    def __init__(self, declared: Part | None, settings: Mapping[str, object]) -> None:
        """Evaluate them in their order; one may refer to those before it.

        Args:
            declared: the value of `parameters`.
            settings: values in place of the declared ones.
        """
        self.whole = declared
        self.used: set[str] = set()
        self._parts: dict[str, Part] = {}
        self._values: dict[str, Scalar] = {}
        if declared is None:
            return
        if not isinstance(declared.value, dict):
            raise declared.error(f"parameters: {declared.plain()!r} is no mapping", "write '{name: value}'")
        for name, part in declared.value.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise part.error(
                    f"{name!r} is no name of a parameter", "write a lower-case letter, then letters, digits or '_'"
                )
            if isinstance(part.value, dict | list) or part.value is None:
                raise part.error(
                    f"parameters.{name}: {part.plain()!r} is no value", "give a number, a quantity or a text"
                )
            self.note_uses(part)
            value = substitute(part, self, {})
            self._parts[name] = part
            self._values[name] = _typed(name, value, settings[name], part) if name in settings else value

    def note_uses(self, part: Part) -> None:
        """Note the names that stand in references below a part."""
        if isinstance(part.value, dict):
            for key, child in part.value.items():
                self.note_uses(Part(key, part))
                self.note_uses(child)
        elif isinstance(part.value, list):
            for child in part.value:
                self.note_uses(child)
        elif isinstance(part.value, str):
            self.used |= {name for text in _REFERENCE.findall(part.value) for name in _NAME.findall(text)}

    def values(self) -> dict[str, Scalar]:
        """All of them by name."""
        return dict(self._values)

    def part(self, name: str) -> Part:
        """Where one is declared."""
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def value(self, name: str, part: Part, local: Mapping[str, Scalar]) -> Scalar:
        """What a name stands for at a place.

        Raises:
            InputError: it is declared nowhere.
        """
        if name in local:
            return local[name]
        if name not in self._values:
            known = [*local, *self._values]
            near = difflib.get_close_matches(name, known, n=1)
            there = f"there are {', '.join(known)}" if known else "declare it under 'parameters'"
            raise part.error(f"unknown parameter {name!r}", f"did you mean {near[0]!r}?" if near else there)
        return self._values[name]


def _typed(name: str, default: Scalar, given: object, part: Part) -> Scalar:
    """A value from outside as what the declared one is: whole number, number, truth value, quantity or text."""
    text = str(given).strip()
    what = "a text"
    if isinstance(default, bool):
        if text.lower() in {"true", "false"}:
            return text.lower() == "true"
        what = "true or false"
    elif isinstance(default, int | float):
        try:
            return int(text) if isinstance(default, int) else float(text)
        except ValueError:
            what = "a whole number" if isinstance(default, int) else "a number"
    else:
        mine, other = number_and_unit(default), number_and_unit(text)
        if mine is None:
            return text
        if other is not None:
            try:
                convert(other[0], other[1], mine[1])
            except InputError:
                pass
            else:
                return text
        what = f"a quantity like {default!r}"
    raise part.error(f"parameter {name!r} is {what}, not {text!r}", f"give one, as the file does with {default!r}")


def substitute(part: Part, parameters: Parameters, local: Mapping[str, Scalar]) -> Any:
    """A scalar with its references resolved: a lone reference keeps its type, others become part of the text."""
    text = part.value
    if not isinstance(text, str) or "${" not in text:
        return text

    def resolve(expression: str) -> Scalar:
        try:
            return evaluate(expression, lambda name: parameters.value(name, part, local))
        except InputError as error:
            raise error if error.file else error.at(part.file, part.line) from None

    lone = _REFERENCE.fullmatch(text.strip())
    if lone is not None:
        return resolve(lone[1])
    replaced = _REFERENCE.sub(lambda match: _text(resolve(match[1])), text)
    if "${" in replaced:
        raise part.error(f"{text!r} has a '${{' without its '}}'", "write '${name}'")
    return replaced


def _text(value: Scalar) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def expand(part: Part, parameters: Parameters, local: Mapping[str, Scalar] | None = None) -> None:
    """Resolve every reference below a part, and repeat what has a `for`."""
    local = local or {}
    if isinstance(part.value, dict):
        entries: dict[str, Part] = {}
        for key, child in part.value.items():
            for copy, inner in _copies(child, parameters, local):
                name = _key(key, copy, parameters, inner)
                if name in entries:
                    what = "; name it with its variable, as in 'relay${i}'" if _repeats(child) else "; rename one"
                    raise copy.error(f"key {name!r} stands twice in one mapping", what[2:])
                expand(copy, parameters, inner)
                entries[name] = copy
        part.value = entries
    elif isinstance(part.value, list):
        items: list[Part] = []
        for child in part.value:
            for copy, inner in _copies(child, parameters, local):
                expand(copy, parameters, inner)
                items.append(copy)
        part.value = items
    else:
        part.value = substitute(part, parameters, local)


def _key(key: Any, part: Part, parameters: Parameters, local: Mapping[str, Scalar]) -> Any:
    return substitute(Part(key, part), parameters, local) if isinstance(key, str) else key


def _repeats(part: Part) -> bool:
    return isinstance(part.value, dict) and "for" in part.value


def _copies(
    part: Part, parameters: Parameters, local: Mapping[str, Scalar]
) -> Iterator[tuple[Part, Mapping[str, Scalar]]]:
    """An entry as often as its `for` says, each with the values of its variables."""
    if not _repeats(part):
        yield part, local
        return
    loop: Part = part.value["for"]
    if not isinstance(loop.value, dict) or not loop.value:
        raise loop.error(f"for: {loop.plain()!r} is no mapping", "write 'for: {i: 1..3}' or 'for: {site: [a, b]}'")
    body = Part({key: child for key, child in part.value.items() if key != "for"}, part)
    ways: list[list[tuple[str, Scalar]]] = []
    for name, values in loop.value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise values.error(
                f"{name!r} is no name of a variable", "write a lower-case letter, then letters or digits"
            )
        if name in parameters or name in local:
            raise values.error(f"the variable {name!r} is declared already", "choose another name")
        ways.append([(name, value) for value in _values(values, parameters, local)])
    for chosen in itertools.product(*ways):
        yield _copy(body), {**local, **dict(chosen)}


def _values(part: Part, parameters: Parameters, local: Mapping[str, Scalar]) -> list[Scalar]:
    if isinstance(part.value, list):
        return [substitute(item, parameters, local) for item in part.value]
    value = substitute(part, parameters, local)
    match = _RANGE.fullmatch(str(value))
    if match is None:
        raise part.error(f"for: {value!r} is no range", "write '1..3', or a list '[a, b]'")
    first, last = int(match[1]), int(match[2])
    if last - first >= MOST_REPEATS:
        raise part.error(f"for: {value!r} repeats {last - first + 1} times", f"repeat at most {MOST_REPEATS} times")
    return list(range(first, last + 1))


def _copy(part: Part) -> Part:
    if isinstance(part.value, dict):
        return Part({key: _copy(child) for key, child in part.value.items()}, part)
    if isinstance(part.value, list):
        return Part([_copy(child) for child in part.value], part)
    return Part(part.value, part)
