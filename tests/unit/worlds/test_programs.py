"""Programs of a scenario: started and stopped on the mission clock, their output and their ends kept and judged."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from marsnet.clock import MissionClock
from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.model.scenario import Scenario
from marsnet.model.topology import Topology
from marsnet.plan.types import ContactPlan
from marsnet.runs.judge import judge
from marsnet.worlds import programs, software
from marsnet.worlds.programs import Programs, check_programs, written
from marsnet.worlds.spec import Outcome, ProgramEnd, RunSpec

EPOCH = "2026-10-01T00:00:00.000Z"
TOPOLOGY = Topology.model_validate(
    {
        "marsnet": "topology/1",
        "name": "apart",
        "nodes": {"earth": {"kind": "hub", "number": 1}, "mars": {"kind": "hub", "number": 2}},
        "links": [{"between": ["earth", "mars"], "wired": {"delay": "1334.9 s", "rate": "1 Mbit/s"}}],
    }
)


def spec_with(folder: Path, *entries: dict[str, Any], requirements: tuple[dict[str, Any], ...] = ()) -> RunSpec:
    content = {
        "marsnet": "scenario/1",
        "name": "programs",
        "topology": "unused.yaml",
        "start": "2026-10-01T00:00:00Z",
        "duration": "1 h",
        "programs": [{"node": "mars"} | entry for entry in entries],
        "requirements": list(requirements),
    }
    plan = ContactPlan(EPOCH, 0.0, 3600.0, {"earth": 1, "mars": 2}, (), ())
    return RunSpec(Scenario.model_validate(content), TOPOLOGY, plan, (), 1, 1.0, folder)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs run where the test does, which needs no root."""
    monkeypatch.setattr(programs, "inside", lambda network, hosts: ())


def started(spec: RunSpec) -> Programs:
    clock = MissionClock(EPOCH, 1.0, time.monotonic())
    return Programs(spec, {"mars": 1}, {"earth": "10.77.0.1", "mars": "10.77.0.2"}, clock, None)


@pytest.mark.usefixtures("here")
def test_output_files_and_exit_codes_come_back(tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("given")
    shell = "cat given.txt; echo wrong >&2; echo made >made.txt; test $MINE = 7 && exit 3"
    spec = spec_with(
        tmp_path,
        {
            "name": "shell",
            "command": ["sh", "-c", shell],
            "exit": 3,
            "files": [tmp_path / "given.txt"],
            "environment": {"MINE": 7},
        },
        {"name": "never", "command": ["true"], "at": "30 min"},
    )
    run = started(spec)
    assert run.next_time == 0
    run.advance(0)
    assert run.next_time == 1800
    run._running[0]._waiting.join()
    shell_end, never = run.finish()
    assert (shell_end.code, shell_end.stopped) == (3, False)
    assert shell_end.started is not None
    assert shell_end.ended is not None
    assert 0 <= shell_end.started <= shell_end.ended
    assert never == ProgramEnd("never", "mars")
    own = tmp_path / "programs" / "shell"
    assert (own / "output.txt").read_text() == "given"
    assert (own / "errors.txt").read_text() == "wrong\n"
    assert (own / "made.txt").read_text() == "made\n"
    assert written(tmp_path, "shell") == "givenwrong\n"
    assert "10.77.0.1 earth\n" in (tmp_path / "programs" / "hosts.txt").read_text()


@pytest.mark.usefixtures("here")
def test_what_still_runs_is_asked_to_end_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "GRACE", 0.2)
    spec = spec_with(
        tmp_path,
        {"name": "polite", "command": ["sh", "-c", "echo >../ready; sleep 100; true"], "stop": "2 s", "exit": "any"},
        {"name": "deaf", "command": ["sh", "-c", "trap '' TERM; echo >../ready; sleep 100; true"], "exit": "any"},
    )
    run = started(spec)
    os.mkfifo(tmp_path / "programs" / "ready")
    # Open for both, so that it does not end when the first of them has closed it.
    ready = os.open(tmp_path / "programs" / "ready", os.O_RDWR)
    run.advance(0)
    said = b""
    while len(said) < 2:
        said += os.read(ready, 2)
    os.close(ready)
    run.advance(2)
    assert run.next_time is None
    polite, deaf = run.finish()
    assert (polite.code, polite.stopped) == (-15, True)
    assert (deaf.code, deaf.stopped) == (-9, True)


def findings(folder: Path, output: str, **requirement: object) -> list[tuple[bool, str]]:
    wanted = {"kind": "printed", "program": "ping"} | requirement
    spec = spec_with(folder, {"name": "ping", "command": ["ping"]}, requirements=(wanted,))
    own = folder / "programs" / "ping"
    own.mkdir(parents=True, exist_ok=True)
    (own / "output.txt").write_text(output)
    end = ProgramEnd("ping", "mars", 0.0, 5.0, 0)
    outcome = Outcome("warp", records=[], stored={}, frames=[], programs=(end,))
    return [(finding.passed, finding.measured) for finding in judge(spec, outcome).findings]


def test_what_a_program_printed_is_judged(tmp_path: Path) -> None:
    output = "time=1.5 ms\ntime=2669.8 ms\n"
    number = r"time=([\d.]+) ms"
    assert findings(tmp_path, output, matches=number, at_least=2600, at_most=2700)[1] == (True, "2669.8")
    assert findings(tmp_path, output, matches=number, at_most=2000)[1] == (False, "2669.8")
    assert findings(tmp_path, output, matches=number, at_least=3000)[1] == (False, "2669.8")
    assert findings(tmp_path, output, matches="^time=1.*$")[1] == (True, "'time=1.5 ms'")
    assert findings(tmp_path, output, matches="unreachable")[1] == (False, "nothing of the kind")
    assert findings(tmp_path, output, matches="(time)", at_least=1)[1] == (False, "'time', which is no number")


@pytest.mark.parametrize(
    ("wanted", "end", "expected"),
    [
        (0, ProgramEnd("p", "mars", 1.0, 6.0, 0), (True, "exit code 0 after 5.0 s")),
        (0, ProgramEnd("p", "mars", 1.0, 6.0, 2), (False, "exit code 2 after 5.0 s")),
        (2, ProgramEnd("p", "mars", 1.0, 6.0, 2), (True, "exit code 2 after 5.0 s")),
        (0, ProgramEnd("p", "mars", 1.0, 6.0, -15, True), (False, "ended by SIGTERM after 5.0 s, asked to end")),
        ("any", ProgramEnd("p", "mars", 1.0, 6.0, -15, True), (True, "ended by SIGTERM after 5.0 s, asked to end")),
        ("any", ProgramEnd("p", "mars"), (False, "it did not run")),
    ],
)
def test_how_a_program_ended_is_judged(
    wanted: int | str, end: ProgramEnd, expected: tuple[bool, str], tmp_path: Path
) -> None:
    spec = spec_with(tmp_path, {"name": "p", "command": ["p"], "exit": wanted})
    outcome = Outcome("warp", records=[], stored={}, frames=[], programs=(end,))
    judgement = judge(spec, outcome)
    assert [(finding.passed, finding.measured) for finding in judgement.findings] == [expected]
    assert judgement.passed is expected[0]


def test_a_program_that_is_not_installed_is_named_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match="'no-such-program', which is not installed"):
        check_programs(spec_with(tmp_path, {"name": "p", "command": ["no-such-program"]}))
    check_programs(spec_with(tmp_path, {"name": "p", "command": ["sh"]}))


def test_python_packages_are_collected_once_and_pip_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(software.images, "checkout", lambda: tmp_path)
    assert software.python_packages((), said.append) is None
    script = tmp_path / "pip"
    script.write_text(
        """#!/bin/sh
        test "$3" = good==1.0 || { echo "ERROR: none" >&2; exit 1; }
        mkdir -p "$2/good-1.0.dist-info"
        """
    )
    script.chmod(0o755)
    monkeypatch.setattr(software, "_PIP", (str(script),))
    first = software.python_packages(("good==1.0",), said.append)
    assert first is not None
    assert [path.name for path in first.iterdir()] == ["good-1.0.dist-info"]
    assert software.python_packages(("good==1.0",), said.append) == first
    assert said == ["collecting the Python packages good==1.0"]
    with pytest.raises(InputError, match=r"pip cannot install bad==1\.0: ERROR: none"):
        software.python_packages(("bad==1.0",), said.append)
