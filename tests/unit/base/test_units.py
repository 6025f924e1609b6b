"""Quantities carry units; what a person reads is short."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsnet.errors import InputError
from marsnet.units import SOL, example, format_duration, format_rate, format_size, quantity, unit_pattern

DIMENSIONS = [
    "time", "rate", "size", "length", "angle", "power", "frequency", "temperature", "gain", "loss", "eirp", "gt",
    "fraction",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("20 min", "time", 1200.0),
        ("1 sol", "time", SOL),
        ("50ms", "time", 0.05),
        ("-1.5 h", "time", -5400.0),
        ("2 Mbit/s", "rate", 2e6),
        ("1 kB/s", "rate", 8000.0),
        ("100 Mbit", "size", 12.5e6),
        ("3655 km", "length", 3.655e6),
        ("1 AU", "length", 149_597_870_700.0),
        ("30 dBm", "eirp", 0.0),
        ("95 %", "fraction", 0.95),
        ("1e3 m", "length", 1000.0),
    ],
)
def test_a_quantity_becomes_its_base_unit(text: str, dimension: str, value: float) -> None:
    assert quantity(text, dimension) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_example_of_each_dimension_is_well_formed(dimension: str) -> None:
    import re

    assert math.isfinite(quantity(example(dimension), dimension))
    assert re.fullmatch(unit_pattern(dimension), example(dimension))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (20, "20 has no unit"),
        ("20", "'20' is no time"),
        ("20 parsec", "'20 parsec': 'parsec' is no unit of time"),
        ("1e400 s", "'1e400 s' is not finite"),
        (None, "None is no time"),
        ("", "'' is no time"),
    ],
)
def test_a_wrong_quantity_is_named_with_its_remedy(value: object, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        quantity(value, "time")
    assert caught.value.problem == problem
    assert "20 min" in caught.value.remedy or "finite" in problem


@given(st.text())
def test_any_text_is_a_quantity_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        assert math.isfinite(quantity(text, "rate"))


def test_what_people_read() -> None:
    assert format_duration(0.057) == "57.0 ms"
    assert format_duration(831.06) == "13 min 51.1 s"
    assert format_duration(SOL * 5) == "5.00 sols"
    assert format_rate(2.048e6) == "2.048 Mbit/s"
    assert format_size(64_000) == "64 kB"


def test_percentages_are_the_nearest_shares() -> None:
    assert [quantity(f"{percent} %", "fraction") for percent in range(101)] == [percent / 100 for percent in range(101)]
