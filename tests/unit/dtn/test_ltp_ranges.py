"""The set of octets that have arrived, against a plain set of numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from marsnet.dtn.ltp.ranges import RangeSet

intervals = st.tuples(st.integers(0, 40), st.integers(0, 40))


@given(st.lists(intervals, max_size=20), intervals)
def test_against_a_set_of_numbers(added: list[tuple[int, int]], window: tuple[int, int]) -> None:
    ranges, numbers = RangeSet(), set[int]()
    for start, end in added:
        octets = set(range(start, end))
        assert ranges.add(start, end) == len(octets - numbers)
        numbers |= octets
    assert ranges.total == len(numbers)
    assert ranges.end == max(numbers, default=-1) + 1
    flat = list(ranges)
    assert len(flat) == len(ranges)
    assert {n for start, end in flat for n in range(start, end)} == numbers
    assert all(before[1] < after[0] for before, after in pairwise(flat))
    low, high = min(window), max(window)
    inside = set(range(low, high))
    assert {n for start, end in ranges.within(low, high) for n in range(start, end)} == numbers & inside
    assert {n for start, end in ranges.gaps(low, high) for n in range(start, end)} == inside - numbers
    assert ranges.covers(low, high) == (inside <= numbers)
