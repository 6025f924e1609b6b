"""Images of other people's daemons in the warp guest.

Where a daemon's template has a Dockerfile, the guest's own container daemon builds the image, as the emulated world's
does, so that the host needs none. Other images are taken out of the host's Docker. Either is done once per content: the
guest that has them is kept (snapshots).
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.errors import ImageNotFound

from marsnet.errors import EnvironmentLacksError
from marsnet.model.topology import OWN_IMAGE, Topology
from marsnet.worlds import images
from marsnet.worlds.foreign import Template
from marsnet.worlds.warp.archives import Content, write_image

BASE_IMAGE = "marsnet/base:warp"
"""What a Dockerfile builds on, inside the guest."""
LIST = "images.json"
"""File that tells the guest what to load and what to build."""
_FOLDER = "mission/images"
Say = Callable[[str], None]


@dataclass(frozen=True)
class ForeignImages:
    """The images that a network needs beside marsnet's own.

    Attributes:
        tags: of each node that runs one, inside the guest.
        contexts: tag to the files of its build, by their path in it.
        archives: name to the file that `docker save` made of it, compressed.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, Mapping[str, Content]] = field(default_factory=dict)
    archives: Mapping[str, Path] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.tags)

    @property
    def key(self) -> str:
        """Changes with any content; archives are known by their names, which say what is in them."""
        known = {f"archive {name}": path.name.encode() for name, path in self.archives.items()}
        for tag, context in self.contexts.items():
            for name, content in context.items():
                known[f"{tag} {name}"] = content if isinstance(content, bytes) else content.name.encode()
        return images.content_key(known)

    def entries(self, base: Path, scratch: Path) -> dict[str, Content]:
        """What a guest finds on its mission device to load and build them.

        Args:
            base: the lowest layer of marsnet's own image, which the guest has.
            scratch: a folder for what is to be written.
        """
        write_image(scratch / "base.tar", BASE_IMAGE, [base], 1, {})
        entries: dict[str, Content] = {f"{_FOLDER}/base.tar": scratch / "base.tar"}
        builds = {}
        for number, (tag, context) in enumerate(self.contexts.items()):
            builds[tag] = f"/{_FOLDER}/{number}"
            entries |= {f"{_FOLDER}/{number}/{name}": content for name, content in context.items()}
        loads = []
        for number, path in enumerate(self.archives.values()):
            loads.append(f"/{_FOLDER}/{number}.tar.gz")
            entries[f"{_FOLDER}/{number}.tar.gz"] = path
        told = {"builds": builds, "loads": [f"/{_FOLDER}/base.tar", *loads]}
        entries[f"{_FOLDER}/{LIST}"] = json.dumps(told).encode()
        return entries


def foreign_images(topology: Topology, found: Mapping[str, Template], cache: Path, say: Say) -> ForeignImages:
    """The images of a network's nodes that are not marsnet's own, ready to be brought into a guest.

    Args:
        topology: the network.
        found: templates of its foreign daemons, by node.
        cache: folder that archives are kept in.
        say: told what is being made.

    Raises:
        EnvironmentLacksError: an image is neither here nor can it be built, or its wheels cannot be made.
    """
    tags: dict[str, str] = {}
    contexts: dict[str, Mapping[str, Content]] = {}
    archives: dict[str, Path] = {}
    for node, own in topology.nodes.items():
        image, template = own.container.image, found.get(node)
        if image == OWN_IMAGE:
            if template is None:
                continue
            image = template.manifest.image
            if (template.folder / "Dockerfile").is_file():
                context, image = _context(template, say)
                contexts[image] = context
        if image not in contexts and image not in archives:
            archives[image] = _saved(node, image, cache, say)
        tags[node] = image
    return ForeignImages(tags, contexts, archives)


def _context(template: Template, say: Say) -> tuple[dict[str, Content], str]:
    """Files of a build by their paths, and the tag of what comes out."""
    files = images.foreign_context(template.folder)
    context: dict[str, Content] = dict(files)
    if "requirements.txt" in files:
        python = images.host_distribution().python
        context["wheels"] = images.foreign_wheels(template.folder / "requirements.txt", python, say)
    return context, f"{template.manifest.image}:{images.content_key(files)}"


def _saved(node: str, image: str, cache: Path, say: Say) -> Path:
    """The archive of an image that the host's Docker has."""
    try:
        client = images.connect()
        identity = str(client.images.get(image).id).rpartition(":")[2]
    except (EnvironmentLacksError, ImageNotFound) as error:
        reason = error.missing if isinstance(error, EnvironmentLacksError) else "this machine's Docker has none"
        raise EnvironmentLacksError(
            f"node {node!r} runs the image {image!r}, and {reason}",
            fix=f"build it and name it {image}, or give the daemon's template a Dockerfile (docs/foreign.md)",
        ) from None
    target = cache / f"image-{images.content_key({image: identity.encode()})}.tar.gz"
    if not target.exists():
        say(f"saving the image {image}")
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
            try:
                with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
                    for piece in client.api.get_image(image):
                        packed.write(piece)
                Path(file.name).rename(target)
            except BaseException:
                Path(file.name).unlink()
                raise
    return target


def load_images(client: Any, folder: Path) -> Iterator[str]:
    """Inside the guest: load and build what was brought, and forget the files, which are memory here.

    Args:
        client: of the guest's container daemon.
        folder: that they are in.

    Yields:
        What was done, step by step.
    """
    told = json.loads((folder / LIST).read_text())
    for archive in told["loads"]:
        with Path(archive).open("rb") as file:
            client.images.load(file)
        yield f"{Path(archive).name} is loaded"
    for tag, context in told["builds"].items():
        images.build(client, Path(context), tag, {"BASE": BASE_IMAGE}, network="none")
        yield f"{tag} is built"
    shutil.rmtree(folder)
