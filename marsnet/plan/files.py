"""Plans in files: which format a file has, and writing that leaves either the whole plan or nothing."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, TextIO, get_args

from marsnet.errors import InputError
from marsnet.plan import csvplan, hdtn, ion, jsonplan
from marsnet.plan.stream import PlanStream, as_stream
from marsnet.plan.types import ContactPlan

Format = Literal["json", "csv", "ion", "ion-relative", "hdtn"]
FORMATS: tuple[Format, ...] = get_args(Format)

_WRITERS: dict[Format, Callable[[PlanStream, TextIO], None]] = {
    "json": jsonplan.write,
    "csv": csvplan.write,
    "ion": ion.write,
    "ion-relative": partial(ion.write, relative=True),
    "hdtn": hdtn.write,
}
_SUFFIXES: dict[str, Format] = {".hdtn.json": "hdtn", ".json": "json", ".csv": "csv", ".ionrc": "ion", ".ion": "ion"}


def format_of(path: str | Path) -> Format:
    """The format that a file's name stands for.

    Raises:
        InputError: when the name does not tell.
    """
    for suffix, found in _SUFFIXES.items():
        if str(path).endswith(suffix):
            return found
    raise InputError(
        f"{str(path)!r} does not tell the plan's format",
        remedy=f"give a format ({', '.join(FORMATS)}) or a name that ends in {', '.join(_SUFFIXES)}",
    )


def as_format(name: str) -> Format:
    """A format by its name.

    Raises:
        InputError: when there is no such format.
    """
    for known in FORMATS:
        if name == known:
            return known
    raise InputError(f"unknown plan format {name!r}", remedy=f"choose one of {', '.join(FORMATS)}")


def write_plan(plan: ContactPlan | PlanStream, path: str | Path, format: Format | None = None) -> None:  # noqa: A002
    """Write a plan to a file. When anything fails, the file is left as it was.

    Args:
        plan: in memory, or a stream, which is written in constant memory.
        path: file to write.
        format: by default what the file's name stands for.

    Raises:
        InputError: when the format is unknown or the file cannot be written.
    """
    writer = _WRITERS[format or format_of(path)]
    with replacing(path) as out:
        writer(as_stream(plan), out)


def write_plan_to(plan: ContactPlan | PlanStream, out: TextIO, format: Format) -> None:  # noqa: A002
    """Write a plan to an open text file."""
    _WRITERS[format](as_stream(plan), out)


def read_plan(path: str | Path, format: Format | None = None, *, epoch: str | None = None) -> ContactPlan:  # noqa: A002
    """Read a plan from a file.

    Args:
        path: file to read.
        format: by default what the file's name and content stand for.
        epoch: UTC instant of time 0, for ION and HDTN files that do not give it.

    Raises:
        InputError: with file, line, value and remedy.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}", remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {str(path)!r}: {error}", remedy="give a readable UTF-8 text file") from None
    found = format or format_of(path)
    if format is None and found == "json" and not re.search(r'^\s*\{\s*"marsnet"\s*:\s*"', text):
        found = "hdtn" if re.search(r'"(startTime|rateBitsPerSec)"', text) else "json"
    if found in {"ion", "ion-relative"}:
        return ion.read(text, path, epoch)
    if found == "hdtn":
        return hdtn.read(text, path, epoch)
    return csvplan.read(text, path) if found == "csv" else jsonplan.read(text, path)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Raises:
        InputError: when there is no such folder or it cannot be written to.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}", remedy="give a writable folder") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            yield out
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
