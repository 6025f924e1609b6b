"""The console script itself: exit codes, one line for a mistake, silence at a closed pipe, and users without root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from marsnet import cli

ROOT = Path(__file__).parents[3]
MARSNET = str(Path(sys.executable).with_name("marsnet"))
TOPOLOGY = str(ROOT / "topologies" / "first_light.yaml")
SCENARIO = str(ROOT / "scenarios" / "first_light.yaml")
START = ("--start", "2026-10-01T00:00:00Z")
SHORT = f"""\
marsnet: scenario/1
name: short
topology: {TOPOLOGY}
start: 2026-10-01T10:00:00Z
duration: 1 h
traffic:
  - {{name: telemetry, source: habitat, destination: mcc, class: expedited, size: 1 kB, every: 5 min,
     lifetime: 8 h, stop: 30 min}}
requirements:
  - {{kind: delivery, class: expedited, at_least: 100 %}}
"""
AS_NOBODY = [
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
]  # fmt: skip


def marsnet(
    *arguments: str, unprivileged: bool = False, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the console script; unprivileged means as nobody where this is root.

    Nobody keeps the right to read, so that the checkout may lie in a folder that is closed to others.
    """
    user = AS_NOBODY if unprivileged and os.geteuid() == 0 else []
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    return subprocess.run(
        [*user, MARSNET, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=folder,
        env=environment,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that nobody may write to."""
    open_to_all = Path("/tmp") if os.geteuid() == 0 else tmp_path
    made = open_to_all / f"marsnet-test-{os.getpid()}-{tmp_path.name}"
    made.mkdir()
    made.chmod(0o777)
    return made


@pytest.fixture
def shipped(folder: Path) -> Iterator[Path]:
    """A folder with first light's files that everybody may read."""
    for name in ("topologies", "scenarios"):
        (folder / name).mkdir()
        shutil.copyfile(ROOT / name / "first_light.yaml", folder / name / "first_light.yaml")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("report", "nowhere"), "there is no verdict in 'nowhere'; name the folder of a finished run"),
        (("validate", "absent.yaml"), "there is no file 'absent.yaml'; check the path"),
        (("run", "absent.yaml"), "there is no file 'absent.yaml'; check the path"),
        (("run", SCENARIO, "--world", "flat"), "there is no world 'flat'; use 'emulated', 'virtual' or 'warp'"),
        (
            ("run", SCENARIO, "--world", "virtual", "--rate", "inf"),
            "a rate of inf is no positive number; give more than 0, as in --rate 600",
        ),
        (
            ("run", SCENARIO, "--world", "virtual", "--seed", "-1"),
            "-1 is no seed; give a whole number from 0 to 9223372036854775807",
        ),
        (
            ("run", SCENARIO, "--world", "virtual", "--rate", "-1"),
            "a rate of -1 is no positive number; give more than 0, as in --rate 600",
        ),
        (
            ("plan", TOPOLOGY, *START, "--duration", "1"),
            "write it like '20 min' (units: ns, us, ms, s, min, h, d, sol, sols)",
        ),
        (
            ("plan", TOPOLOGY, "--start", "soon", "--duration", "1 h"),
            "'soon' is not a UTC instant; write it as 2026-10-01T12:00:00Z",
        ),
        (("node", "--config", "absent.json"), "check the path"),
    ],
    ids=lambda value: " ".join(Path(word).name for word in value[:2]) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["marsnet", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("marsnet: ")
    assert printed.err.endswith(f"{told}\n")
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    for content, told in (("a: 1\n", "the key 'marsnet' is missing"), ("marsnet: plan/1\n", "'marsnet: plan/1' is no")):
        (tmp_path / "file.yaml").write_text(content)
        done = marsnet("validate", "file.yaml", folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"marsnet: file.yaml:1: {told}")


@pytest.mark.slow
def test_without_root_the_emulated_world_says_what_is_missing(shipped: Path) -> None:
    scenario = "scenarios/first_light.yaml"
    done = marsnet("run", scenario, "--world", "emulated", unprivileged=True, folder=shipped)
    assert done.returncode == 4
    assert done.stderr.startswith("marsnet: missing: privileges (not root)")
    assert "to fix it: run it as root (sudo)" in done.stderr


@pytest.mark.slow
def test_without_root_a_lab_says_what_is_missing(shipped: Path) -> None:
    for arguments in (("up", "topologies/first_light.yaml", *START), ("down", "first-light"), ("inspect",)):
        done = marsnet(*arguments, unprivileged=True, folder=shipped)
        assert done.returncode == 4, (arguments, done.stderr)
        assert "to fix it: " in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_without_root_the_virtual_world_runs_and_is_reported(folder: Path) -> None:
    try:
        (folder / "short.yaml").write_text(SHORT)
        done = marsnet("run", "short.yaml", "--world", "virtual", "--json", unprivileged=True, folder=folder)
        assert done.returncode == 0, done.stderr
        verdict = json.loads(done.stdout)
        assert verdict["passed"]
        assert verdict["world"] == "virtual"
        shown = marsnet("report", unprivileged=True, folder=folder)
        assert "PASSED" in shown.stdout
        assert verdict["report"] in shown.stdout
        assert json.loads(marsnet("report", "--json", unprivileged=True, folder=folder).stdout) == verdict
        where = marsnet("run", "short.yaml", "--world", "virtual", "--output", "/proc/runs", folder=folder)
        assert where.returncode == 4
        assert "marsnet run SCENARIO --output FOLDER" in where.stderr
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_closed_pipe_is_no_error() -> None:
    for arguments in (
        ("plan", TOPOLOGY, *START, "--duration", "6 h"),
        ("sky", "--help"),
        ("validate", TOPOLOGY, "--json"),
    ):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [MARSNET, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
            )
        finally:
            os.close(writer)
        assert done.stderr == "", arguments


@pytest.mark.slow
def test_version_and_help() -> None:
    assert marsnet("--version").stdout.startswith("marsnet 0.")
    helped = marsnet("--help")
    assert helped.returncode == 0
    for command in (
        "validate",
        "plan",
        "run",
        "up",
        "down",
        "inspect",
        "exec",
        "link",
        "doctor",
        "report",
        "node",
        "sky",
    ):
        assert command in helped.stdout
    assert "Exit codes" in helped.stdout


@pytest.mark.slow
def test_doctor_tells_a_user_without_root_what_is_missing() -> None:
    done = marsnet("doctor", "--json", unprivileged=True, folder=Path("/"))
    found = json.loads(done.stdout)
    assert done.returncode in {0, 4}
    assert "not root" in json.dumps(found)
