"""`marsnet sky`: what it prints, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marsnet.commands.sky import app
from marsnet.errors import InputError

FLEET = str(Path(__file__).parents[3] / "topologies" / "legacy_fleet.yaml")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    """The message of the error that a command raises; the console script turns it into exit code 2."""
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return str(caught.value)


def parsed(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


@pytest.mark.parametrize(
    ("utc", "received", "transmitted"),
    [
        ("2026-01-09T12:00", 1199.309632, 1199.296314),
        ("2026-10-01T00:00", 831.061909, 831.148021),
        ("2027-02-19T16:00", 338.291208, 338.291691),
        ("2030-05-25T12:00", 1256.219960, 1256.238925),
    ],
)
def test_light_time_holds_at_the_geocentre(utc: str, received: float, transmitted: float) -> None:
    for ends in (("earth", "mars"), ("mars", "earth")):
        found = parsed("light-time", *ends, "--received-at", utc)
        assert found["light_time_s"] == pytest.approx(received, abs=1e-5)
        assert (found["source"], found["target"], found["received_at"]) == ("mars", "earth", f"{utc}:00.000Z")
    found = parsed("light-time", "earth", "mars", "--transmitted-at", utc)
    assert found["light_time_s"] == pytest.approx(transmitted, abs=1e-5)
    assert (found["source"], found["target"], found["transmitted_at"]) == ("earth", "mars", f"{utc}:00.000Z")


def test_light_time_at_the_other_end() -> None:
    """What one end sends, the other receives a light time later."""
    for ends in (("earth", "mars"), ("mars", "earth")):
        sent = parsed("light-time", *ends, "--transmitted-at", "2026-10-01T00:00")
        assert (sent["source"], sent["target"]) == ends
        arrived = parsed("light-time", *ends, "--received-at", sent["received_at"], "--at", ends[1])
        assert (arrived["source"], arrived["target"]) == ends
        assert arrived["light_time_s"] == pytest.approx(sent["light_time_s"], abs=1e-6)
    text = refused("light-time", "earth", "mars", "--received-at", "2026-10-01", "--at", "venus")
    assert text == "'venus' is no end of the signal; name earth or mars"


def test_light_time_without_a_planet_of_its_own_is_received_at_b() -> None:
    ends = ("mro", "perseverance", "--received-at", "2026-10-01", "--topology", FLEET)
    assert parsed("light-time", *ends)["target"] == "perseverance"
    assert parsed("light-time", "goldstone", *ends[:1], *ends[2:])["target"] == "goldstone"


def test_light_time_between_nodes_for_a_person() -> None:
    text = run("light-time", "mro", "goldstone", "--transmitted-at", "2026-10-01", "--topology", FLEET)
    assert "13 min 51.0 s, one way" in text


def test_light_time_needs_one_instant() -> None:
    assert "give either the instant of reception or that of transmission" in refused("light-time", "earth", "mars")


def test_conjunctions() -> None:
    found = parsed("conjunctions", "2030-01-01", "2031-01-01", "--sep", "3 deg")
    assert found["sep_limit_deg"] == 3.0
    (passage,) = found["conjunctions"]
    assert passage["instant"].startswith("2030-05-25T10:50")
    assert passage["min_sep_deg"] == pytest.approx(0.2765, abs=1e-3)
    assert passage["entry"].startswith("2030-05-13T13:0")
    assert passage["exit"].startswith("2030-06-05T23:5")
    assert "0.2765 deg" in run("conjunctions", "2030-01-01", "2031-01-01")
    assert "none between" in run("conjunctions", "2029-01-01", "2029-02-01")


def test_conjunctions_need_a_unit() -> None:
    assert refused("conjunctions", "2030-01-01", "2031-01-01", "--sep", "3").startswith("'3' is no angle")


def test_passes() -> None:
    where = ("--topology", FLEET, "--site", "perseverance", "--orbiter", "mro")
    when = ("--start", "2026-10-01", "--duration", "1 sol")
    found = parsed("passes", *where, *when)
    assert found["count"] == len(found["passes"]) == 3
    first = found["passes"][0]
    assert first["rise"].startswith("2026-10-01T01:15:13.9")
    assert first["set"].startswith("2026-10-01T01:20:38.4")
    assert first["duration_s"] == pytest.approx(324.56, abs=0.1)
    assert "3 passes" in run("passes", *where, *when)
    assert parsed("passes", *where, *when, "--mask", "0 deg")["count"] > 3


def test_mars_time_of_a_site_and_of_a_longitude() -> None:
    site = parsed("time", "2026-10-01T00:00", "--site", "perseverance", "--topology", FLEET)
    assert site["msd"] == pytest.approx(54299.73037, abs=1e-5)
    assert site["ls_deg"] == pytest.approx(0.324, abs=1e-3)
    assert site["ltst"] == "22:00:17"
    east = parsed("time", "2026-10-01T00:00", "--longitude", "77.45 deg")
    assert (east["ltst"], east["longitude_deg"]) == (site["ltst"], 77.45)
    assert "ltst" not in parsed("time", "2026-10-01T00:00")
    assert "22:00:17 at perseverance (77.45 deg E)" in run(
        *("time", "2026-10-01", "--site", "perseverance", "--topology", FLEET)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--site", "mro", "--topology", FLEET), "'mro' is no site on Mars; there are curiosity, perseverance"),
        (
            ("--site", "perseverance"),
            "--site 'perseverance' needs a topology; add --topology FILE, or give --longitude",
        ),
        (
            ("--site", "a", "--longitude", "1 deg", "--topology", FLEET),
            "both --site and --longitude are given; give one of them",
        ),
        (("--longitude", "77"), "'77' is no angle; write it like '10 deg' (units: deg, mrad, rad, arcsec)"),
    ],
)
def test_mars_time_refuses(arguments: tuple[str, ...], message: str) -> None:
    assert refused("time", "2026-10-01", *arguments).endswith(message)


def test_an_instant_that_is_none_is_named() -> None:
    assert refused("time", "2026-13-01") == "'2026-13-01' is not a UTC instant; write it as 2026-10-01T12:00:00Z"
