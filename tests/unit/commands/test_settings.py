"""`--set` of the commands that read scenario and topology files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from marsnet import cli

ROOT = Path(__file__).parents[3]


def command(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", line.split())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_validate_and_plan_take_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = "marsnet validate topologies/mtn_mix.yaml --set low=4 --set areostationary=0"
    assert command(f"{line} --json", monkeypatch) == os.EX_OK
    assert json.loads(capsys.readouterr().out)["files"][0]["nodes"] == 11
    assert command(f"{line} --set lows=1", monkeypatch) == 2
    assert "--set lows: there is no such parameter; did you mean 'low'?" in capsys.readouterr().err
    plan = "marsnet plan topologies/mtn_mix.yaml --start 2030-01-01 --duration 1h --json --set low=0"
    assert command(plan, monkeypatch) == os.EX_OK
    assert "areo1" in (nodes := json.loads(capsys.readouterr().out)["nodes"])
    assert "low1" not in nodes
