"""Window search on functions whose windows are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsnet.sky.intervals import intersect, nothing, overlaps, union
from marsnet.sky.search import positive_windows, refine

TURN = 6000.0


def wave(level: float, phase: float):  # type: ignore[no-untyped-def]
    """A cosine of one turn per TURN seconds that is positive where it exceeds `level`."""
    return lambda time: np.cos(2 * np.pi * (time - phase) / TURN) - level


@given(level=st.floats(-0.999999, 0.999999), phase=st.floats(0.0, TURN))
@settings(max_examples=150, deadline=None)
def test_every_window_and_gap_is_found_however_short(level: float, phase: float) -> None:
    grid = np.linspace(0.0, 10 * TURN, 481)
    function = wave(level, phase)
    found = positive_windows(function, grid, function(grid))
    half = TURN * np.arccos(level) / (2 * np.pi)
    centres = phase + TURN * np.arange(-1, 12)
    expected = intersect(np.stack([centres - half, centres + half], axis=1), np.array([[0.0, 10 * TURN]]))
    whole = expected[(expected[:, 1] - expected[:, 0]) > 1.0]
    kept = found[(found[:, 1] - found[:, 0]) > 1.0]
    assert kept == pytest.approx(whole, abs=0.02)


def test_a_window_between_two_samples_is_found() -> None:
    function = wave(np.cos(2 * np.pi * 1.0 / TURN), 1500.0)  # two seconds long, 60 s from its neighbours on the grid
    grid = np.arange(0.0, 6001.0, 120.0)
    assert (function(grid) < 0).all()
    assert positive_windows(function, grid, function(grid)) == pytest.approx(np.array([[1499.0, 1501.0]]), abs=1e-2)


def test_a_gap_between_two_samples_is_found() -> None:
    function = wave(-np.cos(2 * np.pi * 1.0 / TURN), 4500.0)  # least at 1500 s, below zero for two seconds
    grid = np.arange(0.0, 3001.0, 120.0)
    found = positive_windows(function, grid, function(grid))
    assert found == pytest.approx(np.array([[0.0, 1499.0], [1501.0, 3000.0]]), abs=1e-2)


def test_edges_far_from_wanted_intervals_stay_coarse() -> None:
    calls: list[int] = []

    def function(time: np.ndarray) -> np.ndarray:
        calls.append(len(time))
        return wave(0.0, 0.0)(time)

    grid = np.linspace(0.0, 10 * TURN, 481)
    found = positive_windows(function, grid, wave(0.0, 0.0)(grid), within=np.array([[4000.0, 5000.0]]))
    assert max(calls) == 1
    assert found[1, 0] == pytest.approx(4500.0, abs=1e-3)
    assert found[2, 0] == pytest.approx(10500.0, abs=125.0)


def test_a_function_that_differs_from_its_samples_keeps_exact_edges() -> None:
    grid = np.linspace(0.0, 2 * TURN, 101)
    found = positive_windows(wave(0.0, 3.0), grid, wave(0.0, 0.0)(grid), coarse=True)
    assert found[1] == pytest.approx([4503.0, 7503.0], abs=1e-3)


@given(roots=st.lists(st.floats(-0.99, 0.99), min_size=1, max_size=5), bend=st.floats(0.01, 6.0))
@settings(max_examples=60, deadline=None)
def test_refine_finds_roots_of_bent_functions(roots: list[float], bend: float) -> None:
    wanted = 100 * np.array(roots)
    low, high = np.full(wanted.shape, -100.0), np.full(wanted.shape, 100.0)

    def function(time: np.ndarray, index: np.ndarray) -> np.ndarray:
        return np.expm1((time - wanted[index]) / 100 * bend)

    every = np.arange(len(wanted))
    assert refine(function, low, high, function(low, every), function(high, every)) == pytest.approx(wanted, abs=2e-3)


intervals = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=8).map(
    lambda pairs: union(np.array([(start, start + length) for start, length in pairs], dtype=float).reshape(-1, 2))
)


@given(one=intervals, two=intervals, instant=st.integers(0, 70))
@settings(max_examples=200, deadline=None)
def test_intersection_and_union_hold_for_every_instant(one: np.ndarray, two: np.ndarray, instant: int) -> None:
    at = instant + 0.5

    def inside(set_: np.ndarray) -> bool:
        return bool(((set_[:, 0] <= at) & (at <= set_[:, 1])).any())

    assert inside(intersect(one, two)) == (inside(one) and inside(two))
    assert inside(union(np.concatenate([one, two]))) == (inside(one) or inside(two))
    point = np.array([at])
    assert bool(overlaps(point, point, one)[0]) == inside(one)


def test_nothing_meets_nothing() -> None:
    assert intersect(nothing(), np.array([[0.0, 1.0]])).shape == (0, 2)
    assert union(nothing()).shape == (0, 2)
