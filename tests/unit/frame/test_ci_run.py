"""The check of a clean checkout: its exit code and last lines are the tests', and its temporary files go."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def check(tree: Path, recipe: str) -> subprocess.CompletedProcess[str]:
    """Runs `.ci/run` in a tree whose `make test` is this recipe."""
    shutil.copytree(ROOT / ".ci", tree / ".ci")
    shutil.copytree(ROOT / "scripts", tree / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "Makefile").write_text(f"test:\n\t@{recipe}\n")
    # A make around this test would tell the inner one about itself.
    env = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    env |= {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    return subprocess.run(
        ["bash", ".ci/run"], cwd=tree, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def test_success_ends_in_pytests_lines(tmp_path: Path) -> None:
    done = check(
        tmp_path, "echo '12 passed in 0.1s'; echo '3 passed, 2 deselected in 1s'; echo '15 passed, 0 failed, 0 skipped'"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        "12 passed in 0.1s",
        "3 passed, 2 deselected in 1s",
        "15 passed, 0 failed, 0 skipped",
    ]


def test_failure_is_the_exit_code(tmp_path: Path) -> None:
    done = check(tmp_path, "echo '1 failed, 4 passed in 0.2s'; exit 1")
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == "1 failed, 4 passed in 0.2s"


def test_temporary_files_are_its_own_and_go(tmp_path: Path) -> None:
    done = check(tmp_path, "mktemp; echo CI=$$CI")
    first, second = done.stdout.splitlines()[:2]
    assert "/marsnet-ci." in first
    assert not Path(first).parent.parent.exists()
    assert second == "CI=true"


@pytest.mark.parametrize("script", [".ci/run", "scripts/python.sh"])
def test_the_shell_parses_it(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / script], check=True)


def test_every_target_that_the_documents_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    told = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "quick", "lint", "format", "bench", "setup", "clean", "distclean"):
        assert f"\n{target}:" in makefile
        assert f"make {target} " in told
