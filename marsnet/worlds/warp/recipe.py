"""What the warp guest is made of: kernel, root, container store, marsnet. Each part is made once per content and kept.

Nothing here needs root, Docker or an image registry: the parts come from the distribution's packages and from the
wheels that the host's own pip makes. `parts` gives what a guest boots from.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from marsnet.errors import EnvironmentLacksError
from marsnet.worlds import images
from marsnet.worlds.warp import agent, needs
from marsnet.worlds.warp.archives import Content, to_initramfs, write_image, write_tar

NODE_IMAGE = "marsnet/node:warp"
"""Tag of the bundle node's image inside the guest."""
Say = Callable[[str], None]
# No file of a root is younger than the guest's first clock, and whoever has a password has it since (mmdebstrap(1)).
_DATES = {"SOURCE_DATE_EPOCH": "1767225600"}
# What Python has compiled for the package manager's own use is not the same each time, and nobody needs it any more.
_BY_THE_WAY = "/usr/share/python3/debpython/__pycache__"

_KERNEL = "linux-image-cloud-amd64"
_NODE_CONFIG = {
    "Env": [
        "PATH=/opt/marsnet/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH=/opt/marsnet:/opt/dependencies",
        "PYTHONUNBUFFERED=1",
        "PYTHONHASHSEED=0",
    ],
    "Entrypoint": ["python3", "-m", "marsnet.dtn.node", "--config", "/etc/marsnet/node.json"],
    "StopSignal": "SIGTERM",
}
# Docker's client and its debugging tools are never called inside: marsnet speaks to the daemon.
_WITHOUT = tuple(
    f"--dpkgopt=path-exclude={path}"
    for path in (
        "/usr/bin/docker",
        "/usr/bin/ctr",
        "/usr/bin/dnet",
        "/usr/sbin/ovrouter",
        "/usr/bin/containerd-shim",
        "/usr/bin/containerd-shim-runc-v1",
    )
)
PROMETHEUS = "prometheus"
"""Debian package that the root has beside its own where a run is to be scraped."""
# Its tools, and the pages that it shows to browsers.
_WITHOUT_BESIDE = {
    PROMETHEUS: tuple(
        f"--dpkgopt=path-exclude={path}"
        for path in ("/usr/bin/promtool", "/usr/share/javascript/*", "/usr/share/fonts/*", "/usr/share/fonts-*")
    )
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a guest boots from.

    Attributes:
        kernel: its image.
        root: initramfs archive of the root, modules and third-party Python packages.
        base: layers of the node's image that do not change with marsnet's own code, from the lowest.
        key: changes with any of them.
    """

    kernel: Path
    root: Path
    base: tuple[Path, ...]
    key: str


def place() -> Path:
    """The folder in which the parts are kept, whether or not it is there."""
    return images.checkout() / ".cache" / "warp"


def cache() -> Path:
    """The folder in which the parts are kept; it is there afterwards."""
    folder = place()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def host() -> images.Distribution:
    """This machine's distribution, whose packages the guest is made of.

    Raises:
        EnvironmentLacksError: it is not Debian, or its Python is another than this one.
    """
    found = images.host_distribution()
    if found.name != "debian":
        raise EnvironmentLacksError(
            f"the guest is made of Debian's kernel and packages, and this is {found.name} {found.codename}",
            fix="vagrant up",
        )
    if found.python != f"{sys.version_info.major}.{sys.version_info.minor}":
        raise EnvironmentLacksError(
            f"packages made by {sys.executable} do not fit the guest's Python {found.python}",
            fix="make distclean setup PYTHON=/usr/bin/python3",
        )
    return found


def parts(say: Say, beside: Sequence[str] = ()) -> Parts:
    """Kernel, root and image layers; what is missing is made first (some minutes, once).

    Args:
        say: told what is being made.
        beside: Debian packages that the root is to have beyond its own.

    Raises:
        EnvironmentLacksError: a program is missing, or packages cannot be fetched.
    """
    with (cache() / "parts-lock").open("w") as lock:
        # Runs that start together make them once; what one that was killed has left is in nobody's way.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for unfinished in cache().glob("*.unfinished"):
            unfinished.unlink()
        return _parts(say, beside)


def _parts(say: Say, beside: Sequence[str]) -> Parts:
    debian = host()
    kernel = _kernel(say)
    modules = next((kernel / "lib" / "modules").iterdir())
    services = images.checkout() / "services"
    wanted = images.package_names(services / "warp" / "packages.txt")
    further = sorted(set(beside) - set(wanted))
    without = (*_WITHOUT, *(option for package in further for option in _WITHOUT_BESIDE.get(package, ())))
    guest_root = _root("root", [*wanted, *further], debian.codename, without, say)
    node_root = _root("base", images.package_names(services / "base" / "packages.txt"), debian.codename, (), say)
    guest_python = _python("warp", debian.python, say)
    node_python = _python("node", debian.python, say)
    base = (node_root, _layer(node_python))
    services = images.checkout() / "services" / "warp"
    own: dict[str, Content] = {"init": services / "init", "opt/warp/agent.py": Path(agent.__file__)}
    made = {p.name: b"" for p in (kernel, guest_root, guest_python, *base)}
    ours = {p.name: p.read_bytes() for p in (services / "init", services / "modules.txt", Path(agent.__file__))}
    key = images.content_key(made | ours)
    root = cache() / f"initramfs-{key}.cpio"
    if not root.exists():
        _begin(say, "packing the guest's root")
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            extra = Path(scratch) / "extra.tar"
            image = Path(scratch) / "image.tar"
            write_image(image, f"{NODE_IMAGE}-base", base, 0, _NODE_CONFIG)
            write_tar(
                extra, {**_modules(modules), **own, "opt/dependencies": guest_python, "opt/warp/image.tar": image}
            )
            _join_initramfs([guest_root, extra], root)
    return Parts(next((kernel / "boot").glob("vmlinuz-*")), root, base, key)


def _modules(folder: Path) -> dict[str, Content]:
    """The modules that a guest loads, with those that they need, and the indices by which they are found."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        name, _, needed = line.partition(":")
        needs[Path(name).name.partition(".")[0].replace("-", "_")] = [name, *needed.split()]
    wanted = images.package_names(images.checkout() / "services" / "warp" / "modules.txt")
    missing = [name for name in wanted if name not in needs]
    builtin = (folder / "modules.builtin").read_text().replace("-", "_")
    if any(f"/{name}.ko" not in builtin for name in missing):
        raise EnvironmentLacksError(
            f"the kernel {folder.name} has no module {', '.join(missing)}", fix="apt-get update && apt-get upgrade"
        )
    files = {file for name in wanted for file in needs.get(name, ())}
    files |= {path.name for path in folder.glob("modules.*")}
    return {f"usr/lib/modules/{folder.name}/{file}": folder / file for file in files}


def program_layer(say: Say) -> Path:
    """The tar of marsnet itself, compiled, as guest and containers have it at /opt/marsnet; made once per content."""
    root = images.checkout()
    entries: dict[str, Content] = {
        name: content
        for name, content in images.package_sources(root).items()
        if name.startswith("marsnet/") and not name.endswith((".c", ".h"))
    }
    for compiled in (root / "marsnet").rglob("_*.so"):
        entries[str(compiled.relative_to(root))] = compiled
    for path in sorted((root / "controllers").rglob("*.py")) + sorted((root / "services" / "prometheus").iterdir()):
        entries[str(path.relative_to(root))] = path
    contents = {name: c if isinstance(c, bytes) else c.read_bytes() for name, c in entries.items()}
    target = cache() / f"program-{images.content_key(contents)}.tar"
    if not target.exists():
        say("compiling marsnet for the guest")
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            folder = Path(scratch) / "marsnet"
            for name, content in contents.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            _compile(folder, "/opt/marsnet")
            write_tar(Path(scratch) / "program.tar", {"opt/marsnet": folder})
            (Path(scratch) / "program.tar").rename(target)
    return target


def _compile(folder: Path, place: str) -> None:
    """Compile the Python files of a folder that will be at a place; their times, which a layer loses, do not count."""
    _output([sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
             "-s", str(folder), "-p", place, str(folder)])  # fmt: skip


def node_image(target: Path, parts_: Parts, program: Path) -> None:
    """Write the node's image for `docker load`, without the layers that the guest's store has already."""
    write_image(target, NODE_IMAGE, [*parts_.base, program], len(parts_.base), _NODE_CONFIG)


def _kernel(say: Say) -> Path:
    """The folder that the distribution's kernel package is unpacked in, with its modules' index."""
    # Where apt has no lists at all this ends with an error, where they lack the package with nothing.
    try:
        listed = _output(["apt-cache", "depends", "--important", _KERNEL])
    except EnvironmentLacksError:
        listed = ""
    names = [line.split()[-1] for line in listed.splitlines() if "Depends:" in line]
    if not names:
        raise EnvironmentLacksError(f"apt knows no package {_KERNEL}", fix="apt-get update")
    version = _output(["apt-cache", "show", "--no-all-versions", names[0]])
    folder = cache() / f"kernel-{images.content_key({names[0]: version.encode()})}"
    if not folder.is_dir():
        _begin(say, f"fetching {names[0]}")
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            _output(["apt-get", "-q", "download", names[0]], cwd=Path(scratch))
            package = next(Path(scratch).glob("*.deb"))
            _output(["dpkg-deb", "-x", str(package), f"{scratch}/unpacked"])
            release = next((Path(scratch) / "unpacked" / "lib" / "modules").iterdir()).name
            _output([needs.which("depmod") or "depmod", "-b", f"{scratch}/unpacked", release])
            (Path(scratch) / "unpacked").rename(folder)
    return folder


def _root(name: str, packages: list[str], codename: str, options: tuple[str, ...], say: Say) -> Path:
    """The tar of a root made of the distribution's packages."""
    recipe = " ".join((codename, *packages, *images.LEAN, *options))
    target = cache() / f"{name}-{images.content_key({'recipe': recipe.encode()})}.tar"
    if target.exists():
        return target
    _begin(say, f"making the {name} of the guest from {codename} packages (about a minute, once)")
    unfinished = target.with_suffix(".unfinished")
    # Device files would keep a user without root from making it; the guest's devtmpfs brings them.
    # Where it cannot have a user namespace it is to say so, and not to try another way, which makes other roots.
    mode = "root" if os.geteuid() == 0 else "unshare"
    command = ["mmdebstrap", f"--mode={mode}", "--variant=minbase", "--format=tar", f"--include={','.join(packages)}"]
    command += [*images.LEAN, *options, f"--customize-hook=rm -rf $1{_BY_THE_WAY}"]
    command += [codename, str(unfinished), *(str(path) for path in images.apt_sources(codename))]
    try:
        _output(command)
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _python(service: str, python: str, say: Say) -> Path:
    """The folder of third-party Python packages that a service imports."""
    listing = images.checkout() / "services" / service / "requirements.txt"
    pins = [f"{name}=={version}" for name, version in sorted(_closure(images.package_names(listing)).items())]
    recipe = {"pins": "\n".join(pins).encode(), "python": python.encode(), "form": b"compiled, without tests"}
    folder = cache() / f"python-{service}-{images.content_key(recipe)}"
    if not folder.is_dir():
        _begin(say, f"collecting the Python packages of {service}")
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            _output([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
                     "--no-deps", "--target", f"{scratch}/packages", *pins])  # fmt: skip
            _strip(Path(scratch) / "packages")
            _compile(Path(scratch) / "packages", "/opt/dependencies")
            (Path(scratch) / "packages").rename(folder)
    return folder


def _strip(folder: Path) -> None:
    """Remove tests, and what says where and by what packages were installed: so it is the same on every machine."""
    for tests in [path for path in folder.rglob("tests") if path.is_dir()]:
        shutil.rmtree(tests)
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for name in ("RECORD", "WHEEL", "direct_url.json"):
        for path in folder.glob(f"*.dist-info/{name}"):
            path.unlink()


def digest(root: Path) -> str:
    """SHA-256 of a root, in hexadecimal digits; it is read once and kept beside it."""
    kept = root.with_suffix(".sha256")
    if not kept.exists():
        with root.open("rb") as file:
            kept.write_text(hashlib.file_digest(file, "sha256").hexdigest())
    return kept.read_text()


def _closure(names: list[str]) -> dict[str, str]:
    """Versions of packages and of all that they depend on, as this environment has them.

    Raises:
        EnvironmentLacksError: one is not installed.
    """
    found: dict[str, str] = {}
    wanted = list(names)
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise EnvironmentLacksError(f"the Python package {name} is not installed", fix="make setup") from None
        found[name] = distribution.version
        for line in distribution.requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return found


def _layer(folder: Path) -> Path:
    target = folder.with_suffix(".tar")
    if not target.exists():
        unfinished = folder.with_suffix(".unfinished")
        write_tar(unfinished, {"opt/dependencies": folder})
        unfinished.rename(target)
    return target


def _join_initramfs(tars: list[Path], target: Path) -> None:
    unfinished = target.with_suffix(".unfinished")
    with unfinished.open("wb") as out:
        for tar in tars:
            piece = target.with_suffix(".piece")
            to_initramfs(tar, piece)
            with piece.open("rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)
            piece.unlink()
    unfinished.rename(target)


def _begin(say: Say, what: str) -> None:
    """Tell that something is about to be made, where it can be."""
    _require()
    say(what)


@functools.cache
def _require() -> None:
    """Once for a process: what is made afterwards is part of what there was to be room for."""
    needs.require(cache())


def _output(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **_DATES}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        tail = " | ".join(line[:200] for line in (done.stderr or done.stdout).strip().splitlines()[-6:])
        raise EnvironmentLacksError(f"{command[0]} ended with {done.returncode}: {tail}", fix="apt-get update")
    return done.stdout
