"""Quantities with units. A bare number where a unit belongs is an error.

Each quantity is one dimension and is stored in one base unit: seconds, metres, bit/s, bytes, degrees, watts, hertz,
kelvin. Gains, losses and G/T stay in their decibel units.
"""

from __future__ import annotations

import math
import re

from marsnet.errors import InputError

SOL = 88775.244
"""One mean solar day of Mars in seconds (Allison & McEwen 2000)."""
AU = 149_597_870_700.0
"""Metres, IAU 2012 resolution B2."""

_TIME = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "sol": SOL, "sols": SOL}
_PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_DIMENSIONS: dict[str, dict[str, float]] = {
    "time": _TIME,
    "rate": {f"{p}bit/s": f for p, f in _PREFIX.items()} | {f"{p}B/s": 8 * f for p, f in _PREFIX.items()},
    "size": {f"{p}B": f for p, f in _PREFIX.items()}
    | {f"{p}bit": f / 8 for p, f in _PREFIX.items()}
    | {"KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3},
    "length": {"m": 1.0, "cm": 0.01, "km": 1e3, "au": AU, "AU": AU},
    "angle": {"deg": 1.0, "mrad": math.degrees(1e-3), "rad": math.degrees(1.0), "arcsec": 1 / 3600},
    "power": {"mW": 1e-3, "W": 1.0, "kW": 1e3},
    "frequency": {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    "temperature": {"K": 1.0},
    "gain": {"dBi": 1.0, "dB": 1.0},
    "loss": {"dB": 1.0},
    "eirp": {"dBW": 1.0, "dBm": 1.0},
    "gt": {"dB/K": 1.0},
    "fraction": {"%": 0.01},
    "drift": {"ppm": 1e-6, "ppb": 1e-9},
}
_EXAMPLE = {
    "time": "20 min",
    "rate": "2 Mbit/s",
    "size": "64 kB",
    "length": "3655 km",
    "angle": "10 deg",
    "power": "100 W",
    "frequency": "8.4 GHz",
    "temperature": "33 K",
    "gain": "46.7 dBi",
    "loss": "0.5 dB",
    "eirp": "66.7 dBW",
    "gt": "53.0 dB/K",
    "fraction": "95 %",
    "drift": "20 ppm",
}
_FORM = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z%/]+)\s*", re.ASCII)


def quantity(value: object, dimension: str) -> float:
    """A quantity in the dimension's base unit.

    Raises:
        InputError: when the value has no unit, a unit of another dimension, or is not finite.
    """
    units = _DIMENSIONS[dimension]
    remedy = f"write it like {_EXAMPLE[dimension]!r} (units: {', '.join(units)})"
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        what = "has no unit" if isinstance(value, int | float) else f"is no {dimension}"
        raise InputError(f"{value!r} {what}", remedy=remedy)
    number, unit = float(match[1]), match[2]
    if unit not in units:
        raise InputError(f"{value!r}: {unit!r} is no unit of {dimension}", remedy=remedy)
    if unit == "dBm":
        number -= 30.0
    # A hundredth has no exact floating-point number: 95 times it is more than 0.95.
    result = number / 100 if unit == "%" else number * units[unit]
    if not math.isfinite(result):
        raise InputError(f"{value!r} is not finite", remedy=remedy)
    return result


def example(dimension: str) -> str:
    """A well-formed value of the dimension, for schemas and messages."""
    return _EXAMPLE[dimension]


def unit_pattern(dimension: str) -> str:
    """A regular expression for JSON Schema that a quantity of this dimension matches."""
    alternatives = "|".join(re.escape(unit) for unit in sorted(_DIMENSIONS[dimension], key=len, reverse=True))
    return rf"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*({alternatives})\s*$"


def format_duration(seconds: float) -> str:
    """A duration as a person reads it: `13 min 51.1 s`, `2.40 h`, `57.0 ms`."""
    magnitude = abs(seconds)
    if magnitude < 1:
        return f"{seconds * 1e3:.1f} ms"
    if magnitude < 120:
        return f"{seconds:.1f} s"
    if magnitude < 7200:
        return f"{int(seconds // 60)} min {seconds % 60:.1f} s"
    return f"{seconds / 3600:.2f} h" if magnitude < 3 * SOL else f"{seconds / SOL:.2f} sols"


def format_rate(bits_per_second: float) -> str:
    """A rate as a person reads it: `2.05 Mbit/s`."""
    for prefix in ("T", "G", "M", "k"):
        if abs(bits_per_second) >= _PREFIX[prefix]:
            return f"{bits_per_second / _PREFIX[prefix]:.4g} {prefix}bit/s"
    return f"{bits_per_second:.4g} bit/s"


def format_size(size: float) -> str:
    """A number of bytes as a person reads it: `64 kB`."""
    for prefix in ("T", "G", "M", "k"):
        if abs(size) >= _PREFIX[prefix]:
            return f"{size / _PREFIX[prefix]:.4g} {prefix}B"
    return f"{size:.4g} B"


def unit_names() -> set[str]:
    """The units of all dimensions."""
    return {unit for units in _DIMENSIONS.values() for unit in units}


def number_and_unit(text: str) -> tuple[float, str] | None:
    """The two halves of a quantity of any dimension; None where the text is none."""
    match = _FORM.fullmatch(text)
    if match is None or not any(match[2] in units for units in _DIMENSIONS.values()):
        return None
    return float(match[1]), match[2]


def convert(number: float, unit: str, wanted: str) -> float:
    """A quantity's number in another unit of its dimension.

    Raises:
        InputError: the two units have no dimension in common.
    """
    for units in _DIMENSIONS.values():
        if unit in units and wanted in units and (unit == wanted or "dBm" not in (unit, wanted)):
            return number * units[unit] / units[wanted]
    raise InputError(f"{unit!r} and {wanted!r} are no units of one kind", remedy="give both a unit of one kind")
