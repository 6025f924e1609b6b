"""Images as Docker has them: built once, lean, alike below the program's own layer, able to run what a node imports."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marsnet.worlds import images

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(400)]

LEAN = 300 * 10**6
"""Bytes; Debian's minimum with Python is 170 MB of them."""


@pytest.fixture(scope="module")
def client() -> Any:
    return images.connect()


@pytest.fixture(scope="module", autouse=True)
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the source tree, so that nobody's editing changes it between two steps."""
    root, copy = images.checkout(), tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("marsnet", "services", ".cache/images"):
        if (root / name).is_dir():
            shutil.copytree(root / name, copy / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "constraints.txt"):
        if (root / name).is_file():
            shutil.copy(root / name, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "checkout", lambda: copy)
        yield copy


@pytest.fixture(scope="module")
def node(client: Any, tree: Path) -> str:
    return images.ensure_node_image(client)


def run(client: Any, image: str, *argv: str) -> str:
    output = client.containers.run(
        image, list(argv[1:]), entrypoint=[argv[0]], network_mode="none", remove=True, labels={"marsnet.test": "frame"}
    )
    return str(output.decode())


def test_an_image_that_is_there_is_not_built_again(client: Any, node: str) -> None:
    told: list[str] = []
    assert images.ensure_node_image(client, progress=told.append) == node
    assert told == []


def test_images_carry_the_label_and_stay_lean(client: Any, node: str) -> None:
    for tag in (node, images.ensure_base(client), "marsnet/base:latest"):
        image = client.images.get(tag)
        assert image.labels[images.LABEL] == "1"
        assert image.attrs["Size"] < LEAN


def test_a_node_imports_all_it_needs_without_a_network(client: Any, node: str) -> None:
    names = (images.checkout() / "services/node/requirements.txt").read_text().splitlines()
    modules = {
        "google-crc32c": "google_crc32c",
        "prometheus-client": "prometheus_client",
        "protobuf": "google.protobuf",
    }
    wanted = [modules.get(name, name) for name in names if not name.startswith("#")]
    code = f"import marsnet, sqlite3, {', '.join(wanted)}; print(marsnet.__file__, google_crc32c.implementation)"
    assert run(client, node, "python3", "-c", code).split() == ["/opt/marsnet/marsnet/__init__.py", "c"]


def test_a_node_without_its_configuration_names_the_file(client: Any, node: str) -> None:
    container = client.containers.run(node, detach=True, network_mode="none", labels={"marsnet.test": "frame"})
    try:
        assert container.wait(timeout=30)["StatusCode"] == 2
        told = container.logs().decode()
    finally:
        container.remove(force=True)
    assert "/etc/marsnet/node.json" in told
    assert "Traceback" not in told


def test_a_change_of_code_replaces_the_programs_layer_only(client: Any, node: str, tree: Path) -> None:
    units = tree / "marsnet" / "units.py"
    made: list[str] = []
    try:
        for line in ("CHANGED = 1", "CHANGED = 2"):
            told: list[str] = []
            units.write_text(f"{units.read_text()}\n{line}\n")
            made.append(images.ensure_node_image(client, progress=told.append))
        assert told == [f"building {made[1]}"], "the wheels of the dependencies are those of before"
        assert len({node, *made}) == 3
        before, after = (client.images.get(tag).attrs["RootFS"]["Layers"] for tag in made)
        assert before[:-1] == after[:-1]
        assert before[-1] != after[-1]
        assert run(client, made[1], "python3", "-c", "from marsnet.units import CHANGED; print(CHANGED)").strip() == "2"
    finally:
        for tag in made:
            client.images.remove(tag, force=True)
