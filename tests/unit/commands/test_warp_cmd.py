"""`marsnet warp exec`: the scenario that it makes of its arguments, and what it gives back of the program."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from marsnet import cli
from marsnet.commands import warp
from marsnet.model.scenario import Scenario, load_scenario
from marsnet.worlds.spec import ProgramEnd

ROOT = Path(__file__).parents[3]


def executed(monkeypatch: pytest.MonkeyPatch, folder: Path, code: int, *arguments: str) -> tuple[int, Scenario | None]:
    """Exit code, and the scenario that would have run in a guest, where the program ends with a code."""
    ran: list[Scenario] = []

    def run(path: Path, where: Path, world: str, **options: Any) -> Any:
        scenario, _ = load_scenario(path, options["settings"])
        ran.append(scenario)
        own = where / "programs" / "exec"
        own.mkdir(parents=True)
        (own / "output.txt").write_text("5 received\n")
        (own / "errors.txt").write_text("a warning\n")
        assert world == "warp"
        end = ProgramEnd("exec", scenario.programs[-1].node, 0.0, 1.0, code)
        return SimpleNamespace(valid=True, outcome=SimpleNamespace(programs=(end,)), exit_code=0)

    monkeypatch.setattr(warp, "run_scenario", run)
    monkeypatch.setattr(sys, "argv", ["marsnet", "warp", "exec", "--output", str(folder / "runs"), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, ran[0] if ran else None


def test_a_program_on_a_topology(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "script.py"
    file.write_text("print()")
    code, scenario = executed(
        monkeypatch, tmp_path, 0, str(ROOT / "topologies" / "first_light.yaml"),
        "--start", "2026-10-01", "--node", "mcc", "--for", "90 min",
        "--python", "aioquic==1.2.0", "--debian", "iperf", "--file", str(file),
        "--", "ping", "-c", "5", "dss14",
    )  # fmt: skip
    assert code == 0
    assert scenario is not None
    assert scenario.duration == 5400
    assert not scenario.traffic
    (program,) = scenario.programs
    assert (program.node, program.command, program.files) == ("mcc", ("ping", "-c", "5", "dss14"), (file,))
    assert (scenario.software.debian, scenario.software.python) == (("iperf",), ("aioquic==1.2.0",))
    told = capsys.readouterr()
    assert told.out == "5 received\n"
    assert "a warning" in told.err


def test_a_program_beside_what_a_scenario_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(ROOT / "scenarios" / "first_light.yaml")
    code, scenario = executed(monkeypatch, tmp_path, -15, file, "--node", "habitat", "--at", "11 h", "--", "sleep", "9")
    assert code == 128 + 15
    assert scenario is not None
    assert scenario.name == "first_light"
    assert scenario.traffic
    assert scenario.programs[0].at.offset == 11 * 3600


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["topologies/first_light.yaml", "--node", "mcc"], "says nothing of a start; give --start 2026-10-01"),
        (["scenarios/first_light.yaml", "--node", "venus"], "unknown node 'venus'; there are mcc"),
        (["scenarios/first_light.yaml", "--node", "mcc", "--python", "aioquic"], "'aioquic' has no version"),
    ],
)
def test_mistakes(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, scenario = executed(monkeypatch, tmp_path, 0, str(ROOT / arguments[0]), *arguments[1:], "--", "true")
    assert (code, scenario) == (2, None)
    assert complaint in capsys.readouterr().err
