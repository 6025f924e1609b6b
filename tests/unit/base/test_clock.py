"""Mission time, UTC and DTN time agree with each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsnet.clock import MissionClock, format_utc, parse_utc
from marsnet.errors import InputError

CLOCK = MissionClock("2026-10-01T00:00:00.000Z", 600.0, 1234.5)


@given(st.floats(-1e6, 1e7))
def test_mission_time_survives_the_way_to_the_host_and_back(mission: float) -> None:
    assert CLOCK.to_mission(CLOCK.to_monotonic(mission)) == pytest.approx(mission, abs=1e-6)


def test_rate_scales_and_origin_shifts() -> None:
    assert CLOCK.to_monotonic(0.0) == 1234.5
    assert CLOCK.to_monotonic(600.0) == 1235.5


@given(st.floats(0, 1e7))
def test_dtn_time_is_the_same_instant_to_the_millisecond(mission: float) -> None:
    assert CLOCK.from_dtn_time(CLOCK.dtn_time(mission)) == pytest.approx(mission, abs=0.000501)


def test_dtn_time_counts_milliseconds_since_2000() -> None:
    assert MissionClock("2000-01-01T00:00:01Z", 1.0, 0.0).dtn_time(0.5) == 1500


def test_utc_of_a_mission_time() -> None:
    assert CLOCK.utc(88_775.244) == "2026-10-02T00:39:35.244Z"


@pytest.mark.parametrize("text", ["2026-10-01", "2026-10-01T00:00", "2026-10-01T00:00:00Z", "2026-10-01T02:00+02:00"])
def test_forms_of_one_instant(text: str) -> None:
    assert format_utc(parse_utc(text)) == "2026-10-01T00:00:00.000Z"


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", ""])
def test_what_is_no_instant_is_named(text: str) -> None:
    with pytest.raises(InputError, match="is not a UTC instant; write it as 2026-10-01T12:00:00Z"):
        parse_utc(text)
