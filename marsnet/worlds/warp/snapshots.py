"""Guests that stand still, kept so that no mission waits for what all missions have in common.

The *base* has booted, runs the container daemon and holds the layers of the node's image that rarely change. The
*program*, which goes on from a base, holds marsnet too and has the driver of the emulated world in memory. Each is
made once for its content, and never changes: a guest that goes on from it has a private view of its memory. Where
nodes run other people's daemons, a third one goes on from the program and holds their images.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from marsnet.errors import EnvironmentLacksError, RunInvalidError
from marsnet.worlds import images
from marsnet.worlds.warp import recipe
from marsnet.worlds.warp.agent import LENGTH
from marsnet.worlds.warp.archives import Content, write_tar
from marsnet.worlds.warp.foreign_images import ForeignImages
from marsnet.worlds.warp.machine import LOGS, MISSION_BYTES, Guest, Kept, Order, version
from marsnet.worlds.warp.recipe import Parts, Say

DRIVER = "marsnet.worlds.warp.guest"
_MAKING = "making-"
KEPT_PROGRAMS = 3
"""How many of the latest states with marsnet in them are kept."""


def write_mission(folder: Path, entries: Mapping[str, Content]) -> Path:
    """Write what a guest finds on its mission device.

    Args:
        folder: to write it in.
        entries: path, from the guest's root and without a leading slash, to content.

    Raises:
        EnvironmentLacksError: it is more than the device holds.
    """
    archive, device = folder / "mission.tar", folder / "mission"
    write_tar(archive, entries)
    size = archive.stat().st_size
    if size + LENGTH.size > MISSION_BYTES:
        raise EnvironmentLacksError(
            f"plan and files of the scenario are {size >> 20} MiB, and the guest takes {MISSION_BYTES >> 20} MiB",
            fix="use shorter runs or smaller files",
        )
    with device.open("wb") as out, archive.open("rb") as file:
        out.write(LENGTH.pack(size))
        shutil.copyfileobj(file, out, 1 << 20)
        out.truncate(MISSION_BYTES)
    archive.unlink()
    return device


def ready_guest(parts: Parts, memory: int, say: Say, beside: ForeignImages) -> Kept:
    """The machine that missions go on from; it is made first when there is none (some minutes, once).

    Args:
        parts: what it is made of.
        memory: bytes that it has.
        say: told what is being made.
        beside: images that it has beyond marsnet's own.

    Raises:
        EnvironmentLacksError: QEMU or memory is missing.
        RunInvalidError: the guest failed.
    """
    program = recipe.program_layer(say)
    key = images.content_key({_base_key(parts, memory): program.name.encode()})
    folder = recipe.cache() / f"program-{key}"
    with _one_maker():
        if not folder.is_dir():
            base = _base(parts, memory, say)
            with _unfinished(folder) as scratch:
                say("loading marsnet in the guest (once for each version of it)")
                recipe.node_image(scratch / "image.tar", parts, program)
                mission = write_mission(
                    scratch,
                    {
                        "mission/order.json": json.dumps({"program": DRIVER}).encode(),
                        "mission/image.tar": scratch / "image.tar",
                        **program_tree(program, scratch),
                    },
                )
                copy_memory(base.ram, scratch / "ram")
                order = Order(parts.kernel, parts.root, memory, scratch, mission, kept=base, ram=scratch / "ram")
                _make(order, scratch, say)
            _retire(f"program-{'?' * len(key)}", KEPT_PROGRAMS)
        os.utime(folder)
        ready = Kept(folder / "ram", folder / "state")
        return _with_images(parts, memory, ready, beside, say) if beside else ready


def _with_images(parts: Parts, memory: int, kept: Kept, beside: ForeignImages, say: Say) -> Kept:
    key = images.content_key({kept.ram.parent.name: b"", beside.key: b""})
    folder = recipe.cache() / f"daemons-{key}"
    if not folder.is_dir():
        with _unfinished(folder) as scratch:
            say("giving the guest the images of other daemons (once for each version of them and of marsnet)")
            order = {"mission/order.json": json.dumps({"images": True}).encode()}
            mission = write_mission(scratch, order | beside.entries(parts.base[0], scratch))
            copy_memory(kept.ram, scratch / "ram")
            start = Order(parts.kernel, parts.root, memory, scratch, mission, kept=kept, ram=scratch / "ram")
            _make(start, scratch, say)
        _retire(f"daemons-{'?' * len(key)}", KEPT_PROGRAMS)
    os.utime(folder)
    return Kept(folder / "ram", folder / "state")


def base_guest(parts: Parts, memory: int, say: Say) -> Kept:
    """The machine that runs the container daemon and waits for a program; made and raised as `ready_guest`."""
    with _one_maker():
        return _base(parts, memory, say)


def _base_key(parts: Parts, memory: int) -> str:
    return images.content_key({"parts": parts.key.encode(), "machine": version().encode(), str(memory): b""})


def _base(parts: Parts, memory: int, say: Say) -> Kept:
    folder = recipe.cache() / f"base-{_base_key(parts, memory)}"
    if not folder.is_dir():
        with _unfinished(folder) as scratch:
            say("starting the container daemon in a guest (some minutes, once)")
            mission = write_mission(scratch, {})
            (scratch / "ram").touch()
            _make(Order(parts.kernel, parts.root, memory, scratch, mission, ram=scratch / "ram"), scratch, say)
    return Kept(folder / "ram", folder / "state")


def _make(order: Order, scratch: Path, say: Say) -> None:
    results = scratch / "results"
    results.mkdir()
    try:
        with Guest(order) as guest:
            for message in guest.messages(results):
                raise_failure(message)
                if "state" in message:
                    say(f"{message['state']} after {message['guest']:.1f} s of its own")
            guest.keep(scratch / "state")
    except RunInvalidError:
        for name in LOGS:
            if (scratch / name).exists():
                shutil.copyfile(scratch / name, recipe.cache() / f"failed-{name}")
        raise
    for path in list(scratch.iterdir()):
        if path.name not in {"ram", "state"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def raise_failure(message: Mapping[str, object]) -> None:
    """Raise what a guest has told of a failure inside.

    Raises:
        RunInvalidError: it has.
    """
    if "error" in message:
        raise RunInvalidError(f"inside the guest: {message['error']}\n{message['trace']}")


def copy_memory(source: Path, target: Path) -> None:
    """Copy a file of which most is holes, as fast as the file system can.

    Raises:
        EnvironmentLacksError: there is no room for it.
    """
    done = subprocess.run(
        ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise EnvironmentLacksError(f"cannot copy the guest's memory: {done.stderr.strip()}", fix="free some disk")


def program_tree(program: Path, scratch: Path) -> dict[str, Content]:
    """The files of marsnet's layer, to be unpacked in the guest itself."""
    shutil.unpack_archive(program, scratch / "program", "tar")
    return {"opt/marsnet": scratch / "program" / "opt" / "marsnet"}


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A folder that gets its name when it is complete."""
    with tempfile.TemporaryDirectory(dir=recipe.cache(), prefix=_MAKING, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        yield made
        made.rename(folder)


@contextmanager
def _one_maker() -> Iterator[None]:
    """Runs that start together make a guest once."""
    with (recipe.cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # What a maker that was killed has left.
        for folder in recipe.cache().glob(f"{_MAKING}*"):
            shutil.rmtree(folder)
        yield


def _retire(pattern: str, kept: int) -> None:
    """Remove the oldest folders. Guests that go on from one have its files open, and keep them."""
    newest: Callable[[Path], float] = lambda folder: folder.stat().st_mtime  # noqa: E731
    folders = sorted((path for path in recipe.cache().glob(pattern) if path.is_dir()), key=newest, reverse=True)
    for folder in folders[kept:]:
        shutil.rmtree(folder)
