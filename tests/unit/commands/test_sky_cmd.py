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


def test_light_time_by_reception_and_by_transmission() -> None:
    received = parsed("light-time", "mars", "earth", "--received-at", "2026-10-01T00:00")
    assert received["light_time_s"] == pytest.approx(831.061909, abs=1e-3)
    assert received["received_at"] == "2026-10-01T00:00:00.000Z"
    assert received["transmitted_at"] == "2026-09-30T23:46:08.938Z"
    sent = parsed("light-time", "earth", "mars", "--transmitted-at", "2026-10-01T00:00")
    assert sent["light_time_s"] == pytest.approx(831.148021, abs=1e-3)
    assert sent["received_at"] == "2026-10-01T00:13:51.148Z"


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
    assert passage["least_sep_deg"] == pytest.approx(0.2765, abs=1e-3)
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
