"""Mars clocks, and the way back from a local time to UTC."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsnet.errors import InputError
from marsnet.sky.marstime import (
    clock_text,
    equation_of_time_deg,
    lmst,
    local_time_instant,
    ls_deg,
    ltst,
    msd,
    mtc,
    sol_number,
)
from marsnet.sky.timescale import Timeline
from marsnet.units import SOL

START = "2026-10-01T00:00:00Z"


@pytest.mark.parametrize(
    ("utc", "season", "clock"),
    [
        ("2000-01-06T00:00:00", 277.18408, "04:48:43"),
        ("2026-10-01T00:00:00", 0.324394, "22:00:17"),
        ("2030-05-25T12:00:00", 338.912388, "18:12:40"),
    ],
)
def test_season_and_true_solar_time_agree_with_spice(utc: str, season: float, clock: str) -> None:
    # lspcn with LT+S and et2lst at 77.45 E, with the constants of pck00011 and DE440.
    covered = utc > "2025"
    assert ls_deg(utc) == pytest.approx(season, abs=1e-5 if covered else 0.01)
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    assert ltst(utc, 77.45) * 3600 == pytest.approx(hours * 3600 + minutes * 60 + seconds, abs=2.0)


def test_clocks_turn_with_the_longitude_and_leap_seconds_count() -> None:
    assert (lmst(START, 90.0) - lmst(START, 75.0)) % 24 == pytest.approx(1.0)
    assert (ltst(START, 30.0) - lmst(START, 30.0)) * 15 == pytest.approx(equation_of_time_deg(START), abs=1e-7)
    assert mtc(START) == pytest.approx(24 * (msd(START) % 1), abs=1e-9)
    # 2016 ended with a leap second: two seconds of UTC texts are three of time.
    gap = (msd("2017-01-01T00:00:01") - msd("2016-12-31T23:59:59")) * SOL
    assert gap == pytest.approx(3.0, abs=1e-4)


@given(
    sol=st.integers(0, 700),
    hours=st.floats(0.0, 23.99),
    longitude=st.floats(-180.0, 180.0),
    clock=st.sampled_from(["LTST", "LMST"]),
)
@settings(max_examples=60, deadline=None)
def test_local_times_and_instants_are_inverse(sol: int, hours: float, longitude: float, clock: str) -> None:
    seconds = local_time_instant(START, sol, hours, longitude, clock)
    utc = Timeline.at(START).utc(seconds)
    shown = (ltst if clock == "LTST" else lmst)(utc, longitude)
    assert (shown - hours + 12) % 24 - 12 == pytest.approx(0.0, abs=1e-6)
    if hours > 0.001:
        assert sol_number(utc, START, longitude, "LTST" if clock == "LTST" else "LMST") == sol


def test_sol_zero_is_the_one_in_which_the_run_starts() -> None:
    assert sol_number(START, START, 77.45) == 0
    # The run starts at 22:00 local time: 21:00 of sol 0 has passed, 01:00 of sol 1 comes three hours later.
    assert local_time_instant(START, 0, 21.0, 77.45) == pytest.approx(-SOL / 24, abs=30.0)
    assert local_time_instant(START, 1, 1.0, 77.45) == pytest.approx(3 * SOL / 24, abs=30.0)


def test_an_unknown_clock_is_refused() -> None:
    with pytest.raises(InputError, match="'UTC' is no local solar time; write LTST or LMST"):
        local_time_instant(START, 0, 0.0, 0.0, "UTC")


@pytest.mark.parametrize(("hours", "text"), [(0.0, "00:00:00"), (23.99999, "00:00:00"), (13.5, "13:30:00")])
def test_clock_text(hours: float, text: str) -> None:
    assert clock_text(hours) == text


@given(seconds=st.floats(-1e8, 4e8))
@settings(max_examples=60, deadline=None)
def test_mission_seconds_and_utc_are_inverse(seconds: float) -> None:
    timeline = Timeline.at(START)
    assert timeline.seconds(timeline.utc(seconds)) == pytest.approx(seconds, abs=6e-4)
