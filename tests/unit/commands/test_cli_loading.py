"""The command line imports the command that is called, and tells what each of them says of itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marsnet.commands.catalogue import COMMANDS, load

ROOT = Path(__file__).parents[3]
_PROGRAM = """
import json, sys
sys.argv[0] = 'marsnet'
from marsnet.cli import main
try:
    main()
finally:
    sys.stdout.flush()
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def called(*arguments: str) -> tuple[str, set[str]]:
    """What a command line prints, and the modules that it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    command: Any = load(name)
    assert words(command.help) == COMMANDS[name].summary


def test_the_list_of_commands_imports_none_of_them() -> None:
    printed, modules = called("--help")
    for name, entry in COMMANDS.items():
        assert re.search(rf"\b{name}\b +{re.escape(entry.summary)}", printed), name
    assert {m for m in modules if m.startswith("marsnet.")} == {
        "marsnet.cli", "marsnet.commands", "marsnet.commands.catalogue", "marsnet.compiled", "marsnet.errors",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["ping", "trace", "send", "recv", "node"])
def test_who_talks_to_a_node_imports_no_planner_and_no_world(name: str) -> None:
    printed, modules = called(name, "--help")
    assert f"marsnet {name}" in printed
    assert not {"numpy", "skyfield", "docker", "plotly", "jinja2"} & modules
    rooms = {m.split(".")[1] for m in modules if m.startswith("marsnet.")}
    assert not {"sky", "links", "worlds", "runs"} & rooms


def test_groups_and_foreign_options_pass_through() -> None:
    printed, _ = called("sky", "light-time", "--help")
    assert "marsnet sky light-time" in printed
    assert load("exec").context_settings == {"ignore_unknown_options": True, "allow_interspersed_args": False}
