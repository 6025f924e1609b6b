"""The set-up: what it finds missing, when it works again, how it gives up, and what it leaves alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import summary
from frame import compiled, daemon, oracles, packages, say, venv

ROOT = Path(__file__).resolve().parents[3]


def package(name: str, present: bool) -> packages.Package:
    return packages.Package(name, f"use of {name}", lambda: present)


def test_nothing_is_done_when_nothing_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(say, "run", lambda *_, **__: pytest.fail("nothing was to be run"))
    packages.ensure([package("gcc", True), package("mininet", True)], tmp_path / "log")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("answer", "said", "compiles"),
    [
        ("True True", "", False),
        ("False True", "the sources are not those that were compiled, so Python interprets them; make compiled", False),
        ("False False", "compiling the modules where bundles are handled", True),
    ],
)
def test_machine_code_is_made_in_a_fresh_checkout_only(
    answer: str,
    said: str,
    compiles: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {answer}\n")
    python.chmod(0o755)
    commands: list[list[str]] = []
    monkeypatch.setattr(say, "run", lambda command, *_: commands.append(list(command)))
    compiled.ensure(tmp_path, tmp_path / "log")
    assert commands == ([[str(python), str(tmp_path / "scripts" / "compile.py")]] if compiles else [])
    told = capsys.readouterr().err
    assert told.startswith(f"set-up: {said}") if said else not told


def test_without_root_the_missing_packages_and_the_command_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(say, "is_root", lambda: False)
    monkeypatch.setattr(packages.shutil, "which", lambda *_, **__: "/usr/bin/apt-get")
    with pytest.raises(SystemExit) as caught:
        packages.ensure([package("gcc", True), package("mininet", False), package("tshark", False)], tmp_path / "log")
    assert caught.value.code == 4
    assert capsys.readouterr().err == (
        "set-up: missing, and installing needs root: mininet, tshark\n"
        "  to fix it: sudo apt-get install --no-install-recommends mininet tshark\n"
    )


def test_without_apt_the_way_out_is_a_virtual_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda *_, **__: None)
    with pytest.raises(SystemExit) as caught:
        packages.ensure([package("mininet", False)], tmp_path / "log")
    assert caught.value.code == 4
    assert "vagrant up" in capsys.readouterr().err


def test_each_missing_package_is_announced_and_installed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed: set[str] = set()
    commands: list[list[str]] = []

    def run(command: list[str], *_: object, **__: object) -> None:
        commands.append(command)
        if "install" in command:
            installed.update(command)

    wanted = [packages.Package(name, "use", lambda name=name: name in installed) for name in ("mininet", "iperf3")]
    monkeypatch.setattr(say, "is_root", lambda: True)
    monkeypatch.setattr(packages.shutil, "which", lambda *_, **__: "/usr/bin/apt-get")
    monkeypatch.setattr(say, "run", run)
    packages.ensure(wanted, tmp_path / "log")
    assert [command[-1] for command in commands] == ["update", "iperf3"]
    assert commands[1][-3:] == ["--no-install-recommends", "mininet", "iperf3"]
    assert capsys.readouterr().err == "set-up: installing mininet (use)\nset-up: installing iperf3 (use)\n"


def test_a_failing_command_shows_the_end_of_its_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "logs" / "setup.log"
    with pytest.raises(SystemExit) as caught:
        say.run(["sh", "-c", "echo first; echo the reason >&2; exit 7"], log, "do this")
    told = capsys.readouterr().err
    assert caught.value.code == 4
    assert "the reason" in told
    assert f"sh ended with 7 (whole output: {log})\n  to fix it: do this" in told
    assert "first" in log.read_text()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "marsnet" / "links").mkdir(parents=True)
    (tmp_path / "marsnet" / "links" / "line.c").write_text("int x;")
    (tmp_path / "marsnet" / "links" / "line.py").write_text("x = 1")
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "constraints.txt").write_text("a==1")
    return tmp_path


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml", "setup.py", "marsnet/links/line.c"])
def test_environment_is_refreshed_when_what_it_holds_changes(tree: Path, name: str) -> None:
    before = venv.key(tree, sys.executable)
    (tree / name).write_text("changed")
    assert venv.key(tree, sys.executable) != before


def test_environment_stays_when_only_python_code_changes(tree: Path) -> None:
    before = venv.key(tree, sys.executable)
    (tree / "marsnet" / "links" / "line.py").write_text("x = 2")
    assert venv.key(tree, sys.executable) == before
    assert venv.key(tree, "/opt/python") != before


def test_environment_with_its_stamp_is_left_alone(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(say, "run", lambda *_, **__: pytest.fail("nothing was to be run"))
    (tree / ".venv").mkdir()
    (tree / ".venv" / "marsnet.stamp").write_text(venv.key(tree, sys.executable))
    monkeypatch.setattr(venv, "see_mininet", lambda _: None)
    venv.ensure(tree, sys.executable, tree / "log")
    assert capsys.readouterr().err == ""


def test_an_install_that_fails_leaves_no_stamp(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        sys.exit(4)

    monkeypatch.setattr(say, "run", fail)
    (tree / ".venv").mkdir()
    (tree / ".venv" / "marsnet.stamp").write_text("of an older tree")
    with pytest.raises(SystemExit):
        venv.ensure(tree, sys.executable, tree / "log")
    assert not (tree / ".venv" / "marsnet.stamp").exists()


def test_oracles_are_installed_once_and_again_when_their_pins_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []
    pins = tmp_path / "pins.txt"
    pins.write_text("a==1\n")
    (tmp_path / ".cache" / "oracles").mkdir(parents=True)
    monkeypatch.setattr(oracles, "PINS", pins)
    monkeypatch.setattr(say, "run", lambda command, *_, **__: commands.append(command))
    for _ in range(2):
        oracles.ensure(tmp_path, sys.executable, tmp_path / "log")
    assert [command[1:4] for command in commands] == [["-m", "venv", "--clear"], ["-m", "pip", "install"]]
    pins.write_text("a==2\n")
    oracles.ensure(tmp_path, sys.executable, tmp_path / "log")
    assert len(commands) == 4
    assert capsys.readouterr().err.count("installing the programs that tests compare with") == 2


def test_mininet_is_linked_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mininet = tmp_path / "dist-packages" / "mininet"
    mininet.mkdir(parents=True)
    site = tmp_path / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    site.mkdir(parents=True)
    venv.see_mininet(tmp_path, mininet)
    assert (site / "mininet").resolve() == mininet
    capsys.readouterr()
    venv.see_mininet(tmp_path, mininet)
    assert capsys.readouterr().err == ""


def test_a_process_is_known_by_its_start(tmp_path: Path) -> None:
    assert daemon.process_started(os.getpid()) == daemon.process_started(os.getpid())
    child = subprocess.Popen(["true"])
    child.wait()
    assert daemon.process_started(child.pid) is None


@pytest.mark.parametrize(
    "record",
    [
        {"pid": os.getpid(), "started": daemon.process_started(os.getpid()), "owner": "/somebody/else"},
        {"pid": os.getpid(), "started": 1, "owner": "/here"},
    ],
    ids=["of another checkout", "the process id was used again"],
)
def test_a_daemon_that_is_not_ours_is_not_stopped(
    record: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.os, "kill", lambda *_: pytest.fail("nothing was to be stopped"))
    (tmp_path / "dockerd.json").write_text(json.dumps(record))
    assert daemon.stop(Path("/here"), tmp_path) is False


def test_nothing_answers_where_no_socket_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert daemon.answers(tmp_path / "docker.sock") is False


def test_without_root_no_daemon_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(say, "is_root", lambda: False)
    with pytest.raises(SystemExit) as caught:
        daemon.ensure(tmp_path, tmp_path / "run", tmp_path / "docker.sock")
    assert caught.value.code == 4
    assert "to fix it: sudo make setup" in capsys.readouterr().err


def test_results_of_several_runs_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        '<testsuites><testsuite tests="10" failures="1" errors="2" skipped="3"/></testsuites>'
    )
    (tmp_path / "b.xml").write_text(
        '<testsuites><testsuite tests="5" failures="0" errors="0" skipped="0"/></testsuites>'
    )
    assert summary.add_up([tmp_path / "a.xml", tmp_path / "b.xml"]) == (9, 3, 3)


def test_a_python_is_chosen_that_is_new_enough() -> None:
    told = subprocess.run(["sh", str(ROOT / "scripts" / "python.sh")], capture_output=True, text=True, check=True)
    version = subprocess.run([told.stdout.strip(), "-V"], capture_output=True, text=True, check=True).stdout
    assert tuple(int(part) for part in version.split()[1].split(".")[:2]) >= (3, 11)


def test_without_such_a_python_the_command_is_told(tmp_path: Path) -> None:
    script = (ROOT / "scripts" / "python.sh").read_text().replace("/usr/bin/python3", str(tmp_path / "python3"))
    told = subprocess.run(
        ["/bin/sh"], input=script, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert told.returncode == 4
    assert "apt-get install python3.11" in told.stderr


def test_constraints_pin_plain_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len(lines) > 50
    lines += oracles.PINS.read_text().splitlines()
    assert [line for line in lines if line.count("==") != 1 or "/" in line or "@" in line] == []
