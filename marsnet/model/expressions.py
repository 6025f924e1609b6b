"""What stands in `${...}`: parameters and arithmetic on numbers and quantities."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from marsnet.errors import InputError
from marsnet.units import convert, number_and_unit, unit_names

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class _Quantity:
    number: float
    unit: str

    def text(self) -> str:
        return f"{self.number:.15g} {self.unit}"


_OPERATORS: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
}
_ALLOWED = "use names of parameters, numbers, quantities, + - * / // %, min(), max() and parentheses"
_UNITS = "|".join(re.escape(unit) for unit in sorted(unit_names() - {"%"}, key=len, reverse=True))
# A per cent sign before an operand is the remainder.
_LITERAL = re.compile(
    rf"(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*(?:(?:{_UNITS})(?!\w)|%(?!\s*[\w(.]))", re.ASCII
)


def evaluate(text: str, lookup: Callable[[str], Scalar]) -> Scalar:
    """The value of an expression. Quantities keep the unit of the first one; a ratio of two is a number.

    Args:
        text: between the braces.
        lookup: the value of a parameter; raises InputError for an unknown one.

    Raises:
        InputError: malformed, or units that do not go together.
    """
    quantities: dict[str, str] = {}

    def named(match: re.Match[str]) -> str:
        # No parameter's name begins like this.
        name = f"_{len(quantities)}"
        quantities[name] = match[0]
        return name

    def known(name: str) -> Scalar:
        return quantities[name] if name in quantities else lookup(name)

    try:
        tree = ast.parse(_LITERAL.sub(named, text.strip()), mode="eval")
    except SyntaxError:
        raise InputError(f"'${{{text}}}' is no expression", remedy=_ALLOWED) from None
    try:
        result = _value(tree.body, known, text)
    except ZeroDivisionError:
        raise InputError(f"'${{{text}}}' divides by zero", remedy="give another value") from None
    return result.text() if isinstance(result, _Quantity) else result


def _value(node: ast.expr, lookup: Callable[[str], Scalar], text: str) -> Any:
    match node:
        case ast.Name(id=name):
            return _known(lookup(name))
        case ast.Constant(value=value) if isinstance(value, int | float):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _apply("*", operator.mul, _value(operand, lookup, text), -1, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            sign, function = _OPERATORS[type(op)]
            return _apply(sign, function, _value(left, lookup, text), _value(right, lookup, text), text)
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=[_, *_] as args, keywords=[]):
            values = [_value(arg, lookup, text) for arg in args]
            best = values[0]
            for value in values[1:]:
                less = _apply("-", operator.sub, value, best, text)
                number = less.number if isinstance(less, _Quantity) else less
                best = value if (number < 0) == (name == "min") and number else best
            return best
    raise InputError(f"'${{{text}}}' is no expression", remedy=_ALLOWED)


def _known(value: Scalar) -> Any:
    if isinstance(value, str) and (split := number_and_unit(value)) is not None:
        return _Quantity(*split)
    return value


def _apply(sign: str, function: Callable[[Any, Any], Any], left: Any, right: Any, text: str) -> Any:
    a, b = isinstance(left, _Quantity), isinstance(right, _Quantity)
    if isinstance(left, str | bool) or isinstance(right, str | bool):
        raise InputError(f"'${{{text}}}' calculates with what is no number", remedy="use numbers and quantities")
    if not a and not b:
        result = function(left, right)
        return int(result) if isinstance(result, float) and result.is_integer() and sign == "/" else result
    if a and b and sign in "+-/%":
        other = convert(right.number, right.unit, left.unit)
        result = function(left.number, other)
        return result if sign == "/" else _Quantity(result, left.unit)
    if a != b and sign == "*":
        return _Quantity(left.number * right, left.unit) if a else _Quantity(left * right.number, right.unit)
    if a and sign == "/":
        return _Quantity(left.number / right, left.unit)
    raise InputError(
        f"'${{{text}}}': {_shown(left)} {sign} {_shown(right)} makes no sense", remedy="give both a unit of one kind"
    )


def _shown(value: Any) -> str:
    return value.text() if isinstance(value, _Quantity) else f"{value:g}"
