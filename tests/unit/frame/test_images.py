"""What decides an image's tag, and how a host that cannot build one is told."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import DockerException

from marsnet.errors import EnvironmentLacksError
from marsnet.worlds import images
from marsnet.worlds.images import Distribution, content_key, host_distribution, package_sources


def test_key_changes_with_content_and_with_name() -> None:
    parts = {"a.py": b"x", "b.py": b"y"}
    assert content_key(parts) == content_key(dict(reversed(parts.items())))
    assert len(content_key(parts)) == 12
    others = [{"a.py": b"x"}, {"a.py": b"x", "c.py": b"y"}, {"a.py": b"xb.py", "": b"y"}, {"a.py": b"y", "b.py": b"x"}]
    assert len({content_key(parts), *(content_key(other) for other in others)}) == 5


def test_only_sources_go_into_the_wheel(tmp_path: Path) -> None:
    for name in (
        "pyproject.toml",
        "constraints.txt",
        "marsnet/a.py",
        "marsnet/sky/de440.bsp",
        "marsnet/links/core.c",
        "marsnet/links/core.cpython-311-x86_64-linux-gnu.so",
        "marsnet/__pycache__/a.cpython-311.pyc",
        "tests/test_a.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    assert set(package_sources(tmp_path)) == {
        "pyproject.toml",
        "marsnet/a.py",
        "marsnet/sky/de440.bsp",
        "marsnet/links/core.c",
    }


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ('ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n', "debian:bookworm-slim"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME="noble"\n', "ubuntu:noble"),
    ],
)
def test_base_is_the_hosts_own_distribution(text: str, image: str, tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text(text)
    host = host_distribution(tmp_path / "os-release", sys.executable)
    assert host.official_image == image
    assert host.python == f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("text", ["ID=fedora\nVERSION_ID=40\n", "ID=debian\n", ""])
def test_another_distribution_is_sent_to_the_virtual_machine(text: str, tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text(text)
    with pytest.raises(EnvironmentLacksError, match="vagrant up"):
        host_distribution(tmp_path / "os-release", sys.executable)


def test_a_host_without_its_python_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    with pytest.raises(EnvironmentLacksError, match="apt-get install python3"):
        host_distribution(tmp_path / "os-release", str(tmp_path / "python3"))


def test_no_daemon_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(EnvironmentLacksError, match="no Docker daemon answers; to fix it: sudo make setup"):
        images.connect()


def test_a_daemon_that_refuses_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> Any:
        raise DockerException(
            "Error while fetching server API version: ('Connection aborted.', PermissionError(13, 'Permission denied'))"
        )

    monkeypatch.setattr(images.docker, "from_env", refuse)
    with pytest.raises(EnvironmentLacksError, match="join the group docker"):
        images.connect()


def test_third_party_sources_stay_out_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb mirror bookworm main\ndeb mirror bookworm-updates main\n")
    (tmp_path / "sources.list.d" / "debian.sources").write_text("Suites: bookworm bookworm-updates\n")
    (tmp_path / "sources.list.d" / "vendor.sources").write_text("Suites: stable\n")
    (tmp_path / "sources.list.d" / "debian.sources.off").write_text("Suites: bookworm-updates\n")
    found = images.apt_sources("bookworm", tmp_path)
    assert [path.name for path in found] == ["sources.list", "debian.sources"]


def test_without_registry_and_mmdebstrap_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.shutil, "which", lambda _: None)
    with pytest.raises(EnvironmentLacksError, match="apt-get install mmdebstrap"):
        images._bootstrap(None, Distribution("debian", "bookworm", "3.11"), ["python3"], "0" * 12)


def test_the_node_asks_for_nothing_that_is_not_pinned() -> None:
    root = images.checkout()
    pinned = {line.partition("==")[0].lower() for line in (root / "constraints.txt").read_text().splitlines()}
    asked = {line.lower() for line in (root / "services/node/requirements.txt").read_text().splitlines()}
    asked = {line for line in asked if not line.startswith("#")}
    normal = {name.replace("-", "_") for name in pinned}
    assert {name for name in asked if name.replace("-", "_") not in normal} == set()


def test_no_source_tree_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images, "__file__", str(tmp_path / "marsnet" / "worlds" / "images.py"))
    with pytest.raises(EnvironmentLacksError, match="source tree"):
        images.checkout()


def test_wheel_that_cannot_be_made_shows_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, stdout="", stderr="ERROR: no matching distribution for cbor2\n")

    monkeypatch.setattr(images.subprocess, "run", fail)
    with pytest.raises(EnvironmentLacksError, match="wheels of a node could not be made: ERROR: no matching"):
        images._pip_wheel(["cbor2"], tmp_path, "a node")


class FakeDocker:
    """A client whose daemon holds node images, the newest first, of which some containers use one."""

    def __init__(self, count: int, used: str) -> None:
        self.there = [f"image{number}" for number in range(count)]
        self.used, self.pruned = used, {}
        self.images = self.containers = self

    def list(self, **asked: Any) -> list[Any]:
        if asked.get("all"):
            return [SimpleNamespace(attrs={"Image": self.used})]
        found = [
            SimpleNamespace(id=name, attrs={"Created": f"2026-01-{31 - n:02d}"}) for n, name in enumerate(self.there)
        ]
        return sorted(found, key=lambda image: image.id)

    def remove(self, name: str, **_: Any) -> None:
        self.there.remove(name)

    def prune(self, filters: dict[str, Any]) -> None:
        self.pruned = filters


def test_earlier_node_images_go_but_those_in_use_stay() -> None:
    fake = FakeDocker(7, used="image5")
    images._retire(fake)
    assert fake.there == ["image0", "image1", "image2", "image3", "image5"]
    assert fake.pruned["dangling"] is True, "no tagged image is ever pruned"
    assert fake.pruned["label"] == ["marsnet.image.stage=program"]


def test_all_images_go_but_those_in_use() -> None:
    fake = FakeDocker(3, used="image1")
    assert images.remove_images(fake) == 2
    assert fake.there == ["image1"]
