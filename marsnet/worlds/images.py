"""Container images: the base that every service stands on, and the bundle node.

A tag ends in a hash of all that went into the image, so an image is built when something changed and only then. The
base comes from an image registry where one answers, and otherwise from the host distribution's own packages
(mmdebstrap), so that the wheels made on the host fit the Python inside.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, BuildError, DockerException, ImageNotFound

from marsnet import compiled
from marsnet.errors import EnvironmentLacksError

LABEL = "marsnet.image"
"""Label of every image made here."""
STAGE_LABEL = "marsnet.image.stage"
"""Label of the build stages, which Docker keeps as a cache."""
BASE, NODE = "marsnet/base", "marsnet/node"
KEPT_GENERATIONS = 3
"""How many earlier builds of a node image stay for the labs that still use them."""

_REGISTRY_SECONDS = 6
_OFFICIAL = {"debian": "debian:{codename}-slim", "ubuntu": "ubuntu:{codename}"}

# No manuals, translations or recommended packages: a node needs none.
LEAN = (
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=APT::Install-Recommends "false"',
)

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Distribution:
    """The host's distribution, after os-release(5).

    Attributes:
        name: `debian` or `ubuntu`.
        codename: its release, as apt names it (`bookworm`).
        python: the minor version of /usr/bin/python3, `3.11`.
    """

    name: str
    codename: str
    python: str

    @property
    def official_image(self) -> str:
        """The image that registries have of it."""
        return _OFFICIAL[self.name].format(codename=self.codename)


def checkout() -> Path:
    """The source tree that this package runs from; images are built from it.

    Raises:
        EnvironmentLacksError: when the package was installed without its source tree.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "services" / "node" / "Dockerfile").is_file():
        raise EnvironmentLacksError(
            f"images are built from a source tree of marsnet, and {root} is none", fix="git clone marsnet && make setup"
        )
    return root


def host_distribution(os_release: Path = Path("/etc/os-release"), python: str = "/usr/bin/python3") -> Distribution:
    """The distribution of this host.

    Raises:
        EnvironmentLacksError: when it is neither Debian nor Ubuntu, or has no Python of its own.
    """
    lines = (line.partition("=") for line in os_release.read_text().splitlines())
    fields = {key: value.strip("\"'") for key, _, value in lines}
    name, codename = fields.get("ID", ""), fields.get("VERSION_CODENAME", "")
    if name not in _OFFICIAL or not codename:
        raise EnvironmentLacksError(
            f"images are made from Debian or Ubuntu packages, and this is {name or 'unknown'} {codename}".rstrip(),
            fix="vagrant up",
        )
    try:
        version = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentLacksError(f"{python} does not run", fix="apt-get install python3") from error
    return Distribution(name, codename, version)


def content_key(parts: Mapping[str, bytes]) -> str:
    """Twelve hexadecimal digits that change with any name or content among the parts."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(f"{name}\0{len(parts[name])}\0".encode())
        digest.update(parts[name])
    return digest.hexdigest()[:12]


def package_sources(root: Path) -> dict[str, bytes]:
    """Every file that goes into marsnet's own wheel, by its path in the source tree.

    Machine code goes along where it is of the sources that are there (`marsnet.compiled`).
    """
    paths = [root / name for name in ("pyproject.toml", "setup.py", "README.md")]
    paths += [
        path
        for path in (root / "marsnet").rglob("*")
        if path.suffix not in {".pyc", ".so", ".o"} and "__pycache__" not in path.parts
    ]
    paths += compiled.files(root / "marsnet")
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.is_file()}


def connect(timeout: int = 600) -> Any:
    """A Docker client whose daemon answered.

    Raises:
        EnvironmentLacksError: when none answers or this user may not speak to it.
    """
    try:
        client = docker.from_env(timeout=timeout)
        client.ping()
    except DockerException as error:
        if "Permission" in str(error):
            raise EnvironmentLacksError(
                "this user may not speak to the Docker daemon", fix="run as root, or join the group docker"
            ) from error
        raise EnvironmentLacksError("no Docker daemon answers", fix="sudo make setup") from error
    return client


def ensure_base(client: Any = None, *, progress: Progress = _silent) -> str:
    """The tag of the base image, built first when this machine has none of these contents.

    Args:
        client: a Docker client, else one is made.
        progress: told in one line what is being built, and only when something is.

    Raises:
        EnvironmentLacksError: when Docker does not answer, or neither a registry nor mmdebstrap yields an image.
    """
    client = client or connect()
    folder = checkout() / "services" / "base"
    host = host_distribution()
    packages = package_names(folder / "packages.txt")
    key = content_key(
        {"host": repr(host).encode(), "packages": " ".join(packages).encode(), "recipe": " ".join(LEAN).encode()}
    )
    tag = f"{BASE}:{key}"
    with _one_builder():
        if not _exists(client, tag):
            if _registry_has(host.official_image):
                progress(f"building {tag} on {host.official_image} from the image registry")
                build(client, folder, tag, {"DISTRIBUTION": host.official_image}, network="host")
            else:
                progress(f"building {tag} from {host.name} {host.codename} packages (about a minute, once)")
                _bootstrap(client, host, packages, key)
        client.images.get(tag).tag(BASE, "latest")
    return tag


def ensure_node_image(client: Any = None, *, progress: Progress = _silent) -> str:
    """The tag of the bundle node's image, made of this source tree as it stands.

    Args:
        client: a Docker client, else one is made.
        progress: told in one line what is being built, and only when something is.

    Raises:
        EnvironmentLacksError: as `ensure_base`, or when the wheels cannot be made.
    """
    client = client or connect()
    root = checkout()
    base = ensure_base(client, progress=progress)
    folder = root / "services" / "node"
    sources = package_sources(root)
    recipe = {name: (folder / name).read_bytes() for name in ("Dockerfile", "requirements.txt")}
    constraints = (root / "constraints.txt").read_bytes()
    tag = f"{NODE}:{content_key(sources | recipe | {'constraints': constraints, 'base': base.encode()})}"
    with _one_builder():
        if _exists(client, tag):
            return tag
        python = host_distribution().python
        if python != f"{sys.version_info.major}.{sys.version_info.minor}":
            raise EnvironmentLacksError(
                f"wheels made by {sys.executable} do not fit the Python {python} of the images",
                fix="make distclean setup PYTHON=/usr/bin/python3",
            )
        dependencies = _dependency_wheels(root, recipe["requirements.txt"], constraints, python, progress)
        progress(f"building {tag}")
        with tempfile.TemporaryDirectory(prefix="marsnet-image-") as scratch:
            context = Path(scratch)
            shutil.copy(folder / "Dockerfile", context)
            shutil.copytree(dependencies, context / "dependencies")
            _program_wheel(sources, context / "program")
            build(client, context, tag, {"BASE": base}, network="none")
        _retire(client)
    return tag


def ensure_foreign_image(folder: Path, image: str, client: Any = None, *, progress: Progress = _silent) -> str:
    """The tag of a foreign daemon's image: built from its folder where that has a Dockerfile, else what exists.

    The build context is the folder, and `wheels` of its requirements.txt where it has one.

    Args:
        folder: of the daemon's template.
        image: its name; what is built here gets a hash of its content as tag.
        client: a Docker client, else one is made.
        progress: told in one line what is being built, and only when something is.

    Raises:
        EnvironmentLacksError: as `ensure_base`, or there is neither an image nor a Dockerfile, or no wheels.
    """
    client = client or connect()
    if not (folder / "Dockerfile").is_file():
        if not _exists(client, image):
            raise EnvironmentLacksError(
                f"the image {image!r} of the daemon {folder.name!r} does not exist here",
                fix=f"build it from the daemon's sources and name it {image} (docs/foreign.md)",
            )
        return image
    base = ensure_base(client, progress=progress)
    content = foreign_context(folder)
    python = host_distribution().python
    tag = f"{image}:{content_key(content | {'base': base.encode()})}"
    with _one_builder():
        if _exists(client, tag):
            return tag
        progress(f"building {tag}")
        with tempfile.TemporaryDirectory(prefix="marsnet-image-") as scratch:
            context = Path(scratch)
            for name, octets in content.items():
                (context / name).write_bytes(octets)
            if "requirements.txt" in content:
                wheels = foreign_wheels(folder / "requirements.txt", python, progress)
                shutil.copytree(wheels, context / "wheels")
            build(client, context, tag, {"BASE": base}, network="none")
    return tag


def foreign_context(folder: Path) -> dict[str, bytes]:
    """The files beside a foreign daemon's Dockerfile and that itself, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def foreign_wheels(requirements: Path, python: str, progress: Progress) -> Path:
    """The wheels that a foreign daemon pins, made once per set of pins; ours do not constrain them."""
    folder = _cache() / f"wheels-{content_key({'foreign': requirements.read_bytes(), 'python': python.encode()})}"
    if not folder.is_dir():
        progress(f"collecting the wheels of {requirements.parent.name}")
        with tempfile.TemporaryDirectory(dir=_cache(), prefix="wheels-") as scratch:
            _pip_wheel(["-r", str(requirements)], Path(scratch) / "wheels", requirements.parent.name)
            (Path(scratch) / "wheels").rename(folder)
    return folder


def package_names(path: Path) -> list[str]:
    """The packages that a file lists, one in a line; what follows a # is a comment."""
    return [name for line in path.read_text().splitlines() if (name := line.partition("#")[0].strip())]


def _exists(client: Any, tag: str) -> bool:
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    return True


def _registry_has(image: str) -> bool:
    try:
        docker.from_env(timeout=_REGISTRY_SECONDS).images.get_registry_data(image)
    except (DockerException, requests.exceptions.RequestException):
        return False
    return True


def _bootstrap(client: Any, host: Distribution, packages: Sequence[str], key: str) -> None:
    program = shutil.which("mmdebstrap")
    if program is None:
        raise EnvironmentLacksError(
            "no image registry answers, and mmdebstrap, which makes the base image, is missing",
            fix="apt-get install mmdebstrap",
        )
    command = [program, "--variant=minbase", f"--include={','.join(packages)}", *LEAN, host.codename, "-"]
    sources = apt_sources(host.codename)
    command += [str(path) for path in sources]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        client.api.import_image_from_stream(
            process.stdout, repository=BASE, tag=f"{key}-unfinished", changes=[f"LABEL {LABEL}=1"]
        )
        if process.wait() != 0:
            errors.seek(0)
            tail = errors.read().decode(errors="replace").splitlines()[-8:]
            client.images.remove(f"{BASE}:{key}-unfinished")
            raise EnvironmentLacksError(
                f"mmdebstrap ended with {process.returncode}: " + " | ".join(tail), fix="apt-get update && make setup"
            )
    client.images.get(f"{BASE}:{key}-unfinished").tag(BASE, key)
    client.images.remove(f"{BASE}:{key}-unfinished")


def apt_sources(codename: str, etc: Path = Path("/etc/apt")) -> list[Path]:
    """The host's own apt source files that offer its release; a third party's are left out."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.sources"))]
    return [path for path in files if path.is_file() and f"{codename}-updates" in path.read_text()]


def _pip_wheel(arguments: Sequence[str], target: Path, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "-w", str(target), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise EnvironmentLacksError(f"wheels of {what} could not be made: {tail}", fix="make distclean setup")


def _dependency_wheels(root: Path, requirements: bytes, constraints: bytes, python: str, progress: Progress) -> Path:
    """The folder of wheels that a node needs beside marsnet, made once per set of pins."""
    key = content_key({"requirements": requirements, "constraints": constraints, "python": python.encode()})
    folder = _cache() / f"wheels-{key}"
    if not folder.is_dir():
        progress("collecting the wheels of a node's dependencies")
        with tempfile.TemporaryDirectory(dir=_cache(), prefix="wheels-") as scratch:
            requirement_file = root / "services" / "node" / "requirements.txt"
            arguments = ["-c", str(root / "constraints.txt"), "-r", str(requirement_file)]
            _pip_wheel(arguments, Path(scratch) / "wheels", "a node's dependencies")
            (Path(scratch) / "wheels").rename(folder)
    return folder


def _program_wheel(sources: Mapping[str, bytes], target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="marsnet-source-") as scratch:
        for name, content in sources.items():
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        _pip_wheel(["--no-deps", "--no-build-isolation", scratch], target, "marsnet")


def build(client: Any, context: Path, tag: str, arguments: dict[str, str], *, network: str) -> None:
    """Build an image.

    Args:
        client: a Docker client.
        context: folder of the Dockerfile and what it copies.
        tag: what it is to be called.
        arguments: of the Dockerfile.
        network: that its steps have.

    Raises:
        EnvironmentLacksError: a step failed.
    """
    try:
        client.images.build(
            path=str(context),
            tag=tag,
            buildargs=arguments,
            labels={LABEL: "1"},
            network_mode=network,
            rm=True,
            forcerm=True,
        )
    except BuildError as error:
        said = "".join(line.get("stream", line.get("error", "")) for line in error.build_log).splitlines()[-12:]
        raise EnvironmentLacksError(
            f"building {tag} failed: {error.msg} | " + " | ".join(said), fix="make setup"
        ) from error
    except APIError as error:
        raise EnvironmentLacksError(f"building {tag} failed: {error.explanation}", fix="make setup") from error


def _retire(client: Any) -> None:
    """Removes the node images of earlier code that no container uses, and the build stages that made them."""
    images = client.images.list(name=NODE, filters={"label": f"{LABEL}=1"})
    used = _images_in_use(client)
    newest_first = sorted(images, key=lambda image: str(image.attrs["Created"]), reverse=True)
    for image in newest_first[1 + KEPT_GENERATIONS :]:
        if image.id not in used:
            client.images.remove(image.id, force=True)
    client.images.prune(filters={"dangling": True, "label": [f"{STAGE_LABEL}=program"]})


def _cache() -> Path:
    folder = checkout() / ".cache" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _one_builder() -> Iterator[None]:
    """Two labs that start together build an image once."""
    with (_cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_images(client: Any = None) -> int:
    """Removes every image made here that no container uses, and says how many."""
    client = client or connect()
    used = _images_in_use(client)
    unused = [image for image in _made_here(client) if image.id not in used]
    for image in sorted(unused, key=lambda image: str(image.attrs["Created"]), reverse=True):
        client.images.remove(image.id, force=True)
    return len(unused)


def _images_in_use(client: Any) -> set[str]:
    return {container.attrs["Image"] for container in client.containers.list(all=True, ignore_removed=True)}


def _made_here(client: Any) -> list[Any]:
    images = client.images.list(filters={"label": f"{LABEL}=1"}) + client.images.list(filters={"label": STAGE_LABEL})
    return list({image.id: image for image in images}.values())


def main() -> None:
    """Builds what is missing and prints the tag, the last step of the set-up; with `--remove` removes all of them."""
    try:
        if sys.argv[1:] == ["--remove"]:
            remove_images()
            return
        tag = ensure_node_image(progress=lambda text: print(f"set-up: {text}", file=sys.stderr, flush=True))
    except EnvironmentLacksError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(tag)


if __name__ == "__main__":
    main()
