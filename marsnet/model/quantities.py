"""Pydantic types for quantities with units: what a model declares, a schema shows and an error explains."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError

from marsnet.clock import format_utc, parse_utc
from marsnet.errors import InputError
from marsnet.units import example, quantity, unit_pattern


class Strict(BaseModel):
    """A record of a file that a person writes: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def misplaced(problem: str, remedy: str, *path: int | str) -> PydanticCustomError:
    """An error for a record's validator to raise, placed at `path` within that record."""
    return PydanticCustomError(
        "misplaced", "{problem}; {remedy}", {"problem": problem, "remedy": remedy, "path": list(path)}
    )


def _parser(dimension: str) -> Any:
    def parse(value: object) -> float:
        try:
            return quantity(value, dimension)
        except InputError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(parse)


def _schema(dimension: str) -> Any:
    return WithJsonSchema({"type": "string", "pattern": unit_pattern(dimension), "examples": [example(dimension)]})


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError(f"{value:g} is negative; give zero or more")
    return value


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError(f"{value:g} is not positive; give more than zero")
    return value


def _octets(value: float) -> float:
    if value < 1:
        raise ValueError(f"{value:g} bytes are less than one; give more")
    return value


def _fraction(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{100 * value:g} % is out of range; give 0 % to 100 %")
    return value


def _drift(value: float) -> float:
    if not 0 < abs(value) <= 0.1:
        raise ValueError(f"a drift of {1e6 * value:g} ppm is out of range; give up to 100000 ppm, and not 0")
    return value


def _utc(value: object) -> str:
    try:
        return format_utc(parse_utc(str(value)))
    except InputError as error:
        raise ValueError(str(error)) from None


Duration = Annotated[float, _parser("time"), AfterValidator(_not_negative), _schema("time")]
"""Seconds, zero or more."""
PositiveDuration = Annotated[float, _parser("time"), AfterValidator(_positive), _schema("time")]
"""Seconds, more than zero."""
Offset = Annotated[float, _parser("time"), _schema("time")]
"""Seconds, either sign."""
Rate = Annotated[float, _parser("rate"), AfterValidator(_positive), _schema("rate")]
"""bit/s, more than zero."""
Size = Annotated[float, _parser("size"), AfterValidator(_positive), _schema("size")]
"""Bytes, more than zero."""
Octets = Annotated[float, _parser("size"), AfterValidator(_octets), _schema("size")]
"""Bytes, one or more: what is sent."""
Length = Annotated[float, _parser("length"), _schema("length")]
"""Metres."""
Angle = Annotated[float, _parser("angle"), _schema("angle")]
"""Degrees."""
Power = Annotated[float, _parser("power"), AfterValidator(_positive), _schema("power")]
"""Watts."""
Frequency = Annotated[float, _parser("frequency"), AfterValidator(_positive), _schema("frequency")]
"""Hertz."""
Temperature = Annotated[float, _parser("temperature"), AfterValidator(_positive), _schema("temperature")]
"""Kelvin."""
Gain = Annotated[float, _parser("gain"), _schema("gain")]
"""dBi."""
Loss = Annotated[float, _parser("loss"), AfterValidator(_not_negative), _schema("loss")]
"""dB, zero or more."""
Eirp = Annotated[float, _parser("eirp"), _schema("eirp")]
"""dBW."""
GainOverTemperature = Annotated[float, _parser("gt"), _schema("gt")]
"""dB/K."""
Fraction = Annotated[float, _parser("fraction"), AfterValidator(_fraction), _schema("fraction")]
"""0 to 1, written in per cent."""
Drift = Annotated[float, _parser("drift"), AfterValidator(_drift), _schema("drift")]
"""Seconds that a clock gains (or loses) in a second, at most a tenth."""
Utc = Annotated[str, BeforeValidator(_utc), WithJsonSchema({"type": "string", "examples": ["2026-10-01T12:00:00Z"]})]
"""A UTC instant, ISO 8601 with milliseconds."""
