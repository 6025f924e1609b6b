"""The control group of a lab's nodes: its name, finding it in the kernel's hierarchies, its weight, its end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from marsnet.worlds.lab import priority


def test_names_suit_docker() -> None:
    assert priority.parent_of("first-light", "cgroupfs") == "/marsnet_first_light"
    assert priority.parent_of("first-light", "systemd") == "marsnet_first_light.slice"


@pytest.mark.parametrize(
    ("lines", "folder", "file"),
    [
        ("1:cpu:/marsnet_x/abc\n2:memory:/marsnet_x/abc\n", "cpu/marsnet_x", "cpu.shares"),
        ("4:cpu,cpuacct:/marsnet_x/abc\n0::/\n", "cpu,cpuacct/marsnet_x", "cpu.shares"),
        ("0::/marsnet_x.slice/docker-abc.scope\n", "marsnet_x.slice", "cpu.weight"),
    ],
)
def test_the_group_gets_its_weight_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, folder: str, file: str
) -> None:
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text(lines)
    (root / folder).mkdir(parents=True)
    monkeypatch.setattr(priority, "_ROOT", root)
    monkeypatch.setattr(priority, "_PROC", proc)
    parent = folder.rpartition("/")[2]
    assert priority.prefer(7, parent)
    assert int((root / folder / file).read_text()) > 1000
    assert not priority.prefer(7, "marsnet_other")
    # The kernel's directory goes with rmdir(2), whatever files it shows.
    for entry in (root / folder).iterdir():
        entry.unlink()
    priority.forget(f"/{parent}")
    assert not (root / folder).exists()


def test_a_kernel_without_the_group_is_no_error() -> None:
    assert not priority.prefer(os.getpid(), "marsnet_nowhere")
    priority.forget("marsnet_nowhere")
