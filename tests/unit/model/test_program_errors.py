"""Golden tests of the mistakes that programs of a scenario can hold: file, line, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from marsnet.errors import InputError
from marsnet.model.scenario import load_scenario
from marsnet.runs.prepare import check_times, prepare

TOPOLOGY = """\
marsnet: topology/1
name: apart
nodes:
  earth: {kind: hub, number: 1}
  mars: {kind: hub, number: 2}
links:
  - {between: [earth, mars], wired: {delay: 1334.9 s, rate: 1 Mbit/s}}
"""
GOOD = """\
marsnet: scenario/1
name: programs
topology: topology.yaml
start: 2026-10-01T00:00:00Z
duration: 4 h
software:
  debian: [iperf3]
  python: [aioquic==1.2.0]
programs:
  - name: ping
    node: mars
    command: [ping, -c, 5, earth]
    at: 10 min
    stop: 3 h
    files: [topology.yaml]
  - {name: server, node: earth, command: [iperf3, -s], exit: any}
requirements:
  - {kind: printed, program: ping, matches: 'avg = ([0-9.]+)', at_least: 1}
"""
# name: right text, wrong text, what follows the file's name in the message
MISTAKES: dict[str, tuple[str, str, str]] = {
    "unknown node": ("node: mars", "node: venus", "11: unknown node 'venus'; there are earth, mars"),
    "no command": ("command: [ping, -c, 5, earth]", "command: []", "12: programs.0.command"),
    "a fraction as a word": ("-c, 5,", "-c, 5.5,", "12: programs.0.command"),
    "two of one name": ("{name: server", "{name: ping", "16: two programs are named 'ping'; rename one"),
    "starts after the run": ("at: 10 min", "at: 5 h", "13: program 'ping' starts at '5 h', outside of the run"),
    "stops before it starts": ("stop: 3 h", "stop: 5 min", "14: program 'ping' starts at '10 min' and is stopped at"),
    "no such file": ("files: [topology.yaml]", "files: [none.py]", "15: there is no file 'none.py' with content"),
    "two files of one name": (
        "files: [topology.yaml]",
        "files: [topology.yaml, ./topology.yaml]",
        "15: two files are named 'topology.yaml'; rename one",
    ),
    "a package without version": ("aioquic==1.2.0", "aioquic", "8: software.python.0: 'aioquic' has no version"),
    "a package that is an option": ("iperf3]\n  python", "--help]\n  python", "7: software.debian.0"),
    "an unknown program": ("program: ping", "program: pong", "18: unknown program 'pong'; there are ping, server"),
    "no regular expression": ("([0-9.]+)", "([0-9.]+", "18: 'avg = ([0-9.]+' is no regular expression"),
    "a bound without a number": ("([0-9.]+)", "[0-9.]+", "18: 'avg = [0-9.]+' has no group for the number"),
    "an unknown exit": ("exit: any", "exit: ever", "16: programs.1.exit"),
}


def scenario(folder: Path, text: str = GOOD) -> Path:
    (folder / "topology.yaml").write_text(TOPOLOGY)
    (folder / "scenario.yaml").write_text(text)
    return folder / "scenario.yaml"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_placed_and_explained(name: str, tmp_path: Path) -> None:
    right, wrong, expected = MISTAKES[name]
    assert right in GOOD
    path = scenario(tmp_path, GOOD.replace(right, wrong, 1))
    with pytest.raises(InputError) as caught:
        check_times(*load_scenario(path), path)
    assert str(caught.value).startswith(f"{path}:{expected}")


def test_a_scenario_of_nothing_is_refused(tmp_path: Path) -> None:
    start = GOOD.index("programs:\n")
    with pytest.raises(InputError, match=r"neither flows nor programs; add one"):
        load_scenario(scenario(tmp_path, GOOD[:start] + "requirements: [{kind: frames_accounted}]\n"))


def test_programs_need_a_kernel_and_its_own_time(tmp_path: Path) -> None:
    path = scenario(tmp_path)
    with pytest.raises(InputError, match=r"scenario\.yaml:10: the virtual world has no kernel .*'--world warp'"):
        prepare(path, tmp_path)
    with pytest.raises(InputError, match=r"and the rate is 60; run it at rate 1, or with '--world warp'"):
        prepare(path, tmp_path, emulated=True, rate=60)
    spec = prepare(path, tmp_path, emulated=True)
    assert spec.rate == 1
    assert spec.scenario.programs[0].command == ("ping", "-c", "5", "earth")
    assert spec.scenario.programs[0].files == (tmp_path / "topology.yaml",)
