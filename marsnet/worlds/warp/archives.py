"""Archives that are the same whenever their content is: tar files, initramfs archives and container images."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from marsnet.errors import EnvironmentLacksError

Content = bytes | Path
"""What a file is to hold: octets, or a file or folder of the host that is copied."""


def write_tar(target: Path, entries: Mapping[str, Content]) -> None:
    """Write a tar file of which nothing depends on the host: names in order, no times, root's.

    Args:
        target: the file.
        entries: path inside the archive, without a leading slash, to content. A folder is copied with all below it.
    """
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        made: set[str] = set()
        for name in sorted(entries):
            _parents(archive, name, made)
            content = entries[name]
            if isinstance(content, bytes):
                member = _plain(tarfile.TarInfo(name), 0o644)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                _copy(archive, name, content, made)


def _parents(archive: tarfile.TarFile, name: str, made: set[str]) -> None:
    for parent in [str(path) for path in reversed(Path(name).parents)][1:]:
        if parent not in made:
            made.add(parent)
            member = _plain(tarfile.TarInfo(parent), 0o755)
            member.type = tarfile.DIRTYPE
            archive.addfile(member)


def _copy(archive: tarfile.TarFile, name: str, source: Path, made: set[str]) -> None:
    if source.is_symlink():
        member = _plain(tarfile.TarInfo(name), 0o777)
        member.type, member.linkname = tarfile.SYMTYPE, str(source.readlink())
        archive.addfile(member)
    elif source.is_dir():
        if name not in made:
            made.add(name)
            member = _plain(tarfile.TarInfo(name), 0o755)
            member.type = tarfile.DIRTYPE
            archive.addfile(member)
        for child in sorted(source.iterdir()):
            _copy(archive, f"{name}/{child.name}", child, made)
    else:
        member = _plain(tarfile.TarInfo(name), 0o755 if source.stat().st_mode & 0o100 else 0o644)
        member.size = source.stat().st_size
        with source.open("rb") as file:
            archive.addfile(member, file)


def _plain(member: tarfile.TarInfo, mode: int) -> tarfile.TarInfo:
    member.mode, member.mtime = mode, 0
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


_PythonPickler: Any = pickle._Pickler


class _Pickler(_PythonPickler):  # type: ignore[misc]
    """Sets come in an order of their own, where Python's is that of this process's hashes."""

    dispatch: ClassVar[dict[type, Any]] = dict(_PythonPickler.dispatch)

    def save_set(self, found: set[Any]) -> None:
        self.save_reduce(set, (sorted(found, key=repr),), obj=found)

    def save_frozenset(self, found: frozenset[Any]) -> None:
        self.save_reduce(frozenset, (sorted(found, key=repr),), obj=found)

    dispatch[set] = save_set
    dispatch[frozenset] = save_frozenset


def pickled(value: object) -> bytes:
    """A pickle that is the same whenever its content is, in whatever process and whichever way it came there.

    What is in a value twice is written twice: whether equal parts are one object depends on the way. No part may hold
    itself.
    """
    target = io.BytesIO()
    pickler = _Pickler(target, protocol=5)
    pickler.fast = True
    pickler.dump(value)
    return target.getvalue()


def unpack(archive: Path, target: Path) -> None:
    """Write the files of a tar file below a folder; links, devices and names that lead out of it are left out."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = target / member.name
            if not member.isfile() or not path.resolve().is_relative_to(target.resolve()):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None  # noqa: S101
            with content, path.open("wb") as file:
                shutil.copyfileobj(content, file)


def to_initramfs(archive: Path, target: Path) -> None:
    """Turn a tar file into an initramfs archive (cpio, format newc). Several of them may follow one another in a file.

    Raises:
        EnvironmentLacksError: bsdtar is not installed, or cannot read the file.
    """
    program = shutil.which("bsdtar")
    if program is None:
        raise EnvironmentLacksError("bsdtar is not installed", fix="apt-get install libarchive-tools")
    done = subprocess.run(
        [program, "-cf", str(target), "--format=newc", f"@{archive}"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise EnvironmentLacksError(f"bsdtar cannot convert {archive}: {done.stderr.strip()}", fix="free some disk")


def concatenate(parts: Sequence[Path], target: Path) -> None:
    """Write files one after another into a new one."""
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)


def write_image(target: Path, tag: str, layers: Sequence[Path], known: int, config: Mapping[str, object]) -> None:
    """Write a container image as `docker load` reads it (Docker image specification 1.2).

    Args:
        target: the archive.
        tag: name and tag of the image.
        layers: tar files of its layers, from the lowest.
        known: so many of the lowest layers are in the daemon's store already, and are only named.
        config: what a container of it runs, as the specification's `config`.
    """
    digests = [f"sha256:{_sha256(layer)}" for layer in layers]
    document = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": digests},
            "history": [{"created": "1970-01-01T00:00:00Z"} for _ in layers],
        },
        sort_keys=True,
    ).encode()
    names = [f"{digest[7:]}/layer.tar" for digest in digests]
    entries: dict[str, Content] = {
        name: b"" if index < known else layer for index, (name, layer) in enumerate(zip(names, layers, strict=True))
    }
    name = f"{hashlib.sha256(document).hexdigest()}.json"
    entries[name] = document
    entries["manifest.json"] = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": names}]).encode()
    write_tar(target, entries)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
