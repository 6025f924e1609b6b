"""What guests need of the host: all that is missing is told at once, with the commands that mend it."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from marsnet.errors import EnvironmentLacksError
from marsnet.worlds import machine_warp
from marsnet.worlds.warp import needs, recipe
from marsnet.worlds.warp.needs import Lack


@pytest.fixture
def subordinate(tmp_path: Path) -> Path:
    """A folder in which the user of this test has subordinate ids."""
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text(f"somebody:100000:65536\n{getpass.getuser()}:165536:65536\n")
    return tmp_path


def installed(*names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "which", lambda name: f"/usr/bin/{name}" if name in names else None)


def everything() -> list[str]:
    return [name for name, _ in needs.PROGRAMS]


def test_all_that_is_missing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(*(name for name in everything() if name not in {"qemu-system-x86_64", "bsdtar"}), monkeypatch=monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(needs, "DISK", 1 << 60)
    with pytest.raises(EnvironmentLacksError) as caught:
        needs.require(tmp_path / "not" / "there")
    assert caught.value.exit_code == 4
    assert "qemu-system-x86_64 is not installed; bsdtar is not installed; " in caught.value.missing
    assert "GiB of disk" in caught.value.missing
    install = "apt-get install --no-install-recommends qemu-system-x86 libarchive-tools"
    assert caught.value.fix == f"{install} && free some disk"
    assert not (tmp_path / "not").exists()


def test_root_needs_no_subordinate_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(*everything(), monkeypatch=monkeypatch)
    monkeypatch.setattr(needs, "DISK", 0)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert needs.lacks(tmp_path) == []


def test_a_user_with_ids_and_namespaces_lacks_nothing(subordinate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("newuidmap", monkeypatch=monkeypatch)
    assert list(needs.unprivileged(subordinate, probe=("true",))) == []


@pytest.mark.parametrize("name", ["subuid", "subgid"])
@pytest.mark.parametrize("text", ["", "somebody:100000:65536\n", "{user}:100000:1000\n"])
def test_a_user_without_ids_is_given_some(
    name: str, text: str, subordinate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("newuidmap", monkeypatch=monkeypatch)
    (subordinate / name).write_text(text.format(user=getpass.getuser()))
    (lack,) = needs.unprivileged(subordinate, probe=("true",))
    assert f"no range of 65536 subordinate ids in {subordinate / name}" in lack.what
    assert lack.fix.startswith(f"echo {getpass.getuser()}:231072:65536 | tee --append ")
    assert lack.fix.endswith(f" {subordinate / name}")
    (subordinate / name).unlink()
    assert [lack] == list(needs.unprivileged(subordinate, probe=("true",)))


def test_the_remedy_of_missing_ids_mends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("newuidmap", monkeypatch=monkeypatch)
    (lack,) = needs.unprivileged(tmp_path, probe=("true",))
    subprocess.run(["sh", "-c", lack.fix], check=True, capture_output=True)
    assert (tmp_path / "subuid").read_text() == f"{getpass.getuser()}:100000:65536\n"
    assert list(needs.unprivileged(tmp_path, probe=("true",))) == []


def test_what_a_user_lacks_has_a_remedy_each(subordinate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch=monkeypatch)
    program, namespaces = needs.unprivileged(subordinate, probe=("false",))
    assert program.package == "uidmap"
    assert namespaces.fix.startswith("sysctl -w kernel.unprivileged_userns_clone=1")
    told = needs.remedy([program, Lack("kmod", package="kmod"), namespaces])
    assert told == f"apt-get install --no-install-recommends uidmap kmod && {namespaces.fix}"


def test_programs_are_found_where_users_do_not_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("chroot") is None
    assert needs.which("chroot") in {"/usr/sbin/chroot", "/sbin/chroot"}


def test_nothing_is_begun_that_cannot_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "place", lambda: tmp_path / "warp")
    installed(monkeypatch=monkeypatch)
    recipe._require.cache_clear()
    told: list[str] = []
    with pytest.raises(EnvironmentLacksError, match="mmdebstrap is not installed"):
        recipe._root("root", ["python3"], "bookworm", (), told.append)
    assert told == []


def test_a_kernel_package_that_apt_does_not_know(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "apt-cache"
    program.write_text("#!/bin/sh\necho 'E: No packages found' >&2\nexit 100\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EnvironmentLacksError, match=r"apt knows no package linux-image.*apt-get update"):
        recipe._kernel(lambda _: None)


def test_a_root_that_failed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mmdebstrap"
    program.write_text('#!/bin/sh\nfor word; do case $word in *.unfinished) echo >"$word";; esac; done\nexit 25\n')
    program.chmod(0o755)
    monkeypatch.setattr(recipe, "place", lambda: tmp_path / "warp")
    monkeypatch.setattr(recipe, "_require", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EnvironmentLacksError, match="mmdebstrap ended with 25"):
        recipe._root("root", ["python3"], "bookworm", (), lambda _: None)
    assert list((tmp_path / "warp").iterdir()) == []


def test_the_doctor_names_what_the_warp_world_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> None:
        raise EnvironmentLacksError("this is ubuntu noble", fix="vagrant up")

    monkeypatch.setattr(recipe, "host", lacking)
    monkeypatch.setattr(needs, "available_memory", lambda: 1 << 30)
    finding = machine_warp.finding()
    assert (finding.name, finding.state, finding.required) == ("warp", "limited", False)
    assert finding.value.startswith("this is ubuntu noble; ")
    assert "the guest needs 3072 MiB of memory, and 1024 MiB are free" in finding.value
    assert finding.fix.startswith("vagrant up && ")
