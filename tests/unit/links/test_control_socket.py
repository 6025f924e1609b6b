"""Where the delay line listens, and what it makes of a path that is taken."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.links.client import DelayLineClient
from marsnet.links.daemon import bind_socket, main


def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind_socket(path).close()
    assert path.is_socket()
    with bind_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_living_process_keeps_its_socket(tmp_path: Path) -> None:
    with bind_socket(tmp_path / "s") as first:
        first.listen()
        with pytest.raises(InputError, match="another process listens at"):
            bind_socket(tmp_path / "s")


def test_a_file_is_not_mistaken_for_a_dead_socket(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.txt: Address already in use"):
        bind_socket(path)
    assert path.read_text() == "years of work"


@pytest.mark.parametrize(("name", "words"), [("none/s", "No such file"), ("x" * 200, "too long")])
def test_a_path_that_cannot_be_used_is_named(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        bind_socket(tmp_path / name)


@pytest.mark.parametrize(
    "options", [["--ram", "5"], ["--ram", "x MiB"], ["--metrics", "nowhere"], ["--priority", "high"]]
)
def test_bad_options_end_the_process_with_a_message(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--socket", str(tmp_path / "s"), *options])
    assert stopped.value.code == 2
    assert options[1] in capsys.readouterr().err


def test_a_spill_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    assert main(["--socket", str(tmp_path / "s"), "--spill-dir", str(tmp_path / "none")]) == InputError.exit_code


def test_a_budget_that_holds_no_frames_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["--socket", str(tmp_path / "s"), "--ram", "100 kB"]) == InputError.exit_code
    assert "ram is 100000" in caplog.text


def test_a_client_that_finds_nobody_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match=r"python -m marsnet\.links\.daemon --socket"):
        DelayLineClient(tmp_path / "s")
