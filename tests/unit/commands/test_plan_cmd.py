"""`marsnet plan`: tables, files, conversion, budgets and pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from marsnet.commands.plan import plan
from marsnet.errors import InputError
from marsnet.plan.files import read_plan

ROOT = Path(__file__).parents[3]
FLEET = str(ROOT / "topologies" / "legacy_fleet.yaml")
DAY = ("--start", "2026-10-01", "--duration", "6 h")

app = typer.Typer()
app.command()(plan)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return str(caught.value)


def test_a_table_that_a_person_reads() -> None:
    text = run(FLEET, *DAY)
    assert re.search(r"\n 2026-10-01 *\n", text)
    assert re.search(r"01:15:13 +0:05:25 +perseverance > mro +256k-512k +3\.1 ms +17\.6 MB", text)
    assert re.search(r"mcc > goldstone +1 +6:00:00 +100\.0 % +100M", text)
    assert "more; --rows 0 lists all" in run(FLEET, *DAY, "--rows", "3")


def test_the_tables_of_a_sol_fit_a_terminal_of_80_columns() -> None:
    """The tables are no wider than that by themselves: nothing is folded or cut to make them fit."""
    lines = [line.rstrip() for line in run(FLEET, "--start", "2026-10-01", "--duration", "1 sol").splitlines()]
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(" perseverance > goldstone") for line in lines)


def test_links_between_the_same_nodes_are_told_apart(tmp_path: Path) -> None:
    fleet = (ROOT / "topologies" / "legacy_fleet.yaml").read_text()
    topology = tmp_path / "two_bands.yaml"
    wire = "{between: [mcc, goldstone], wired: {delay: 5 ms, rate: 100 Mbit/s}}"
    assert wire in fleet
    topology.write_text(fleet.split("\nlinks:")[0] + f"\nlinks:\n  - {wire}\n  - {wire[:-1]}, name: spare}}\n")
    text = run(str(topology), *DAY)
    assert "mcc > goldstone (mcc--goldstone)" in text
    assert "goldstone > mcc (spare)" in text


def test_a_file_that_a_machine_reads(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    assert f"wrote {target}" in run(FLEET, *DAY, "-o", str(target))
    written = read_plan(target)
    assert written.epoch == "2026-10-01T00:00:00.000Z"
    assert written.end == 6 * 3600
    assert json.loads(run(FLEET, *DAY, "--json")) == json.loads(target.read_text())


def test_a_plan_file_is_converted(tmp_path: Path) -> None:
    first, second, third = tmp_path / "plan.json", tmp_path / "plan.ionrc", tmp_path / "again.csv"
    run(FLEET, *DAY, "-o", str(first))
    run(str(first), "-o", str(second))
    assert "a contact 2026/10/01-01:15:14 2026/10/01-" in second.read_text()
    text = run(str(second), "-o", str(third), "--from", "ion")
    assert len(read_plan(third).contacts) == len(read_plan(second).contacts)
    assert "perseverance" in text


def test_a_scenario_brings_its_interval() -> None:
    text = run(str(ROOT / "scenarios" / "first_light.yaml"), "--json")
    assert json.loads(text)["meta"]["topology"] == "first_light"


def test_a_budget_line_by_line() -> None:
    text = run(FLEET, "--start", "2026-10-01", "--explain", "mro--perseverance@4600 s")
    assert "perseverance to mro at 2026-10-01T01:16:40.000Z: open, light time 2.6 ms" in text
    assert re.search(r"free space +-142\.36 +dB", text)
    assert re.search(r"threshold Eb/N0, conv-1/2 +-4\.80 +dB", text)
    directions = json.loads(run(FLEET, "--explain", "goldstone--mro@2026-10-01T10:00", "--json"))
    assert [(one["source"], one["open"]) for one in directions] == [("goldstone", True), ("mro", True)]
    lines = {line["item"]: line["value"] for line in directions[1]["budget"]}
    assert lines["rate"] == pytest.approx(1.98e6, rel=0.02)
    assert directions[1]["light_time_s"] == pytest.approx(829.6, abs=0.2)
    assert (
        run(FLEET, "--explain", "mro--goldstone@2026-10-01T10:00", "--json") == json.dumps(directions, indent=1) + "\n"
    )
    local = json.loads(
        run(FLEET, "--start", "2026-10-01", "--explain", "tgo--curiosity@sol 1 06:00 LTST at curiosity", "--json")
    )
    assert local[0]["transmitted_at"].startswith("2026-10-02T04:45")


def test_the_explained_rate_is_the_planned_one() -> None:
    planned = json.loads(run(FLEET, *DAY, "--json"))
    contact = next(c for c in planned["contacts"] if c["source"] == "perseverance" and c["target"] == "mro")
    middle = (contact["start"] + contact["end"]) / 2
    explained = json.loads(run(FLEET, "--start", "2026-10-01", "--explain", f"{contact['link']}@{middle} s", "--json"))
    rate = {line["item"]: line["value"] for line in explained[1]["budget"]}["rate"]
    assert (explained[1]["source"], rate) == ("perseverance", contact["rate"])


@pytest.mark.slow
def test_pictures(tmp_path: Path) -> None:
    png, html = tmp_path / "plan.png", tmp_path / "plan.html"
    run(FLEET, *DAY, "--plot", str(png))
    run(FLEET, *DAY, "--plot", str(html))
    assert png.read_bytes().startswith(b"\x89PNG")
    page = html.read_text()
    for word in ("perseverance \\u003e mro", "light time between the planets", "Mars from above its north pole"):
        assert word in page
    assert not re.search(r'<(script|link)[^>]+(src|href)="http', page)


def test_a_picture_of_a_plan_without_a_topology(tmp_path: Path) -> None:
    plan_file, png = tmp_path / "plan.csv", tmp_path / "plan.png"
    run(FLEET, *DAY, "-o", str(plan_file))
    run(str(plan_file), "--plot", str(png))
    assert png.read_bytes().startswith(b"\x89PNG")


def test_a_long_interval_is_streamed_and_totalled(tmp_path: Path) -> None:
    target = tmp_path / "long.csv"
    topology = tmp_path / "small.yaml"
    topology.write_text(
        (ROOT / "topologies" / "legacy_fleet.yaml").read_text().split("\nlinks:")[0]
        + "\nlinks:\n  - {between: [goldstone, perseverance], band: X}\n"
    )
    text = run(str(topology), "--start", "2026-10-01", "--duration", "21 sols", "-o", str(target))
    assert "Passes from" not in text
    assert re.search(r"Totals of 21\.00 sols", text)
    read = read_plan(target)
    assert read.end == pytest.approx(21 * 88775.244)
    assert len(read.contacts) > 40


START = ("--start", "2026-10-01")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (FLEET,),
            "a topology does not say when; add --start, like --start 2026-10-01",
        ),
        (
            (FLEET, *START),
            "a topology does not say for how long; add --duration, like --duration '1 sol'",
        ),
        (
            (FLEET, "--start", "tomorrow"),
            "'tomorrow' is not a UTC instant; write it as 2026-10-01T12:00:00Z",
        ),
        (
            (FLEET, *START, "--duration", "5"),
            "'5' is no time; write it like '20 min' (units: ns, us, ms, s, min, h, d, sol, sols)",
        ),
        (
            (FLEET, *START, "--duration", "60 years"),
            "'60 years': 'years' is no unit of time; write it like '20 min' (units: ns, us, ",
        ),
        (
            (FLEET, "--start", "2050-01-01", "--duration", "1 h"),
            "ephemeris",
        ),
        (
            (FLEET, *DAY, "-o", "plan.txt"),
            "'plan.txt' does not tell the plan's format; give a format (json, csv, ion, ion-relative, hdtn) or a name "
            "that ends in .hdtn.json, .json, .csv, .ionrc, .ion",
        ),
        (
            (FLEET, *DAY, "--format", "xml"),
            "unknown plan format 'xml'; choose one of json, csv, ion, ion-relative, hdtn",
        ),
        (
            (FLEET, *DAY, "--plot", "x.gif"),
            "no picture can be drawn as 'x.gif'; name a file that ends in .html or .png",
        ),
        (
            (FLEET, "--explain", "tgo--curiosity"),
            "'tgo--curiosity' names no instant; write LINK@TIME, like 'dss14--mro@2 h'",
        ),
        (
            (FLEET, "--explain", "tgo--curiosity@2 h"),
            "'2 h' counts from a start; add --start, or name a UTC instant",
        ),
        (
            (FLEET, "--explain", "x--y@2026-10-01"),
            "there is no link 'x--y'; there are mcc--goldstone, ",
        ),
        (
            (FLEET, *START, "--explain", "tgo--curiosity@noon"),
            "'noon' is no instant; write '11 h' after ",
        ),
        (
            ("absent.json",),
            "there is no file 'absent.json'; check the path",
        ),
        (
            ("absent.json", "--explain", "a@2 h"),
            "a plan file has no link budgets to explain; give the topology",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = refused(*arguments)
    assert message in text
    assert "\n" not in text
    assert list(tmp_path.iterdir()) == []
