"""`marsnet run` and `marsnet report` in the virtual world: what a person sees, what a program reads, what is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from marsnet import cli
from marsnet.commands.run import report
from marsnet.errors import InputError

SHORT = Path(__file__).parents[2] / "integration" / "runs" / "short.yaml"


def run(folder: Path, *options: str, faults: list[dict[str, str]] | None = None) -> tuple[int, str]:
    """Exit code and standard output of a run of the short scenario, with other faults on demand."""
    yaml = YAML()
    scenario = yaml.load(SHORT)
    scenario["topology"] = str((SHORT.parent / scenario["topology"]).resolve())
    if faults is not None:
        scenario["faults"] = faults
    file = folder / "scenario.yaml"
    with file.open("w") as out:
        yaml.dump(scenario, out)
    result = CliRunner().invoke(
        cli.app, ["run", str(file), "--world", "virtual", "--output", str(folder / "runs"), *options],
        catch_exceptions=False,
    )  # fmt: skip
    return result.exit_code, result.stdout


def verdict(folder: Path, *options: str, faults: list[dict[str, str]] | None = None) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(run(folder, *options, "--json", faults=faults)[1])
    return content


@pytest.mark.parametrize(
    ("content", "told"), [("{", "the verdict cannot be read"), ("{}", "it is no verdict"), ("[]", "it is no verdict")]
)
def test_a_damaged_verdict_is_told(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text(content)
    with pytest.raises(InputError, match=told):
        report(tmp_path)


def test_tables_fit_a_terminal_of_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out = run(tmp_path)
    assert code == 0
    lines = out.splitlines()
    report = next(line for line in lines if line.startswith("Report: "))
    assert report == f"Report: {(tmp_path / 'runs' / 'latest').resolve() / 'report.html'}"
    assert max(len(line) for line in lines if line != report) <= 80
    # No figure of the classes is folded into a second line.
    assert len([line for line in lines if line.split()[:1] in (["critical"], ["expedited"], ["normal"], ["bulk"])]) == 4
    assert "PASSED" in lines


def test_seed_and_faults_are_options(tmp_path: Path) -> None:
    usual, again = verdict(tmp_path), verdict(tmp_path)
    assert usual["ledger_hash"] == again["ledger_hash"]
    other = verdict(tmp_path, "--seed", "7")
    assert (usual["seed"], other["seed"]) == (1, 7)
    assert other["ledger_hash"] != usual["ledger_hash"]
    calm = verdict(tmp_path, "--no-faults")
    assert calm["classes"]["expedited"]["accepted"] == usual["classes"]["expedited"]["accepted"]
    assert calm["classes"]["expedited"]["beyond_light_time"]["p50"] < 1.0
    assert usual["classes"]["expedited"]["beyond_light_time"]["p95"] > 60.0


def test_a_failed_requirement_is_exit_code_1(tmp_path: Path) -> None:
    silent = [{"kind": "node_silent", "node": "areo", "at": "1 min", "duration": "140 min"}]
    code, out = run(tmp_path, "--json", faults=silent)
    assert code == 1
    content = json.loads(out)
    assert content["valid"]
    assert not content["passed"]
    shown = CliRunner().invoke(cli.app, ["report", str(tmp_path / "runs" / "latest")])
    assert "FAIL delivery of critical" in shown.stdout
    assert "FAILED" in shown.stdout


# Each of these sent bundles back along the way they had come, to a node that had passed them on before.
SENT_BACK = {
    "a destination crashes": [{"kind": "node_crash", "node": "habitat", "at": "66 min", "duration": "27 min"}],
    "the last link falls": [{"kind": "link_outage", "link": "areo--habitat", "at": "36 min", "duration": "29 min"}],
    "wires fall in turn": [
        {"kind": "link_outage", "link": "mcc--dss14", "at": "27 min", "duration": "31 min"},
        {"kind": "link_outage", "link": "mcc--dss63", "at": "62 min", "duration": "23 min"},
    ],
}


@pytest.mark.parametrize("what", SENT_BACK)
def test_a_bundle_that_comes_back_is_kept(what: str, tmp_path: Path) -> None:
    requirements = {r["name"]: r for r in verdict(tmp_path, faults=SENT_BACK[what])["requirements"]}
    assert requirements["nothing accepted is lost"]["passed"], requirements["nothing accepted is lost"]["measured"]


def test_faults_may_overlap(tmp_path: Path) -> None:
    faults = [
        {"kind": "node_silent", "node": "areo", "at": "30 min", "duration": "20 min"},
        {"kind": "link_outage", "link": "areo--habitat", "at": "40 min", "duration": "20 min"},
        {"kind": "node_silent", "node": "habitat", "at": "42 min", "duration": "5 min"},
    ]
    assert verdict(tmp_path, faults=faults)["requirements"][-3]["passed"]


@pytest.mark.parametrize(
    ("world", "option", "said"),
    [
        ("warp", ("--rate", "60"), "the warp world runs at true light time"),
        ("warp", ("--keep",), "the warp world leaves no lab behind"),
        ("virtual", ("--lab", "mine"), "the virtual world leaves no lab behind"),
        ("virtual", ("--prometheus", "127.0.0.1:9999"), "the virtual world has no Prometheus"),
        ("virtual", ("--scrape", "10 s"), "the virtual world has no Prometheus"),
        ("warp", ("--scrape", "10 s"), "--scrape without a Prometheus; the warp world has one with --prometheus"),
        ("warp", ("--prometheus", "127.0.0.1:9090", "--scrape", "1 ms"), "--scrape is 1 ms; give 100.0 ms or more"),
        ("virtual", ("--links", "netem"), "the virtual world has no kernel"),
    ],
)
def test_an_option_that_a_world_does_not_know_is_refused(
    world: str, option: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        CliRunner().invoke(
            cli.app, ["run", str(SHORT), "--world", world, "--output", str(tmp_path), *option], catch_exceptions=False
        )
    assert not list(tmp_path.iterdir())
