"""What the warp world makes of nodes that run somebody else's daemon, and of a Prometheus, without a guest."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import ImageNotFound

from marsnet.errors import EnvironmentLacksError, InputError
from marsnet.model.topology import Topology
from marsnet.runs.prepare import prepare
from marsnet.worlds import foreign, images
from marsnet.worlds.foreign import check_run, read_template, templates
from marsnet.worlds.lab import prometheus, web
from marsnet.worlds.spec import RunSpec
from marsnet.worlds.warp import recipe, world
from marsnet.worlds.warp.archives import write_tar
from marsnet.worlds.warp.foreign_images import foreign_images, load_images

NETWORK = """
marsnet: topology/1
name: apart
nodes:
  mcc: {{kind: hub, number: 1}}
  relay: {{kind: hub, number: 2}}
  lander: {{kind: hub, number: 3, {own}}}
links:
  - {{between: [mcc, relay], wired: {{delay: 1334.9 s, rate: 1 Mbit/s}}}}
  - {{between: [relay, lander], wired: {{delay: 20 ms, rate: 1 Mbit/s}}}}
"""
SCENARIO = """
marsnet: scenario/1
name: apart
topology: apart.yaml
start: 2026-10-01T00:00:00Z
duration: 1 h
traffic:
  - {{name: one, source: mcc, destination: {to}, class: normal, size: 1 kB, every: 1 min, lifetime: 1 h{more}}}
requirements:
  - {{kind: nothing_lost}}
"""


def spec_of(
    folder: Path, own: str = "daemon: {template: pyd3tn}", to: str = "lander", more: str = ""
) -> tuple[RunSpec, Topology]:
    (folder / "apart.yaml").write_text(NETWORK.format(own=own))
    (folder / "scenario.yaml").write_text(SCENARIO.format(to=to, more=more))
    spec = prepare(folder / "scenario.yaml", folder, emulated=True, rate=1.0)
    return spec, spec.topology


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "wheels-0123"
    made.mkdir()
    (made / "pyd3tn.whl").write_bytes(b"wheel")
    monkeypatch.setattr(images, "foreign_wheels", lambda *arguments: made)
    return made


class Docker:
    """A client of a container daemon that has one image."""

    def __init__(self, *, has: str = "") -> None:
        self.has, self.loaded, self.built = has, list[bytes](), dict[str, Any]()
        self.images = self.api = self

    def get(self, name: str) -> object:
        if name != self.has:
            raise ImageNotFound(name)
        return SimpleNamespace(id="sha256:0123")

    def get_image(self, name: str) -> Iterator[bytes]:
        yield from (b"saved ", name.encode())

    def load(self, file: Any) -> None:
        self.loaded.append(file.read())

    def build(self, *, path: str, tag: str, buildargs: dict[str, str], **others: object) -> None:
        files = {str(p.relative_to(path)): p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}
        self.built[tag] = (buildargs, others["network_mode"], files)


def brought(entries: dict[str, Any], root: Path) -> Path:
    """What a guest has of entries of its mission device."""
    write_tar(root / "mission.tar", entries)
    shutil.unpack_archive(root / "mission.tar", root, "tar")
    return root / "mission" / "images"


def test_a_guest_builds_what_has_a_dockerfile(tmp_path: Path, wheels: Path) -> None:
    _, topology = spec_of(tmp_path)
    found = foreign_images(topology, templates(topology), tmp_path, lambda step: None)
    (tag,) = found.contexts
    assert found.tags == {"lander": tag}
    assert tag.startswith("marsnet/foreign-pyd3tn:")
    write_tar(tmp_path / "layer.tar", {"etc/base": b"x"})
    folder = brought(found.entries(tmp_path / "layer.tar", tmp_path), tmp_path)
    told = json.loads((folder / "images.json").read_text())
    told["builds"] = {name: f"{tmp_path}{path}" for name, path in told["builds"].items()}
    told["loads"] = [f"{tmp_path}{path}" for path in told["loads"]]
    (folder / "images.json").write_text(json.dumps(told))
    client = Docker()
    assert list(load_images(client, folder)) == ["base.tar is loaded", f"{tag} is built"]
    arguments, network, files = client.built[tag]
    assert (arguments, network) == ({"BASE": "marsnet/base:warp"}, "none")
    assert files["node.py"] == (foreign.shipped() / "pyd3tn" / "node.py").read_bytes()
    assert files["wheels/pyd3tn.whl"] == b"wheel"
    assert not folder.exists()


def test_other_content_is_another_guest(tmp_path: Path, wheels: Path) -> None:
    own = tmp_path / "pyd3tn"
    own.mkdir()
    for path in (foreign.shipped() / "pyd3tn").iterdir():
        if path.is_file():
            (own / path.name).write_bytes(path.read_bytes())

    def key() -> str:
        _, topology = spec_of(tmp_path, "daemon: {template: ./pyd3tn}")
        return foreign_images(topology, templates(topology), tmp_path, lambda step: None).key

    first = key()
    assert key() == first
    (own / "node.py").write_text("another")
    assert key() != first


def test_other_images_are_taken_out_of_the_hosts_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "connect", lambda: Docker(has="mine/daemon"))
    _, topology = spec_of(tmp_path, "daemon: {template: ion}, container: {image: mine/daemon}", to="relay")
    told: list[str] = []
    found = foreign_images(topology, templates(topology), tmp_path, told.append)
    assert found.tags == {"lander": "mine/daemon"}
    assert gzip.decompress(found.archives["mine/daemon"].read_bytes()) == b"saved mine/daemon"
    assert told == ["saving the image mine/daemon"]
    foreign_images(topology, templates(topology), tmp_path, told.append)
    assert len(told) == 1
    write_tar(tmp_path / "layer.tar", {"etc/base": b"x"})
    entries = found.entries(tmp_path / "layer.tar", tmp_path)
    assert entries["mission/images/0.tar.gz"] == found.archives["mine/daemon"]


def test_an_image_that_is_nowhere_is_one_error_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, topology = spec_of(tmp_path, "daemon: {template: ion}", to="relay")
    monkeypatch.setattr(images, "connect", Docker)
    with pytest.raises(
        EnvironmentLacksError, match=r"'lander' runs the image 'marsnet/foreign-ion'.*Docker has none.*Dockerfile"
    ):
        foreign_images(topology, templates(topology), tmp_path, lambda step: None)

    def connect() -> Docker:
        raise EnvironmentLacksError("no Docker daemon answers", fix="sudo make setup")

    monkeypatch.setattr(images, "connect", connect)
    with pytest.raises(EnvironmentLacksError, match=r"'marsnet/foreign-ion', and no Docker daemon answers") as caught:
        foreign_images(topology, templates(topology), tmp_path, lambda step: None)
    assert caught.value.exit_code == 4


def test_templates_come_along(tmp_path: Path) -> None:
    spec, _ = spec_of(tmp_path)
    topology, files = world._with_daemons(spec)
    daemon = topology.nodes["lander"].daemon
    assert daemon is not None
    assert daemon.template == "/mission/daemons/0/pyd3tn"
    assert files["mission/daemons/0/pyd3tn/node.json.j2"] == foreign.shipped() / "pyd3tn" / "node.json.j2"
    assert topology.nodes["mcc"] == spec.topology.nodes["mcc"]


def test_what_a_daemon_cannot_do_is_told_before_a_guest_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="flow 'one' has an end at 'lander', whose daemon 'ion' writes no ledger"):
        world._with_daemons(spec_of(tmp_path, "daemon: {template: ion}")[0])
    with pytest.raises(InputError, match="an application at 'lander' answers"):
        world._with_daemons(spec_of(tmp_path, more=", reply: {size: 1 kB, class: normal}")[0])


def test_a_daemon_on_its_machines_clock_lives_in_the_guest_only(tmp_path: Path) -> None:
    spec, topology = spec_of(tmp_path, "daemon: {template: dtn7}", to="relay")
    world._with_daemons(spec)
    with pytest.raises(InputError, match=r"knows only this machine's clock.*or run it with --world warp"):
        check_run(spec, templates(topology), datetime(2026, 11, 1, tzinfo=UTC))
    assert read_template("dtn7").manifest.clock == "host"


def test_images_and_prometheus_take_memory(tmp_path: Path) -> None:
    plain, with_daemon = (spec_of(tmp_path, own)[1] for own in ("description: ours", "daemon: {template: pyd3tn}"))
    gigabyte = 1 << 30
    assert world.guest_memory(plain) == world.guest_memory(with_daemon) == 3 * gigabyte
    crowd = {f"n{number}": node for number in range(3) for node in plain.nodes.values()}
    many = with_daemon.model_copy(update={"nodes": crowd | with_daemon.nodes})
    large = many.model_copy(
        update={
            "nodes": {
                name: node.model_copy(update={"container": node.container.model_copy(update={"memory": 256e6})})
                for name, node in many.nodes.items()
            }
        }
    )
    assert world.guest_memory(large, scraped=True) == 4 * gigabyte


def test_the_address_is_the_guests(tmp_path: Path) -> None:
    for good in (None, "127.0.0.1:9090", "0.0.0.0:80"):
        world._check_address(good)
    with pytest.raises(InputError, match=r"has no address 192\.168\.1\.5; give --prometheus 127\.0\.0\.1:9090"):
        world._check_address("192.168.1.5:9090")
    with pytest.raises(InputError, match="'here' is no address"):
        world._check_address("here")


def test_the_root_has_prometheus_only_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []

    class MadeError(Exception):
        pass

    def root(*arguments: Any) -> Path:
        made.append(arguments)
        raise MadeError

    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(recipe, "_root", root)
    monkeypatch.setattr(images, "host_distribution", lambda: images.Distribution("debian", "bookworm", python))
    (tmp_path / "lib" / "modules" / "6.1").mkdir(parents=True)
    monkeypatch.setattr(recipe, "_kernel", lambda say: tmp_path)
    for beside in ((), (recipe.PROMETHEUS,)):
        with pytest.raises(MadeError):
            recipe.parts(lambda step: None, beside)
    (_, plain, _, without, _), (_, scraped, _, without_tools, _) = made
    assert scraped == [*plain, "prometheus"]
    assert "prometheus" not in plain
    assert without_tools[: len(without)] == without
    assert any(option.endswith("promtool") for option in without_tools)


def test_what_prometheus_has_seen_becomes_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "data" / "snapshots" / "20261001T000000Z-0123"
    (tmp_path / "data" / "wal").mkdir(parents=True)
    asked: list[tuple[str, str]] = []

    def request(namespace: str, url: str, *, method: str, timeout: float) -> bytes:
        asked.append((method, url))
        (snapshot / "01ABC").mkdir(parents=True)
        return json.dumps({"status": "success", "data": {"name": snapshot.name}}).encode()

    monkeypatch.setattr(web, "request", request)
    prometheus.archive("marsnet-warp", tmp_path)
    assert asked == [("POST", "http://127.0.0.1:9090/api/v1/admin/tsdb/snapshot")]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["01ABC"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
